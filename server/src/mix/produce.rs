//! `forebay produce`: sends the mix to Kafka at a rate, for a time or a count, and says what it sent. An open loop: what
//! is due is sent, however Kafka does. Called by the command line.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use rdkafka::config::ClientConfig;

use super::report::{Tally, rate};
use super::sender::{Sender, create_topics};
use super::{HIGH_VOLUME, Mix, MixRecord, STANDARD, Shares, definitions};
use crate::clock::Clock;
use crate::config::Config;

const EXAMPLES: &str = "\
Examples:
  forebay produce --create-topics --rate 5000 --seconds 60
  forebay produce --bootstrap kafka:9092 --topic-prefix test. --lane high_volume --rate 0 --count 1000000 --json
  forebay produce --topic-prefix test. --print-definitions > definitions.toml
The same seed gives the same records, but for their times. Dead-letter topics are created too.";

/// Simulate data points: telemetry of a cable operator's customers and devices, sent to Kafka.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Take the Kafka connection from this forebay.toml.
    #[arg(long, value_name = "FILE", conflicts_with = "bootstrap")]
    pub config: Option<PathBuf>,
    /// Kafka's host:port,...
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Before every topic name.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub topic_prefix: String,
    /// Data points per second; 0 is as fast as it goes.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub rate: u64,
    /// Divides the 25.1 M customers and 15 M devices.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    pub scale: u64,
    /// End after this long (without it and --count: on Ctrl-C).
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// End after this many data points.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// The same seed gives the same records, but for their times.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// Share that is older than what was sent for its key: 0.01 or 1%.
    #[arg(long, value_name = "P", default_value = "0.01", value_parser = share)]
    pub late: f64,
    /// Share that is sent twice.
    #[arg(long, value_name = "P", default_value = "0.001", value_parser = share)]
    pub duplicate: f64,
    /// Share that is no data point: no key, truncated, no event time ...
    #[arg(long, value_name = "P", default_value = "0.0001", value_parser = share)]
    pub bad: f64,
    /// Share that claims to be ten minutes or more ahead.
    #[arg(long, value_name = "P", default_value = "0.0001", value_parser = share)]
    pub future: f64,
    /// Share of deletions.
    #[arg(long, value_name = "P", default_value = "0.0005", value_parser = share)]
    pub tombstone: f64,
    /// Only this lane.
    #[arg(long, value_name = "LANE", value_parser = [STANDARD, HIGH_VOLUME])]
    pub lane: Option<String>,
    /// Create the topics first, where they are missing.
    #[arg(long)]
    pub create_topics: bool,
    /// Partitions of topics that are created.
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Send nothing; print definitions for a server of this mix.
    #[arg(long)]
    pub print_definitions: bool,
    /// One line of JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Arguments that contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadArguments(String);

/// Accepts `0.01` and `1%`.
fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|error| error.to_string());
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent)? / 100.0,
        None => number(text)?,
    };
    (0.0..=1.0)
        .contains(&share)
        .then_some(share)
        .ok_or_else(|| "a share is from 0 to 1 (or 0% to 100%)".to_owned())
}

/// Runs the command; an error if anything that was sent did not arrive.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.print_definitions {
        return Ok(std::io::stdout().write_all(definitions(&args.topic_prefix).as_bytes())?);
    }
    let mix = mix(&args)?;
    let settings = settings(&args)?;
    if args.create_topics {
        let create = create_topics(&settings, &args.topic_prefix, args.lane.as_deref(), args.partitions);
        runtime()?.block_on(create)?;
    }
    let sender = Sender::connect(&settings, &args.topic_prefix, args.lane.as_deref())?;
    let started = Instant::now();
    let stop = interrupted()?;
    let tally = send(&args, mix, &sender, &stop)?;
    sender.flush()?;
    report(&args, &tally, &sender, started.elapsed().as_secs_f64())
}

fn mix(args: &Args) -> anyhow::Result<Mix> {
    let Args { late, duplicate, bad, future, tombstone, .. } = *args;
    if late + duplicate + bad + future + tombstone > 1.0 {
        let message =
            "the shares of late, duplicate, bad, future and tombstone records are more than 1 together";
        return Err(BadArguments(message.into()).into());
    }
    let mix = Mix::new(args.seed, args.scale, Shares { late, duplicate, bad, future, tombstone });
    Ok(match args.lane.as_deref() {
        Some(lane) => mix.only(|view| view.lane == lane),
        None => mix,
    })
}

fn settings(args: &Args) -> anyhow::Result<ClientConfig> {
    if let Some(file) = &args.config {
        return Ok(crate::kafka::producer_config(&Config::load(file)?.kafka));
    }
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &args.bootstrap);
    Ok(settings)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Becomes true on Ctrl-C, so that what was sent is still reported.
fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let (seen, runtime) = (flag.clone(), runtime()?);
    let wait = move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new().name("ctrl-c".into()).spawn(wait).context("starting a thread")?;
    Ok(flag)
}

/// Sends the mix until the time or the count is up.
fn send(args: &Args, mut mix: Mix, sender: &Sender, stop: &AtomicBool) -> anyhow::Result<Tally> {
    let (started, progress) = (Instant::now(), Progress::new());
    let most = args.count.unwrap_or(u64::MAX);
    let until = args.seconds.unwrap_or(f64::INFINITY);
    let left = |tally: &Tally| {
        let elapsed_s = started.elapsed().as_secs_f64();
        progress.show(tally, sender, elapsed_s);
        let over = elapsed_s >= until || stop.load(Ordering::Relaxed);
        if over { 0 } else { most - tally.records }
    };
    send_paced(args.rate, &mut mix, sender, left, |_| ())
}

/// Sends what is due at a rate (0: as fast as it goes) while `left` says that more is wanted; `sent` sees every record.
pub(crate) fn send_paced(
    rate: u64,
    mix: &mut Mix,
    sender: &Sender,
    mut left: impl FnMut(&Tally) -> u64,
    mut sent: impl FnMut(&MixRecord),
) -> anyhow::Result<Tally> {
    let (clock, started, mut tally) = (Clock::system(), Instant::now(), Tally::default());
    loop {
        let left = left(&tally);
        if left == 0 {
            return Ok(tally);
        }
        let due = due(rate, started.elapsed().as_secs_f64(), tally.records).min(left);
        let now_ms = clock.now_ms();
        for _ in 0..due {
            let record = mix.next(now_ms);
            sender.send(record, now_ms)?;
            tally.add(record);
            sent(record);
        }
        sender.poll(Duration::ZERO);
        if due == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How many to send now: at most as many as keep polling, clock and Ctrl-C alive.
fn due(rate: u64, elapsed_s: f64, sent: u64) -> u64 {
    const STEP: u64 = 256;
    match rate {
        0 => STEP,
        _ => ((elapsed_s * rate as f64) as u64).saturating_sub(sent).min(STEP),
    }
}

/// A line on the terminal; nothing when there is none.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress(bar)
    }

    fn show(&self, tally: &Tally, sender: &Sender, elapsed_s: f64) {
        if self.0.is_hidden() || !tally.records.is_multiple_of(64) {
            return;
        }
        let waiting = tally.records - sender.deliveries().delivered.load(Ordering::Relaxed);
        let per_second = rate(tally.records, elapsed_s);
        self.0.set_message(format!(
            "{} data points sent, {per_second:.0}/s, {:.1} MB, {waiting} not acknowledged yet",
            tally.records,
            tally.bytes as f64 / 1e6,
        ));
    }
}

fn report(args: &Args, tally: &Tally, sender: &Sender, seconds: f64) -> anyhow::Result<()> {
    let failed = sender.deliveries().failed.load(Ordering::Relaxed);
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut summary = tally.json(seconds);
        summary["failed"] = failed.into();
        summary["seed"] = args.seed.into();
        summary["scale"] = args.scale.into();
        writeln!(out, "{summary}")?;
    } else {
        writeln!(out, "{}", tally.table(seconds))?;
    }
    if failed > 0 {
        bail!(
            "{failed} of {} records did not reach Kafka: {}",
            tally.records,
            sender.deliveries().last_error()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_fractions_or_percent() {
        assert_eq!(share("0.01"), Ok(0.01));
        assert_eq!(share("1%"), Ok(0.01));
        assert!(share("2").is_err() && share("-1%").is_err() && share("x").is_err());
    }

    #[test]
    fn pace_catches_up_and_never_runs_ahead() {
        assert_eq!(due(1000, 0.1, 0), 100);
        assert_eq!(due(1000, 0.1, 150), 0);
        assert_eq!(due(0, 0.0, 1_000_000), 256);
    }
}
