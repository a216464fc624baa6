//! What an ingest thread does so that every edge is told once: hands edges over to the thread that tells them, begins to
//! read where the group is rather than where the shard is, and waits where it must. Only in lanes with triggers, on
//! servers that tell edges: then offsets are committed nowhere else.
//!
//! Let R be how far a shard's files are, and E what the group has. Below R every state is stored, with the edge that it
//! was; below E every edge is told. E < R after a crash: what is between is read again, and the edges are taken from the
//! states stored there. R < E in a directory that was rebuilt: edges below E are told already. No E yet: R is said
//! before anything is consumed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::edges::Teller;
use super::lane_thread::LaneThread;
use super::opening::{Bounds, Job, Opening};
use super::shard::Shard;
use crate::kafka::transactional_config;

/// How long a partition that is given up waits for its edges to be told.
const LAST_EDGES: Duration = Duration::from_secs(3);

/// What was held of thinning when, and until everything before it is told.
pub struct Hold {
    /// By class: replaced versions in older segments are needed no more once ...
    segments: Vec<u32>,
    /// ... everything below these offsets is told, by topic.
    until: Vec<i64>,
}

impl LaneThread {
    /// Begins to tell edges if this lane has triggers now. True if it began just now.
    pub(super) fn begin_telling(&mut self) -> bool {
        let run = &self.run;
        if self.teller.is_some() || !run.triggers.emit || !self.routes.has_triggers() {
            return false;
        }
        let config = transactional_config(&run.kafka, run.name(), &run.instance, self.number);
        let interval = Duration::from_millis(run.triggers.transaction_interval_ms);
        match Teller::start(run.lane.clone(), self.number, config, interval) {
            Ok(teller) => self.teller = Some(teller),
            Err(error) => run.refuse(format!("no thread to tell edges on: {error}; restart this server")),
        }
        self.run.telling.store(true, Ordering::Release);
        true
    }

    /// The group gave partitions: what was handed over before is dropped and read again.
    pub(super) fn tell_assigned(&mut self) {
        self.begin_telling();
        if let Some(teller) = &self.teller {
            teller.begin(self.member.group_metadata());
        }
    }

    /// Triggers came into a lane that had none: what is consumed from now on is read anew, once no answer to an offset
    /// said before is under way. True if a batch that was begun must be dropped for that.
    pub(super) fn begin_telling_anew(&mut self) -> bool {
        if !self.begin_telling() {
            return false;
        }
        let until = Instant::now() + LAST_EDGES;
        let mut batch = Vec::new();
        while self.upkeep.offsets_under_way && Instant::now() < until {
            let event = self.member.fill(&mut batch, 1, Duration::from_millis(10), Duration::ZERO);
            batch.clear();
            event.into_iter().for_each(|event| self.handle(event));
        }
        self.tell_anew();
        true
    }

    /// Triggers came into a lane that had none, or it is not known what was told: asks the group, and reads on from there.
    pub(super) fn tell_anew(&mut self) {
        if self.opening.is_some() || !self.upkeep.is_assigned || self.ended {
            return;
        }
        self.settle_and_commit();
        if let Some(teller) = &self.teller {
            teller.give_up(LAST_EDGES);
        }
        self.tell_assigned();
        let jobs = self.shards.iter();
        let jobs = jobs.map(|shard| Job::new(shard.partition, shard.handle.clone(), Some(shard.positions())));
        match Opening::start(self.run.clone(), jobs.collect()) {
            Ok(opening) => self.opening = Some(opening),
            Err(error) => tracing::error!(lane = self.run.name(), %error, "no thread to ask the group on"),
        }
        self.consume();
    }

    /// A shard was compared with its logs and the group: from where it is read, and which edges are told already.
    pub(super) fn tell_installed(&mut self, at: usize, bounds: &[Bounds]) {
        let (Some(teller), Some(shard)) = (&self.teller, self.shards.get_mut(at)) else { return };
        let new = bounds.iter().any(|bounds| bounds.told.is_none());
        if new && let Err(error) = shard.sync() {
            // What is said of a shard must be durable; it will be poisoned, and halted for that.
            tracing::warn!(partition = shard.partition, %error, "not synced");
        }
        // What was not told is read again, and told then.
        shard.evaluations.ready.clear();
        for (number, bounds) in bounds.iter().enumerate() {
            // What is committed: it survives with the sync above.
            let next = shard.applied(number) + 1;
            let source = &mut shard.topics[number];
            source.told_from = bounds.told.unwrap_or(next);
            source.stored_to = next;
            source.reread = source.told_from.min(next).max(bounds.low);
            teller.take_up(&shard.handle, (number, source.name.clone()), bounds.told, next);
            if source.told_from < bounds.low {
                let (topic, told) = (&*source.name, source.told_from);
                let lost = bounds.low - told;
                tracing::error!(
                    topic,
                    partition = shard.partition,
                    lost,
                    "edges may not be told: Kafka has removed their records"
                );
            }
        }
    }

    /// Whether a shard may be consumed: the group has its offsets.
    pub(super) fn may_consume(&self, shard: &Shard) -> bool {
        self.teller.as_ref().is_none_or(|teller| teller.may_consume(shard.partition))
    }

    /// Hands over what was committed since. To be called after commits.
    pub(super) fn offer_edges(&mut self) {
        let counters = &self.run.lane.counters;
        for shard in &mut self.shards {
            let evaluations = &mut shard.evaluations;
            counters.evaluations.fetch_add(std::mem::take(&mut evaluations.judged), Ordering::Relaxed);
            counters.interpreted.fetch_add(std::mem::take(&mut evaluations.interpreted), Ordering::Relaxed);
            let Some(teller) = &self.teller else {
                evaluations.ready.clear();
                continue;
            };
            let (handle, topics) = (&shard.handle, &shard.topics);
            let next = |number: usize| (handle.applied_offset(number) + 1).min(topics[number].reread);
            teller.offer(shard.partition, &mut evaluations.ready, next);
        }
    }

    /// What is due now and then: thinning is let go on behind what is told, and what was lost is asked for.
    pub(super) fn keep_telling(&mut self) {
        self.offer_edges();
        let Some(teller) = &self.teller else { return };
        for shard in &mut self.shards {
            shard.hold_thinning(|partition, number| teller.told(partition, number));
        }
        let waits = |shard: &Shard| !shard.is_consumed && teller.may_consume(shard.partition);
        if self.pause.is_none() && !self.ended && self.shards.iter().any(waits) {
            self.must_assign = true;
        }
        if teller.is_lost() {
            self.tell_anew();
        }
    }

    /// Ingest waits while too many edges do.
    pub(super) fn wait_for_edges(&mut self) {
        let waits = self.teller.as_ref().and_then(|teller| teller.backed_up(false));
        if let Some(reason) = waits.filter(|_| self.pause.is_none()) {
            self.pause(reason);
        }
    }

    /// Partitions are given back: what is durable is told, and the rest is whoever's has them next.
    pub(super) fn tell_last(&mut self) {
        self.offer_edges();
        let lost = self.member.is_lost();
        let Some(teller) = &self.teller else { return };
        if !lost {
            teller.drain(LAST_EDGES);
        }
        teller.give_up(LAST_EDGES);
    }

    /// A record that the shard's files had when the group was asked, and the group had not.
    pub(super) fn is_untold(&self, shard: usize, topic: usize, offset: i64) -> bool {
        let source = &self.shards[shard].topics[topic];
        self.teller.is_some() && (source.told_from..source.stored_to).contains(&offset)
    }
}

impl Shard {
    /// Nothing below `next` will be given any more.
    pub(super) fn passed(&mut self, topic: usize, next: i64) {
        let reread = &mut self.topics[topic].reread;
        *reread = (*reread).max(next);
    }

    /// Keeps replaced states as long as they may have to tell an edge.
    fn hold_thinning(&mut self, told: impl Fn(u32, usize) -> i64) {
        let is_told =
            |until: &[i64]| (0..).zip(until).all(|(number, until)| told(self.partition, number) >= *until);
        if self.hold.as_ref().is_some_and(|hold| !is_told(&hold.until)) {
            return;
        }
        let done = self.hold.take();
        self.writer.hold_from(
            &done.map_or_else(|| vec![0; self.writer.newest_segments().len()], |hold| hold.segments),
        );
        self.hold = Some(Hold { segments: self.writer.newest_segments(), until: self.positions() });
    }
}
