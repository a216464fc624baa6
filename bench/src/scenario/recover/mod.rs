//! A server is killed at full ingest rate and started again: how long until it is ready, with its index checkpoints and, as
//! the peer, without. Ingest goes on all the while, so that being ready includes what came in between. Then two servers of
//! one group are restarted in turn under reads (`rolling`).

mod keys;
mod rolling;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay_tests::{Broker, Definitions, Kafka, Server, ServerConfig, run_dir};
use serde_json::json;

use self::keys::{Keys, Load, Producer};
use super::mixed::audit;
use super::progress;
use crate::cpu;
use crate::report::{Report, Row, Sample};

/// What `forebay-bench recover` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Keys: values that are current, each of one view of one entity.
    #[arg(long, default_value_t = 2_000_000)]
    keys: u64,
    /// Views of each entity, each with a topic of its own.
    #[arg(long, default_value_t = 10)]
    views: usize,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 4)]
    partitions: usize,
    /// Ingest threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Data points a second while the server is killed and starts.
    #[arg(long, default_value_t = 81_000.0)]
    rate: f64,
    /// Seconds of it before each kill.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// `storage.memory` of the server.
    #[arg(long, default_value = "8GiB")]
    memory: String,
    /// Keys of the two servers that are restarted in turn.
    #[arg(long, default_value_t = 500_000)]
    rolling_keys: u64,
    /// Data points a second for them.
    #[arg(long, default_value_t = 20_000.0)]
    rolling_rate: f64,
    /// Reads a second from them.
    #[arg(long, default_value_t = 200.0)]
    rolling_reads: f64,
}

/// How long a server may take to take in what there is, or to be ready.
const PATIENCE: Duration = Duration::from_secs(900);
/// Who the peer of the restarts is.
const WITHOUT: &str = "no index checkpoint";

/// Both parts.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("recover");
    kills(options, pairs, &mut report).await?;
    let step = progress("two servers, restarted in turn");
    let rolled = rolling::run(options).await?;
    step.finish_and_clear();
    let quantile = |at: f64| super::mixed::quantile(rolled.latencies.iter().copied(), at);
    report.data.insert("rolling_keys", json!(options.rolling_keys));
    report.data.insert("rolling_restarts_s", json!(rolled.restarts_s));
    if rolled.failed > 0 {
        report.data.insert("rolling_last_failure", json!(rolled.reason));
    }
    report.rows.extend([
        Row::alone("rolling restart, reads", "", rolled.reads as f64, ""),
        Row::alone("rolling restart, reads asked again", "", rolled.again as f64, ""),
        Row::alone("rolling restart, reads that failed", "", rolled.failed as f64, "<= 0"),
        Row::alone("rolling restart, read p50", "ms", quantile(0.5), ""),
        Row::alone("rolling restart, read p99", "ms", quantile(0.99), ""),
        Row::alone("rolling restart, longest wait", "ms", quantile(1.0), ""),
    ]);
    Ok(report)
}

/// Kills it, with and without checkpoints in turns, after one pair that does not count.
async fn kills(options: &Options, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let step = progress(format!("writing {} keys", options.keys));
    let keys = Keys {
        group: "recover",
        entities: (options.keys / options.views as u64).max(1),
        views: options.views,
        partitions: options.partitions,
    };
    let broker = Broker::start("recover").await;
    let kafka = broker.kafka();
    create_topics(&kafka, &keys).await;
    let mut server = config(options, &keys, &kafka.bootstrap).start().await;
    let mut producer = Producer::of_all(&keys, &kafka.bootstrap).await?;
    step.set_message("taking them in");
    caught_up(&server, &keys, &kafka).await?;
    let (mut killed, mut closed) = (Vec::new(), Vec::new());
    for pair in 0..=pairs {
        step.set_message(format!("pair {pair} of {pairs} (0 is a warm-up)"));
        let load = Load::start(producer, options.rate);
        // Of what is written since a checkpoint there may be a GiB: the close makes one that is of now.
        let stopped = restart(options, &mut server, How::Stopped).await?;
        let with = restart(options, &mut server, How::Killed).await?;
        let without = restart(options, &mut server, How::WithoutCheckpoints).await?;
        producer = tokio::task::spawn_blocking(|| load.stop()).await??;
        caught_up(&server, &keys, &kafka).await?;
        if pair > 0 {
            killed.push((with, without));
            closed.push((stopped, without));
        }
    }
    step.set_message("comparing answers with the topics");
    let (status, ends) = (server.connect().await.status().await?, audit::ends(&kafka, &keys.topics()).await);
    let definitions = Definitions::parse(&keys.definitions());
    let connection = server.connect().await;
    let found = audit::audit(&kafka, &definitions, &connection, audit::Ends::new(), ends).await?;
    step.finish_and_clear();
    let shards = || status.lanes.iter().flat_map(|lane| &lane.shards);
    let stored: u64 = shards().map(|shard| shard.keys).sum();
    report.data.insert("keys", json!(stored));
    report.data.insert("views", json!(options.views));
    report.data.insert("rate_per_s", json!(options.rate));
    report.data.insert("data_points", json!(found.records));
    report.data.insert("mean_bytes", json!(found.bytes / found.records.max(1)));
    report.data.insert("index_bytes", json!(shards().map(|shard| shard.index_bytes).sum::<u64>()));
    report.data.insert("disk_bytes", json!(shards().map(|shard| shard.disk_bytes).sum::<u64>()));
    report.data.insert("keys_compared", json!(found.keys));
    if let Some(difference) = found.wrong.first() {
        report.data.insert("first_difference", json!(difference));
    }
    let ready = |name: &str, samples: &[_]| Row::new(name, "s", WITHOUT, samples);
    let missing = (keys.entities * keys.views as u64) as f64 - stored as f64;
    report.rows.extend([
        ready("killed at full rate, ready after", &killed).goal("<= 10 at 50 M keys"),
        ready("stopped at full rate, ready after", &closed),
        Row::alone("keys missing", "", missing, "<= 0"),
        Row::alone("answers other than the topics'", "keys", found.wrong.len() as f64, "<= 0"),
    ]);
    Ok(())
}

fn config(options: &Options, keys: &Keys, bootstrap: &str) -> ServerConfig {
    let definitions = keys
        .definitions()
        .replace("name = \"main\"\n", &format!("name = \"main\"\nthreads = {}\n", options.threads));
    let more = format!(
        "[storage]\nsegment = \"64MiB\"\nsync_interval = \"50ms\"\nmemory = \"{}\"\n",
        options.memory
    );
    ServerConfig::write(&run_dir().join(keys.group), bootstrap, keys.group, &definitions, &more)
}

/// Waits until the server has everything that is in the topics now, durably.
async fn caught_up(server: &Server, keys: &Keys, kafka: &Kafka) -> anyhow::Result<()> {
    let ends = audit::ends(kafka, &keys.topics()).await;
    let (begin, client) = (Instant::now(), server.connect().await);
    loop {
        let status = client.status().await?;
        let shards = || status.lanes.iter().flat_map(|lane| &lane.shards);
        let durable = |(place, end): (&(String, i32), &i64)| {
            let mut topics =
                shards().filter(|shard| shard.partition as i32 == place.1).flat_map(|shard| &shard.topics);
            topics.any(|topic| topic.topic == place.0 && topic.durable_offset + 1 >= *end)
        };
        let missing = ends.iter().filter(|(place, end)| !durable((place, end))).count();
        if missing == 0 {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{missing} partitions are not durable after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// SIGTERM.
    Stopped,
    /// SIGKILL.
    Killed,
    /// SIGKILL, and its index checkpoints are removed.
    WithoutCheckpoints,
}

/// Ends the server in the middle of ingest, starts it and waits until it is ready: seconds since the start, and the processor
/// time it took, µs.
async fn restart(options: &Options, server: &mut Server, how: How) -> anyhow::Result<Sample> {
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    match how {
        How::Stopped => ensure!(server.terminate().await == 0, "the server does not end well after SIGTERM"),
        How::Killed | How::WithoutCheckpoints => server.kill9(),
    }
    if how == How::WithoutCheckpoints {
        remove_checkpoints(&server.config.dir.join("data"))?;
    }
    let begin = Instant::now();
    server.restart().await;
    while server.http_get("/readyz").await?.0 != 200 {
        ensure!(begin.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Sample { value: begin.elapsed().as_secs_f64(), cpu_us: cpu::of_process(server.pid()) as f64 })
}

/// Removes the files in every folder `index` below a directory.
fn remove_checkpoints(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path: PathBuf = entry?.path();
        match path.is_dir() {
            true if path.file_name().is_some_and(|name| name == "index") => std::fs::remove_dir_all(&path)?,
            true => remove_checkpoints(&path)?,
            false => {}
        }
    }
    Ok(())
}

/// The topics of some keys, and their dead letters.
async fn create_topics(kafka: &Kafka, keys: &Keys) {
    let topics = keys.topics();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    kafka.create_topics(&names, keys.partitions as i32).await;
    kafka.create_topics(&[&format!("{}.dlq", keys.group)], 1).await;
}
