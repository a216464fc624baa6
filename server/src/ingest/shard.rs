//! One shard as the ingest thread that owns it sees it: the writer, the tally of the frame being filled, and the face it
//! shows to everyone else. Knows storage and the lane; knows no consumer.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_storage::{Kind, OpenError, Outcome, Put, TopicIndex, ViewPolicy, WriteError};

use super::decode::{DataPoint, Known};
use super::evaluate::Evaluations;
use super::telling::Hold;
use crate::definitions::{Trigger, View};
use crate::lane::{Counters, Lane, ShardHandle, ShardState};
use crate::shard_files::Writers;

/// An open shard.
pub struct Shard {
    /// Partition of every topic of the lane.
    pub partition: u32,
    /// What services and metrics see.
    pub handle: Arc<ShardHandle>,
    /// The topics of the lane, in definition order.
    pub topics: Vec<Source>,
    pub(super) writer: Writers,
    /// What triggers made of its data points.
    pub(super) evaluations: Evaluations,
    pub(super) hold: Option<Hold>,
    /// Whether its records are asked for.
    pub(super) is_consumed: bool,
    /// The views whose fields the writer finds while it encodes.
    bound: BTreeMap<u16, Arc<View>>,
    pending: Pending,
    /// Bytes committed since the last thinning.
    thin_bytes: u64,
}

/// Thinning goes on after so many bytes of new data, in small steps beside it.
const THIN_AFTER: u64 = 256 << 10;

/// One topic of a shard.
pub struct Source {
    /// Its name.
    pub name: Arc<str>,
    /// The same as librdkafka wants it.
    pub c_name: CString,
    /// Readiness means to have come this far.
    pub ready_at: i64,
    /// The next offset committed to the group, as far as it is known.
    pub committed: i64,
    /// Edges of records below this offset are told.
    pub told_from: i64,
    /// Edges of records below this offset, and not told, are those of the states stored there: the files had them when the
    /// group was asked.
    pub stored_to: i64,
    /// The next offset wanted: one below those the shard needs while edges are taken up again.
    pub reread: i64,
}

/// What the frame being filled holds.
#[derive(Default)]
struct Pending {
    applied: u64,
    late: u64,
    duplicate: u64,
    dead: u64,
    expired: u64,
    steps: u64,
    newest_timestamp_ms: Vec<i64>,
}

impl Shard {
    /// A shard just opened.
    pub fn new(handle: Arc<ShardHandle>, topics: Vec<Source>, writer: Writers) -> Shard {
        let pending = Pending { newest_timestamp_ms: vec![0; topics.len()], ..Pending::default() };
        let bound = BTreeMap::new();
        Shard {
            partition: handle.partition,
            handle,
            topics,
            writer,
            evaluations: Evaluations::default(),
            hold: None,
            is_consumed: false,
            bound,
            pending,
            thin_bytes: 0,
        }
    }

    /// The next offset wanted of a topic, uncommitted ones included.
    pub fn next_offset(&self, topic: usize) -> i64 {
        self.writer.position(topic).map_or(0, |last| last + 1)
    }

    /// The partition's clock when a record of this Kafka timestamp comes.
    pub fn ingest_time_ms(&self, topic: usize, timestamp_ms: i64) -> i64 {
        self.writer.ingest_time_ms(topic).max(timestamp_ms)
    }

    /// Encodes a payload that may be about to be put, and says what that found out about it. Finds what ingest looks at:
    /// the event time, and the fields of the view's triggers.
    pub fn encode<'p>(
        &mut self,
        view: &Arc<View>,
        triggers: &[Arc<Trigger>],
        payload: &'p [u8],
    ) -> Known<'p> {
        if !self.bound.get(&view.id).is_some_and(|bound| Arc::ptr_eq(bound, view)) {
            let fields = triggers.iter().flat_map(|trigger| trigger.fields());
            let wanted = [0].into_iter().chain(fields.map(|field| view.fields[field].slot));
            self.writer.bind(view.id, &view.stored, wanted);
            self.bound.insert(view.id, view.clone());
        }
        let fit = self.writer.encode(view.id, payload);
        if fit.is_valid() { Known::Object { first: fit.field(0) } } else { Known::Nothing }
    }

    /// Says which data points of a view come next, by entity and payload; a hint.
    pub fn expect<'e>(&mut self, view: &View, points: impl Iterator<Item = (&'e [u8], &'e [u8])> + Clone) {
        self.writer.expect(view.id, points);
    }

    /// Adds a data point to the frame.
    pub fn put(
        &mut self,
        topic: usize,
        offset: i64,
        now_ms: i64,
        point: &DataPoint<'_>,
    ) -> Result<Outcome, WriteError> {
        if self.is_taken(point, now_ms)? {
            self.skip(topic, offset, now_ms)?;
            self.pending.duplicate += 1;
            return Ok(Outcome::Duplicate);
        }
        let put = Put {
            view: point.view,
            entity: point.entity,
            kind: point.kind,
            event_time_ms: point.event_time_ms,
            ingest_time_ms: now_ms,
            expiry_ms: point.expiry_ms,
            topic: TopicIndex(topic as u16),
            offset,
            payload: point.payload,
        };
        let outcome = self.writer.put(topic, &put)?;
        match outcome {
            Outcome::Current => self.pending.applied += 1,
            Outcome::Late => self.pending.late += 1,
            Outcome::Duplicate => self.pending.duplicate += 1,
            Outcome::Replayed => {}
        }
        self.stepped(topic, now_ms);
        Ok(outcome)
    }

    /// Whether a value comes to a key that has its value, or its tombstone, for good. What is stored and the partition's
    /// clock decide, so that a replay decides the same.
    fn is_taken(&self, point: &DataPoint<'_>, now_ms: i64) -> Result<bool, WriteError> {
        if !point.write_once || point.kind == Kind::Tombstone {
            return Ok(false);
        }
        let current = self.writer.current(point.entity, point.view)?;
        Ok(current.is_some_and(|current| current.expiry_ms > now_ms))
    }

    /// Passes a record that came too late.
    pub fn skip_expired(&mut self, topic: usize, offset: i64, now_ms: i64) -> Result<(), WriteError> {
        self.skip(topic, offset, now_ms)?;
        self.pending.expired += 1;
        Ok(())
    }

    /// Passes a record that is a dead letter. The frame must not be committed before the letter is written.
    pub fn skip_dead(&mut self, topic: usize, offset: i64, now_ms: i64) -> Result<(), WriteError> {
        self.skip(topic, offset, now_ms)?;
        self.pending.dead += 1;
        Ok(())
    }

    /// Notes that the log holds nothing for us below `end` that was not given: transaction markers, compacted records.
    pub fn pass_to(&mut self, topic: usize, end: i64) -> Result<(), WriteError> {
        self.passed(topic, end);
        if end > self.next_offset(topic) {
            let now_ms = self.ingest_time_ms(topic, 0);
            self.skip(topic, end - 1, now_ms)?;
        }
        Ok(())
    }

    fn skip(&mut self, topic: usize, offset: i64, now_ms: i64) -> Result<(), WriteError> {
        self.writer.skip(topic, offset, now_ms);
        self.stepped(topic, now_ms);
        Ok(())
    }

    fn stepped(&mut self, topic: usize, now_ms: i64) {
        self.pending.steps += 1;
        self.pending.newest_timestamp_ms[topic] = now_ms;
    }

    /// Notes in its files what view ids mean.
    pub fn adopt_views(&mut self, views: &BTreeMap<u16, ViewPolicy>) -> Result<(), OpenError> {
        // Their triggers may be others.
        self.bound.clear();
        self.writer.adopt_views(views)
    }

    /// Bytes of the frame being filled.
    pub fn pending_bytes(&self) -> u64 {
        self.writer.pending_bytes()
    }

    /// Commits the frame, if there is anything in it; readable after this. Gives the newest record's time if there was.
    pub fn commit(&mut self, counters: &Counters) -> Result<Option<i64>, WriteError> {
        if self.pending.steps == 0 {
            return Ok(None);
        }
        let bytes = self.writer.pending_bytes();
        self.writer.commit()?;
        self.evaluations.committed();
        self.thin_bytes += bytes;
        Ok(Some(self.committed(counters)))
    }

    fn committed(&mut self, counters: &Counters) -> i64 {
        let topics = self.topics.len();
        let pending = std::mem::take(&mut self.pending);
        self.pending.newest_timestamp_ms = vec![0; topics];
        let add = |counter: &AtomicU64, n| {
            counter.fetch_add(n, Ordering::Relaxed);
        };
        add(&counters.applied, pending.applied);
        add(&counters.late, pending.late);
        add(&counters.duplicate, pending.duplicate);
        add(&counters.dead_lettered, pending.dead);
        add(&counters.expired, pending.expired);
        for (topic, newest) in pending.newest_timestamp_ms.iter().enumerate() {
            self.handle.took_in(topic, *newest);
        }
        self.handle.advanced();
        pending.newest_timestamp_ms.into_iter().max().unwrap_or(0)
    }

    /// Brings the end offset of a topic up to date; when the shard has all of it, that is noted.
    pub fn saw_end(&self, topic: usize, end: Option<i64>, now_ms: i64) {
        let progress = &self.handle.topics[topic];
        if let Some(end) = end {
            progress.end_offset.fetch_max(end, Ordering::AcqRel);
        }
        if self.applied(topic) + 1 >= progress.end_offset.load(Ordering::Acquire) {
            self.handle.caught_up(topic, now_ms);
        }
    }

    /// Makes the shard READY once it has come as far as the logs reached when it was opened.
    pub fn check_ready(&self) {
        let arrived = |topic: usize| self.applied(topic) + 1 >= self.topics[topic].ready_at;
        if self.handle.state() == ShardState::CatchingUp && (0..self.topics.len()).all(arrived) {
            tracing::info!(partition = self.partition, "shard is ready");
            self.handle.set_state(ShardState::Ready);
        }
    }

    /// The last offset of a topic that is committed, -1 if none.
    pub fn applied(&self, topic: usize) -> i64 {
        self.handle.applied_offset(topic)
    }

    /// The next offset of a topic that may be committed to the group: everything before it survives a power loss.
    pub fn durable_next(&self, topic: usize) -> i64 {
        self.handle.durable_offset(topic) + 1
    }

    /// Does a little to remove files that no read can notice any more; true if more is to be done. Commits the frame
    /// first: its dead letters must be written. If there is no room for it, this may make some.
    pub fn expire(&mut self, now_ms: i64, counters: &Counters) -> Result<bool, WriteError> {
        match self.commit(counters) {
            Err(error) if !error.can_be_waited_out() => return Err(error),
            _ => {}
        }
        let report = self.writer.expire(now_ms)?;
        if report.segments > 0 {
            let (segments, bytes) = (report.segments, report.bytes);
            tracing::info!(partition = self.partition, segments, bytes, "expired segments removed");
        }
        Ok(report.more)
    }

    /// Does a little to give back the space of replaced values: copies as much as came in since, and at least
    /// `idle_bytes`. The frame's dead letters must be written.
    pub fn thin(&mut self, now_ms: i64, idle_bytes: u64) -> Result<(), WriteError> {
        let bytes = std::mem::take(&mut self.thin_bytes).max(idle_bytes);
        let report = self.writer.thin(now_ms, bytes)?;
        if report.segments > 0 {
            let (segments, bytes) = (report.segments, report.bytes);
            tracing::debug!(partition = self.partition, segments, bytes, "thinned out segments removed");
        }
        Ok(())
    }

    /// Whether so much came in since the last thinning that another slice of it is due.
    pub fn must_thin(&self) -> bool {
        self.thin_bytes >= THIN_AFTER
    }

    /// Why the shard stopped, if its disk failed it.
    pub fn poisoned(&self) -> Option<String> {
        self.writer.readers().poisoned()
    }

    /// Syncs what is committed.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.writer.sync_now()
    }

    /// Stops it for good with a reason for people; reads go on where they may.
    pub fn halt(&self, lane: &str, reason: String) {
        tracing::error!(lane, partition = self.partition, reason, "shard halted");
        self.handle.set_state(ShardState::Halted(reason));
    }

    /// Gives the directory back and forgets the shard. `settled`: its dead letters are written, so that the frame being
    /// filled may be committed; otherwise that frame is dropped and comes again from Kafka.
    pub fn close(self, lane: &Lane, settled: bool) {
        let result = if settled { self.writer.close() } else { Ok(()) };
        if let Err(error) = result {
            let (lane, partition) = (&lane.definition.name, self.partition);
            tracing::warn!(lane, partition, %error, "shard not closed cleanly; its files recover when it is opened");
        }
        if !matches!(self.handle.state(), ShardState::Halted(_)) {
            self.handle.set_state(ShardState::Closed);
        }
        lane.withdraw(&self.handle);
    }

    /// The next offset wanted of each topic.
    pub fn positions(&self) -> Vec<i64> {
        (0..self.topics.len()).map(|topic| self.next_offset(topic)).collect()
    }
}

#[cfg(test)]
#[path = "write_once_tests.rs"]
mod write_once_tests;
