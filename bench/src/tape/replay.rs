//! `forebay-bench replay`: a tape becomes records again, at its own pace or another. An open loop: what is due is sent, however
//! Kafka does, and how far that fell behind is said.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde::Serialize;

use super::produce::Player;
use super::{Connection, Record, Tape};
use crate::scenario::progress;

const EXAMPLES: &str = "\
Every record goes to the partition it was recorded from, with its key, headers and payload. The times between records are
those of their Kafka timestamps, divided by --speed. Event times inside of payloads are yours and stay as they are: a
server that takes them from the payload sees the recorded times again.

A topic with fewer partitions than it had is refused before anything is sent; of one with more, as many are used as were
recorded. The exit status is 1 if a record did not reach Kafka.

Examples:
  forebay-bench replay day.tape --bootstrap 127.0.0.1:9092 --topic-prefix again. --create-topics
  forebay-bench replay day.tape --bootstrap 127.0.0.1:9092 --speed 10 --json replay.json
  forebay-bench replay day.tape --bootstrap 127.0.0.1:9092 --speed max --loop 3";

/// What `forebay-bench replay` can be told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The tape
    #[arg(value_name = "FILE")]
    tape: PathBuf,
    #[command(flatten)]
    connection: Connection,
    /// How many times as fast as recorded: 1, 0.5, 10; max for as fast as Kafka takes it
    #[arg(long, value_name = "X|max", default_value = "1")]
    speed: Speed,
    /// Before every topic name
    #[arg(long, value_name = "PREFIX", default_value = "")]
    topic_prefix: String,
    /// Create the topics that are missing, with as many partitions as were recorded
    #[arg(long)]
    create_topics: bool,
    /// Play the tape so many times, one after the other
    #[arg(long = "loop", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    turns: u64,
    /// Keep the recorded Kafka timestamps; without it they are those of the replay
    #[arg(long)]
    keep_timestamps: bool,
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let times = text.parse::<f64>().ok().filter(|times| times.is_finite() && *times > 0.0);
        times.map(Speed::Times).ok_or_else(|| "a number above 0, or max, is expected".into())
    }
}

/// What became of the tape.
#[derive(Debug, Serialize)]
pub struct Replayed {
    file: PathBuf,
    topics: Vec<String>,
    /// As recorded is 1; null for as fast as it goes.
    speed: Option<f64>,
    /// Records that were due.
    records: u64,
    /// Kafka has them.
    delivered: u64,
    /// Kafka does not.
    failed: u64,
    last_error: Option<String>,
    /// Keys, payloads and headers.
    bytes: u64,
    /// Until Kafka had the last.
    seconds: f64,
    delivered_per_s: f64,
    /// How late records were given to the producer; null at the greatest speed.
    behind: Option<Behind>,
}

/// How late, ms.
#[derive(Debug, Serialize)]
struct Behind {
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Of the last record.
    at_end_ms: f64,
}

/// Plays the tape, until its end or until `stop`.
pub async fn run(options: &Options, stop: &AtomicBool) -> anyhow::Result<Replayed> {
    let tape = Tape::open(&options.tape)?;
    let player = Player::connect(&options.connection, tape.topics(), &options.topic_prefix)?;
    if options.create_topics {
        player.create_topics(&options.connection).await?;
    }
    player.check_topics(options.create_topics)?;
    drop(tape);
    tokio::task::block_in_place(|| play(options, player, stop))
}

fn play(options: &Options, mut player: Player, stop: &AtomicBool) -> anyhow::Result<Replayed> {
    let mut pace = Pace::new(options.speed)?;
    let bar = progress("replaying");
    let played = (0..options.turns).try_for_each(|_| turn(options, &mut player, &mut pace, stop, &bar));
    bar.set_message("waiting for Kafka to have the last records");
    let flushed = player.flush();
    bar.finish_and_clear();
    let deliveries = player.deliveries();
    played.with_context(|| format!("after {} records of the replay", deliveries.sent))?;
    flushed?;
    let seconds = pace.began.elapsed().as_secs_f64();
    Ok(Replayed {
        file: options.tape.clone(),
        topics: player.topics().to_vec(),
        speed: pace.speed,
        records: deliveries.sent,
        delivered: deliveries.delivered,
        failed: deliveries.failed,
        last_error: deliveries.last_error,
        bytes: deliveries.bytes,
        seconds,
        delivered_per_s: deliveries.delivered as f64 / seconds.max(1e-9),
        behind: pace.behind(),
    })
}

/// Once through the tape.
fn turn(
    options: &Options,
    player: &mut Player,
    pace: &mut Pace,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    pace.rewind();
    for record in Tape::open(&options.tape)? {
        let record = record?;
        let due = pace.due(&record);
        while let Some(wait) = due.and_then(|due| due.checked_sub(pace.began.elapsed())) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            player.wait(wait);
            show(bar, player, pace);
        }
        player.send(&record, options.keep_timestamps)?;
        pace.sent(due)?;
        if player.sent().is_multiple_of(1024) {
            show(bar, player, pace);
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn show(bar: &ProgressBar, player: &Player, pace: &Pace) {
    if bar.is_hidden() {
        return;
    }
    let found = player.deliveries();
    let rate = found.sent as f64 / pace.began.elapsed().as_secs_f64();
    let waiting = found.sent - found.delivered - found.failed;
    let behind =
        if pace.speed.is_some() { format!(", {:.1} ms behind", pace.last_ms()) } else { String::new() };
    bar.set_message(format!(
        "{} records sent, {rate:.0}/s, {waiting} not acknowledged yet, {} failed{behind}",
        found.sent, found.failed
    ));
}

/// When records are due, and how late they were.
struct Pace {
    began: Instant,
    /// None for no waiting.
    speed: Option<f64>,
    /// Kafka timestamp of the tape's first record.
    first_ms: Option<i64>,
    /// When this turn began and when its latest record is due, since the beginning.
    turn: Duration,
    latest: Duration,
    /// µs.
    behind: Histogram<u64>,
    last_us: u64,
}

impl Pace {
    fn new(speed: Speed) -> anyhow::Result<Pace> {
        Ok(Pace {
            began: Instant::now(),
            speed: match speed {
                Speed::Times(times) => Some(times),
                Speed::Max => None,
            },
            first_ms: None,
            turn: Duration::ZERO,
            latest: Duration::ZERO,
            behind: Histogram::new(3)?,
            last_us: 0,
        })
    }

    /// The tape begins again, when its last record was due.
    fn rewind(&mut self) {
        (self.turn, self.first_ms) = (self.latest, None);
    }

    /// When a record is due since the beginning; none for at once. One without a time is due with the one before it.
    fn due(&mut self, record: &Record) -> Option<Duration> {
        let speed = self.speed?;
        if record.timestamp_ms < 0 {
            return Some(self.latest);
        }
        let first = *self.first_ms.get_or_insert(record.timestamp_ms);
        let since_ms = record.timestamp_ms.saturating_sub(first).max(0) as f64 / speed;
        // A century of waiting is as good as any longer one, and can be counted.
        let due = self.turn.saturating_add(Duration::from_secs_f64((since_ms / 1e3).min(3.2e9)));
        self.latest = self.latest.max(due);
        Some(due)
    }

    fn sent(&mut self, due: Option<Duration>) -> anyhow::Result<()> {
        if let Some(due) = due {
            self.last_us = self.began.elapsed().saturating_sub(due).as_micros() as u64;
            self.behind.record(self.last_us)?;
        }
        Ok(())
    }

    fn last_ms(&self) -> f64 {
        self.last_us as f64 / 1e3
    }

    fn behind(&self) -> Option<Behind> {
        self.speed?;
        let at = |quantile| self.behind.value_at_quantile(quantile) as f64 / 1e3;
        let max_ms = self.behind.max() as f64 / 1e3;
        Some(Behind { median_ms: at(0.5), p99_ms: at(0.99), max_ms, at_end_ms: self.last_ms() })
    }
}

impl Replayed {
    /// Fails if a record did not reach Kafka.
    pub fn check(&self) -> anyhow::Result<()> {
        let why = self.last_error.as_deref().unwrap_or("no reason known");
        ensure!(self.failed == 0, "{} of {} records did not reach Kafka: {why}", self.failed, self.records);
        if self.delivered < self.records {
            bail!("Kafka has only {} of {} records", self.delivered, self.records);
        }
        Ok(())
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        write!(
            f,
            "{}: {} of {} records delivered, {} failed, {megabytes:.1} MB in {:.1} s: {:.0} records/s, {:.1} MB/s",
            self.file.display(),
            self.delivered,
            self.records,
            self.failed,
            self.seconds,
            self.delivered_per_s,
            megabytes / self.seconds.max(1e-9)
        )?;
        if let (Some(speed), Some(behind)) = (self.speed, &self.behind) {
            let Behind { median_ms, p99_ms, max_ms, at_end_ms } = behind;
            write!(
                f,
                "\n  at {speed} times the recorded speed; behind by {median_ms:.1} ms (median), {p99_ms:.1} ms (p99), \
                 {max_ms:.1} ms at most, {at_end_ms:.1} ms at the end"
            )?;
        }
        write!(f, "\n  to {}", self.topics.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamp_ms: i64) -> Record {
        Record {
            topic: 0,
            partition: 0,
            offset: 0,
            timestamp_ms,
            key: None,
            headers: Vec::new(),
            payload: None,
        }
    }

    #[test]
    fn records_are_due_as_they_were_apart_divided_by_the_speed() {
        let mut pace = Pace::new(Speed::Times(10.0)).expect("a pace");
        let mut due = |ms| pace.due(&at(ms)).expect("a time").as_millis();
        assert_eq!([5_000, 6_000, -1, 4_000, 9_000].map(&mut due), [0, 100, 100, 0, 400]);
        pace.rewind();
        let mut due = |ms| pace.due(&at(ms)).expect("a time").as_millis();
        assert_eq!(
            [5_000, 6_000].map(&mut due),
            [400, 500],
            "another turn begins where the one before ended"
        );
        assert_eq!(Pace::new(Speed::Max).expect("a pace").due(&at(5_000)), None);
    }

    #[test]
    fn times_that_make_no_sense_are_waited_for_and_do_not_panic() {
        let mut pace = Pace::new(Speed::Times(1e-300)).expect("a pace");
        assert_eq!(pace.due(&at(0)), Some(Duration::ZERO));
        assert!(pace.due(&at(i64::MAX)).is_some());
        pace.rewind();
        assert!(pace.due(&at(i64::MIN)).is_some());
    }

    #[test]
    fn a_speed_is_a_number_above_zero_or_max() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
