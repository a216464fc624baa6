//! `forebay-bench record`: topics become a tape. Knows nothing of what the records mean.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::consume::{Extent, Next, Source};
use super::write::Written;
use super::{Connection, Description, Writer};
use crate::scenario::progress;

const EXAMPLES: &str = "\
Without --seconds and --count: everything that is in the topics when it begins. Ctrl-C ends a tape as well; it is whole.
The records are as Kafka has them: topic, partition, offset, timestamp, key, headers, payload, tombstones included, and
only committed ones of transactions. On the tape they are in the order of their Kafka timestamps.

Examples:
  forebay-bench record --bootstrap kafka:9092 --topic modem-health --topic cpe-radio --out all.tape
  forebay-bench record --bootstrap kafka:9092 --topic modem-health --seconds 3600 --out hour.tape
  forebay-bench record --bootstrap kafka:9092 --topic modem-health --count 1000000 --out million.tape --json million.json";

/// What `forebay-bench record` can be told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    /// A topic to record; again for another
    #[arg(long = "topic", value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// The tape: a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Record what arrives within this time
    #[arg(long, value_name = "S", conflicts_with = "count", value_parser = seconds)]
    seconds: Option<f64>,
    /// Record the first so many records, and wait for them if there are fewer
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| (0.0..1e9).contains(n));
    number.ok_or_else(|| "a number of seconds is expected".into())
}

/// What was recorded.
#[derive(Debug, Serialize)]
pub struct Recorded {
    file: PathBuf,
    topics: Vec<OfTopic>,
    records: u64,
    /// Keys, payloads and headers.
    bytes: u64,
    file_bytes: u64,
    seconds: f64,
    /// Kafka timestamps, ms since the epoch; null if no record has one.
    first_ms: Option<i64>,
    last_ms: Option<i64>,
}

#[derive(Debug, Serialize)]
struct OfTopic {
    name: String,
    partitions: u32,
    records: u64,
}

/// Records until the end, or until `stop`.
pub fn run(options: &Options, stop: &AtomicBool) -> anyhow::Result<Recorded> {
    let extent = match (options.seconds, options.count) {
        (Some(_), _) => Extent::Coming,
        (None, Some(_)) => Extent::PresentAndComing,
        (None, None) => Extent::Present,
    };
    let (began, clock) = (Instant::now(), std::time::SystemTime::now());
    let mut source = Source::open(&options.connection, &options.topics, extent)?;
    let recorded_ms = clock.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let topics = source.topics().to_vec();
    let mut recorded = Recorded {
        file: options.out.clone(),
        topics: topics
            .iter()
            .map(|topic| OfTopic { name: topic.name.clone(), partitions: topic.partitions, records: 0 })
            .collect(),
        records: 0,
        bytes: 0,
        file_bytes: 0,
        seconds: 0.0,
        first_ms: None,
        last_ms: None,
    };
    let mut writer = Writer::create(&options.out, &Description { recorded_ms, topics })?;
    let copied = recorded.copy(options, &mut source, &mut writer, stop);
    // What was read until something failed is a tape too.
    let Written { records, bytes } = writer.finish()?;
    copied.with_context(|| format!("after {records} records, which are in {}", options.out.display()))?;
    recorded.file_bytes = bytes;
    recorded.seconds = began.elapsed().as_secs_f64();
    Ok(recorded)
}

impl Recorded {
    fn copy(
        &mut self,
        options: &Options,
        source: &mut Source,
        writer: &mut Writer,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let bar = progress("reading");
        let most = options.count.unwrap_or(u64::MAX);
        let deadline = options.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        while self.records < most && !stop.load(Ordering::Relaxed) {
            match source.next()? {
                Next::Record(record) => {
                    writer.push(&record)?;
                    self.count(&record);
                }
                Next::Nothing => {}
                Next::End => break,
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            if self.records.is_multiple_of(4096) {
                bar.set_message(format!("{} records, {:.1} MB", self.records, self.bytes as f64 / 1e6));
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn count(&mut self, record: &super::Record) {
        self.records += 1;
        self.bytes += record.size();
        self.topics[record.topic].records += 1;
        if record.timestamp_ms >= 0 {
            let at = record.timestamp_ms;
            self.first_ms = Some(self.first_ms.map_or(at, |first| first.min(at)));
            self.last_ms = Some(self.last_ms.map_or(at, |last| last.max(at)));
        }
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.first_ms.zip(self.last_ms).map_or(0, |(first, last)| last - first);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            f,
            "{}: {} records of {:.1} s, {:.1} MB in a file of {:.1} MB, recorded in {:.1} s",
            self.file.display(),
            self.records,
            span as f64 / 1e3,
            megabytes(self.bytes),
            megabytes(self.file_bytes),
            self.seconds
        )?;
        let topic = |topic: &OfTopic| {
            format!("  {}: {} records in {} partitions", topic.name, topic.records, topic.partitions)
        };
        f.write_str(&self.topics.iter().map(topic).collect::<Vec<_>>().join("\n"))
    }
}
