//! Shares `storage.memory` among the shards of this server: first the indexes, which must be there, then what is left as
//! the window of newest data that each shard holds in memory. Run by `serve`; what each shard was given is in its
//! `Stats`. Knows nothing of what the data is.

use std::sync::Arc;
use std::time::Duration;

use forebay_storage::{ShardReader, Stats, share};

use crate::lane::Lane;
use crate::shard_files::Readers;

/// How often the shares are looked at: shards come, go and grow.
const EVERY: Duration = Duration::from_secs(1);

/// No window is smaller, however little is left.
const LEAST_WINDOW: u64 = 4 << 20;

/// The limit where none is configured: half of what this machine has, or the control group this process is in.
pub fn default_limit() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = machine_bytes(&read("/proc/meminfo"));
    let group = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
    machine.into_iter().chain(group).min().map_or(1 << 30, |bytes| bytes / 2)
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Keeps the shares right for as long as it is polled.
pub async fn keep_shared(lanes: Vec<Arc<Lane>>, limit: u64) {
    loop {
        let lanes = lanes.clone();
        // What is dropped from memory takes its time with the kernel.
        let done = tokio::task::spawn_blocking(move || share_once(&lanes, limit)).await;
        if let Err(error) = done {
            tracing::error!(%error, "sharing the memory failed by a mistake of this program");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn share_once(lanes: &[Arc<Lane>], limit: u64) {
    let shards: Vec<_> = lanes.iter().flat_map(|lane| lane.shards().to_vec()).collect();
    let open = shards.iter().filter_map(|shard| shard.reader.as_ref());
    let readers: Vec<&ShardReader> = open.flat_map(Readers::all).collect();
    let stats: Vec<_> = readers.iter().map(|reader| reader.stats()).collect();
    for (reader, window) in readers.iter().zip(windows(&stats, limit)) {
        reader.set_resident_bytes(window);
    }
}

/// The window of each shard: equal parts of what the indexes leave, where what a shard with less data does not need goes
/// to the others.
fn windows(shards: &[Stats], limit: u64) -> Vec<u64> {
    let left = limit.saturating_sub(shards.iter().map(|shard| shard.index_bytes).sum());
    let needs: Vec<_> = shards.iter().map(|shard| shard.disk_bytes).collect();
    share(left, &needs).into_iter().map(|part| part.max(LEAST_WINDOW)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index_bytes: u64, disk_bytes: u64) -> Stats {
        Stats { index_bytes, disk_bytes, ..Stats::default() }
    }

    #[test]
    fn what_small_shards_do_not_need_goes_to_the_large_ones() {
        let mib = |n: u64| n << 20;
        let shards = [shard(mib(10), mib(1000)), shard(mib(10), mib(20)), shard(mib(20), mib(1000))];
        assert_eq!(windows(&shards, mib(340)), [mib(140), mib(100), mib(140)]);
        assert_eq!(windows(&shards, mib(30)), [LEAST_WINDOW; 3]);
        assert!(windows(&[], mib(1)).is_empty());
    }

    #[test]
    fn the_machine_is_understood() {
        assert_eq!(machine_bytes("MemFree: 1 kB\nMemTotal:       24576 kB\n"), Some(24 << 20));
        assert!(default_limit() > 64 << 20);
    }
}
