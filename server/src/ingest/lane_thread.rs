//! One ingest thread: a member of the lane's consumer group and the one writer of the shards the group gives it. This is
//! its loop; what it does with a batch is in `apply`, with an assignment in `assignment`, now and then in `upkeep`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::ClientConfig;

use super::dead_letter::DeadLetters;
use super::edges::Teller;
use super::opening::Opening;
use super::route::Routes;
use super::run::LaneRun;
use super::shard::Shard;
use super::upkeep::Upkeep;
use crate::json::Slots;
use crate::kafka::consumer::{Event, Member, Step};
use crate::lane::ShardHandle;

/// So often within this time a client may be shut out of its group before that needs a person.
const SHUT_OUT_AT_MOST: usize = 5;
const SHUT_OUT_WITHIN: Duration = Duration::from_secs(60);
/// Longest sleep when there is nothing to do: bounds how late an event, a stop or a resume is noticed.
const IDLE: Duration = Duration::from_millis(10);
/// How long a stop waits for the Kafka client, which waits for brokers that may be away.
const LEAVE: Duration = Duration::from_secs(2);
/// How long a pause lasts before its cause is looked at again.
const PAUSE: Duration = Duration::from_millis(500);

/// The thread's state. Dropped in this order: shards before the consumer that feeds them.
pub struct LaneThread {
    pub(super) run: Arc<LaneRun>,
    pub(super) number: usize,
    /// Open and alive, by ascending partition.
    pub(super) shards: Vec<Shard>,
    /// Stopped for good; kept so that reads go on where they may.
    pub(super) halted: Vec<Halted>,
    pub(super) letters: DeadLetters,
    /// Only in a lane with triggers whose edges this server tells.
    pub(super) teller: Option<Teller>,
    pub(super) routes: Routes,
    pub(super) slots: Slots,
    pub(super) opening: Option<Opening>,
    /// Whether shards were opened that are not consumed yet.
    pub(super) must_assign: bool,
    pub(super) assigned_at: Instant,
    pub(super) pause: Option<Pause>,
    pub(super) upkeep: Upkeep,
    /// The lane was stopped, or this member is shut out: nothing is consumed any more.
    pub(super) ended: bool,
    pub(super) member: Member,
    member_config: ClientConfig,
    /// When the last few clients were shut out.
    shut_out: Vec<Instant>,
}

/// A shard that was stopped for a reason that needs a person.
pub struct Halted {
    pub(super) handle: Arc<ShardHandle>,
    /// Holds its directory.
    pub(super) shard: Option<Shard>,
}

/// Ingest waits: everything but consuming goes on.
pub struct Pause {
    pub(super) reason: String,
    since: Instant,
    look_again: Instant,
}

impl LaneThread {
    /// A member not yet in its group. Fails only if a setting is wrong.
    pub fn new(
        run: Arc<LaneRun>,
        number: usize,
        member: &ClientConfig,
        letters: DeadLetters,
    ) -> anyhow::Result<Self> {
        Ok(LaneThread {
            routes: Routes::new(run.definitions.clone(), run.lane.definition.clone()),
            member: Member::new(member).context("[kafka] settings")?,
            member_config: member.clone(),
            shut_out: Vec::new(),
            number,
            shards: Vec::new(),
            halted: Vec::new(),
            letters,
            teller: None,
            slots: Slots::new(),
            opening: None,
            must_assign: false,
            assigned_at: Instant::now(),
            pause: None,
            upkeep: Upkeep::new(),
            ended: false,
            run,
        })
    }

    /// Works until the lane is stopped; not at all if there are fewer partitions than threads before it.
    pub fn run(mut self) {
        let mut batch = Vec::new();
        self.wait_for_topics(&mut batch);
        if self.run.lane.partition_count().is_some_and(|partitions| self.number >= partitions as usize) {
            return self.finish();
        }
        self.subscribe();
        while !self.run.is_stopping() {
            self.turn(&mut batch);
        }
        self.finish();
    }

    /// The group is joined once the topics are known to be there and fit: it gives out partitions of those that are.
    fn wait_for_topics(&mut self, batch: &mut Vec<Step>) {
        while !self.run.is_stopping() && self.run.lane.partition_count().is_none() {
            self.member.fill(batch, 1, IDLE, Duration::ZERO);
        }
    }

    fn subscribe(&mut self) {
        if let Err(error) = self.member.subscribe(&self.run.topics()) {
            self.run.refuse(format!("the Kafka client does not subscribe: {error}; restart this server"));
        }
    }

    /// A client that was shut out of its group stays so. That happens to one whose brokers were away for longer than its
    /// session: a new one takes its place, and the shards wait for it. Shut out again and again, another server has
    /// this one's name.
    fn rejoin(&mut self, cause: &str) {
        tracing::warn!(lane = self.run.name(), cause, "shut out of the consumer group; joining anew");
        self.shut_out.retain(|then| then.elapsed() < SHUT_OUT_WITHIN);
        self.shut_out.push(Instant::now());
        let name = &self.run.instance;
        if self.shut_out.len() > SHUT_OUT_AT_MOST {
            let advice = "give each server a server.instance of its own, then restart this one";
            return self.run.refuse(format!("shut out of the consumer group as {name:?}: {cause}; {advice}"));
        }
        match Member::new(&self.member_config) {
            Ok(member) => {
                let old = std::mem::replace(&mut self.member, member);
                old.close(Duration::ZERO);
                self.let_rest();
                self.subscribe();
            }
            Err(error) => self.run.refuse(format!("no new Kafka client: {error}; restart this server")),
        }
    }

    fn turn(&mut self, batch: &mut Vec<Step>) {
        if let Some(reason) = self.run.refusal().filter(|_| !self.ended) {
            self.end(reason);
        }
        self.take_opened();
        self.keep_up();
        if self.pause.is_some() {
            self.try_resume();
        }
        let fill = Duration::from_millis(self.run.ingest.batch_wait_ms);
        let event = self.member.fill(batch, self.run.ingest.batch_max.max(1), IDLE, fill);
        // While it waits nothing is assigned, and what was under way is read again.
        if self.pause.is_none() && !self.ended {
            self.apply(batch);
        }
        batch.clear();
        if let Some(event) = event {
            self.handle(event);
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let lane = self.run.name();
        match event {
            Event::Assigned(partitions) => self.assigned(&partitions),
            Event::Revoked => self.revoked(),
            Event::OffsetLost(place) => self.offset_lost(&place),
            Event::TopicChanged(text) => {
                tracing::warn!(lane, text, "topic changed; checking");
                self.run.check_soon();
            }
            Event::Disconnected(text) => self.disconnected(&text),
            Event::Fatal(text) => self.rejoin(&text),
            Event::Committed(outcome) => self.offsets_committed(outcome),
            Event::Warning(text) => tracing::warn!(lane, text, "Kafka"),
        }
    }

    /// Stops consuming for good, says why, and stays in the group so that no one else takes the shards up.
    fn end(&mut self, reason: String) {
        self.ended = true;
        self.opening = None;
        self.settle_and_commit();
        for shard in std::mem::take(&mut self.shards) {
            self.halt(shard, reason.clone());
        }
        self.consume();
    }

    /// Stops one shard for a reason that needs a person.
    pub(super) fn halt(&mut self, shard: Shard, reason: String) {
        shard.halt(self.run.name(), reason);
        self.letters.forget(shard.partition);
        if let Some(teller) = &self.teller {
            teller.forget(shard.partition);
        }
        self.halted.push(Halted { handle: shard.handle.clone(), shard: Some(shard) });
    }

    /// Stops taking records in until the cause is gone. Reads go on, and so does the group membership.
    pub(super) fn pause(&mut self, reason: String) {
        if self.pause.is_none() {
            tracing::warn!(lane = self.run.name(), reason, "ingest waits");
            self.run.lane.counters.pauses.fetch_add(1, Ordering::Relaxed);
        }
        self.shards.iter().for_each(|shard| shard.handle.set_waits_for(Some(reason.clone())));
        let now = Instant::now();
        let since = self.pause.as_ref().map_or(now, |pause| pause.since);
        self.pause = Some(Pause { reason, since, look_again: now + PAUSE });
        self.consume();
    }

    /// Goes on if the cause of the pause is gone: letters are written, and every shard has room for its frame.
    fn try_resume(&mut self) {
        let settled = self.letters.settle(Duration::ZERO);
        if self.pause.as_ref().is_none_or(|pause| Instant::now() < pause.look_again) {
            return;
        }
        if !settled {
            self.count_letter_failures();
            return self.pause(self.letters.trouble());
        }
        if let Some(reason) = self.teller.as_ref().and_then(|teller| teller.backed_up(true)) {
            self.commit_shards();
            return self.pause(reason);
        }
        if self.commit_shards() {
            let Some(pause) = self.pause.take() else { return };
            let waited_ms = pause.since.elapsed().as_millis() as u64;
            tracing::info!(lane = self.run.name(), waited_for = pause.reason, waited_ms, "ingest goes on");
            self.shards.iter().for_each(|shard| shard.handle.set_waits_for(None));
            self.consume();
        }
    }

    /// Consumes from every shard's own position, and nothing while ingest waits. What the group has taken back is not
    /// this member's to consume.
    pub(super) fn consume(&mut self) {
        if !self.upkeep.is_assigned {
            return;
        }
        self.must_assign = false;
        self.assigned_at = Instant::now();
        let goes_on = self.pause.is_none() && !self.ended;
        for at in 0..self.shards.len() {
            self.shards[at].is_consumed = goes_on && self.may_consume(&self.shards[at]);
        }
        let live = self.shards.iter().filter(|shard| shard.is_consumed);
        let places = live.flat_map(|shard| {
            let topics = shard.topics.iter().enumerate();
            let next = |n: usize, reread: i64| shard.next_offset(n).min(reread);
            topics.map(move |(n, topic)| (&*topic.name, shard.partition as i32, next(n, topic.reread)))
        });
        if let Err(error) = self.member.assign(places) {
            tracing::warn!(lane = self.run.name(), %error, "assignment not taken; tried again");
            self.must_assign = true;
        }
    }

    /// Commits and syncs everything, says so to Kafka, and gives the files back.
    fn finish(mut self) {
        self.opening = None;
        self.pause = None;
        self.ended = true;
        let settled = self.letters.settle(Duration::from_secs(3));
        self.flush(settled);
        self.tell_last();
        self.commit_offsets(true);
        self.teller = None;
        self.member.unassign().ok();
        self.await_offsets();
        for shard in std::mem::take(&mut self.shards) {
            shard.close(&self.run.lane, settled);
        }
        for halted in std::mem::take(&mut self.halted) {
            if let Some(shard) = halted.shard {
                // Its letters may have been given up with it.
                shard.close(&self.run.lane, false);
            }
        }
        self.member.close(LEAVE);
        tracing::info!(lane = self.run.name(), thread = thread::current().name(), "ingest stopped");
    }
}
