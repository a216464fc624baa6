//! One transaction: messages and group offsets, all of them or none. Owns the transactional producer: makes it when it is
//! first needed, and another when it is of no more use. Called by the thread of `edges`, which it blocks, and which does the
//! polling.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;

use super::evaluate::EdgeMessage;

/// How long one step may take; librdkafka tries it again within that.
const STEP: Duration = Duration::from_secs(5);
/// How often is looked at what Kafka says of messages.
const MOMENT: Duration = Duration::from_millis(1);
/// How often a step that may be tried again is.
const TRIES: usize = 3;

/// Makes transactions, one after the other.
pub struct Transactions {
    config: ClientConfig,
    producer: Option<BaseProducer>,
}

/// Why there was no transaction.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing of it was done.
    #[error("{0}")]
    NotDone(String),
    /// It may have been done.
    #[error("{0}; asking the group what was told")]
    Unknown(String),
}

/// A step failed.
enum Broken {
    /// The transaction must be aborted; the producer is good.
    Abort(String),
    /// The producer is of no more use.
    Fatal(String),
}

impl Transactions {
    /// With a configuration that has a `transactional.id`. Connects when it is first needed.
    pub fn new(config: ClientConfig) -> Self {
        Transactions { config, producer: None }
    }

    /// Connects, and ends what an earlier producer of this name left behind.
    pub fn prepare(&mut self) -> Result<(), Failure> {
        self.producer().map(drop)
    }

    /// Makes one: the messages, and the offsets in the name of a member of the group.
    pub fn make<'e>(
        &mut self,
        group: &ConsumerGroupMetadata,
        offsets: &TopicPartitionList,
        edges: impl Iterator<Item = &'e EdgeMessage>,
    ) -> Result<(), Failure> {
        let producer = self.producer()?;
        match fill(producer, group, offsets, edges) {
            Ok(()) => {}
            Err(broken) => return Err(self.abort(broken)),
        }
        let commit = repeat(|| self.current().commit_transaction(STEP));
        match commit {
            Ok(()) => Ok(()),
            Err(Broken::Abort(text)) => Err(self.abort(Broken::Abort(text))),
            Err(Broken::Fatal(text)) => {
                self.producer = None;
                Err(Failure::Unknown(text))
            }
        }
    }

    /// Takes what the client has to say while there is nothing to do.
    pub fn poll(&self) {
        if let Some(producer) = &self.producer {
            producer.poll(Duration::ZERO);
        }
    }

    fn producer(&mut self) -> Result<&BaseProducer, Failure> {
        if self.producer.is_none() {
            let failed = |error: KafkaError| Failure::NotDone(format!("no transactional producer: {error}"));
            let producer: BaseProducer = self.config.create().map_err(failed)?;
            producer.init_transactions(STEP * 2).map_err(failed)?;
            self.producer = Some(producer);
        }
        Ok(self.current())
    }

    fn current(&self) -> &BaseProducer {
        self.producer.as_ref().expect("made before it is used")
    }

    /// Gives a transaction up; what becomes of it is known then.
    fn abort(&mut self, broken: Broken) -> Failure {
        match broken {
            Broken::Abort(text) => {
                // Nobody else takes the reports of what is not sent any more, and the abort waits for that.
                self.current().purge(PurgeConfig::default().queue());
                drain(self.current()).ok();
                if repeat(|| self.current().abort_transaction(STEP)).is_err() {
                    // The next producer of this name aborts it before it begins.
                    self.producer = None;
                }
                Failure::NotDone(text)
            }
            Broken::Fatal(text) => {
                self.producer = None;
                Failure::NotDone(text)
            }
        }
    }
}

fn fill<'e>(
    producer: &BaseProducer,
    group: &ConsumerGroupMetadata,
    offsets: &TopicPartitionList,
    edges: impl Iterator<Item = &'e EdgeMessage>,
) -> Result<(), Broken> {
    repeat(|| producer.begin_transaction())?;
    for edge in edges {
        send(producer, edge)?;
    }
    // On their way while the group's coordinator answers; the commit fails if one of them was refused.
    repeat(|| producer.send_offsets_to_transaction(offsets, group, STEP))?;
    drain(producer)
}

fn send(producer: &BaseProducer, edge: &EdgeMessage) -> Result<(), Broken> {
    let header = Header { key: "forebay-edge-id", value: Some(edge.id.as_bytes()) };
    let headers = OwnedHeaders::new_with_capacity(1).insert(header);
    let mut record = BaseRecord::to(&edge.to).key(&edge.key).payload(&edge.json).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                drain(producer)?;
            }
            Err((error, _)) => return Err(Broken::Abort(format!("topic {}: {error}", edge.to))),
        }
    }
}

/// Waits until the fate of all messages is known. The client's own flush looks every tenth of a second only, which would be
/// most of the time that an edge takes.
fn drain(producer: &BaseProducer) -> Result<(), Broken> {
    let until = Instant::now() + STEP;
    while producer.in_flight_count() > 0 {
        if Instant::now() >= until {
            return Err(Broken::Abort(format!("edges not taken within {STEP:?}")));
        }
        // A poll of a millisecond spins for most of it.
        producer.poll(Duration::ZERO);
        thread::sleep(MOMENT);
    }
    Ok(())
}

/// Does a step, and again as long as librdkafka says that may help.
fn repeat(mut step: impl FnMut() -> Result<(), KafkaError>) -> Result<(), Broken> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match step() {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && tries > 0 => {}
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                return Err(Broken::Abort(error.to_string()));
            }
            Err(error) => return Err(Broken::Fatal(error.to_string())),
        }
    }
}
