//! Group sync: one thread makes the commits of many shards last, by bytes or by time, without holding their writers.
//! A sync that fails stops its shard for good and is never tried again: the kernel reports a lost page only once.
//! Beside it a group has a thread that keeps the shards' files, and one for long jobs, which must hold up neither; and
//! what its shards have learned of their payloads, so that each need not learn it again.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::coding::Library;
use crate::disk::Operation;
use crate::error::WriteError;
use crate::log::frame::Position;
use crate::log::segment::Segment;
use crate::planted;
use crate::shard::Shard;
use crate::types::SyncPolicy;
use crate::worker::Worker;

/// The threads that sync and do what takes long, and the shards they serve. They end when the last clone and the last
/// writer are gone.
#[derive(Clone)]
pub struct SyncGroup {
    owner: Arc<Owner>,
}

/// Ends the threads when the last of their users is gone.
struct Owner {
    group: Arc<Group>,
    keeper: Worker,
    background: Worker,
    library: Arc<Library>,
}

struct Group {
    interval_ms: AtomicU64,
    bytes: u64,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    shards: Vec<Arc<Shard>>,
    /// Some shard has commits that are not synced.
    dirty: bool,
    /// Some shard has too many bytes of them to wait for the time.
    urgent: bool,
    stop: bool,
}

/// What a shard has committed and not synced.
#[derive(Debug)]
pub(crate) struct Unsynced {
    files: Vec<Arc<Segment>>,
    bytes: u64,
    sequence: u64,
    segment: u32,
    offsets: Vec<i64>,
}

impl SyncGroup {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn spawn(name: &str, policy: SyncPolicy) -> io::Result<SyncGroup> {
        let interval_ms = AtomicU64::new(policy.interval_ms);
        let (state, wake) = (Mutex::default(), Condvar::new());
        let group = Arc::new(Group { interval_ms, bytes: policy.bytes, state, wake });
        let keeper = Worker::spawn(format!("{name}-keep"))?;
        let background = Worker::spawn(format!("{name}-slow"))?;
        let for_thread = group.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || for_thread.run())?;
        let library = Arc::default();
        Ok(SyncGroup { owner: Arc::new(Owner { group, keeper, background, library }) })
    }

    /// Changes the longest time a commit stays unsynced, ms, from the next commit on.
    pub fn set_interval(&self, interval_ms: u64) {
        self.owner.group.interval_ms.store(interval_ms, Ordering::Relaxed);
    }

    /// Does a job on the files of a shard, after those given before. Its writer waits for it before it lets go of the
    /// directory; if it is leaving already, the job is not done.
    pub(crate) fn keep(&self, shard: &Arc<Shard>, job: impl FnOnce(&Shard) + Send + 'static) {
        if let Some(errand) = shard.errands.begin() {
            let shard = shard.clone();
            self.owner.keeper.run(move || {
                let _errand = errand;
                job(&shard);
            });
        }
    }

    /// Does a job that may take long (seconds) on a thread of its own, after those given before. It may be dropped
    /// without being done when the group ends. One that touches a shard's directory holds an [`Errand`] of the shard,
    /// so that its writer waits for it.
    ///
    /// [`Errand`]: crate::worker::Errand
    pub(crate) fn background(&self, job: impl FnOnce() + Send + 'static) {
        self.owner.background.run(job);
    }

    /// What its shards have learned.
    pub(crate) fn library(&self) -> &Arc<Library> {
        &self.owner.library
    }

    pub(crate) fn register(&self, shard: &Arc<Shard>) {
        self.owner.group.state.lock().shards.push(shard.clone());
    }

    pub(crate) fn unregister(&self, shard: &Arc<Shard>) {
        self.owner.group.state.lock().shards.retain(|other| !Arc::ptr_eq(other, shard));
    }

    /// Notes what a commit wrote: the frame `sequence` in `segment`, with the positions it brings.
    pub(crate) fn committed(
        &self,
        shard: &Shard,
        segment: &Arc<Segment>,
        bytes: u64,
        sequence: u64,
        positions: &[Position],
    ) {
        let unsynced = shard.unsynced.lock().add(segment, bytes, sequence, positions);
        let group = &self.owner.group;
        let mut state = group.state.lock();
        let urgent = unsynced >= group.bytes;
        if !state.dirty || (urgent && !state.urgent) {
            group.wake.notify_one();
        }
        state.dirty = true;
        state.urgent |= urgent;
    }
}

impl Group {
    fn run(&self) {
        while let Some(shards) = self.wait() {
            for shard in shards {
                // A failure is kept in the shard, where its writer and its readers find it.
                let _ = sync(&shard);
            }
        }
    }

    /// Waits until there is something to sync; nothing when nobody is left to sync for.
    fn wait(&self) -> Option<Vec<Arc<Shard>>> {
        let mut state = self.state.lock();
        while !state.dirty && !state.stop {
            self.wake.wait(&mut state);
        }
        let until = Instant::now() + Duration::from_millis(self.interval_ms.load(Ordering::Relaxed));
        while !state.urgent && !state.stop {
            if self.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        if state.stop {
            return None;
        }
        (state.dirty, state.urgent) = (false, false);
        Some(state.shards.clone())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.group.state.lock().stop = true;
        self.group.wake.notify_all();
    }
}

impl fmt::Debug for SyncGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interval_ms, bytes) =
            (self.owner.group.interval_ms.load(Ordering::Relaxed), self.owner.group.bytes);
        write!(f, "SyncGroup({:?})", SyncPolicy { interval_ms, bytes })
    }
}

impl Unsynced {
    pub fn new(topics: usize) -> Unsynced {
        Unsynced { files: Vec::new(), bytes: 0, sequence: 0, segment: 0, offsets: vec![-1; topics] }
    }

    /// Adds a commit; returns the bytes not synced now.
    fn add(&mut self, segment: &Arc<Segment>, bytes: u64, sequence: u64, positions: &[Position]) -> u64 {
        self.touch(segment);
        self.bytes += bytes;
        (self.sequence, self.segment) = (sequence, segment.number);
        for (offset, position) in self.offsets.iter_mut().zip(positions) {
            *offset = position.offset;
        }
        self.bytes
    }

    /// Notes a file that was written to.
    pub fn touch(&mut self, segment: &Arc<Segment>) {
        if !self.files.iter().any(|file| file.number == segment.number) {
            self.files.push(segment.clone());
        }
    }

    /// What is to be synced now; from here on, more is collected for the next time.
    fn take(&mut self) -> Unsynced {
        self.bytes = 0;
        let (files, offsets) = (std::mem::take(&mut self.files), self.offsets.clone());
        Unsynced { files, bytes: 0, sequence: self.sequence, segment: self.segment, offsets }
    }
}

/// Makes all commits of a shard so far last, then says so. Called by the thread and by the writer.
pub(crate) fn sync(shard: &Shard) -> Result<(), WriteError> {
    let _turn = shard.sync_turn.lock();
    shard.check()?;
    let work = shard.unsynced.lock().take();
    for segment in &work.files {
        if planted::skips_sync() {
            continue;
        }
        let done = shard.faults.check(Operation::Sync).and_then(|()| segment.sync());
        let done = if planted::syncs_again() { done.or_else(|_| segment.sync()) } else { done };
        done.map_err(|error| shard.poison.set(format!("{}: sync failed: {error}", segment.path.display())))?;
    }
    shard.residency.settle(shard.segments.load(&crossbeam_epoch::pin()));
    if work.sequence > shard.durable_sequence.load(Ordering::Relaxed) {
        shard.durable_segment.store(work.segment, Ordering::Release);
        shard.durable_sequence.store(work.sequence, Ordering::Release);
        shard.durable.publish(work.offsets.into_iter());
    }
    Ok(())
}
