//! What the configuration leaves open, decided from the cores, the memory, the lanes and their partitions. Pure: the same
//! facts give the same values. Decided once at start by `serve` (what hangs on partitions, when the broker has told them);
//! each value has its reason, which `forebay status --explain` shows.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::config::units::show_size;
use crate::definitions::LaneDefinition;
use crate::service::Limits;

const MIB: u64 = 1 << 20;

/// librdkafka's name for the bytes that a consumer may have fetched ahead, in KiB.
pub const QUEUED: &str = "queued.max.messages.kbytes";

/// A value, and why it is that where the configuration does not say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<T> {
    /// The value in force.
    pub value: T,
    /// A sentence; nothing if it was configured.
    pub reason: Option<String>,
}

impl<T> Choice<T> {
    fn of(said: Option<T>, tuned: impl FnOnce() -> (T, String)) -> Choice<T> {
        match said {
            Some(value) => Choice { value, reason: None },
            None => {
                let (value, reason) = tuned();
                Choice { value, reason: Some(reason) }
            }
        }
    }
}

/// Everything that was left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    /// Cores this process may use.
    pub cores: usize,
    /// `storage.memory`, bytes.
    pub memory_bytes: Choice<u64>,
    /// `read.threads`.
    pub read_threads: Choice<usize>,
    /// `read.max_in_flight`.
    pub in_flight: Choice<u64>,
    /// `read.max_unsent`, bytes.
    pub unsent_bytes: Choice<u64>,
    /// `read.cold_reads`.
    pub cold_reads: Choice<usize>,
    /// `read.max_queue`.
    queue: Duration,
    /// By lane, in the order of the definitions.
    pub lanes: Vec<TunedLane>,
}

/// What of a lane was left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunedLane {
    /// Its ingest threads.
    pub threads: Choice<usize>,
    /// Bytes that each of them may have fetched ahead.
    pub fetch_bytes: Choice<u64>,
}

impl Tuned {
    /// What reads are bounded by.
    pub fn limits(&self) -> Limits {
        Limits { in_flight: self.in_flight.value, unsent_bytes: self.unsent_bytes.value, queue: self.queue }
    }
}

/// Cores this process may use, as its control group and its affinity let it.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Decides everything that does not hang on partitions. `memory_bytes` is the default of `storage.memory`.
pub fn tune(config: &Config, lanes: &[Arc<LaneDefinition>], cores: usize, memory_bytes: u64) -> Tuned {
    let read = &config.read;
    let memory = Choice::of(config.storage.memory_bytes, || {
        (memory_bytes, "half of the memory of the machine, or of the control group this server is in".into())
    });
    let threads: Vec<_> = lanes.iter().map(|lane| lane_threads(lane, lanes, cores)).collect();
    let fetch = fetch_bytes(config, memory.value, threads.iter().map(|threads| threads.value).sum());
    let lane = |threads| TunedLane { threads, fetch_bytes: fetch.clone() };
    Tuned {
        cores,
        read_threads: Choice::of(read.threads, || (cores, format!("one for each of {cores} cores"))),
        in_flight: Choice::of(read.max_in_flight, || {
            (1024 * cores as u64, format!("1024 for each of {cores} cores"))
        }),
        unsent_bytes: Choice::of(read.max_unsent_bytes, || unsent_bytes(cores, memory.value)),
        cold_reads: Choice::of(read.cold_reads, || cold_reads(cores)),
        queue: Duration::from_millis(read.max_queue_ms),
        lanes: threads.into_iter().map(lane).collect(),
        memory_bytes: memory,
    }
}

/// Lanes that say how many threads they have are not asked to share what is left: they are meant to have them.
fn lane_threads(lane: &LaneDefinition, lanes: &[Arc<LaneDefinition>], cores: usize) -> Choice<usize> {
    Choice::of(lane.threads, || {
        let sharing = lanes.iter().filter(|lane| lane.threads.is_none()).count().max(1);
        let (of, lanes) = (plural(cores, "core"), plural(sharing, "lane"));
        // Reads, syncs and brokers' answers want the other half; a lane that is behind has it as well while they do not.
        let reason = format!("half of {of} shared by {lanes} that {} no threads", name(sharing));
        ((cores / 2 / sharing).max(1), reason)
    })
}

fn name(sharing: usize) -> &'static str {
    if sharing == 1 { "names" } else { "name" }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// An eighth of the memory limit for what is fetched ahead: the window of the newest data must stay the larger part.
fn fetch_bytes(config: &Config, memory_bytes: u64, threads: usize) -> Choice<u64> {
    let said = [&config.kafka.consumer, &config.kafka.settings].into_iter().find_map(|set| set.get(QUEUED));
    Choice::of(said.and_then(|kib| kib.parse::<u64>().ok()).map(|kib| kib << 10), || {
        let share = memory_bytes / 8 / threads.max(1) as u64;
        let bytes = (share / MIB * MIB).clamp(4 * MIB, 32 * MIB);
        let memory = show_size(memory_bytes / MIB * MIB);
        let threads = plural(threads, "ingest thread");
        (bytes, format!("an eighth of {memory} shared by {threads}, from 4MiB to 32MiB each"))
    })
}

fn unsent_bytes(cores: usize, memory_bytes: u64) -> (u64, String) {
    let by_cores = 128 * MIB * cores as u64;
    match (memory_bytes / 8).max(MIB) {
        least if least < by_cores => (least, "an eighth of storage.memory".into()),
        _ => (by_cores, format!("128MiB for each of {cores} cores")),
    }
}

fn cold_reads(cores: usize) -> (usize, String) {
    match 4 * cores {
        many if many > 32 => (many, format!("4 for each of {cores} cores")),
        _ => (32, "enough to keep a disk busy; they mostly wait".into()),
    }
}

/// How long what is applied may wait to be synced, in ms, in a lane with so many shards, if the configuration does not say.
pub fn sync_interval_ms(said: Option<u64>, shards: u32) -> Choice<u64> {
    Choice::of(said, || match (2 * u64::from(shards)).min(500) {
        long if long > 50 => (long, format!("2ms for each of {shards} shards, at most 500ms")),
        _ => (50, "up to 25 shards of a lane are synced well within it".into()),
    })
}

/// How the partitions of a lane are shared out to its threads here, if they all are this server's; said beside the
/// number of threads.
pub fn shards_of_threads(threads: usize, partitions: u32) -> String {
    let partitions = partitions as usize;
    match () {
        () if partitions == 0 => "the broker has not told the partitions yet".into(),
        () if threads > partitions => {
            let idle = plural(threads - partitions, "thread");
            format!("{}: a shard for each of {partitions}, {idle} ended", plural(partitions, "partition"))
        }
        () => {
            let (least, most) = (partitions / threads.max(1), partitions.div_ceil(threads.max(1)));
            let each = if least == most { most.to_string() } else { format!("{least} to {most}") };
            format!("{}: {each} shards a thread", plural(partitions, "partition"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::parse;

    const GIB: u64 = 1 << 30;

    /// Lanes with so many threads; 0: not said.
    fn lanes(threads: &[usize]) -> Vec<Arc<LaneDefinition>> {
        let lane = |(number, threads): (usize, &usize)| {
            let said = if *threads > 0 { format!("threads = {threads}\n") } else { String::new() };
            format!("[[lane]]\nname = \"l{number}\"\n{said}[[lane.topic]]\nname = \"t{number}\"\n")
        };
        let text: String = threads.iter().enumerate().map(lane).collect();
        parse(&text).unwrap_or_else(|errors| panic!("{errors}")).lanes
    }

    fn tuned(config: &str, lanes_said: &[usize], cores: usize, memory_bytes: u64) -> Tuned {
        let config = Config::parse("test", config, std::path::Path::new(""), []).expect("good");
        tune(&config, &lanes(lanes_said), cores, memory_bytes)
    }

    fn threads(tuned: &Tuned) -> Vec<usize> {
        tuned.lanes.iter().map(|lane| lane.threads.value).collect()
    }

    #[test]
    fn lanes_share_the_cores_that_are_there() {
        for (cores, said, expected) in [
            (4, &[0, 0][..], &[1, 1][..]),
            (2, &[0, 0], &[1, 1]),
            (1, &[0, 0, 0], &[1, 1, 1]),
            (8, &[0], &[4]),
            (8, &[0, 1], &[4, 1]),
            (64, &[0, 3, 0], &[16, 3, 16]),
        ] {
            assert_eq!(threads(&tuned("", said, cores, GIB)), expected, "{cores} cores, {said:?}");
        }
        let two = tuned("", &[0, 0], 4, GIB);
        let reason = two.lanes[0].threads.reason.clone().expect("tuned");
        assert_eq!(reason, "half of 4 cores shared by 2 lanes that name no threads");
        assert_eq!(tuned("", &[3], 4, GIB).lanes[0].threads, Choice { value: 3, reason: None });
    }

    #[test]
    fn shards_are_shared_out_to_threads_as_far_as_there_are_any() {
        for (threads, partitions, expected) in [
            (2, 8, "8 partitions: 4 shards a thread"),
            (3, 8, "8 partitions: 2 to 3 shards a thread"),
            (4, 1, "1 partition: a shard for each of 1, 3 threads ended"),
            (1, 0, "the broker has not told the partitions yet"),
        ] {
            assert_eq!(shards_of_threads(threads, partitions), expected);
        }
    }

    #[test]
    fn what_is_fetched_ahead_is_a_small_part_of_the_memory() {
        let fetch = |config: &str, said: &[usize], memory_bytes| {
            tuned(config, said, 2, memory_bytes).lanes[0].fetch_bytes.value
        };
        assert_eq!(fetch("", &[2], 12 * GIB), 32 * MIB);
        assert_eq!(fetch("", &[2], 256 * MIB), 16 * MIB);
        assert_eq!(fetch("", &[2, 6], 256 * MIB), 4 * MIB);
        assert_eq!(fetch("[kafka.consumer]\n\"queued.max.messages.kbytes\" = 65536", &[2], GIB), 64 * MIB);
    }

    #[test]
    fn reads_are_bounded_by_the_cores_and_the_memory() {
        let large = tuned("", &[0], 16, 64 * GIB);
        assert_eq!((large.read_threads.value, large.cold_reads.value), (16, 64));
        assert_eq!((large.in_flight.value, large.unsent_bytes.value), (16 * 1024, 2 * GIB));
        let small = tuned("", &[0], 2, 64 * MIB);
        assert_eq!((small.unsent_bytes.value, small.cold_reads.value), (8 * MIB, 32));
        let said = tuned("[read]\nthreads = 3\nmax_in_flight = 9\nmax_queue = \"70ms\"", &[0], 2, GIB);
        assert_eq!(said.read_threads, Choice { value: 3, reason: None });
        assert_eq!((said.limits().in_flight, said.limits().queue), (9, Duration::from_millis(70)));
        assert_eq!(tuned("[storage]\nmemory = \"1GiB\"", &[0], 2, 0).memory_bytes.value, GIB);
    }

    #[test]
    fn many_shards_are_synced_less_often() {
        let interval = |shards| sync_interval_ms(None, shards).value;
        assert_eq!([0, 8, 25, 64, 1000].map(interval), [50, 50, 50, 128, 500]);
        assert_eq!(sync_interval_ms(Some(10), 1000), Choice { value: 10, reason: None });
    }
}
