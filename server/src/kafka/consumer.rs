//! One member of a lane's consumer group, seen by the ingest thread that polls it: messages in batches, and between
//! them the few events it must act on. Knows nothing of what messages mean.

use std::ffi::CString;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::ffi::{self, EventQueue, Polled};
pub use super::ffi::{Place, RawMessage};
use super::{ClientLog, Consumer};

/// A batch holds no more than this and one message: what it takes from the client's queue is fetched anew at once.
const BATCH_BYTES: usize = 16 << 20;

/// A member of a consumer group. Messages live in its client's memory: let go of them before it is closed.
pub struct Member {
    // Before the consumer: the queue's reference is released first.
    queue: EventQueue,
}

/// What came between messages, and what to do about it.
#[derive(Debug)]
pub enum Event {
    /// Consume these; answer with `Member::assign`.
    Assigned(Vec<(String, i32)>),
    /// Consume none of them any more; answer with `Member::unassign`.
    Revoked,
    /// Kafka holds no record at the offset the partition was to be read from.
    OffsetLost(Place),
    /// The topic (or the partition) is not there any more, or is another one.
    TopicChanged(String),
    /// No broker can be reached; librdkafka keeps trying.
    Disconnected(String),
    /// This member is shut out for good, by another with its name or by the broker's rules.
    Fatal(String),
    /// Offsets were committed, or not.
    Committed(Result<(), String>),
    /// An error librdkafka deals with by itself.
    Warning(String),
}

/// One step of a batch, in the order of the log.
pub enum Step {
    /// A record.
    Message(RawMessage),
    /// All offsets of the partition below this one have been given.
    End(Place),
}

impl Member {
    /// Joins nothing yet; fails only if a setting is wrong.
    pub fn new(config: &ClientConfig) -> KafkaResult<Member> {
        let consumer: Arc<Consumer> = Arc::new(config.create_with_context(ClientLog)?);
        let queue = EventQueue::of(consumer)
            .ok_or_else(|| KafkaError::ClientCreation("a consumer without a group".into()))?;
        Ok(Member { queue })
    }

    /// Closes the client. It waits without end for an answer to its last commit where no broker is there to give one, so
    /// after `patience` it is left to itself, and ends with the process.
    pub fn close(self, patience: Duration) {
        let (done, closed) = mpsc::channel();
        let close = move || {
            drop(self);
            done.send(()).ok();
        };
        let thread = thread::Builder::new().name("leave-group".into()).spawn(close);
        if patience.is_zero() {
            return;
        }
        if thread.is_err() || closed.recv_timeout(patience).is_err() {
            tracing::warn!("no broker answers the consumer's close; not waited for any longer");
        }
    }

    fn consumer(&self) -> &Arc<Consumer> {
        self.queue.consumer()
    }

    /// Asks for these topics; an `Assigned` event follows.
    pub fn subscribe(&self, topics: &[&str]) -> KafkaResult<()> {
        self.consumer().subscribe(topics)
    }

    /// Fills `batch` up to `most` steps, or a little over `BATCH_BYTES` of values. Waits up to `idle` for the first, then up
    /// to `fill` for the rest. Ends early with an event, which came after everything in the batch.
    pub fn fill(&self, batch: &mut Vec<Step>, most: usize, idle: Duration, fill: Duration) -> Option<Event> {
        let (mut wait, mut bytes) = (idle, 0);
        let mut full_by = None;
        while batch.len() < most && bytes < BATCH_BYTES {
            match self.queue.poll(wait) {
                Polled::Message(message) => {
                    bytes += message.payload().map_or(0, <[u8]>::len);
                    batch.push(Step::Message(message));
                }
                Polled::Error { code: RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF, place, .. } => {
                    batch.extend(place.map(Step::End));
                }
                Polled::Nothing if wait.is_zero() && full_by.is_some_and(|by| Instant::now() < by) => {
                    wait = Duration::from_millis(1);
                    continue;
                }
                Polled::Nothing if full_by.is_none_or(|by| Instant::now() >= by) => return None,
                Polled::Nothing => continue,
                Polled::Other => {}
                other => return event(other),
            }
            full_by.get_or_insert_with(|| Instant::now() + fill);
            wait = Duration::ZERO;
        }
        None
    }

    /// Consumes exactly these partitions from these offsets on, and no others.
    pub fn assign<'t>(&self, places: impl Iterator<Item = (&'t str, i32, i64)>) -> KafkaResult<()> {
        self.consumer().assign(&list(places)?)
    }

    /// Consumes nothing.
    pub fn unassign(&self) -> KafkaResult<()> {
        self.consumer().unassign()
    }

    /// Its membership, for offsets that a transaction commits in its name; none if it is in no group.
    pub fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer().group_metadata()
    }

    /// Whether its partitions were taken without it being asked: its session ended.
    pub fn is_lost(&self) -> bool {
        self.consumer().assignment_lost()
    }

    /// Commits offsets (of the next records wanted); a `Committed` event follows.
    pub fn commit<'t>(&self, places: impl Iterator<Item = (&'t str, i32, i64)>) -> Result<(), String> {
        self.queue.commit(&list(places).map_err(|error| error.to_string())?)
    }

    /// The end offset of a consumed partition as the last fetch said.
    pub fn end(&self, topic: &CString, partition: i32) -> Option<i64> {
        ffi::cached_end(self.consumer(), topic, partition)
    }
}

fn list<'t>(places: impl Iterator<Item = (&'t str, i32, i64)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    Ok(list)
}

fn event(polled: Polled) -> Option<Event> {
    Some(match polled {
        Polled::Assign(partitions) => Event::Assigned(partitions),
        Polled::Revoke => Event::Revoked,
        Polled::Committed(outcome) => Event::Committed(outcome),
        Polled::Error { text, fatal: true, .. } => Event::Fatal(text),
        Polled::Error { code: RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT, text, .. } => {
            // One connection of many, tried again; that none is left comes as an event of its own.
            tracing::debug!(text, "Kafka");
            return None;
        }
        Polled::Error { code, text, place, .. } => error_event(code, text, place),
        Polled::Nothing | Polled::Message(_) | Polled::Other => return None,
    })
}

fn error_event(code: RDKafkaRespErr, text: String, place: Option<Place>) -> Event {
    use RDKafkaRespErr::*;
    match (code, place) {
        (RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, Some(place)) => {
            Event::OffsetLost(place)
        }
        (
            RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
            | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
            _,
        ) => Event::TopicChanged(text),
        (RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, _) => Event::Disconnected(text),
        _ => Event::Warning(text),
    }
}
