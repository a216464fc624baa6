//! Everything a test does to Kafka: topics, records of every kind, reading a topic to its end. Uses librdkafka as any
//! application would; knows nothing of Forebay but the names of record headers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseRecord, FutureProducer, FutureRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::record::{Consumed, Place, Record};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A Kafka cluster and what tests do to it.
#[derive(Clone)]
pub struct Kafka {
    /// host:port.
    pub bootstrap: String,
    producer: FutureProducer,
}

impl Kafka {
    /// Helpers for a cluster; connects when first used.
    pub fn new(bootstrap: &str) -> Self {
        let mut settings = settings(bootstrap);
        settings
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "2")
            .set("message.max.bytes", "8000000");
        settings.set("queue.buffering.max.messages", "1000000").set("enable.idempotence", "true");
        Kafka { bootstrap: bootstrap.into(), producer: settings.create().expect("a producer") }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        settings(&self.bootstrap).create().expect("an admin client")
    }

    /// Creates topics of this many partitions; panics if one exists.
    pub async fn create_topics(&self, names: &[&str], partitions: i32) {
        self.try_create_topics(names, partitions).await.expect("the topics are created");
    }

    /// Creates topics; `Err` where one exists (or is still being deleted).
    pub async fn try_create_topics(&self, names: &[&str], partitions: i32) -> anyhow::Result<()> {
        let topic = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topics: Vec<_> =
            names.iter().map(|name| topic(name).set("max.message.bytes", "8000000")).collect();
        for result in self.admin().create_topics(&topics, &options()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes topics.
    pub async fn delete_topics(&self, names: &[&str]) {
        for result in self.admin().delete_topics(names, &options()).await.expect("delete topics") {
            result.expect("the topic is deleted");
        }
    }

    /// Raises a topic's partition count.
    pub async fn add_partitions(&self, topic: &str, count: usize) {
        let request = [NewPartitions::new(topic, count)];
        for result in self.admin().create_partitions(&request, &options()).await.expect("create partitions") {
            result.expect("partitions are added");
        }
    }

    /// Deletes the records of a partition below an offset, as retention would.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        self.admin().delete_records(&list, &options()).await.expect("records are deleted");
    }

    /// Sets topic settings, replacing those it had.
    pub async fn alter_topic(&self, topic: &str, config: &[(&str, &str)]) {
        self.alter(ResourceSpecifier::Topic(topic), config).await;
    }

    /// Sets broker settings that may change while it runs.
    pub async fn alter_broker(&self, config: &[(&str, &str)]) {
        self.alter(ResourceSpecifier::Broker(1), config).await;
    }

    async fn alter(&self, what: ResourceSpecifier<'_>, config: &[(&str, &str)]) {
        let change =
            config.iter().fold(AlterConfig::new(what), |change, (key, value)| change.set(key, value));
        for result in self.admin().alter_configs([&change], &options()).await.expect("alter configs") {
            result.expect("the settings are taken");
        }
    }

    /// Produces one record and waits until Kafka has it.
    pub async fn send(&self, record: &Record) -> Place {
        self.send_all(std::slice::from_ref(record)).await.pop().expect("one place")
    }

    /// Produces records in order and waits until Kafka has all of them.
    pub async fn send_all(&self, records: &[Record]) -> Vec<Place> {
        let mut pending = Vec::with_capacity(records.len());
        for record in records {
            let mut future = FutureRecord::<[u8], [u8]>::to(&record.topic).headers(record.owned_headers());
            future.key = record.key.as_deref();
            future.payload = record.value.as_deref();
            future.timestamp = record.timestamp_ms;
            future.partition = record.partition;
            pending.push((record, self.producer.send_result(future).map_err(|(e, _)| e).expect("queued")));
        }
        let mut places = Vec::with_capacity(records.len());
        for (record, delivery) in pending {
            let delivered =
                delivery.await.expect("not cancelled").map_err(|(error, _)| error).expect("delivered");
            let topic = record.topic.clone();
            places.push(Place { topic, partition: delivered.partition as u32, offset: delivered.offset });
        }
        places
    }

    /// Produces records in one transaction, which is then committed or aborted.
    pub async fn send_transaction(&self, records: &[Record], commit: bool) {
        let mut settings = settings(&self.bootstrap);
        settings
            .set("partitioner", "murmur2_random")
            .set("transactional.id", format!("it-{}", rand::random::<u64>()));
        let records = records.to_vec();
        let done = tokio::task::spawn_blocking(move || {
            let producer: ThreadedProducer<_> = settings.create().expect("a transactional producer");
            producer.init_transactions(TIMEOUT).expect("transactions start");
            producer.begin_transaction().expect("a transaction");
            for record in &records {
                let mut base = BaseRecord::<[u8], [u8]>::to(&record.topic).headers(record.owned_headers());
                base.key = record.key.as_deref();
                base.payload = record.value.as_deref();
                base.partition = record.partition;
                producer.send(base).map_err(|(error, _)| error).expect("queued");
            }
            producer.flush(TIMEOUT).expect("flushed");
            match commit {
                true => producer.commit_transaction(TIMEOUT).expect("committed"),
                false => producer.abort_transaction(TIMEOUT).expect("aborted"),
            }
        });
        done.await.expect("no panic");
    }

    /// The offset the next record of each partition will have.
    pub async fn end_offsets(&self, topic: &str) -> Vec<i64> {
        let (settings, topic) = (settings(&self.bootstrap), topic.to_owned());
        let ends = move || ends_of(&settings.create().expect("a consumer"), &topic);
        tokio::task::spawn_blocking(ends).await.expect("no panic").into_iter().map(|(_, end)| end).collect()
    }

    /// The offsets a group has committed for a topic; -1 where it has none.
    pub async fn committed(&self, group: &str, topic: &str) -> Vec<i64> {
        let mut settings = settings(&self.bootstrap);
        settings.set("group.id", group);
        let topic = topic.to_owned();
        let read = move || {
            let consumer: BaseConsumer = settings.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            for partition in 0..ends_of(&consumer, &topic).len() {
                list.add_partition(&topic, partition as i32);
            }
            let list = consumer.committed_offsets(list, TIMEOUT).expect("committed offsets");
            let offset = |p: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match p.offset() {
                Offset::Offset(offset) => offset,
                _ => -1,
            };
            list.elements().iter().map(offset).collect()
        };
        tokio::task::spawn_blocking(read).await.expect("no panic")
    }

    /// The dead letters of a topic by (original topic, partition, offset), read from their headers.
    pub async fn dead_letters(&self, topic: &str) -> HashMap<Place, Consumed> {
        let letters = self.read_topic(topic).await.into_iter();
        letters.map(|letter| (letter.original().unwrap_or_else(|| panic!("{letter:?}")), letter)).collect()
    }

    /// All committed records of a topic, by partition and offset, up to the ends seen when called.
    pub async fn read_topic(&self, topic: &str) -> Vec<Consumed> {
        let mut records = Vec::new();
        let (collect, receive) = std::sync::mpsc::channel();
        self.for_each(topic, move |record| drop(collect.send(record))).await;
        records.extend(receive);
        records
    }

    /// Calls `each` for every committed record of a topic, partition after partition, in offset order.
    pub async fn for_each(&self, topic: &str, mut each: impl FnMut(Consumed) + Send + 'static) {
        let (settings, topic) = (settings(&self.bootstrap), topic.to_owned());
        let read = move || {
            let consumer: BaseConsumer = settings.create().expect("a consumer");
            for (partition, (low, end)) in ends_of(&consumer, &topic).into_iter().enumerate() {
                if low < end {
                    read_partition(&settings, &topic, partition as i32, end, &mut each);
                }
            }
        };
        tokio::task::spawn_blocking(read).await.expect("no panic");
    }
}

fn settings(bootstrap: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        .set("auto.offset.reset", "earliest")
        .set("group.id", "it-reader");
    settings.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    settings.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "20").set("log_level", "2");
    settings.set("allow.auto.create.topics", "false").set("topic.metadata.refresh.interval.ms", "2000");
    settings
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// How long a topic that was just made may be unknown to a broker, or without leaders.
const SETTLING: Duration = Duration::from_secs(5);

/// Low and end offset of each partition; none of a topic that is not there.
fn ends_of(consumer: &BaseConsumer, topic: &str) -> Vec<(i64, i64)> {
    let settled_by = Instant::now() + SETTLING;
    loop {
        match try_ends_of(consumer, topic) {
            Ok(ends) if !ends.is_empty() || Instant::now() > settled_by => return ends,
            Err(error) if Instant::now() > settled_by => panic!("offsets of {topic}: {error}"),
            // Gives the client a moment for its news.
            _ => drop(consumer.poll(Duration::from_millis(50))),
        }
    }
}

fn try_ends_of(consumer: &BaseConsumer, topic: &str) -> KafkaResult<Vec<(i64, i64)>> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    (0..partitions).map(|partition| consumer.fetch_watermarks(topic, partition as i32, TIMEOUT)).collect()
}

/// Reads one partition to `end`; gaps and transaction markers are passed by the end-of-partition event.
fn read_partition(
    settings: &ClientConfig,
    topic: &str,
    partition: i32,
    end: i64,
    each: &mut impl FnMut(Consumed),
) {
    let consumer: BaseConsumer = settings.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    loop {
        match consumer.poll(TIMEOUT).expect("a record or the end within the timeout") {
            Ok(message) => {
                let record = Consumed::of(&message);
                let last = record.place.offset + 1 >= end;
                each(record);
                if last {
                    return;
                }
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return,
            Err(error) => panic!("reading {topic}/{partition}: {error}"),
        }
    }
}
