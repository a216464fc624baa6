//! Answers and dead letters on their way to Kafka, until they are acknowledged. librdkafka tries again for as long as
//! brokers are away, so what comes back as failed is refused for good: an answer becomes a dead letter then, and a dead
//! letter is sent again until its topic takes it. Kept by one thread.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::COUNTS;
use super::request::{CORRELATION, Job, Poison, Record, STATUS};

/// How long a topic that was not there is not asked for again.
const ABSENT_FOR: Duration = Duration::from_secs(3);

/// How long a refused dead letter rests before it is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long to let the producer's queue drain before trying again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// What became of a record that was sent.
pub(super) struct Sent {
    record: Record,
    kind: Kind,
    outcome: Result<(), KafkaError>,
}

/// What was sent for a request.
#[derive(Debug)]
enum Kind {
    Reply(String),
    Letter(Poison),
    /// A letter that was refused and has rested.
    Rested(Poison),
}

/// All that is not acknowledged.
pub(super) struct Outbox {
    producer: FutureProducer,
    requests_topic: String,
    dead_letter_topic: String,
    sent: FuturesUnordered<Pin<Box<dyn Future<Output = Sent> + Send>>>,
    /// Topics that were not there, and when that was.
    absent: HashMap<String, Instant>,
}

impl Outbox {
    /// Fails only if a setting is wrong.
    pub(super) fn new(
        mut config: ClientConfig,
        requests_topic: &str,
        dead_letter_topic: &str,
    ) -> KafkaResult<Outbox> {
        // 0: for as long as it takes. A topic that is not there is told of sooner.
        config.set("message.timeout.ms", "0").set("topic.metadata.propagation.max.ms", "1000");
        Ok(Outbox {
            producer: config.create()?,
            requests_topic: requests_topic.into(),
            dead_letter_topic: dead_letter_topic.into(),
            sent: FuturesUnordered::new(),
            absent: HashMap::new(),
        })
    }

    /// Sends an answer.
    pub(super) async fn reply(&mut self, job: Job, value: &[u8], status: &str) {
        if self.absent.get(&job.reply_topic).is_some_and(|since| since.elapsed() < ABSENT_FOR) {
            return self.put_aside(job.record, no_topic(&job.reply_topic)).await;
        }
        let mut headers = OwnedHeaders::new_with_capacity(2);
        if let Some(id) = &job.correlation {
            headers = headers.insert(Header { key: CORRELATION, value: Some(&id[..]) });
        }
        headers = headers.insert(Header { key: STATUS, value: Some(status.as_bytes()) });
        let topic = job.reply_topic;
        self.send(job.record, Kind::Reply(topic.clone()), &topic, value, headers).await;
    }

    /// Sends a record that is no request, or whose answer nobody takes, to the dead-letter topic.
    pub(super) async fn put_aside(&mut self, record: Record, poison: Poison) {
        let headers = letter_headers(&record, &poison, &self.requests_topic);
        let (topic, payload) = (self.dead_letter_topic.clone(), record.payload.clone().unwrap_or_default());
        self.send(record, Kind::Letter(poison), &topic, &payload, headers).await;
    }

    async fn send(&mut self, record: Record, kind: Kind, topic: &str, value: &[u8], headers: OwnedHeaders) {
        let key = record.key.clone();
        loop {
            let mut outgoing = FutureRecord::<[u8], [u8]>::to(topic).payload(value).headers(headers.clone());
            outgoing.key = key.as_deref();
            match self.producer.send_result(outgoing) {
                Ok(delivery) => {
                    return self.sent.push(Box::pin(async move {
                        let outcome = match delivery.await {
                            Ok(Ok(_)) => Ok(()),
                            Ok(Err((error, _))) => Err(error),
                            Err(_) => Err(KafkaError::Canceled),
                        };
                        Sent { record, kind, outcome }
                    }));
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
                Err((error, _)) => {
                    let outcome = Err(error);
                    return self.sent.push(Box::pin(async move { Sent { record, kind, outcome } }));
                }
            }
        }
    }

    /// Waits for what becomes of the next one, to be given to `settle`; for ever if none is under way. Nothing is lost if
    /// it is waited for no longer.
    pub(super) async fn next(&mut self) -> Sent {
        match self.sent.next().await {
            Some(sent) => sent,
            None => std::future::pending().await,
        }
    }

    /// Sends on what was refused; gives the record if it is done with.
    pub(super) async fn settle(&mut self, sent: Sent) -> Option<Record> {
        let Sent { record, kind, outcome } = sent;
        match (kind, outcome) {
            (Kind::Reply(_), Ok(())) => {
                COUNTS.replies.fetch_add(1, Ordering::Relaxed);
                return Some(record);
            }
            (Kind::Letter(_), Ok(())) => {
                COUNTS.dead_lettered.fetch_add(1, Ordering::Relaxed);
                return Some(record);
            }
            (Kind::Reply(topic), Err(error)) => self.refused(record, topic, &error).await,
            (Kind::Letter(poison), Err(error)) => {
                tracing::warn!(topic = self.dead_letter_topic, %error, "assembly: a dead letter is not taken");
                self.sent.push(Box::pin(async move {
                    tokio::time::sleep(RETRY_AFTER).await;
                    Sent { record, kind: Kind::Rested(poison), outcome: Ok(()) }
                }));
            }
            (Kind::Rested(poison), _) => self.put_aside(record, poison).await,
        }
        None
    }

    async fn refused(&mut self, record: Record, topic: String, error: &KafkaError) {
        let is_absent = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownPartition
            )
        );
        let poison = match is_absent {
            true => no_topic(&topic),
            false => ("reply_refused", format!("topic {topic} does not take the answer: {error}")),
        };
        if is_absent {
            self.absent.insert(topic, Instant::now());
        }
        self.put_aside(record, poison).await;
    }
}

fn no_topic(topic: &str) -> Poison {
    ("unknown_reply_topic", format!("topic {topic} does not exist"))
}

/// The original headers, then ours, all text.
fn letter_headers(record: &Record, (reason, detail): &Poison, topic: &str) -> OwnedHeaders {
    let headers = record.headers.clone().unwrap_or_default();
    let own = [
        ("forebay-dlq-reason", (*reason).to_owned()),
        ("forebay-dlq-detail", detail.clone()),
        ("forebay-dlq-topic", topic.to_owned()),
        ("forebay-dlq-partition", record.partition.to_string()),
        ("forebay-dlq-offset", record.offset.to_string()),
        ("forebay-dlq-timestamp", record.timestamp_ms.to_string()),
    ];
    own.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}
