//! Ingest: the threads that take records from Kafka, judge them and put them into shards. Started and stopped by `serve`;
//! everyone else sees only what it leaves in `lane`. Kafka is reached through `crate::kafka`, files through
//! `forebay_storage`.
//!
//! ```text
//!  lane "a" ── watch thread: topic ids, partition counts            (watch, run)
//!           ├─ ingest thread 0 ─ member of group <group>.a          (lane_thread)
//!           │    assignment ─► opening thread ─► shards             (assignment, opening, shard)
//!           │    batch ─► decode ─► put | skip | dead letter        (apply, decode, route, dead_letter)
//!           │          ─► letters acknowledged ─► one commit a shard
//!           │    durable positions ─► group offsets, ends, expiry   (upkeep)
//!           ├─ ingest thread 1 ...
//!           └─ sync thread (storage)
//!  lane "b" ── threads, memory and files of its own
//! ```

mod apply;
mod assignment;
mod dead_letter;
pub mod decode;
mod edges;
mod evaluate;
mod lane_thread;
mod opening;
mod route;
mod run;
mod shard;
mod telling;
mod transaction;
mod upkeep;
mod watch;

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use anyhow::{Context, bail};
use forebay_storage::{SyncGroup, SyncPolicy};
use rustix::fs::{FlockOperation, flock};
use rustix::process::setpriority_process;

use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::SharedDefinitions;
use crate::kafka::topics::TopicAdmin;
use crate::kafka::{consumer_config, member_config, producer_config};
use crate::lane::Lane;
use crate::tuning::{self, Tuned, TunedLane};
use dead_letter::DeadLetters;
use lane_thread::LaneThread;
use run::{LaneInputs, LaneRun};

/// All lanes at work.
pub struct Ingest {
    runs: Vec<Arc<LaneRun>>,
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Ingest {
    /// Starts every lane. Fails on what a person must mend first: a wrong setting, a storage directory that cannot be
    /// written or is another server's. That Kafka is not there is no failure; it is waited for.
    pub fn start(
        config: &Config,
        definitions: SharedDefinitions,
        lanes: Vec<Arc<Lane>>,
        tuned: &Tuned,
        clock: Clock,
    ) -> anyhow::Result<Ingest> {
        let lock = lock(&config.storage.dir)?;
        let mut ingest = Ingest { runs: Vec::new(), threads: Vec::new(), _lock: lock };
        let started = lanes.into_iter().zip(&tuned.lanes).try_for_each(|(lane, tuned)| {
            let definition = lane.definition.clone();
            let start = || ingest.start_lane(config, definitions.clone(), lane, tuned, clock.clone());
            with_niceness(definition.nice, start).context(format!("lane {}", definition.name))
        });
        match started {
            Ok(()) => Ok(ingest),
            Err(error) => {
                ingest.stop();
                Err(error)
            }
        }
    }

    fn start_lane(
        &mut self,
        config: &Config,
        definitions: SharedDefinitions,
        lane: Arc<Lane>,
        tuned: &TunedLane,
        clock: Clock,
    ) -> anyhow::Result<()> {
        // Until the partitions are known.
        let interval_ms = tuning::sync_interval_ms(config.storage.sync_interval_ms, 0).value;
        let policy = SyncPolicy { interval_ms, bytes: config.storage.sync_bytes };
        let definition = lane.definition.clone();
        let run = Arc::new(LaneRun::new(LaneInputs {
            lane,
            definitions,
            clock,
            kafka: config.kafka.clone(),
            storage: config.storage.clone(),
            ingest: config.ingest.clone(),
            triggers: config.triggers.clone(),
            instance: config.server.instance.clone(),
            sync: SyncGroup::spawn(&format!("sync-{}", definition.name), policy)?,
            admin: TopicAdmin::new(&consumer_config(&config.kafka)).context("[kafka] settings")?,
        }));
        self.runs.push(run.clone());
        for number in 0..tuned.threads.value {
            let (thread, failed) = (lane_thread(&run, number, tuned.fetch_bytes.value)?, run.clone());
            self.spawn(format!("ingest-{}-{number}", definition.name), move || {
                failed.or_refuse("an ingest thread", || thread.run());
            })?;
        }
        self.spawn(format!("watch-{}", definition.name), move || watch::watch(run))
    }

    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        self.threads.push(thread::Builder::new().name(name).spawn(work)?);
        Ok(())
    }

    /// Ends every lane: what was taken in is committed, synced, and said to Kafka; then files are closed. Blocks until
    /// all of that is done, at most some seconds where Kafka does not answer.
    pub fn stop(self) {
        for run in &self.runs {
            run.stopping.store(true, Ordering::Release);
            run.check_soon();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(
                    "an ingest thread panicked; its shards recover from their files at the next start"
                );
            }
        }
    }
}

/// Does `work` on a thread of this niceness: the threads that it starts, librdkafka's too, and those that they start have
/// it as well.
fn with_niceness<T: Send>(nice: u8, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    if nice == 0 {
        return work();
    }
    let nicely = || {
        // On Linux this is the calling thread's own.
        setpriority_process(None, nice.into()).context("niceness")?;
        work()
    };
    thread::scope(|scope| match scope.spawn(nicely).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn lane_thread(run: &Arc<LaneRun>, number: usize, fetch_bytes: u64) -> anyhow::Result<LaneThread> {
    let member = member_config(&run.kafka, run.name(), &run.instance, number, fetch_bytes);
    let letters = DeadLetters::new(producer_config(&run.kafka), &run.lane.definition.dead_letter_topic);
    LaneThread::new(run.clone(), number, &member, letters.context("[kafka] settings")?)
}

/// Takes the storage directory for this process, for as long as the file is held.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let failed = || format!("storage directory {}", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    let path = dir.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).with_context(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "{}: another server uses it; stop it first, or name another directory in storage.dir",
            failed()
        );
    }
    Ok(file)
}
