//! Opening the shards a thread was given, on a thread of its own: recovering a shard's files and asking Kafka how far its
//! logs reach may take long, and the thread that polls the group must not be held up. What cannot be done yet is tried
//! again until it is done, refused, or no longer wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use forebay_storage::{OpenError, ShardReader};

use super::run::{LaneRun, TopicsError};
use crate::kafka::topics::TopicFacts;
use crate::lane::ShardHandle;
use crate::shard_files::{self, Directories, FilesError, Writers};

/// How long to rest when nothing could be done.
const REST: Duration = Duration::from_millis(200);

/// How often a long preload says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// An open shard.
pub type Files = Box<Writers>;

/// One shard to be opened, or only compared with its logs.
pub struct Job {
    /// Its partition.
    pub partition: u32,
    /// Where to say what it waits for.
    pub handle: Arc<ShardHandle>,
    /// The next offset wanted of each topic, if it is open already.
    pub open_at: Option<Vec<i64>>,
    files: Option<Files>,
}

/// How a log lies to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset the log has.
    pub low: i64,
    /// Offset its next record will have.
    pub end: i64,
    /// Offset that the group has, if it has one and edges are told by it.
    pub told: Option<i64>,
}

/// What became of a job.
pub enum Opened {
    /// It may be read on. `files` unless it was open already.
    Open { partition: u32, files: Option<Files>, bounds: Vec<Bounds> },
    /// It must not be read before a person has acted.
    Refused { partition: u32, reason: String },
}

/// Jobs under way.
pub struct Opening {
    cancelled: Arc<AtomicBool>,
    results: Receiver<Opened>,
    left: usize,
}

impl Job {
    /// A shard to be opened or compared.
    pub fn new(partition: u32, handle: Arc<ShardHandle>, open_at: Option<Vec<i64>>) -> Self {
        Job { partition, handle, open_at, files: None }
    }
}

impl Opening {
    /// Starts with the jobs; results come in any order.
    pub fn start(run: Arc<LaneRun>, jobs: Vec<Job>) -> std::io::Result<Opening> {
        let (send, results) = channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let left = jobs.len();
        let opener = Opener { run, cancelled: cancelled.clone(), send };
        let work = move || opener.run.clone().or_refuse("opening a shard", || opener.work(jobs));
        thread::Builder::new().name("opening".into()).spawn(work)?;
        Ok(Opening { cancelled, results, left })
    }

    /// A result, if there is one.
    pub fn next(&mut self) -> Option<Opened> {
        let opened = self.results.try_recv().ok()?;
        self.left -= 1;
        Some(opened)
    }

    /// Whether all jobs have come back.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }
}

impl Drop for Opening {
    /// What is not open yet is not wanted any more; what was opened and not taken is let go.
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

struct Opener {
    run: Arc<LaneRun>,
    cancelled: Arc<AtomicBool>,
    send: Sender<Opened>,
}

/// One try.
enum Tried {
    Done(Opened),
    Later(String),
}

impl Opener {
    fn work(&self, jobs: Vec<Job>) {
        let mut jobs = self.in_order(jobs);
        let mut tries_left = jobs.len();
        while let Some(mut job) = jobs.pop_front() {
            if self.cancelled.load(Ordering::Acquire) || self.run.is_stopping() {
                return;
            }
            match self.attempt(&mut job) {
                Tried::Done(opened) => {
                    self.send.send(opened).ok();
                    tries_left = jobs.len();
                }
                Tried::Later(reason) => {
                    job.handle.set_waits_for(Some(reason));
                    jobs.push_back(job);
                    tries_left = tries_left.saturating_sub(1);
                }
            }
            if tries_left == 0 {
                thread::park_timeout(REST);
                tries_left = jobs.len();
            }
        }
    }

    /// Shards with files first: they know the partition count their data was routed by, and new ones must not be made
    /// by another.
    fn in_order(&self, mut jobs: Vec<Job>) -> VecDeque<Job> {
        jobs.sort_by_key(|job| {
            (job.open_at.is_none() && !self.run.shard_dir(job.partition).exists(), job.partition)
        });
        jobs.into()
    }

    fn attempt(&self, job: &mut Job) -> Tried {
        let refused = |reason| Tried::Done(Opened::Refused { partition: job.partition, reason });
        if let Some(reason) = self.run.refusal() {
            return refused(reason);
        }
        let facts = match self.run.check_topics() {
            Ok(facts) => facts,
            Err(TopicsError::Refused(reason)) => return refused(reason),
            Err(TopicsError::Later(error)) => return Tried::Later(error.to_string()),
        };
        if job.partition >= facts[0].partitions {
            return Tried::Later(format!("the topics have {} partitions", facts[0].partitions));
        }
        match self.open(job, &facts) {
            Ok(()) => self.compare(job),
            Err(tried) => tried,
        }
    }

    /// Opens the files, unless they are.
    fn open(&self, job: &mut Job, facts: &[TopicFacts]) -> Result<(), Tried> {
        if job.open_at.is_some() || job.files.is_some() {
            return Ok(());
        }
        let (run, partition) = (&self.run, job.partition);
        let (dir, identity) = (run.shard_dir(partition), run.identity(partition, facts));
        let files = Directories { dir, identity, options: run.shard_options(), sync: &run.sync };
        match shard_files::open(&files) {
            Ok(files) => {
                files.readers().all().for_each(|reader| preload(run, partition, reader));
                job.files = Some(Box::new(files));
            }
            Err(error) if error.may_pass() => return Err(Tried::Later(error.to_string())),
            Err(error) => {
                let reason = error.to_string();
                if matches!(error, FilesError::Engine(OpenError::PartitionsChanged { .. })) {
                    run.refuse(reason.clone());
                }
                return Err(Tried::Done(Opened::Refused { partition, reason }));
            }
        }
        Ok(())
    }

    /// Compares the shard's positions with what the logs hold.
    fn compare(&self, job: &mut Job) -> Tried {
        let mut bounds = Vec::new();
        for (number, topic) in self.run.topics().into_iter().enumerate() {
            let (low, end) = match self.run.bounds(topic, job.partition) {
                Ok(bounds) => bounds,
                Err(error) => return Tried::Later(error.to_string()),
            };
            if let Some(reason) = lost(topic, job.partition, job.next_offset(number), low, end) {
                return Tried::Done(Opened::Refused { partition: job.partition, reason });
            }
            let told = match self.run.told(topic, job.partition) {
                Ok(told) => told,
                Err(error) => return Tried::Later(error.to_string()),
            };
            bounds.push(Bounds { low, end, told });
        }
        Tried::Done(Opened::Open { partition: job.partition, files: job.files.take(), bounds })
    }
}

/// Reads a shard's newest data into memory, and says now and then how far that is.
fn preload(run: &LaneRun, partition: u32, reader: &ShardReader) {
    let (lane, budget, mut said) = (run.name(), run.storage.preload_bytes, Instant::now());
    if budget == 0 {
        return;
    }
    let begun = Instant::now();
    let report = reader.preload(budget, |bytes| {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            tracing::info!(lane, partition, bytes, "reading the newest data into memory");
        }
    });
    let (bytes, took_ms) = (report.bytes, begun.elapsed().as_millis() as u64);
    tracing::info!(lane, partition, bytes, took_ms, "the newest data is in memory");
}

impl Job {
    /// The next offset wanted of a topic; absent if the topic is new to the shard, which then begins where its log does.
    fn next_offset(&self, number: usize) -> Option<i64> {
        if let Some(open_at) = &self.open_at {
            return Some(open_at[number]);
        }
        let files = self.files.as_deref()?;
        let last = files.position(number).or(files.knew(number).then_some(-1));
        last.map(|last| last + 1)
    }
}

/// Why a log cannot be read on from `next`: what comes there is not in it.
pub fn lost(topic: &str, partition: u32, next: Option<i64>, low: i64, end: i64) -> Option<String> {
    let next = next?;
    if next < low {
        return Some(format!(
            "Kafka no longer holds offset {next} of {topic}/{partition}, its log starts at {low}: {} records were removed \
             before this shard had them; rebuild the lane in a new directory",
            low - next
        ));
    }
    (next > end).then(|| {
        format!(
            "{topic}/{partition} ends at offset {end}, this shard has everything below {next}: records were lost in Kafka \
             or the topic was recreated; rebuild the lane in a new directory"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_holds_the_next_offset_or_ends_there_is_read_on() {
        assert_eq!(lost("t", 0, Some(5), 5, 9), None);
        assert_eq!(lost("t", 0, Some(9), 5, 9), None);
        assert_eq!(lost("t", 0, None, 5, 9), None);
    }

    #[test]
    fn bad_30_retention_that_passed_us_is_refused() {
        let reason = lost("t", 3, Some(5), 8, 9).unwrap();
        assert!(reason.contains("offset 5 of t/3") && reason.contains("starts at 8"), "{reason}");
    }

    #[test]
    fn p14_a_log_that_ends_before_our_position_is_refused() {
        let reason = lost("t", 3, Some(10), 0, 9).unwrap();
        assert!(reason.contains("t/3 ends at offset 9"), "{reason}");
    }
}
