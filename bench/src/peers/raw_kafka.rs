//! Raw consumption: every message of some topics fetched and its payload length read, nothing else. The ceiling of
//! anything that consumes with librdkafka.

use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// What a run of raw consumption saw.
#[derive(Debug, Clone, Copy)]
pub struct Consumed {
    /// From the first message to the last.
    pub time: Duration,
    /// Messages.
    pub count: u64,
    /// Key and payload bytes.
    pub bytes: u64,
}

/// Reads all partitions of the topics to the ends seen when called, partitions shared out over `threads` consumers.
pub fn consume(bootstrap: &str, topics: &[String], threads: usize) -> anyhow::Result<Consumed> {
    let ends = ends(bootstrap, topics)?;
    let begin = Instant::now();
    let mut total = Consumed { time: Duration::ZERO, count: 0, bytes: 0 };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let own: Vec<_> = ends.iter().skip(worker).step_by(threads).cloned().collect();
                scope.spawn(move || read(bootstrap, &own))
            })
            .collect();
        for worker in workers {
            let (count, bytes, first) = worker.join().expect("no panic")?;
            total.count += count;
            total.bytes += bytes;
            total.time = total.time.max(begin.elapsed() - first.duration_since(begin));
        }
        anyhow::Ok(())
    })?;
    Ok(total)
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

fn read(bootstrap: &str, partitions: &[(String, i32, i64)]) -> anyhow::Result<(u64, u64, Instant)> {
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
        let at = (message.partition(), message.offset());
        let last = |(topic, partition, end): &&(String, i32, i64)| {
            *partition == at.0 && *end == at.1 + 1 && topic == message.topic()
        };
        left -= partitions.iter().filter(last).count();
    }
    Ok((count, bytes, first.unwrap_or_else(Instant::now)))
}
