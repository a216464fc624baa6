//! `forebay dlq redrive`: sends dead letters back to the topics they came from, in batches, and says how far it came.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use futures::future::try_join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;

use super::letters::{Letter, Origin, Place, Reader};
use super::{Selection, Source, place};
use crate::cli::output;
use crate::kafka;
use crate::kafka::topics::TopicAdmin;

/// Letters, and bytes of payload, under way at once.
const BATCH_COUNT: usize = 500;
const BATCH_BYTES: usize = 16 << 20;
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Only the letters at these positions of the dead-letter topic; may be given several times
    #[arg(long, value_name = "PARTITION:OFFSET", value_parser = place)]
    at: Vec<Place>,
    /// Give the records the present time instead of their original Kafka timestamp
    #[arg(long)]
    now: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    redriven: u64,
    /// Without an origin: not written by ingest.
    skipped: u64,
    by_reason: BTreeMap<String, u64>,
    /// By partition of the dead-letter topic: first and last offset redriven or skipped.
    ranges: BTreeMap<i32, (i64, i64)>,
}

/// Where the records go.
struct Target<'s> {
    source: &'s Source,
    producer: FutureProducer,
    partitions: HashMap<String, u32>,
    keep_timestamp: bool,
    dry_run: bool,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let source = args.selection.source()?;
    let mut reader = source.reader(args.selection.wanted(&args.at))?;
    let target = Target::new(&source, &args)?;
    let mut done = Done::default();
    let outcome = drive(&mut reader, &target, &mut done).await;
    print(&args, &done)?;
    outcome.context("stopped early; what is counted above was sent")
}

async fn drive(reader: &mut Reader, target: &Target<'_>, done: &mut Done) -> anyhow::Result<()> {
    loop {
        let batch = batch(reader)?;
        if batch.is_empty() {
            return Ok(());
        }
        target.send(&batch).await?;
        batch.iter().for_each(|letter| done.count(letter));
    }
}

fn batch(reader: &mut Reader) -> anyhow::Result<Vec<Letter>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_COUNT && bytes < BATCH_BYTES {
        let Some(letter) = reader.next()? else { break };
        bytes += letter.payload.as_ref().map_or(0, Vec::len);
        batch.push(letter);
    }
    Ok(batch)
}

impl<'s> Target<'s> {
    fn new(source: &'s Source, args: &Args) -> anyhow::Result<Self> {
        let lane = &source.definitions.lanes[source.lane];
        let settings = kafka::producer_config(&source.config.kafka);
        let admin =
            TopicAdmin::new(&kafka::consumer_config(&source.config.kafka)).context("the Kafka settings")?;
        let names: Vec<&str> = lane.topics.iter().map(|topic| topic.name.as_str()).collect();
        let facts = admin.describe(&names, TIMEOUT)?;
        Ok(Target {
            source,
            producer: settings.create().context("the Kafka settings")?,
            partitions: facts.into_iter().map(|topic| (topic.name, topic.partitions)).collect(),
            keep_timestamp: !args.now,
            dry_run: args.dry_run,
        })
    }

    /// Returns when Kafka has all of them.
    async fn send(&self, letters: &[Letter]) -> anyhow::Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let with_origin = letters.iter().filter_map(|letter| Some((letter, letter.origin.as_ref()?)));
        try_join_all(with_origin.map(|(letter, origin)| self.send_one(letter, origin))).await?;
        Ok(())
    }

    async fn send_one(&self, letter: &Letter, origin: &Origin) -> anyhow::Result<()> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&origin.topic)
            .partition(self.partition(letter, origin))
            .headers(headers(letter));
        record.key = letter.key.as_deref();
        record.payload = letter.payload.as_deref();
        record.timestamp = origin.timestamp_ms.filter(|_| self.keep_timestamp);
        let sent = self.producer.send(record, TIMEOUT).await;
        sent.map_err(|(error, _)| error).with_context(|| format!("dead letter {} to {origin}", letter.at))?;
        Ok(())
    }

    /// As a producer of the lane would choose; a record without key stays where it was.
    fn partition(&self, letter: &Letter, origin: &Origin) -> i32 {
        let lane = &self.source.definitions.lanes[self.source.lane];
        let partitions = self.partitions.get(&origin.topic).copied().unwrap_or(0);
        match letter.key.as_deref() {
            Some(key) if !key.is_empty() && partitions > 0 => {
                lane.partitioner.partition(key, partitions) as i32
            }
            _ => origin.at.partition,
        }
    }
}

fn headers(letter: &Letter) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(letter.headers.len());
    letter.headers.iter().fold(headers, |headers, (name, value)| {
        headers.insert(Header { key: &String::from_utf8_lossy(name), value: value.as_ref() })
    })
}

impl Done {
    fn count(&mut self, letter: &Letter) {
        match letter.origin {
            Some(_) => {
                self.redriven += 1;
                *self.by_reason.entry(letter.reason.clone()).or_default() += 1;
            }
            None => self.skipped += 1,
        }
        let Place { partition, offset } = letter.at;
        self.ranges
            .entry(partition)
            .and_modify(|(first, last)| (*first, *last) = (offset.min(*first), offset.max(*last)))
            .or_insert((offset, offset));
    }
}

fn print(args: &Args, done: &Done) -> std::io::Result<()> {
    if args.json {
        let ranges = done.ranges.iter();
        let ranges: Vec<_> = ranges
            .map(|(partition, (first, last))| json!({"partition": partition, "first": first, "last": last}))
            .collect();
        return output::json_line(&json!({
            "dry_run": args.dry_run,
            "redriven": done.redriven,
            "skipped": done.skipped,
            "by_reason": done.by_reason,
            "ranges": ranges,
        }));
    }
    output::line(report(args.dry_run, done))
}

fn report(dry_run: bool, done: &Done) -> String {
    let verb = if dry_run { "would be redriven" } else { "redriven" };
    let mut text = format!("{} dead letters {verb}", done.redriven);
    for (reason, count) in &done.by_reason {
        text.push_str(&format!("\n  {count} {reason}"));
    }
    if done.skipped > 0 {
        text.push_str(&format!("\n{} skipped: they do not say where they come from", done.skipped));
    }
    for (partition, (first, last)) in &done.ranges {
        text.push_str(&format!(
            "\npartition {partition}: offsets {first} to {last}; start after them with --from {partition}:{}",
            last + 1
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, reason: &str, known: bool) -> Letter {
        let at = Place { partition: 0, offset };
        let origin = Origin { topic: "points".into(), at, timestamp_ms: Some(5) };
        Letter {
            at,
            timestamp_ms: 1,
            reason: reason.into(),
            detail: String::new(),
            origin: known.then_some(origin),
            key: None,
            payload: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn the_report_says_where_to_go_on() {
        let mut done = Done::default();
        done.count(&letter(4, "future", true));
        done.count(&letter(7, "not_json", true));
        done.count(&letter(9, "?", false));
        let text = report(false, &done);
        assert!(text.starts_with("2 dead letters redriven"), "{text}");
        assert!(text.contains("1 future") && text.contains("1 skipped"), "{text}");
        assert!(text.contains("offsets 4 to 9; start after them with --from 0:10"), "{text}");
    }
}
