//! Records that are no data points, on their way to the lane's dead-letter topic. One per ingest thread, which commits no
//! position before the letters at or below it are acknowledged: what is not written yet is kept here and sent again
//! until Kafka has it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::decode::Reason;
use crate::kafka::ClientLog;

/// How long a failed letter rests before it is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often it is looked whether letters were taken, while that is waited for.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// A record to be put aside, with all that is known of it.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Topic it was found in.
    pub topic: Arc<str>,
    /// Partition it was found on.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, ms.
    pub timestamp_ms: i64,
    /// Why it is here.
    pub reason: Reason,
    /// The same for people.
    pub detail: String,
    /// Its key, untouched.
    pub key: Option<Vec<u8>>,
    /// Its value, untouched.
    pub payload: Option<Vec<u8>>,
    /// Its headers, untouched.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The letters not yet acknowledged.
pub struct DeadLetters {
    topic: String,
    producer: BaseProducer<Deliveries>,
    next: usize,
    waiting: BTreeMap<usize, Letter>,
    /// Of those, the ones that must be sent (again), and not before `rest_until`.
    unsent: HashSet<usize>,
    rest_until: Instant,
    trouble: Option<String>,
    failures: u64,
}

/// What the producer's callback leaves for the thread that polls it.
#[derive(Default)]
struct Deliveries(Mutex<Vec<(usize, Option<KafkaError>)>>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, letter: usize) {
        self.0.lock().push((letter, result.as_ref().err().map(|(error, _)| error.clone())));
    }
}

impl DeadLetters {
    /// Fails only if a setting is wrong.
    pub fn new(mut config: ClientConfig, topic: &str) -> KafkaResult<Self> {
        // A letter that cannot be written is said so soon; it is kept here and sent again.
        config.set("message.timeout.ms", "5000").set("linger.ms", "0");
        config.set("topic.metadata.propagation.max.ms", "1000");
        Ok(DeadLetters {
            topic: topic.into(),
            producer: config.create_with_context(Deliveries::default())?,
            next: 0,
            waiting: BTreeMap::new(),
            unsent: HashSet::new(),
            rest_until: Instant::now(),
            trouble: None,
            failures: 0,
        })
    }

    /// Takes a letter over, to be written.
    pub fn send(&mut self, letter: Letter) {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, letter);
        self.try_send(number);
    }

    /// Whether every letter is written.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits up to `timeout` for the letters under way, and sends again what failed. True if every letter is written.
    pub fn settle(&mut self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        loop {
            self.resend();
            self.producer.poll(Duration::ZERO);
            self.take_deliveries();
            if self.is_settled() || Instant::now() >= until {
                return self.is_settled();
            }
            // A poll that waits for less than a millisecond turns in circles until that has passed.
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Forgets the letters of a partition that is another server's now: its position was not committed, so that server
    /// finds the records again.
    pub fn forget(&mut self, partition: u32) {
        self.waiting.retain(|_, letter| letter.partition != partition);
        self.unsent.retain(|number| self.waiting.contains_key(number));
    }

    /// Letters written by no one yet, and what keeps them.
    pub fn trouble(&self) -> String {
        let cause = self.trouble.as_deref().unwrap_or("no acknowledgement yet");
        format!(
            "{} dead letters wait for topic {}: {cause}; ingest of the lane goes on when they are written",
            self.waiting.len(),
            self.topic
        )
    }

    /// Failed attempts since last asked.
    pub fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn resend(&mut self) {
        if self.unsent.is_empty() || Instant::now() < self.rest_until {
            return;
        }
        for number in std::mem::take(&mut self.unsent) {
            self.try_send(number);
        }
    }

    fn try_send(&mut self, number: usize) {
        let letter = &self.waiting[&number];
        let headers = headers(letter);
        let mut record =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, number).headers(headers);
        record.key = letter.key.as_deref();
        record.payload = letter.payload.as_deref();
        if let Err((error, _)) = self.producer.send(record) {
            self.failed(number, &error);
        }
    }

    fn failed(&mut self, number: usize, error: &KafkaError) {
        if self.waiting.contains_key(&number) {
            self.failures += 1;
            self.unsent.insert(number);
            self.rest_until = Instant::now() + RETRY_AFTER;
            self.trouble = Some(match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    format!(
                        "{error}; raise its max.message.bytes, as `forebay topics create` would have set it"
                    )
                }
                _ => error.to_string(),
            });
        }
    }

    fn take_deliveries(&mut self) {
        let deliveries = std::mem::take(&mut *self.producer.context().0.lock());
        for (number, error) in deliveries {
            match error {
                Some(error) => self.failed(number, &error),
                None => {
                    self.waiting.remove(&number);
                    self.trouble = None;
                }
            }
        }
    }
}

/// The original headers, then ours, all text.
fn headers(letter: &Letter) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(letter.headers.len() + 6);
    for (name, value) in &letter.headers {
        let key = &String::from_utf8_lossy(name);
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let own = [
        ("forebay-dlq-reason", letter.reason.to_string()),
        ("forebay-dlq-detail", letter.detail.clone()),
        ("forebay-dlq-topic", letter.topic.to_string()),
        ("forebay-dlq-partition", letter.partition.to_string()),
        ("forebay-dlq-offset", letter.offset.to_string()),
        ("forebay-dlq-timestamp", letter.timestamp_ms.to_string()),
    ];
    own.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}
