//! Telling edges: one thread beside each ingest thread, with a transactional producer. A transaction is the edges of
//! frames that are durable, and the offsets up to which everything is durable and told, committed in the name of the
//! ingest thread's own membership. So the offset that the group has of a partition says two things at once, and nobody
//! whose membership has ended can say either. Used by `telling`; knows no shard but its durable position.
//!
//! ```text
//!  ingest thread ── offer(edges, positions) ──► queue by partition and topic ──► transaction ──► told positions
//!                                                       ▲ durable? ── sync thread
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::{Offset, TopicPartitionList};

use super::evaluate::EdgeMessage;
use super::transaction::{Failure, Transactions};
use crate::lane::{Counters, Lane, ShardHandle};

/// Edges that may wait to be told before ingest waits for them.
const MOST_WAITING: usize = 20_000;
/// Edges of one transaction.
const MOST_AT_ONCE: usize = 5_000;
/// How often the offsets of topics without edges are committed.
const OFFSETS_EVERY: Duration = Duration::from_millis(500);
/// How soon a frame is looked at again that is not durable yet.
const DURABLE_SOON: Duration = Duration::from_millis(5);
/// How long a failure rests.
const REST: Duration = Duration::from_millis(200);

/// One lane thread's edges and offsets on their way to Kafka.
pub struct Teller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    lane: Arc<Lane>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Counts assignments: what belongs to an earlier one is dropped.
    epoch: u64,
    group: Option<Arc<ConsumerGroupMetadata>>,
    places: Vec<Place>,
    waiting: usize,
    /// A transaction is under way.
    busy: bool,
    /// Everything durable is wanted told now.
    hurry: bool,
    /// It is not known what was told: the group must be asked.
    lost: bool,
    stop: bool,
    trouble: Option<String>,
}

/// A topic's partition.
struct Place {
    topic: Arc<str>,
    number: usize,
    handle: Arc<ShardHandle>,
    /// Everything below was offered.
    offered: i64,
    /// The group has this offset; none: it must have one before anything is consumed.
    told: Option<i64>,
    edges: VecDeque<EdgeMessage>,
}

/// A transaction to be made.
struct Work {
    epoch: u64,
    /// It has the offsets of all places.
    all: bool,
    group: Arc<ConsumerGroupMetadata>,
    /// Place and the offset to be committed.
    offsets: Vec<(usize, i64)>,
    list: TopicPartitionList,
    edges: Vec<(usize, EdgeMessage)>,
}

impl Teller {
    /// Starts the thread. `interval`: least time from one transaction to the next with edges.
    pub fn start(
        lane: Arc<Lane>,
        number: usize,
        config: ClientConfig,
        interval: Duration,
    ) -> std::io::Result<Teller> {
        let name = format!("edges-{}-{number}", lane.definition.name);
        let shared = Arc::new(Shared { lane, queue: Mutex::default(), wake: Condvar::new() });
        let worker = Worker { shared: shared.clone(), transactions: Transactions::new(config), interval };
        let thread = thread::Builder::new().name(name).spawn(move || worker.run())?;
        Ok(Teller { shared, thread: Some(thread) })
    }

    /// A new assignment: all that was waiting is dropped, and is read again from where the group is.
    pub fn begin(&self, group: Option<ConsumerGroupMetadata>) {
        let mut queue = self.shared.queue.lock();
        queue.clear();
        queue.group = group.map(Arc::new);
        queue.lost = false;
    }

    /// Takes up a partition's topic. `told`: what the group has of it; none: `next` is said first, before it is consumed.
    pub fn take_up(&self, handle: &Arc<ShardHandle>, topic: (usize, Arc<str>), told: Option<i64>, next: i64) {
        let mut queue = self.shared.queue.lock();
        queue.remove(|place| place.handle.partition == handle.partition && place.number == topic.0);
        queue.places.push(Place {
            number: topic.0,
            topic: topic.1,
            handle: handle.clone(),
            offered: told.unwrap_or(next),
            told,
            edges: VecDeque::new(),
        });
        self.shared.wake.notify_all();
    }

    /// Forgets a shard: it was stopped.
    pub fn forget(&self, partition: u32) {
        self.shared.queue.lock().remove(|place| place.handle.partition == partition);
    }

    /// Whether the group has an offset of every topic of a partition: then it may be consumed.
    pub fn may_consume(&self, partition: u32) -> bool {
        let queue = self.shared.queue.lock();
        let mut of = queue.places.iter().filter(|place| place.handle.partition == partition).peekable();
        of.peek().is_some() && of.all(|place| place.told.is_some())
    }

    /// Hands over the edges of committed frames, and by topic the offset below which everything was handed over.
    pub fn offer(&self, partition: u32, edges: &mut Vec<EdgeMessage>, next: impl Fn(usize) -> i64) {
        let mut guard = self.shared.queue.lock();
        let queue = &mut *guard;
        for place in queue.places.iter_mut().filter(|place| place.handle.partition == partition) {
            place.offered = place.offered.max(next(place.number));
            let before = place.edges.len();
            place.edges.extend(edges.extract_if(.., |edge| edge.topic == place.number));
            queue.waiting += place.edges.len() - before;
        }
        // Of a place that was given up: it is read again by whoever has it.
        edges.clear();
        let waiting = queue.waiting as u64;
        self.shared.lane.counters.edges_waiting.store(waiting, std::sync::atomic::Ordering::Relaxed);
        if waiting > 0 {
            self.shared.wake.notify_all();
        }
    }

    /// How far a partition's topic is told: everything below it.
    pub fn told(&self, partition: u32, number: usize) -> i64 {
        let queue = self.shared.queue.lock();
        let place = queue.places.iter().find(|p| p.handle.partition == partition && p.number == number);
        place.and_then(|place| place.told).unwrap_or(0)
    }

    /// Why ingest must wait for edges, if it must.
    pub fn backed_up(&self, resuming: bool) -> Option<String> {
        let queue = self.shared.queue.lock();
        let limit = if resuming { MOST_WAITING / 2 } else { MOST_WAITING };
        (queue.waiting >= limit).then(|| {
            let cause = queue.trouble.as_deref().unwrap_or("they come faster than Kafka takes them");
            format!(
                "{} edges wait to be told: {cause}; ingest of the lane goes on when they are",
                queue.waiting
            )
        })
    }

    /// Whether what was told is not known any more: the assignment must be begun anew.
    pub fn is_lost(&self) -> bool {
        self.shared.queue.lock().lost
    }

    /// Waits until everything durable is told, or no longer than `patience`.
    pub fn drain(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut queue = self.shared.queue.lock();
        queue.hurry = true;
        self.shared.wake.notify_all();
        while (queue.busy || queue.has_more()) && !queue.lost && Instant::now() < until {
            self.shared.wake.wait_for(&mut queue, Duration::from_millis(20));
        }
        queue.hurry = false;
    }

    /// Drops everything and waits until no transaction is under way, or no longer than `patience`.
    pub fn give_up(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut queue = self.shared.queue.lock();
        queue.clear();
        while queue.busy && Instant::now() < until {
            self.shared.wake.wait_for(&mut queue, Duration::from_millis(20));
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.wake.notify_all();
        // A transaction that no broker answers ends with the process.
        let until = Instant::now() + Duration::from_secs(2);
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            thread::park_timeout(Duration::from_millis(5));
        }
        if thread.is_finished() {
            thread.join().ok();
        }
    }
}

impl Queue {
    fn clear(&mut self) {
        self.epoch += 1;
        self.places.clear();
        self.waiting = 0;
        self.group = None;
    }

    fn remove(&mut self, which: impl Fn(&Place) -> bool) {
        if self.places.iter().any(&which) {
            // Places are numbered: a transaction under way must not put anything back.
            self.epoch += 1;
            self.places.retain(|place| !which(place));
            self.waiting = self.places.iter().map(|place| place.edges.len()).sum();
        }
    }

    /// Whether something durable is not told.
    fn has_more(&self) -> bool {
        self.places.iter().any(|place| place.told.is_none_or(|told| place.limit() > told))
    }

    /// Whether edges could go now.
    fn has_edges(&self) -> bool {
        self.places.iter().any(Place::is_due)
    }

    /// The next transaction: with the offsets of all places, or of those with edges that may go.
    fn work(&mut self, all: bool) -> Option<Work> {
        let group = self.group.clone()?;
        let (mut offsets, mut edges) = (Vec::new(), Vec::new());
        let mut list = TopicPartitionList::new();
        for (number, place) in self.places.iter_mut().enumerate().filter(|(_, place)| all || place.is_due()) {
            let next = place.take(number, &mut edges);
            if place.told.is_none_or(|told| next > told) {
                let partition = place.handle.partition as i32;
                list.add_partition_offset(&place.topic, partition, Offset::Offset(next)).ok()?;
                offsets.push((number, next));
            }
        }
        (!offsets.is_empty()).then_some(Work { epoch: self.epoch, all, group, offsets, list, edges })
    }
}

impl Place {
    /// Whether it has edges that may go, or must be known to the group before it is consumed.
    fn is_due(&self) -> bool {
        let limit = self.limit();
        self.told.is_none() || self.edges.iter().any(|edge| edge.offset < limit)
    }

    /// Everything below is durable, and was offered.
    fn limit(&self) -> i64 {
        self.offered.min(self.handle.durable_offset(self.number) + 1)
    }

    /// Moves edges that may go, and gives the offset below which everything is told with them.
    fn take(&mut self, number: usize, into: &mut Vec<(usize, EdgeMessage)>) -> i64 {
        let Some(told) = self.told else { return self.offered };
        let mut limit = self.limit().max(told);
        let room = MOST_AT_ONCE.saturating_sub(into.len());
        if self.edges.len() > room {
            let mut offsets: Vec<i64> = self.edges.iter().map(|edge| edge.offset).collect();
            offsets.sort_unstable();
            // All edges of one offset go together.
            limit = limit.min(offsets[room]).max(told);
        }
        for _ in 0..self.edges.len() {
            let Some(edge) = self.edges.pop_front() else { break };
            match edge.offset < limit {
                true => into.push((number, edge)),
                false => self.edges.push_back(edge),
            }
        }
        limit
    }
}

struct Worker {
    shared: Arc<Shared>,
    transactions: Transactions,
    interval: Duration,
}

impl Worker {
    fn run(mut self) {
        // What a process of this name left behind is aborted now: the group's offsets wait for it.
        if let Err(failure) = self.transactions.prepare() {
            tracing::warn!(lane = self.shared.lane.definition.name, %failure, "edges wait");
        }
        let (mut last, mut last_of_all) = (Instant::now(), Instant::now());
        while let Some(work) = self.next(last, last_of_all) {
            let outcome = self.transactions.make(&work.group, &work.list, work.edges.iter().map(|(_, e)| e));
            // From its end: the broker is busy with it for a moment after it has answered.
            last = Instant::now();
            if work.all {
                last_of_all = last;
            }
            let failed = outcome.is_err();
            self.settle(work, outcome);
            if failed {
                let mut queue = self.shared.queue.lock();
                if !queue.stop {
                    self.shared.wake.wait_for(&mut queue, REST);
                }
            }
        }
    }

    /// Waits for something to tell; nothing: it is to end.
    fn next(&self, last: Instant, last_of_all: Instant) -> Option<Work> {
        let mut queue = self.shared.queue.lock();
        loop {
            if queue.stop {
                return None;
            }
            // Where there is no edge offsets can wait, and each costs the broker.
            let all = queue.hurry || last_of_all.elapsed() >= OFFSETS_EVERY;
            let due = match () {
                () if queue.lost || queue.group.is_none() => false,
                () if queue.hurry => queue.has_more(),
                () if queue.has_edges() => last.elapsed() >= self.interval,
                () => all && queue.has_more(),
            };
            if due && let Some(work) = queue.work(all) {
                queue.busy = true;
                queue.waiting =
                    queue.places.iter().map(|place| place.edges.len()).sum::<usize>() + work.edges.len();
                return Some(work);
            }
            self.transactions.poll();
            let soon = queue.waiting > 0 || queue.hurry;
            self.shared.wake.wait_for(&mut queue, if soon { DURABLE_SOON } else { REST });
        }
    }

    fn settle(&mut self, work: Work, outcome: Result<(), Failure>) {
        let counters: &Counters = &self.shared.lane.counters;
        let add = |counter: &std::sync::atomic::AtomicU64, n: u64| {
            counter.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        };
        let mut queue = self.shared.queue.lock();
        queue.busy = false;
        let is_ours = queue.epoch == work.epoch;
        match outcome {
            Ok(()) => {
                add(&counters.edges, work.edges.len() as u64);
                queue.trouble = None;
                for (place, next) in work.offsets.iter().filter(|_| is_ours) {
                    queue.places[*place].told = Some(*next);
                }
            }
            Err(failure) => {
                add(&counters.edge_failures, 1);
                tracing::warn!(lane = self.shared.lane.definition.name, %failure, "edges not told");
                queue.trouble = Some(failure.to_string());
                if is_ours {
                    match failure {
                        Failure::NotDone(_) => {
                            for (place, edge) in work.edges.into_iter().rev() {
                                queue.places[place].edges.push_front(edge);
                            }
                        }
                        Failure::Unknown(_) => queue.lost = true,
                    }
                }
            }
        }
        queue.waiting = queue.places.iter().map(|place| place.edges.len()).sum();
        counters.edges_waiting.store(queue.waiting as u64, std::sync::atomic::Ordering::Relaxed);
        self.shared.wake.notify_all();
    }
}
