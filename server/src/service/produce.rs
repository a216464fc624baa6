//! Records on their way to Kafka: produced in order, then waited for until Kafka has all of them. Called by `push` and
//! `delete`; what the records say is theirs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_proto::v1::{OffsetVector, Position, TopicOffsets};
use futures::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use tonic::Status;

use super::Context;
use super::deadline::Deadline;

/// How long Kafka may take to acknowledge when the call has no deadline, in ms.
const DEFAULT_PATIENCE_MS: u64 = 30_000;

/// How long to let the producer's queue drain before trying again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// How many written positions a failure names.
const NAMED_POSITIONS: usize = 10;

/// One record to produce.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub topic: String,
    pub partition: u32,
    pub key: Bytes,
    /// Absent: a tombstone.
    pub payload: Option<Bytes>,
    /// Kafka's timestamp, if it means something.
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(String, String)>,
}

impl Outgoing {
    fn headers(&self) -> OwnedHeaders {
        let empty = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers
            .iter()
            .fold(empty, |all, (key, value)| all.insert(Header { key, value: Some(value.as_str()) }))
    }

    fn start(&self, producer: &FutureProducer) -> Result<DeliveryFuture, KafkaError> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic)
            .partition(self.partition as i32)
            .key(&self.key)
            .headers(self.headers());
        record.payload = self.payload.as_deref();
        record.timestamp = self.timestamp_ms;
        producer.send_result(record).map_err(|(error, _)| error)
    }
}

/// Produces all records in order and gives their positions; or says which of them Kafka has.
pub(super) async fn produce(
    context: &Context,
    records: &[Outgoing],
    deadline: Deadline,
) -> Result<Vec<Position>, Status> {
    let until = deadline.wait_until(DEFAULT_PATIENCE_MS);
    let mut deliveries = Vec::with_capacity(records.len());
    let mut failure = None;
    for record in records {
        match enqueue(&context.producer, record, until).await {
            Ok(delivery) => deliveries.push(settle(record, delivery, until)),
            Err(reason) => {
                failure = Some(reason);
                break;
            }
        }
    }
    let mut outcomes = join_all(deliveries).await;
    outcomes.extend(failure.map(Err));
    report(records.len(), outcomes)
}

/// Why a record is not known to be written.
#[derive(Debug)]
enum Unwritten {
    /// Kafka or the producer refused it.
    Refused(KafkaError),
    /// No answer yet: it may still be written.
    Pending,
}

async fn enqueue(
    producer: &FutureProducer,
    record: &Outgoing,
    until: Instant,
) -> Result<DeliveryFuture, Unwritten> {
    loop {
        match record.start(producer) {
            Ok(delivery) => return Ok(delivery),
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) if Instant::now() < until => {
                tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            }
            Err(error) => return Err(Unwritten::Refused(error)),
        }
    }
}

async fn settle(record: &Outgoing, delivery: DeliveryFuture, until: Instant) -> Result<Position, Unwritten> {
    match tokio::time::timeout_at(until.into(), delivery).await {
        Ok(Ok(Ok(delivery))) => Ok(Position {
            topic: record.topic.clone(),
            partition: delivery.partition as u32,
            offset: delivery.offset,
        }),
        Ok(Ok(Err((error, _)))) => Err(Unwritten::Refused(error)),
        // The producer was closed, or the time ran out.
        Ok(Err(_)) | Err(_) => Err(Unwritten::Pending),
    }
}

fn report(asked: usize, outcomes: Vec<Result<Position, Unwritten>>) -> Result<Vec<Position>, Status> {
    let mut written = Vec::with_capacity(asked);
    let (mut refused, mut pending) = (None, 0);
    for outcome in outcomes {
        match outcome {
            Ok(position) => written.push(position),
            Err(Unwritten::Refused(error)) => refused = refused.or(Some(error)),
            Err(Unwritten::Pending) => pending += 1,
        }
    }
    if written.len() == asked {
        return Ok(written);
    }
    Err(failure(asked, &written, refused, pending))
}

fn failure(asked: usize, written: &[Position], refused: Option<KafkaError>, pending: usize) -> Status {
    let mut message = format!("Kafka has {} of {asked}", written.len());
    if !written.is_empty() {
        message += &format!(" ({})", positions_text(written));
    }
    if pending > 0 {
        message += &format!("; {pending} were not acknowledged in time and may still be written");
    }
    match refused {
        Some(error) if written.is_empty() && is_too_large(&error) => Status::invalid_argument(format!(
            "{message}: {error}; send a smaller data point, or raise the topic's max.message.bytes"
        )),
        Some(error) if written.is_empty() => Status::unavailable(format!("{message}: {error}")),
        Some(error) => Status::aborted(format!("{message}: {error}")),
        None => Status::deadline_exceeded(message),
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

fn positions_text(written: &[Position]) -> String {
    let named = written.iter().take(NAMED_POSITIONS);
    let mut texts: Vec<String> =
        named.map(|place| format!("{}/{}@{}", place.topic, place.partition, place.offset)).collect();
    if written.len() > NAMED_POSITIONS {
        texts.push(format!("and {} more", written.len() - NAMED_POSITIONS));
    }
    texts.join(", ")
}

/// The vector to wait for to see all of these: the highest offset of each partition.
pub(super) fn vector(positions: &[Position]) -> OffsetVector {
    let mut highest = std::collections::BTreeMap::new();
    for place in positions {
        let offset = highest.entry((place.topic.as_str(), place.partition)).or_insert(place.offset);
        *offset = place.offset.max(*offset);
    }
    let mut topics: Vec<TopicOffsets> = Vec::new();
    for ((topic, partition), offset) in highest {
        if topics.last().is_none_or(|last| last.topic != topic) {
            topics.push(TopicOffsets { topic: topic.to_owned(), ..TopicOffsets::default() });
        }
        let last = topics.last_mut().expect("pushed above if there was none");
        last.partitions.push(partition);
        last.offsets.push(offset);
    }
    OffsetVector { topics }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: &str, partition: u32, offset: i64) -> Position {
        Position { topic: topic.into(), partition, offset }
    }

    #[test]
    fn the_vector_has_the_highest_offset_of_each_partition() {
        let vector = vector(&[place("b", 1, 5), place("a", 0, 7), place("b", 1, 4), place("b", 0, 9)]);
        let of = |topic: &str, partitions: &[u32], offsets: &[i64]| TopicOffsets {
            topic: topic.into(),
            partitions: partitions.into(),
            offsets: offsets.into(),
        };
        assert_eq!(vector.topics, [of("a", &[0], &[7]), of("b", &[0, 1], &[9, 5])]);
    }

    #[test]
    fn a_partial_failure_says_what_was_written() {
        let refused = || Unwritten::Refused(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
        let status = report(3, vec![Ok(place("t", 0, 8)), Err(refused()), Err(refused())]).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Aborted);
        assert!(status.message().contains("Kafka has 1 of 3 (t/0@8)"), "{}", status.message());
        assert_eq!(report(1, vec![Err(refused())]).unwrap_err().code(), tonic::Code::Unavailable);
        let late = report(2, vec![Ok(place("t", 0, 8)), Err(Unwritten::Pending)]).unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    }
}
