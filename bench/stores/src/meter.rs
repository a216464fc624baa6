//! What a stretch of work took: time, processor time of the whole process (background threads included), bytes written.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One figure of one side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What it is of.
    pub name: String,
    /// In the unit that goes with the name.
    pub value: f64,
    /// Processor time per operation, µs; 0 where it makes no sense.
    pub cpu_us: f64,
}

/// A stretch of work under way.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    cpu: Duration,
    written: u64,
}

/// What a stretch took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Wall time, s.
    pub seconds: f64,
    /// Processor time, s.
    pub cpu: f64,
    /// Bytes this process made the file system write.
    pub written: u64,
}

impl Meter {
    /// Begins.
    pub fn start() -> Meter {
        Meter { written: written(), cpu: cpu(), start: Instant::now() }
    }

    /// What it took so far.
    pub fn taken(&self) -> Taken {
        let seconds = self.start.elapsed().as_secs_f64();
        Taken { seconds, cpu: (cpu() - self.cpu).as_secs_f64(), written: written() - self.written }
    }
}

impl Taken {
    /// Operations a second.
    pub fn rate(&self, name: &str, count: u64) -> Figure {
        Figure::new(name, count as f64 / self.seconds, self.cpu * 1e6 / count as f64)
    }
}

impl Figure {
    /// Puts it together.
    pub fn new(name: impl Into<String>, value: f64, cpu_us: f64) -> Figure {
        Figure { name: name.into(), value, cpu_us }
    }

    /// Prints it for whoever started this process.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes this process has made dirty in files.
fn written() -> u64 {
    number_after("/proc/self/io", "\nwrite_bytes: ")
}

/// Bytes of memory of this process that are no file's.
pub fn anonymous_bytes() -> u64 {
    number_after("/proc/self/status", "\nRssAnon:") * 1024
}

fn number_after(path: &str, what: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let rest = text.split_once(what).map_or("", |(_, rest)| rest.trim_start());
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Bytes written to the files below a folder; what is only preallocated does not count.
pub fn file_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => file_bytes(&entry.path()),
        _ => std::fs::File::open(entry.path()).map_or(0, |file| written_bytes(&file)),
    };
    entries.map(bytes).sum()
}

/// Bytes of a file that are no hole and no preallocated space.
fn written_bytes(file: &std::fs::File) -> u64 {
    use rustix::fs::{SeekFrom, seek};
    let (mut at, mut bytes) = (0, 0);
    while let Ok(data) = seek(file, SeekFrom::Data(at)) {
        let Ok(hole) = seek(file, SeekFrom::Hole(data)) else { break };
        bytes += hole - data;
        at = hole;
    }
    bytes
}

/// Takes the files below a folder out of the page cache, as far as nothing maps them.
pub fn drop_from_cache(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            drop_from_cache(&path);
        } else if let Ok(file) = std::fs::File::open(&path) {
            // What is not written back yet would stay. That it stays is no error here: it makes reads faster.
            let _ = file.sync_all();
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
}

/// Latencies, in ns.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("bounds that are allowed"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(time.as_nanos() as u64);
    }

    /// The latency that a share (0 to 1) does not exceed, µs.
    pub fn us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }
}
