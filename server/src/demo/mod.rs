//! `forebay demo`: everything in one process, so that one command shows a data point become a diagnosis. A stand-in for Kafka
//! (`stage`), the server as it is, the mix at a gentle rate and a reader who measures (`cast`), an executor with a toy
//! model and a watcher of what they make of each edge (`judges`), a line a second (`screen`), and at the end the accounts:
//! every data point produced must have become something, and every edge that is judged a diagnosis (`outcome`).
//!
//! ```text
//!  mix ──► mock Kafka ──► server (ingest, trigger, storage, gRPC) ──► reader, prober
//!   │          │ ▲              ▲    │ Admin.GetStatus                  │
//!   │          │ └─ edges ──────┼────┼────► watcher ◄── diagnosis       │
//!   │          └──► executor ───┘    │         │                        │
//!   │                 └─► toy model  │         │                        │
//!   └────── produced ────────────────┴─► line, accounts ◄── latency ────┘
//! ```

mod cast;
mod judges;
mod measures;
pub mod model;
mod outcome;
mod screen;
mod stage;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use cast::Cast;
use judges::{Judges, Toy};
use outcome::Outcome;
use screen::Screen;
use stage::Stage;

/// Errors only, and none of what librdkafka says when its stand-in ends before it.
const QUIET: &str = "error,rdkafka=off,librdkafka=off";

const EXAMPLES: &str = "\
Examples:
  forebay demo
  forebay demo --seconds 15 --json
  forebay demo --rate 5000 --scale 100";

/// Show Forebay at work in this process: stand-in Kafka, server, simulated data points, a reader. Nothing to set up.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// End after this long (without it: on Ctrl-C).
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Data points per second; the stand-in for Kafka is not made for many more.
    #[arg(long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub rate: u64,
    /// Divides the 25.1 M customers and 15 M devices.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    pub scale: u64,
    /// The same seed gives the same data points, but for their times.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// One line of JSON at the end, and nothing else on stdout.
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is wanted".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    (!duration.is_zero()).then_some(duration).ok_or_else(|| "more than 0 seconds are needed".to_owned())
}

/// Runs the command; an error if the accounts do not balance.
pub fn run(args: Args) -> anyhow::Result<()> {
    // Without a log of its own the demo shows errors only; RUST_LOG shows more. Fails if somebody has set one up.
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| QUIET.into());
    let _ = tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).try_init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
    runtime.block_on(play(&args))
}

async fn play(args: &Args) -> anyhow::Result<()> {
    let screen = Screen::new(args.json);
    screen.say("starting a stand-in for Kafka and a server ...");
    let toy = Toy::start().await?;
    let stage = Stage::set(&toy.endpoint).await?;
    let judges = Judges::start(stage.executor_config()?, &stage.bootstrap, stage.client.clone()).await?;
    let cast = Cast::start(&stage, args)?;
    screen.introduce(&stage, &cast.sample_entity().await?);
    watch(args, &stage, &cast, &judges, &screen).await?;
    screen.say("letting the server catch up ...");
    let produced = cast.leave().await?;
    let outcome = outcome::settle(&stage, produced.records, produced.measures, judges).await;
    stage.strike().await?;
    toy.stop().await?;
    screen.clear();
    report(args, &outcome?)
}

/// Shows how it goes, until the time is up or Ctrl-C.
async fn watch(
    args: &Args,
    stage: &Stage,
    cast: &Cast,
    judges: &Judges,
    screen: &Screen,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let end = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(seconds).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    screen.begin(&stage.counts().await?, cast);
    let second = Duration::from_secs(1);
    let mut seconds = tokio::time::interval_at(tokio::time::Instant::now() + second, second);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            _ = &mut interrupt => return Ok(()),
            _ = seconds.tick() => {
                screen.line(started.elapsed(), &stage.counts().await?, cast, &judges.judged());
                screen.example(stage, judges.judged().example.as_ref());
            }
        }
    }
}

fn report(args: &Args, outcome: &Outcome) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", outcome.json())?,
        false => writeln!(out, "{}", outcome.table())?,
    }
    outcome.check()
}

/// The path people can type for the program that runs.
fn executable() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| "forebay".into());
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map(PathBuf::from).unwrap_or(path)
}
