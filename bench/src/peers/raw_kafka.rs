//! Raw consumption: every message of some topics fetched and its payload length read, nothing else. The ceiling of
//! anything that consumes with librdkafka. Other peers do something with the messages (`consume_by`).

use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// What a run of consumption saw.
#[derive(Debug, Clone, Copy)]
pub struct Consumed {
    /// From the first message until all is done.
    pub time: Duration,
    /// Messages.
    pub count: u64,
    /// Key and payload bytes.
    pub bytes: u64,
}

/// Reads all partitions of the topics to the ends seen when called, partitions shared out over `threads` consumers.
pub fn consume(bootstrap: &str, topics: &[String], threads: usize) -> anyhow::Result<Consumed> {
    consume_by(bootstrap, topics, threads, || Ok(|_: Option<&BorrowedMessage<'_>>| Ok(())))
}

/// The same with something done about each message, by what `worker` makes for each thread; it is told of the end by
/// `None`, and all that it does then counts as time of the run.
pub fn consume_by<E>(
    bootstrap: &str,
    topics: &[String],
    threads: usize,
    worker: impl Fn() -> anyhow::Result<E> + Sync,
) -> anyhow::Result<Consumed>
where
    E: FnMut(Option<&BorrowedMessage<'_>>) -> anyhow::Result<()>,
{
    let ends = ends(bootstrap, topics)?;
    let mut total = Consumed { time: Duration::ZERO, count: 0, bytes: 0 };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let own: Vec<_> = ends.iter().skip(number).step_by(threads).cloned().collect();
                let worker = &worker;
                scope.spawn(move || read(bootstrap, &own, worker()?))
            })
            .collect();
        let (mut first, mut last) = (None::<Instant>, None::<Instant>);
        for worker in workers {
            let seen = worker.join().expect("no panic")?;
            total.count += seen.count;
            total.bytes += seen.bytes;
            first = Some(first.map_or(seen.first, |other| other.min(seen.first)));
            last = Some(last.map_or(seen.last, |other| other.max(seen.last)));
        }
        total.time = last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first);
        anyhow::Ok(())
    })?;
    Ok(total)
}

/// What one thread saw.
struct Seen {
    count: u64,
    bytes: u64,
    first: Instant,
    last: Instant,
}

fn client(bootstrap: &str) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "forebay-bench-raw")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "2")
        .set("fetch.wait.max.ms", "20")
        .set("queued.max.messages.kbytes", "65536")
        .create()?)
}

/// (topic, partition, end) of every partition that holds anything.
fn ends(bootstrap: &str, topics: &[String]) -> anyhow::Result<Vec<(String, i32, i64)>> {
    let client = client(bootstrap)?;
    let mut ends = Vec::new();
    for topic in topics {
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let partitions = metadata.topics().first().context("no such topic")?.partitions().len();
        for partition in 0..partitions as i32 {
            let (low, end) = client.fetch_watermarks(topic, partition, Duration::from_secs(10))?;
            ends.extend((low < end).then(|| (topic.clone(), partition, end)));
        }
    }
    Ok(ends)
}

fn read(
    bootstrap: &str,
    partitions: &[(String, i32, i64)],
    mut each: impl FnMut(Option<&BorrowedMessage<'_>>) -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    let consumer = client(bootstrap)?;
    let mut assignment = TopicPartitionList::new();
    for (topic, partition, _) in partitions {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let (mut count, mut bytes, mut left, mut first) = (0, 0, partitions.len(), None);
    while left > 0 {
        let Some(message) = consumer.poll(Duration::from_secs(30)) else { anyhow::bail!("nothing for 30 s") };
        let message = message?;
        first.get_or_insert_with(Instant::now);
        count += 1;
        bytes += (message.payload_len() + message.key_len()) as u64;
        each(Some(&message))?;
        let at = (message.partition(), message.offset());
        let last = |(topic, partition, end): &&(String, i32, i64)| {
            *partition == at.0 && *end == at.1 + 1 && topic == message.topic()
        };
        left -= partitions.iter().filter(last).count();
    }
    each(None)?;
    let last = Instant::now();
    Ok(Seen { count, bytes, first: first.unwrap_or(last), last })
}
