//! Is anything lost? Every record of the mix's topics is read raw, from where they ended before the run, and counted; of
//! a sample of keys (all, if they are few) the tests' own model says what the server must answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use forebay_tests::{Connection, Consumed, Definitions, Kafka, Model, differences};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Consumers, each with its part of the partitions.
const READERS: usize = 2;
/// Records of keys that are compared, about.
const SAMPLE: u64 = 200_000;

/// Where partitions end, by topic and partition.
pub type Ends = BTreeMap<(String, i32), i64>;

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Records in the topics.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Keys whose answers were compared.
    pub keys: u64,
    /// Answers that are not what the topics say, at most twenty.
    pub wrong: Vec<String>,
}

/// Where the topics end now.
pub async fn ends(kafka: &Kafka, topics: &[String]) -> Ends {
    let mut ends = Ends::new();
    for topic in topics {
        let of_topic = kafka.end_offsets(topic).await.into_iter().enumerate();
        ends.extend(of_topic.map(|(partition, end)| ((topic.clone(), partition as i32), end)));
    }
    ends
}

/// Reads what lies between two moments, and compares.
pub async fn audit(
    kafka: &Kafka,
    definitions: &Definitions,
    server: &Connection,
    from: Ends,
    to: Ends,
) -> anyhow::Result<Audit> {
    let lies = |(place, end): (&(String, i32), &i64)| {
        let from = from.get(place).copied().unwrap_or(0);
        (from < *end).then(|| Span { topic: place.0.clone(), partition: place.1, from, to: *end })
    };
    let spans: Vec<Span> = to.iter().filter_map(lies).collect();
    let total: u64 = spans.iter().map(|span| (span.to - span.from) as u64).sum();
    // Where there was something before, what is in between does not say what is the newest.
    let is_all = from.values().all(|from| *from == 0);
    let every = if is_all { total.div_ceil(SAMPLE).max(1) } else { u64::MAX };
    let mut readers = Vec::new();
    for reader in 0..READERS {
        let own: Vec<Span> = spans.iter().skip(reader).step_by(READERS).cloned().collect();
        let (bootstrap, definitions) = (kafka.bootstrap.clone(), definitions.clone());
        readers.push(tokio::task::spawn_blocking(move || read(&bootstrap, &definitions, own, every)));
    }
    let (mut audit, mut model) = (Audit::default(), Model::default());
    for reader in readers {
        let (found, part) = reader.await??;
        audit.records += found.records;
        audit.bytes += found.bytes;
        // A key is in one partition of one topic.
        model.versions.extend(part.versions);
    }
    audit.keys = model.versions.len() as u64;
    audit.wrong = differences(server, definitions, &model).await;
    Ok(audit)
}

#[derive(Debug, Clone)]
struct Span {
    topic: String,
    partition: i32,
    from: i64,
    to: i64,
}

fn read(
    bootstrap: &str,
    definitions: &Definitions,
    mut spans: Vec<Span>,
    every: u64,
) -> anyhow::Result<(Audit, Model)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "forebay-bench-audit")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for Span { topic, partition, from, .. } in &spans {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*from))?;
    }
    consumer.assign(&assignment)?;
    let (mut audit, mut model) = (Audit::default(), Model::default());
    let mut clocks: BTreeMap<(String, i32), i64> = BTreeMap::new();
    while !spans.is_empty() {
        let message = match consumer.poll(Duration::from_secs(30)).context("nothing for 30 s")? {
            Ok(message) => message,
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => continue,
            Err(error) => bail!("reading the topics: {error}"),
        };
        let is_of = |span: &Span| span.partition == message.partition() && span.topic == message.topic();
        let Some(at) = spans.iter().position(is_of) else { continue };
        if message.offset() >= spans[at].to - 1 {
            spans.swap_remove(at);
        }
        audit.records += 1;
        audit.bytes += (message.payload_len() + message.key_len()) as u64;
        let place = (message.topic(), message.partition());
        let stamp = message.timestamp().to_millis().unwrap_or(-1);
        let clock = match clocks.iter_mut().find(|(of, _)| (of.0.as_str(), of.1) == place) {
            Some((_, clock)) => clock,
            None => clocks.entry((place.0.to_owned(), place.1)).or_default(),
        };
        *clock = stamp.max(*clock);
        if message.key().is_some_and(|key| hash(key).is_multiple_of(every)) {
            // The partition's clock counts all records, of which the model sees some.
            model.take(definitions, Consumed { timestamp_ms: *clock, ..Consumed::of(&message) });
        }
    }
    Ok((audit, model))
}

/// FNV-1a with its bits stirred.
fn hash(key: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    hash ^ (hash >> 29)
}
