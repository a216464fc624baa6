//! Sends the mix to Kafka as any application would: librdkafka's producer with Java's partitioner. Used by `produce` and
//! the demo. Knows nothing of what the records mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::record::MixRecord;
use super::{HIGH_VOLUME, STANDARD, dead_letter_topic, topics};

const TIMEOUT: Duration = Duration::from_secs(30);

/// What became of the records that were sent.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Kafka has them.
    pub delivered: AtomicU64,
    /// Kafka does not.
    pub failed: AtomicU64,
    last_error: Mutex<Option<KafkaError>>,
}

/// librdkafka's callbacks.
struct Callbacks(Arc<Deliveries>);

/// A producer of mix records to topics with a prefix.
pub struct Sender {
    producer: BaseProducer<Callbacks>,
    deliveries: Arc<Deliveries>,
    topics: HashMap<&'static str, String>,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        tracing::debug!(?level, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "{reason}");
        *self.0.last_error.lock() = Some(error);
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.0.delivered.fetch_add(1, Ordering::Relaxed)),
            Err((error, _)) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                *self.0.last_error.lock() = Some(error.clone());
            }
        }
    }
}

/// A producer's settings for throughput: what the caller has not set already.
fn with_defaults(settings: &ClientConfig) -> ClientConfig {
    let mut settings = settings.clone();
    let defaults = [
        ("partitioner", "murmur2_random"),
        ("enable.idempotence", "true"),
        ("compression.type", "lz4"),
        ("linger.ms", "10"),
        ("batch.size", "524288"),
        ("queue.buffering.max.messages", "200000"),
        ("queue.buffering.max.kbytes", "262144"),
        ("allow.auto.create.topics", "false"),
    ];
    for (key, value) in defaults {
        if settings.get(key).is_none() {
            settings.set(key, value);
        }
    }
    settings
}

/// Creates the mix's topics of one lane or of both, and their dead-letter topics (one partition); those that exist are
/// left as they are.
pub async fn create_topics(
    settings: &ClientConfig,
    prefix: &str,
    lane: Option<&str>,
    partitions: i32,
) -> anyhow::Result<()> {
    let lanes = [STANDARD, HIGH_VOLUME].into_iter().filter(|name| lane.is_none_or(|lane| lane == *name));
    let sources: Vec<_> = topics(lane).into_iter().map(|topic| format!("{prefix}{topic}")).collect();
    let dead: Vec<_> = lanes.map(|lane| format!("{prefix}{}", dead_letter_topic(lane))).collect();
    let admin: AdminClient<DefaultClientContext> = settings.create().context("Kafka admin client")?;
    let topic = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    let sources = sources.iter().map(|name| topic(name, partitions));
    let dead =
        dead.iter().map(|name| topic(name, 1).set("max.message.bytes", crate::kafka::DEAD_LETTER_MAX_BYTES));
    let topics: Vec<_> = sources.chain(dead).collect();
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    for result in admin.create_topics(&topics, &options).await.context("creating topics")? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => bail!("topic {topic} cannot be created: {error}"),
        }
    }
    Ok(())
}

impl Sender {
    /// Connects; fails if a topic it will send to is not there.
    pub fn connect(settings: &ClientConfig, prefix: &str, lane: Option<&str>) -> anyhow::Result<Sender> {
        let deliveries = Arc::new(Deliveries::default());
        let producer: BaseProducer<Callbacks> = with_defaults(settings)
            .create_with_context(Callbacks(deliveries.clone()))
            .context("Kafka producer settings")?;
        let topics: HashMap<_, _> =
            topics(lane).into_iter().map(|topic| (topic, format!("{prefix}{topic}"))).collect();
        topics.values().try_for_each(|topic| must_exist(&producer, topic))?;
        Ok(Sender { producer, deliveries, topics })
    }

    /// Queues a record with this Kafka timestamp; waits only while the queue is full.
    pub fn send(&self, record: &MixRecord, timestamp_ms: i64) -> anyhow::Result<()> {
        let topic = self.topics.get(record.topic).map_or(record.topic, String::as_str);
        let mut queued = BaseRecord::<[u8], [u8]>::to(topic).timestamp(timestamp_ms);
        queued.key = record.key.as_deref();
        queued.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            queued.headers = Some(headers(record));
        }
        while let Err((error, back)) = self.producer.send(queued) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error).with_context(|| format!("producing to {topic}"));
            }
            self.producer.poll(Duration::from_millis(20));
            queued = back;
        }
        Ok(())
    }

    /// Serves delivery reports for up to `wait`; call it often.
    pub fn poll(&self, wait: Duration) {
        self.producer.poll(wait);
    }

    /// Waits until Kafka has everything that was sent, or has refused it.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(Duration::from_secs(120)).context("waiting for Kafka to take the last records")
    }

    /// What became of the records so far.
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }
}

impl Deliveries {
    /// The last thing that went wrong, for people.
    pub fn last_error(&self) -> String {
        self.last_error.lock().as_ref().map_or("no reason known".to_owned(), ToString::to_string)
    }
}

fn headers(record: &MixRecord) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    record
        .headers
        .iter()
        .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

fn must_exist(producer: &BaseProducer<Callbacks>, topic: &str) -> anyhow::Result<()> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), TIMEOUT)
        .with_context(|| format!("Kafka does not answer ({})", producer.context().0.last_error()))?;
    match metadata.topics().first() {
        Some(found) if found.error().is_none() && !found.partitions().is_empty() => Ok(()),
        _ => bail!("topic {topic} does not exist: create it, or add --create-topics"),
    }
}
