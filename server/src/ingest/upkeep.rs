//! What an ingest thread does now and then: offsets that are durable are committed to the group, ends of logs are looked
//! at, shards become READY, files expire, and what the lane's counters need is handed over.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_storage::WriteError;

use super::lane_thread::LaneThread;
use super::shard::Shard;
use crate::kafka::consumer::Event;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const COMMIT_EVERY: Duration = Duration::from_millis(500);
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Bytes a shard may copy at each look to give back space, though nothing comes in.
const IDLE_THINNING: u64 = 256 << 10;
/// How long a stop waits for Kafka to take the last offsets. They are for people's monitoring; nothing rests on them.
const LAST_OFFSETS: Duration = Duration::from_secs(2);

/// When what was done last.
pub struct Upkeep {
    looked: Instant,
    offsets_said: Instant,
    expired: Instant,
    pub(super) offsets_under_way: bool,
    /// Payload bytes since the counters had them.
    pub(super) bytes: u64,
    /// Whether the group lets this thread consume.
    pub(super) is_assigned: bool,
    /// Whether librdkafka says that no broker is there.
    disconnected: bool,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Upkeep {
            looked: now,
            offsets_said: now,
            expired: now,
            offsets_under_way: false,
            bytes: 0,
            is_assigned: false,
            disconnected: false,
        }
    }

    /// The group has taken everything back.
    pub(super) fn rest(&mut self) {
        self.is_assigned = false;
        self.offsets_under_way = false;
    }

    /// Something came from a broker.
    pub(super) fn heard(&mut self) {
        self.disconnected = false;
    }
}

impl LaneThread {
    /// Does what is due.
    pub(super) fn keep_up(&mut self) {
        let now = Instant::now();
        let look = now.duration_since(self.upkeep.looked) >= LOOK_EVERY;
        // Expiring and thinning commit what is under way, which must not be while its dead letters are not written.
        let settled = self.letters.is_settled();
        if settled {
            self.thin(look);
        }
        if !look {
            return;
        }
        self.upkeep.looked = now;
        self.look_at_ends();
        self.halt_poisoned();
        self.keep_telling();
        if now.duration_since(self.upkeep.offsets_said) >= COMMIT_EVERY {
            self.upkeep.offsets_said = now;
            self.commit_offsets(false);
        }
        if settled && now.duration_since(self.upkeep.expired) >= EXPIRE_EVERY {
            // A slice at a time, so that nothing waits for it.
            self.upkeep.expired = if self.expire() { self.upkeep.expired } else { now };
        }
    }

    /// How far the logs reach, whether the shards are there, and whether anything is heard of them at all.
    fn look_at_ends(&mut self) {
        let now_ms = self.run.clock.now_ms();
        let deaf = !self.upkeep.is_assigned || self.upkeep.disconnected;
        for shard in &self.shards {
            for (number, topic) in shard.topics.iter().enumerate() {
                shard.saw_end(number, self.member.end(&topic.c_name, shard.partition as i32), now_ms);
            }
            match deaf || !self.run.reachable.load(Ordering::Acquire) {
                true => shard.handle.detach(now_ms),
                false => shard.handle.attach(),
            }
            shard.check_ready();
        }
        // The watcher's next answer says that brokers are there again, where no record does.
        self.upkeep.disconnected &= !self.run.reachable.load(Ordering::Acquire);
    }

    fn halt_poisoned(&mut self) {
        while let Some(at) = self.shards.iter().position(|shard| shard.poisoned().is_some()) {
            let shard = self.shards.remove(at);
            let reason = shard.poisoned().unwrap_or_default();
            self.halt(shard, format!("storage failed: {reason}; mend the disk and restart this server"));
            self.consume();
        }
    }

    /// Removes what has expired; true if there is more to do.
    fn expire(&mut self) -> bool {
        let (now_ms, run) = (self.run.clock.now_ms(), self.run.clone());
        let mut more = false;
        self.each_shard(|shard| {
            more |= shard.expire(now_ms, &run.lane.counters)?;
            Ok(())
        });
        more
    }

    /// Goes on with thinning: in step with what comes in, a little at each look, and all the time while ingest waits.
    fn thin(&mut self, look: bool) {
        let now_ms = self.run.clock.now_ms();
        let idle_bytes = match look {
            _ if self.pause.is_some() => u64::MAX,
            true => IDLE_THINNING,
            false => 0,
        };
        self.each_shard(|shard| match idle_bytes > 0 || shard.must_thin() {
            true => shard.thin(now_ms, idle_bytes),
            false => Ok(()),
        });
    }

    /// Does something with every shard. While ingest waits, a shard that has no room either is no news.
    fn each_shard(&mut self, mut work: impl FnMut(&mut Shard) -> Result<(), WriteError>) {
        let mut at = 0;
        while at < self.shards.len() {
            match work(&mut self.shards[at]) {
                Err(error) if self.pause.is_none() || !error.can_be_waited_out() => {
                    let before = self.shards.len();
                    self.storage_failed(at, &error);
                    at += usize::from(self.shards.len() == before);
                }
                _ => at += 1,
            }
        }
    }

    /// No broker answers; the watcher is to find out when one does.
    pub(super) fn disconnected(&mut self, text: &str) {
        if !self.upkeep.disconnected {
            tracing::warn!(lane = self.run.name(), text, "no Kafka broker answers; waiting for one");
        }
        self.upkeep.disconnected = true;
        self.run.reachable.store(false, Ordering::Release);
        self.run.check_soon();
    }

    /// Says to the group what is durable and was not said yet. Not while an answer is awaited, unless it is `urgent`.
    pub(super) fn commit_offsets(&mut self, urgent: bool) {
        // Where edges are told, offsets are committed with them.
        let told_elsewhere = self.teller.is_some();
        if told_elsewhere || !self.upkeep.is_assigned || (self.upkeep.offsets_under_way && !urgent) {
            return;
        }
        let mut places = Vec::new();
        for shard in &mut self.shards {
            for number in 0..shard.topics.len() {
                let next = shard.durable_next(number);
                let topic = &mut shard.topics[number];
                if next > topic.committed.max(0) {
                    topic.committed = next;
                    places.push((topic.name.clone(), shard.partition as i32, next));
                }
            }
        }
        if places.is_empty() {
            return;
        }
        let places = places.iter().map(|(topic, partition, next)| (&**topic, *partition, *next));
        match self.member.commit(places) {
            Ok(()) => self.upkeep.offsets_under_way = true,
            Err(error) => self.offsets_committed(Err(error)),
        }
    }

    /// Kafka took the offsets, or did not: then they are said again.
    pub(super) fn offsets_committed(&mut self, outcome: Result<(), String>) {
        self.upkeep.offsets_under_way = false;
        if let Err(error) = outcome {
            tracing::debug!(lane = self.run.name(), error, "group offsets not committed; tried again");
            let topics = self.shards.iter_mut().flat_map(|shard| &mut shard.topics);
            topics.for_each(|topic| topic.committed = -1);
        }
    }

    /// Waits a little for the answer to the last offsets.
    pub(super) fn await_offsets(&mut self) {
        let until = Instant::now() + LAST_OFFSETS;
        let mut batch = Vec::new();
        while self.upkeep.offsets_under_way && Instant::now() < until {
            let event = self.member.fill(&mut batch, 1, Duration::from_millis(10), Duration::ZERO);
            batch.clear();
            if let Some(Event::Committed(outcome)) = event {
                self.offsets_committed(outcome);
            }
        }
    }

    /// Hands over what the lane shows of a batch just committed.
    pub(super) fn note_batch(&mut self, newest_ms: i64) {
        let bytes = std::mem::take(&mut self.upkeep.bytes);
        self.run.lane.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        if newest_ms > 0 {
            let took_ms = (self.run.clock.now_ms() - newest_ms).max(1) as u64;
            if let Some(histogram) = self.run.lane.freshness_ms.get(self.number) {
                histogram.lock().saturating_record(took_ms);
            }
        }
    }
}
