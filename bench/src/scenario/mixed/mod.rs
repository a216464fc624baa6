//! The seed's day: the mix at its rate with bursts, reads beside it, triggers, a snapshot and a prediction per edge, and
//! broker, server, executor, model and load on the same cores. Says how fresh what is read was, what was lost (nothing, by
//! the topics), how reads went beside a quiet server, and what each process cost.

pub mod audit;
mod day;
pub mod diagnoses;
mod driver;
mod findings;
pub mod generator;
mod pool;
mod probes;
mod reads;
mod replayed;
mod series;
mod stage;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use self::audit::Ends;
use self::day::Day;
use self::driver::Driver;
use self::findings::Findings;
pub use self::findings::quantile;
use self::generator::Plan;
use self::probes::Probed;
use self::reads::{Answered, Reads};
use self::stage::Stage;
use self::watch::{Look, Watch};
use super::progress;
use crate::report::Report;

/// What `forebay-bench mixed` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Data points a second.
    #[arg(long, default_value_t = 81_000.0)]
    rate: f64,
    /// Data points a second in bursts.
    #[arg(long, default_value_t = 243_000.0)]
    burst_rate: f64,
    /// Bursts, evenly spread.
    #[arg(long, default_value_t = 3)]
    bursts: u32,
    /// Seconds of a burst.
    #[arg(long, default_value_t = 60.0)]
    burst_seconds: f64,
    /// Seconds of the day, bursts included.
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
    /// Seconds before it that do not count.
    #[arg(long, default_value_t = 20.0)]
    warm_up: f64,
    /// Reads a second.
    #[arg(long, default_value_t = 5_000.0)]
    reads: f64,
    /// Seconds of the same reads afterwards, when nothing else goes on.
    #[arg(long, default_value_t = 30.0)]
    quiet: f64,
    /// Divides the 25.1 M customers and 15 M devices.
    #[arg(long, default_value_t = 10)]
    scale: u64,
    /// Different payloads, made before the clock starts.
    #[arg(long, default_value_t = 100_000)]
    payloads: usize,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    partitions: usize,
    /// Ingest threads of the lane of devices.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// `storage.memory` of the server.
    #[arg(long, default_value = "2GiB")]
    memory: String,
    /// `storage.segment` of the server.
    #[arg(long, default_value = "64MiB")]
    segment: String,
    /// A running server's gRPC, host:port, instead of one that is started.
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// Brokers of the target.
    #[arg(long, value_name = "HOST:PORT", requires = "target")]
    bootstrap: Option<String>,
    /// The target's metrics.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7401")]
    http: String,
    /// Before the target's topic names.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    topic_prefix: String,
    /// A tape of the target's topics (see `record`) in place of the mix: without reads, for as long as it lasts.
    #[arg(long, value_name = "FILE", requires = "target")]
    tape: Option<PathBuf>,
    /// How many times as fast as recorded the tape is played, or max.
    #[arg(long, value_name = "X|max", default_value = "1")]
    speed: String,
}

/// What `forebay-bench mixed-generator` is told.
#[derive(Debug, clap::Args)]
pub struct GeneratorOptions {
    /// As JSON.
    pub plan: String,
}

/// How long what was sent may take to be done with.
const SETTLE: Duration = Duration::from_secs(60);

/// The day.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    if let (Some(tape), Some(target)) = (&options.tape, &options.target) {
        return replayed::run(options, tape, target).await;
    }
    let day = Day::new(
        (options.rate, options.burst_rate),
        options.warm_up,
        options.seconds,
        options.bursts,
        options.burst_seconds,
    );
    ensure!(day.is_sound(), "the bursts do not fit into the day: fewer, shorter, or more seconds");
    let step = progress("starting broker, server, executor and model; preparing payloads");
    let stage = Stage::set(options).await?;
    let mut driver = Driver::start(plan(options, &stage, &day)).await?;
    let prepared = (driver.payloads, driver.compression);
    let before = audit::ends(&stage.kafka, &stage.topics()).await;
    let reads = Reads::connect(&stage.grpc, options.scale).await?;
    step.finish_and_clear();

    let lived = live(options, &stage, &day, &mut driver, &reads, &before).await?;
    let heard = driver.leave()?;
    let step = progress("reading the topics");
    let ends = audit::ends(&stage.kafka, &stage.topics()).await;
    let connection = forebay_tests::Connection::to(&format!("http://{}", stage.grpc)).await;
    let audit = audit::audit(&stage.kafka, &stage.definitions, &connection, before, ends).await?;
    let diagnoses = match &stage.plant {
        Some(plant) => Some(diagnoses::find(plant, lived.counted_ms).await?),
        None => None,
    };
    step.finish_and_clear();
    let findings = Findings { day, heard, lived, audit, diagnoses };
    let mut report = Report::new("mixed");
    for (name, value) in findings.data(options, prepared) {
        report.data.insert(name, value);
    }
    report.rows = findings.rows();
    report.series = series::all(&findings);
    Ok(report)
}

fn plan(options: &Options, stage: &Stage, day: &Day) -> Plan {
    Plan {
        bootstrap: stage.kafka.bootstrap.clone(),
        prefix: stage.prefix.clone(),
        partitions: stage.partitions,
        scale: options.scale,
        seed: 1,
        payloads: options.payloads,
        day: day.clone(),
    }
}

/// What was seen while it went on.
struct Lived {
    looks: Vec<Look>,
    probed: Probed,
    reads: Answered,
    quiet: Answered,
    /// When the warm-up was over, ms since the epoch.
    counted_ms: i64,
    /// Processor time of the quiet reads.
    quiet_cpu: (Look, Look),
}

async fn live(
    options: &Options,
    stage: &Stage,
    day: &Day,
    driver: &mut Driver,
    reads: &Reads,
    ends: &Ends,
) -> anyhow::Result<Lived> {
    let step = progress("the day");
    let subject = stage.subject(driver.pid());
    let lead = Duration::from_millis(200);
    let first = Look::take(&subject, Instant::now()).await?;
    let first_passed = first.passed;
    let begin_ms = forebay_tests::event_now() + lead.as_millis() as i64;
    driver.begin(begin_ms)?;
    let begin = Instant::now() + lead;
    tokio::time::sleep_until(begin).await;
    let watch = Watch::start(subject.clone(), first, begin);
    let topic = format!("{}high_volume.radio", stage.prefix);
    let probed = probes::run(&stage.grpc, &stage.kafka.bootstrap, &topic, begin, day.length());
    let (probed, answered, ()) =
        tokio::try_join!(probed, reads.run(options.reads, day.length()), sent(driver))?;
    step.set_message("letting it settle");
    let wanted = first_passed + sum(&audit::ends(&stage.kafka, &stage.topics()).await) - sum(ends);
    settle(stage, wanted, &watch).await?;
    let looks = watch.leave();
    step.set_message("the same reads of a quiet server");
    let before = Look::take(&subject, begin).await?;
    let quiet = reads.run(options.reads, Duration::from_secs_f64(options.quiet)).await?;
    let after = Look::take(&subject, begin).await?;
    step.finish_and_clear();
    let counted_ms = begin_ms + (day.warm_up_s * 1e3) as i64;
    Ok(Lived { looks, probed, reads: answered, quiet, counted_ms, quiet_cpu: (before, after) })
}

/// Until the generator has sent everything.
async fn sent(driver: &Driver) -> anyhow::Result<()> {
    while !driver.is_done() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn sum(ends: &Ends) -> f64 {
    ends.values().sum::<i64>() as f64
}

/// Until everything in the topics has passed, every edge is told, and as many predictions are stored, or patience is at its end; looks go on.
async fn settle(stage: &Stage, wanted: f64, watch: &Watch) -> anyhow::Result<()> {
    let end = Instant::now() + SETTLE;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let look = watch.last().context("the server's metrics were never readable")?;
        let judged = stage.judged().await?;
        let is_judged = judged.is_none_or(|judged| judged >= look.edges);
        if look.passed >= wanted && look.waiting == 0.0 && is_judged {
            return Ok(());
        }
        if Instant::now() > end {
            // The rows say what is missing.
            eprintln!(
                "not settled after {SETTLE:?}: lag {}, edges told {}, to be told {}, judged {judged:?}",
                look.lag, look.edges, look.waiting
            );
            return Ok(());
        }
    }
}
