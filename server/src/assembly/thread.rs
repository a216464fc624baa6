//! One thread of assembly, a member of the requests' group: takes requests while there is room, has them answered in
//! order, sends the answers, and commits what is acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_proto::v1::feature_store_server::FeatureStore;
use futures::FutureExt as _;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::COUNTS;
use super::order::{Answered, Order};
use super::outbox::{Outbox, Sent};
use super::request::{Job, Record};
use super::window::Window;
use crate::kafka::{ClientLog, consumer_config, producer_config, stay_in_touch};
use crate::service::{Context, calls, not_ready};

/// How often offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// Requests taken in a row before acknowledgements are looked at again.
const RUN: usize = 256;

/// How long a start waits for the shards to be ready, so that nobody is told UNAVAILABLE for no reason.
const READY_BOUND: Duration = Duration::from_secs(30);

/// How long a stop waits for acknowledgements.
const STOP_BOUND: Duration = Duration::from_secs(5);

/// How often readiness, and what failed, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A thread with its clients, before it runs.
pub(super) struct Worker {
    context: Arc<Context>,
    topic: String,
    consumer: StreamConsumer<ClientLog>,
    outbox: Outbox,
}

impl Worker {
    /// Fails only if a setting is wrong.
    pub(super) fn new(context: Arc<Context>, topic: &str, number: usize) -> KafkaResult<Worker> {
        let (kafka, assembly) = (&context.config.kafka, &context.config.assembly);
        let mut config = consumer_config(kafka);
        stay_in_touch(&mut config, kafka);
        config.set("group.id", &assembly.group);
        config.set("group.instance.id", format!("{}.assembly.{number}", context.config.server.instance));
        // A request that came before the group was is answered too.
        config.set("auto.offset.reset", "earliest").set("enable.partition.eof", "false");
        config.set("partition.assignment.strategy", "range");
        let letters = assembly.dead_letter_topic(topic);
        let mut producing = producer_config(kafka);
        producing.set("linger.ms", "2");
        Ok(Worker {
            consumer: config.create_with_context(ClientLog)?,
            outbox: Outbox::new(producing, topic, &letters)?,
            topic: topic.to_owned(),
            context,
        })
    }

    /// Works until told to stop.
    pub(super) fn run(self, stopped: watch::Receiver<bool>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.work(stopped)),
            Err(error) => tracing::error!(%error, "assembly: no runtime"),
        }
    }

    async fn work(self, mut stopped: watch::Receiver<bool>) {
        let Worker { context, topic, consumer, outbox } = self;
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = ready(&context) => {}
        }
        if let Err(error) = consumer.subscribe(&[&topic]) {
            return tracing::error!(%error, topic, "assembly: cannot subscribe");
        }
        let order = Order::new(calls::store(&context));
        let most = context.config.assembly.max_in_flight;
        let mut work = Work { topic, consumer, outbox, order, window: Window::default(), most };
        work.until(stopped).await;
        work.end().await;
    }
}

/// Waits until everything is ready, for a bounded time.
async fn ready(context: &Context) {
    let begun = Instant::now();
    while not_ready(context, None).is_none_or(|reasons| !reasons.is_empty()) && begun.elapsed() < READY_BOUND
    {
        sleep(LOOK_AGAIN).await;
    }
}

/// A thread at work.
struct Work<S> {
    topic: String,
    consumer: StreamConsumer<ClientLog>,
    outbox: Outbox,
    order: Order<S>,
    window: Window,
    /// Most requests without an acknowledged answer.
    most: usize,
}

impl<S: FeatureStore> Work<S> {
    async fn until(&mut self, mut stopped: watch::Receiver<bool>) {
        let mut commit = interval(COMMIT_EVERY);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = self.window.in_flight() < self.most;
            let step = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                _ = commit.tick() => Step::Commit,
                sent = self.outbox.next() => Step::Sent(sent),
                answered = self.order.next() => Step::Answered(answered),
                record = take(&self.consumer), if room => Step::Taken(record),
            };
            match step {
                Step::Commit => self.commit(CommitMode::Async),
                Step::Sent(sent) => self.settle(sent).await,
                Step::Answered(answered) => self.reply(answered).await,
                Step::Taken(Ok(record)) => self.take_run(record).await,
                Step::Taken(Err(error)) => {
                    tracing::warn!(%error, topic = self.topic, "assembly: cannot take requests; trying again");
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// Takes a record and those that are there already, as far as there is room.
    async fn take_run(&mut self, first: Record) {
        self.take(first).await;
        for _ in 1..RUN {
            if self.window.in_flight() >= self.most {
                return;
            }
            match take(&self.consumer).now_or_never() {
                Some(Ok(record)) => self.take(record).await,
                // An error comes again, where it is told.
                Some(Err(_)) | None => return,
            }
        }
    }

    async fn take(&mut self, record: Record) {
        COUNTS.requests.fetch_add(1, Ordering::Relaxed);
        self.window.take(record.partition, record.offset);
        match Job::read(record) {
            Ok(job) => {
                if let Some(answered) = self.order.take(job) {
                    self.reply(answered).await;
                }
            }
            Err(poisoned) => {
                let (record, poison) = *poisoned;
                self.outbox.put_aside(record, poison).await;
            }
        }
    }

    async fn reply(&mut self, (job, answer): Answered) {
        if answer.is_err() {
            COUNTS.errors.fetch_add(1, Ordering::Relaxed);
        }
        let (value, status) = job.value(&answer);
        self.outbox.reply(job, &value, status).await;
    }

    async fn settle(&mut self, sent: Sent) {
        if let Some(record) = self.outbox.settle(sent).await {
            self.window.done(record.partition, record.offset);
        }
    }

    fn commit(&mut self, mode: CommitMode) {
        let Ok(assigned) = self.consumer.assignment() else { return };
        self.window.keep(|partition| assigned.find_partition(&self.topic, partition).is_some());
        let mut list = TopicPartitionList::new();
        for (partition, offset) in self.window.committable() {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).unwrap_or_default();
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            tracing::warn!(%error, "assembly: offsets not committed; requests may be answered again");
        }
    }

    /// Waits for what is under way, as long as a stop may take, and commits it.
    async fn end(&mut self) {
        let settled = async {
            while self.window.in_flight() > 0 {
                let step = tokio::select! {
                    sent = self.outbox.next() => Step::Sent(sent),
                    answered = self.order.next() => Step::Answered(answered),
                };
                match step {
                    Step::Sent(sent) => self.settle(sent).await,
                    Step::Answered(answered) => self.reply(answered).await,
                    Step::Commit | Step::Taken(_) => {}
                }
            }
        };
        if timeout(STOP_BOUND, settled).await.is_err() {
            tracing::warn!("assembly: some answers were not acknowledged; their requests are answered again");
        }
        self.commit(CommitMode::Sync);
    }
}

/// What happened.
enum Step {
    Commit,
    Sent(Sent),
    Answered(Answered),
    Taken(Result<Record, KafkaError>),
}

async fn take(consumer: &StreamConsumer<ClientLog>) -> Result<Record, KafkaError> {
    consumer.recv().await.map(|message| Record::of(&message))
}
