//! What the kernel says of this process, under the names Prometheus' own clients use.

use super::text::{Kind, Page};

/// Clock ticks per second in /proc: 100 on every Linux, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what can be read; what cannot is left out.
pub(super) fn write(page: &mut Page) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = bytes(&status, "VmRSS") {
        page.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory, mapped files included.");
        page.sample("process_resident_memory_bytes", &[], bytes);
    }
    page.family("forebay_memory_resident_bytes", Kind::Gauge, "Resident memory by what is behind it.");
    for (kind, name) in [("anonymous", "RssAnon"), ("file", "RssFile"), ("shared", "RssShmem")] {
        let bytes = bytes(&status, name).unwrap_or(0);
        page.sample("forebay_memory_resident_bytes", &[("kind", kind)], bytes);
    }
    if let Some(seconds) = cpu_seconds() {
        page.family("process_cpu_seconds_total", Kind::Counter, "User and system time of all threads.");
        page.sample("process_cpu_seconds_total", &[], seconds);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        page.family("process_open_fds", Kind::Gauge, "Open files and sockets.");
        page.sample("process_open_fds", &[], files.count());
    }
}

/// A size of `/proc/self/status`.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold spaces; user and system time are the 14th and 15th.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
        let [all, own] = ["VmRSS", "RssAnon"].map(|name| bytes(&status, name).expect("a size"));
        assert!(all > 1 << 20 && own > 0 && own <= all);
        assert!(cpu_seconds().is_some());
    }
}
