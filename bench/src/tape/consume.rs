//! Records of all partitions of some topics, merged by their Kafka timestamps: what a replay needs to keep the times between
//! them. Exact while partitions have records waiting; of partitions that are read up to their ends, as records arrive.
//! Each partition has a queue of its own, so what is read ahead is bounded. Knows nothing of files.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::{Connection, Record, Topic};

const ANSWER: Duration = Duration::from_secs(10);
/// How long a partition may say nothing while it has records.
const SILENCE: Duration = Duration::from_secs(60);
/// How long one look waits for a partition that has records.
const WAIT: Duration = Duration::from_millis(100);
/// How often partitions that were at their ends are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What is read of each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What is there when reading begins.
    Present,
    /// What is there and what comes.
    PresentAndComing,
    /// What comes after reading began.
    Coming,
}

/// What a look gives.
pub enum Next {
    /// The next record.
    Record(Record),
    /// None at the moment: look again.
    Nothing,
    /// All partitions are read up to their ends.
    End,
}

/// Reads the partitions of some topics.
pub struct Source {
    consumer: Arc<BaseConsumer>,
    topics: Vec<Topic>,
    partitions: Vec<Partition>,
    /// Partitions whose next record is known, by its timestamp.
    ready: BinaryHeap<Reverse<(i64, usize)>>,
    /// Partitions whose next record must be known before any is given.
    awaited: Vec<usize>,
    /// Partitions at their ends, where more may come.
    quiet: Vec<usize>,
    looked: Instant,
    /// When a record, or an end, was last seen.
    moved: Instant,
}

struct Partition {
    queue: PartitionQueue<DefaultConsumerContext>,
    topic: usize,
    number: i32,
    /// Records that came before the partition had a queue of its own.
    early: VecDeque<Record>,
    next: Option<Record>,
    /// Offset that comes next.
    position: i64,
    /// Where to stop.
    end: Option<i64>,
    /// It was once read up to its end.
    live: bool,
}

/// What became of a look at a partition.
enum Look {
    Found,
    AtEnd,
    Nothing,
}

impl Source {
    /// Connects and begins to read; fails if a topic is not there.
    pub fn open(connection: &Connection, names: &[String], extent: Extent) -> anyhow::Result<Source> {
        let consumer: BaseConsumer = connection
            .config(&[
                ("group.id", "forebay-bench-record"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("isolation.level", "read_committed"),
                ("enable.partition.eof", "true"),
                ("check.crcs", "true"),
                ("fetch.queue.backoff.ms", "2"),
                ("fetch.wait.max.ms", "20"),
                // Of each partition.
                ("queued.max.messages.kbytes", "4096"),
            ])
            .create()
            .context("Kafka settings")?;
        let topics =
            names.iter().map(|name| topic(&consumer, name)).collect::<anyhow::Result<Vec<Topic>>>()?;
        let consumer = Arc::new(consumer);
        let now = Instant::now();
        let mut source = Source {
            partitions: assign(&consumer, &topics, extent)?,
            consumer,
            topics,
            ready: BinaryHeap::new(),
            awaited: Vec::new(),
            quiet: Vec::new(),
            looked: now,
            moved: now,
        };
        source.awaited.extend(0..source.partitions.len());
        source.early()?;
        Ok(source)
    }

    /// The topics, by the numbers in the records.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The next record, which may take a moment to come.
    pub fn next(&mut self) -> anyhow::Result<Next> {
        if self.looked.elapsed() > LOOK {
            self.serve()?;
            self.awaited.append(&mut self.quiet);
            self.looked = Instant::now();
        }
        while let Some(&number) = self.awaited.last() {
            let partition = &mut self.partitions[number];
            match partition.look(&self.topics)? {
                Look::Found => {
                    let timestamp_ms = partition.next.as_ref().map_or(-1, |record| record.timestamp_ms);
                    self.ready.push(Reverse((timestamp_ms, number)));
                }
                Look::AtEnd if partition.end.is_none() => self.quiet.push(number),
                Look::AtEnd => {}
                Look::Nothing => {
                    let name = &self.topics[partition.topic].name;
                    let silent = self.moved.elapsed();
                    ensure!(silent < SILENCE, "nothing from {name}/{} for {silent:?}", partition.number);
                    return Ok(Next::Nothing);
                }
            }
            self.awaited.pop();
            self.moved = Instant::now();
        }
        let Some(Reverse((_, number))) = self.ready.pop() else {
            if self.quiet.is_empty() {
                return Ok(Next::End);
            }
            std::thread::sleep(LOOK);
            return Ok(Next::Nothing);
        };
        self.awaited.push(number);
        Ok(self.partitions[number].next.take().map_or(Next::Nothing, Next::Record))
    }

    /// Keeps what came through the common queue before the partitions had their own.
    fn early(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.consumer.poll(Duration::ZERO) {
            let Ok(message) = message else { continue };
            let of = |partition: &&mut Partition| {
                let name = &self.topics[partition.topic].name;
                partition.number == message.partition() && name == message.topic()
            };
            let partition =
                self.partitions.iter_mut().find(of).context("a partition that was not asked for")?;
            partition.early.push_back(record(&message, partition.topic));
        }
        Ok(())
    }

    /// What librdkafka has to say. It reconnects by itself; who waits too long gives up.
    fn serve(&self) -> anyhow::Result<()> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                Ok(message) => bail!("{}/{} has two queues", message.topic(), message.partition()),
                Err(error) if fatal(&error) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

impl Partition {
    /// Finds the next record, the one before it having been given. Waits if there must be one or an end.
    fn look(&mut self, topics: &[Topic]) -> anyhow::Result<Look> {
        if self.end.is_some_and(|end| self.position >= end) {
            return Ok(Look::AtEnd);
        }
        self.next = self.early.pop_front();
        if self.next.is_none() {
            let wait = if self.live { Duration::ZERO } else { WAIT };
            match self.queue.poll(wait) {
                Some(Ok(message)) => self.next = Some(record(&message, self.topic)),
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.live = true;
                    return Ok(Look::AtEnd);
                }
                Some(Err(error)) => {
                    let name = &topics[self.topic].name;
                    return Err(error).with_context(|| format!("reading {name}/{}", self.number));
                }
                None => return Ok(if self.live { Look::AtEnd } else { Look::Nothing }),
            }
        }
        self.position = self.next.as_ref().map_or(self.position, |record| record.offset + 1);
        // Transactions leave gaps: the first record past the end may come before anything says that it is reached.
        if self.end.is_some_and(|end| self.position > end) {
            self.next = None;
            return Ok(Look::AtEnd);
        }
        Ok(Look::Found)
    }
}

fn fatal(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{Authentication, Fatal};
    matches!(error.rdkafka_error_code(), Some(Authentication | Fatal))
}

fn topic(consumer: &BaseConsumer, name: &str) -> anyhow::Result<Topic> {
    let metadata = consumer.fetch_metadata(Some(name), ANSWER).context("Kafka does not answer")?;
    let found = metadata.topics().first().filter(|topic| topic.error().is_none());
    let partitions = found.map_or(0, |topic| topic.partitions().len() as u32);
    ensure!(partitions > 0, "topic {name} does not exist");
    Ok(Topic { name: name.into(), partitions })
}

/// Assigns every partition, each with a queue of its own.
fn assign(consumer: &Arc<BaseConsumer>, topics: &[Topic], extent: Extent) -> anyhow::Result<Vec<Partition>> {
    let mut assignment = TopicPartitionList::new();
    let mut wanted = Vec::new();
    for (topic, of) in topics.iter().enumerate() {
        for number in 0..of.partitions as i32 {
            let asked = consumer.fetch_watermarks(&of.name, number, ANSWER);
            let (low, high) = asked.with_context(|| format!("the ends of {}/{number}", of.name))?;
            let begin = if extent == Extent::Coming { high } else { low };
            let end = (extent == Extent::Present).then_some(high);
            assignment.add_partition_offset(&of.name, number, Offset::Offset(begin))?;
            wanted.push((topic, number, begin, end));
        }
    }
    consumer.assign(&assignment).context("assigning partitions")?;
    let partition =
        |(topic, number, position, end): (usize, i32, i64, Option<i64>)| -> anyhow::Result<Partition> {
            let name = &topics[topic].name;
            let queue = consumer.split_partition_queue(name, number);
            let queue = queue.with_context(|| format!("{name}/{number} has no queue"))?;
            Ok(Partition {
                queue,
                topic,
                number,
                early: VecDeque::new(),
                next: None,
                position,
                end,
                live: false,
            })
        };
    wanted.into_iter().map(partition).collect()
}

fn record(message: &BorrowedMessage<'_>, topic: usize) -> Record {
    let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), bytes(header.value))).collect::<Vec<_>>()
    });
    Record {
        topic,
        partition: message.partition() as u32,
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: bytes(message.key()),
        headers: headers.unwrap_or_default(),
        payload: bytes(message.payload()),
    }
}
