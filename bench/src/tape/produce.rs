//! The producer of a replay: librdkafka's, idempotent, with every record to the partition it came from. Knows nothing of
//! when records are due.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::{Connection, Record, Topic};

const ANSWER: Duration = Duration::from_secs(10);
/// How long Kafka may take for the last records.
const LAST: Duration = Duration::from_secs(120);

/// Sends records of a tape.
pub struct Player {
    producer: BaseProducer<Callbacks>,
    recorded: Vec<Topic>,
    /// Where they go, by the numbers in the records.
    topics: Vec<String>,
    sent: u64,
    bytes: u64,
}

/// What became of the records so far.
#[derive(Debug, Clone, Default)]
pub struct Deliveries {
    /// Given to the producer, or refused by it.
    pub sent: u64,
    /// Bytes of their keys, payloads and headers.
    pub bytes: u64,
    /// Kafka has them.
    pub delivered: u64,
    /// Kafka does not.
    pub failed: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

#[derive(Default)]
struct Callbacks {
    delivered: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Callbacks {
    fn note(&self, error: &KafkaError) {
        *self.last_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error.to_string());
    }
}

impl ClientContext for Callbacks {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, _reason: &str) {
        self.note(&error);
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.delivered.fetch_add(1, Ordering::Relaxed)),
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.note(error);
            }
        }
    }
}

impl Player {
    /// A producer to the tape's topics with a prefix. Connects when first used.
    pub fn connect(connection: &Connection, recorded: &[Topic], prefix: &str) -> anyhow::Result<Player> {
        let config = connection.config(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "5"),
            ("compression.type", "lz4"),
            ("batch.size", "524288"),
            ("queue.buffering.max.messages", "200000"),
            ("queue.buffering.max.kbytes", "262144"),
            // What is too large is for the broker to say.
            ("message.max.bytes", "1000000000"),
        ]);
        let producer = config.create_with_context(Callbacks::default()).context("Kafka settings")?;
        let topics = recorded.iter().map(|topic| format!("{prefix}{}", topic.name)).collect();
        Ok(Player { producer, recorded: recorded.to_vec(), topics, sent: 0, bytes: 0 })
    }

    /// Where the records go.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Creates the topics that are missing, with the partitions that were recorded and the brokers' default of replicas.
    pub async fn create_topics(&self, connection: &Connection) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            connection.config(&[]).create().context("Kafka settings")?;
        let wanted = self.topics.iter().zip(&self.recorded);
        let wanted = wanted
            .map(|(name, topic)| NewTopic::new(name, topic.partitions as i32, TopicReplication::Fixed(-1)));
        let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
        let created = admin.create_topics(&wanted.collect::<Vec<_>>(), &options).await;
        for result in created.context("creating topics")? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, error)) => bail!("topic {topic} cannot be created: {error}"),
            }
        }
        Ok(())
    }

    /// Whether every recorded partition has a place to go. Topics that were just `created` may take a moment to be known.
    pub fn check_topics(&self, created: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + if created { ANSWER } else { Duration::ZERO };
        for (name, Topic { partitions: recorded, .. }) in self.topics.iter().zip(&self.recorded) {
            let mut found = self.partitions(name)?;
            while found == 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
                found = self.partitions(name)?;
            }
            ensure!(found > 0, "topic {name} does not exist: create it, or add --create-topics");
            ensure!(
                found >= *recorded,
                "topic {name} has {found} partitions, and {recorded} were recorded: records keep their partitions, so \
                 a topic with at least {recorded} is expected; another --topic-prefix with --create-topics makes one"
            );
            if found > *recorded {
                eprintln!(
                    "warning: topic {name} has {found} partitions, and {recorded} were recorded: records keep theirs, so \
                     keys are not where a producer would send them"
                );
            }
        }
        Ok(())
    }

    /// Partitions of a topic; 0 if it is not there.
    fn partitions(&self, topic: &str) -> anyhow::Result<u32> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), ANSWER);
        let metadata = metadata.with_context(|| match self.deliveries().last_error {
            Some(error) => format!("Kafka does not answer ({error})"),
            None => "Kafka does not answer".into(),
        })?;
        let found = metadata.topics().first().filter(|topic| topic.error().is_none());
        Ok(found.map_or(0, |topic| topic.partitions().len() as u32))
    }

    /// Gives a record to the producer; waits only while its queue is full. One that it refuses counts as failed.
    pub fn send(&mut self, record: &Record, keep_timestamp: bool) -> anyhow::Result<()> {
        let topic = self.topics.get(record.topic).context("a record of no topic")?;
        let mut queued = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition as i32);
        queued.key = record.key.as_deref();
        queued.payload = record.payload.as_deref();
        queued.timestamp = Some(record.timestamp_ms).filter(|at| keep_timestamp && *at >= 0);
        queued.headers = (!record.headers.is_empty()).then(|| headers(record));
        self.sent += 1;
        self.bytes += record.size();
        if self.sent.is_multiple_of(256) {
            self.producer.poll(Duration::ZERO);
        }
        while let Err((error, back)) = self.producer.send(queued) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let callbacks = self.producer.context();
                callbacks.failed.fetch_add(1, Ordering::Relaxed);
                callbacks.note(&error);
                return Ok(());
            }
            self.producer.poll(Duration::from_millis(20));
            queued = back;
        }
        Ok(())
    }

    /// Serves delivery reports for up to `wait`, or less.
    pub fn wait(&self, wait: Duration) {
        // librdkafka counts in whole milliseconds.
        let most = Duration::from_millis(20);
        if wait >= Duration::from_millis(2) {
            self.producer.poll((wait - Duration::from_millis(1)).min(most));
        } else {
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(wait);
        }
    }

    /// Waits until Kafka has everything that was sent, or has refused it.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(LAST).context("waiting for Kafka to have the last records")
    }

    /// Records given to it so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What became of the records so far.
    pub fn deliveries(&self) -> Deliveries {
        let callbacks = self.producer.context();
        let last_error = callbacks.last_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Deliveries {
            sent: self.sent,
            bytes: self.bytes,
            delivered: callbacks.delivered.load(Ordering::Relaxed),
            failed: callbacks.failed.load(Ordering::Relaxed),
            last_error: last_error.clone(),
        }
    }
}

fn headers(record: &Record) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    let add = |headers: OwnedHeaders, (name, value): &(String, Option<bytes::Bytes>)| {
        headers.insert(Header { key: name, value: value.as_deref() })
    };
    record.headers.iter().fold(empty, add)
}
