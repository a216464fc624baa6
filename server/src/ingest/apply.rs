//! What an ingest thread does with a batch: every record becomes a put, a skip or a dead letter; then the letters are
//! waited for, and each shard touched is committed once. Any part of it may be cut short and done again from the shards'
//! positions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_storage::WriteError;

use super::dead_letter::Letter;
use super::decode::{Decision, Known, Reason, Record, Rules, decode, is_at_home};
use super::evaluate::At;
use super::lane_thread::LaneThread;
use super::shard::Shard;
use crate::definitions::View;
use crate::kafka::consumer::{Place, RawMessage, Step};

/// A frame is committed at this size even within a batch.
const FRAME_BYTES: u64 = 4 << 20;
/// So many records' entities are asked for from memory at once.
const ASK_AHEAD: usize = 32;
/// How long a batch waits for its dead letters before ingest is said to wait.
const LETTERS: Duration = Duration::from_secs(1);

/// Where a message belongs: remembered, for the next is mostly from the same partition.
#[derive(Default)]
struct Home {
    topic_address: usize,
    partition: i32,
    shard: usize,
    topic: usize,
}

/// A batch cannot go on.
pub(super) enum Stop {
    /// Everything waits.
    Paused,
    /// One shard was stopped; places in `shards` have changed.
    Halted,
}

impl LaneThread {
    /// Takes a batch in and commits it.
    pub(super) fn apply(&mut self, batch: &mut Vec<Step>) {
        if batch.is_empty() {
            return;
        }
        if self.routes.refresh() {
            self.adopt_views();
            if self.begin_telling_anew() {
                return;
            }
        }
        self.upkeep.heard();
        let mut home = Home::default();
        let mut steps = batch.drain(..);
        for at in 0.. {
            if at % ASK_AHEAD == 0 {
                self.ask_ahead(steps.as_slice());
            }
            let Some(step) = steps.next() else { break };
            let done = match &step {
                Step::Message(message) => self.message(message, &mut home),
                Step::End(place) => self.end_of(place),
            };
            match done {
                Ok(()) => {}
                Err(Stop::Halted) => home = Home::default(),
                Err(Stop::Paused) => return,
            }
        }
        self.settle_and_commit();
        self.wait_for_edges();
    }

    /// Has every shard note what the view ids mean now, before the first record under a new one. A shard that has records
    /// under an id of another view stops.
    fn adopt_views(&mut self) {
        let views = self.routes.policies();
        let mut at = 0;
        while at < self.shards.len() {
            match self.shards[at].adopt_views(&views) {
                Ok(()) => at += 1,
                Err(error) => {
                    let shard = self.shards.remove(at);
                    self.halt(shard, error.to_string());
                    self.consume();
                }
            }
        }
    }

    /// Has what memory holds of the next records' entities on its way before they are looked at.
    fn ask_ahead(&mut self, steps: &[Step]) {
        let messages = steps.iter().take(ASK_AHEAD).filter_map(|step| match step {
            Step::Message(message) => Some(message),
            Step::End(_) => None,
        });
        let Some(first) = messages.clone().next() else { return };
        let Some((shard, topic)) = self.find(first.topic(), first.partition()) else { return };
        // Where a topic feeds several views, or its partitions are mixed, the rest has to wait for memory.
        let [view] = self.routes.views(topic) else { return };
        let alike = messages.filter(|message| {
            message.topic_address() == first.topic_address() && message.partition() == first.partition()
        });
        let points = alike.filter_map(|message| Some((message.key()?, message.payload()?)));
        self.shards[shard].expect(view, points);
    }

    fn message(&mut self, message: &RawMessage, home: &mut Home) -> Result<(), Stop> {
        if home.topic_address != message.topic_address() || home.partition != message.partition() {
            match self.find(message.topic(), message.partition()) {
                Some((shard, topic)) => {
                    let (topic_address, partition) = (message.topic_address(), message.partition());
                    *home = Home { topic_address, partition, shard, topic };
                }
                // A shard stopped while its messages were under way.
                None => return Ok(()),
            }
        }
        let (shard, topic, offset) = (home.shard, home.topic, message.offset());
        let replayed = offset < self.shards[shard].next_offset(topic);
        let done = match replayed {
            true => self.take_up_again(shard, topic, message),
            false => self.store(shard, topic, message),
        };
        self.stored(shard, done)?;
        self.shards[shard].passed(topic, offset + 1);
        if self.shards[shard].pending_bytes() > FRAME_BYTES {
            return self.settle_and_commit_or_stop();
        }
        Ok(())
    }

    /// Place in `shards`, and of the topic in the shard.
    fn find(&self, topic: &str, partition: i32) -> Option<(usize, usize)> {
        let at = self.shards.binary_search_by_key(&(partition as u32), |shard| shard.partition).ok()?;
        Some((at, self.shards[at].topics.iter().position(|source| *source.name == *topic)?))
    }

    fn store(&mut self, at: usize, topic: usize, message: &RawMessage) -> Result<(), WriteError> {
        let shard = &mut self.shards[at];
        let (offset, timestamp_ms) = (message.offset(), message.timestamp_ms());
        let now_ms = shard.ingest_time_ms(topic, timestamp_ms);
        let headers = message.headers();
        let record = Record {
            key: message.key(),
            payload: message.payload(),
            headers: &headers,
            timestamp_ms,
            partition: shard.partition,
        };
        let lane = &self.run.lane;
        let rules = Rules {
            lane: &lane.definition,
            views: self.routes.views(topic),
            partitions: lane.partitions.load(Ordering::Relaxed),
            ingest_time_ms: now_ms,
        };
        if !is_at_home(&record, &rules) {
            lane.counters.wrong_partition.fetch_add(1, Ordering::Relaxed);
        }
        self.upkeep.bytes += record.payload.map_or(0, |payload| payload.len() as u64);
        let encode = |view: &Arc<View>, payload| shard.encode(view, self.routes.triggers(view.id), payload);
        let dead = match decode(&record, &rules, &mut self.slots, encode) {
            Decision::Put(point) => match shard.put(topic, offset, now_ms, &point) {
                Ok(outcome) => {
                    return match self.routes.triggers(point.view) {
                        [] => Ok(()),
                        triggers => {
                            let at = At { topic, offset, now_ms };
                            shard.judge(at, &point, outcome, triggers, &self.slots)
                        }
                    };
                }
                Err(error) => match Reason::of(&error) {
                    Some(reason) => (reason, error.to_string()),
                    None => return Err(error),
                },
            },
            Decision::Expired => return shard.skip_expired(topic, offset, now_ms),
            Decision::Dead(reason, detail) => (reason, detail),
        };
        shard.skip_dead(topic, offset, now_ms)?;
        self.letters.send(letter(shard, topic, offset, &record, dead));
        Ok(())
    }

    /// A record that the shard has: its edges may not be told.
    fn take_up_again(&mut self, at: usize, topic: usize, message: &RawMessage) -> Result<(), WriteError> {
        self.run.lane.counters.replayed.fetch_add(1, Ordering::Relaxed);
        if !self.is_untold(at, topic, message.offset()) {
            return Ok(());
        }
        let shard = &mut self.shards[at];
        let (offset, timestamp_ms) = (message.offset(), message.timestamp_ms());
        let headers = message.headers();
        let record = Record {
            key: message.key(),
            payload: message.payload(),
            headers: &headers,
            timestamp_ms,
            partition: shard.partition,
        };
        let lane = &self.run.lane;
        // It was judged by the clock of its partition, which was at its own time or later.
        for ingest_time_ms in [timestamp_ms, shard.ingest_time_ms(topic, timestamp_ms)] {
            let rules = Rules {
                lane: &lane.definition,
                views: self.routes.views(topic),
                partitions: lane.partitions.load(Ordering::Relaxed),
                ingest_time_ms,
            };
            if let Decision::Put(point) = decode(&record, &rules, &mut self.slots, |_, _| Known::Nothing) {
                let at = At { topic, offset, now_ms: ingest_time_ms };
                return shard.repeat(at, &point, self.routes.triggers(point.view));
            }
        }
        Ok(())
    }

    /// The partition holds nothing for us below this end that was not given.
    fn end_of(&mut self, place: &Place) -> Result<(), Stop> {
        let Some((shard, topic)) = self.find(&place.0, place.1) else { return Ok(()) };
        let passed = self.shards[shard].pass_to(topic, place.2);
        self.stored(shard, passed)
    }

    fn stored(&mut self, shard: usize, stored: Result<(), WriteError>) -> Result<(), Stop> {
        match stored {
            Ok(()) => Ok(()),
            Err(error) => Err(self.storage_failed(shard, &error)),
        }
    }

    /// A full disk makes the lane wait; anything else stops the shard.
    pub(super) fn storage_failed(&mut self, at: usize, error: &WriteError) -> Stop {
        if error.can_be_waited_out() {
            self.pause(format!("{error}; ingest of the lane goes on when there is room"));
            return Stop::Paused;
        }
        let shard = self.shards.remove(at);
        self.halt(shard, error.to_string());
        self.consume();
        Stop::Halted
    }

    fn settle_and_commit_or_stop(&mut self) -> Result<(), Stop> {
        let shards = self.shards.len();
        self.settle_and_commit();
        match () {
            () if self.pause.is_some() => Err(Stop::Paused),
            () if self.shards.len() != shards => Err(Stop::Halted),
            () => Ok(()),
        }
    }

    /// Waits for the dead letters, then commits every shard. Pauses ingest if either cannot be done now.
    pub(super) fn settle_and_commit(&mut self) {
        let settled = self.letters.is_settled() || self.letters.settle(LETTERS);
        self.count_letter_failures();
        match settled {
            true => drop(self.commit_shards()),
            false => self.pause(self.letters.trouble()),
        }
    }

    pub(super) fn count_letter_failures(&mut self) {
        let failures = self.letters.take_failures();
        self.run.lane.counters.dead_letter_failures.fetch_add(failures, Ordering::Relaxed);
    }

    /// Commits every shard; the dead letters are written. False if the disk has no room, and ingest waits.
    pub(super) fn commit_shards(&mut self) -> bool {
        let mut newest = 0;
        let mut at = 0;
        while at < self.shards.len() {
            match self.shards[at].commit(&self.run.lane.counters) {
                Ok(time) => newest = time.unwrap_or(0).max(newest),
                Err(error) => match self.storage_failed(at, &error) {
                    Stop::Halted => continue,
                    Stop::Paused => return false,
                },
            }
            self.shards[at].check_ready();
            at += 1;
        }
        self.offer_edges();
        self.note_batch(newest);
        true
    }

    /// For a moment when nothing must be left under way: commits what may be, and syncs.
    pub(super) fn flush(&mut self, settled: bool) {
        let lane = self.run.name();
        for shard in &mut self.shards {
            let committed = if settled { shard.commit(&self.run.lane.counters).map(drop) } else { Ok(()) };
            if let Err(error) = committed.and_then(|()| shard.sync()) {
                tracing::warn!(lane, partition = shard.partition, %error, "not flushed; read again later");
            }
        }
    }
}

fn letter(
    shard: &Shard,
    topic: usize,
    offset: i64,
    record: &Record<'_>,
    (reason, detail): (Reason, String),
) -> Letter {
    let headers = record.headers.iter();
    Letter {
        topic: shard.topics[topic].name.clone(),
        partition: shard.partition,
        offset,
        timestamp_ms: record.timestamp_ms,
        reason,
        detail,
        key: record.key.map(<[u8]>::to_vec),
        payload: record.payload.map(<[u8]>::to_vec),
        headers: headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
    }
}
