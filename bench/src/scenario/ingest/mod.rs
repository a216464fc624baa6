//! Ingest: data points that are already in Kafka, parsed, judged by triggers, coded, applied and durable, beside raw
//! consumption of the same topics and beside a copy of them to Redis. Broker and all sides share the machine's cores.

mod rows;
mod served;

use anyhow::ensure;
use serde_json::json;

pub(super) use self::served::{Ours, lane, passed, served};
use super::{Stage, progress, triggers};
use crate::cpu;
use crate::peers::{kafka_redis, raw_kafka, redis};
use crate::report::Report;

/// What `forebay-bench ingest` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Data points to consume in each measurement.
    #[arg(long, default_value_t = 4_000_000)]
    count: u64,
    /// Lane of the mix: standard or high_volume.
    #[arg(long, default_value = "high_volume", value_parser = ["standard", "high_volume"])]
    lane: String,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Consumer threads of every side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Divides the number of entities.
    #[arg(long, default_value_t = 20)]
    scale: u64,
    /// Two triggers on each view of ours.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    triggers: bool,
    /// What to measure beside ours, again for another; all that are installed if not given.
    #[arg(long = "peer", value_name = "NAME", value_parser = ["raw", "redis"])]
    peers: Vec<String>,
}

/// What one side did with the data points.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Data points a second.
    rate: f64,
    /// Processor time of the side for a data point, µs.
    cpu_us: f64,
    /// And of the broker.
    broker_us: f64,
}

/// All sides, one after the other.
#[derive(Debug, Clone, Copy)]
struct Round {
    ours: Run,
    raw: Option<Run>,
    redis: Option<Run>,
    /// Bytes our side made the file system write.
    written: u64,
}

/// Runs the rounds.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let peers = peers(&options.peers)?;
    let stage = Stage::new(&options.lane, options.count, options.partitions, options.scale).await?;
    let definitions = definitions(&stage, options).await;
    let bytes = raw_bytes(&stage, options.threads).await?;
    let mut report = Report::new("ingest");
    let mut rounds = Vec::new();
    for pair in 0..=pairs {
        let step = progress(format!("pair {pair} of {pairs} (0 is a warm-up)"));
        let broker = stage.broker_pid().await?;
        let (ours, found) = {
            let before = cpu::of_process(broker);
            let ours = served(&stage, &options.lane, &format!("ingest-{pair}"), &definitions).await?;
            let broker_us = per_point(before, broker, &stage);
            (Run { rate: ours.sample.value, cpu_us: ours.sample.cpu_us, broker_us }, ours)
        };
        let mut round = Round { ours, raw: None, redis: None, written: found.written_bytes };
        for peer in &peers {
            let before = cpu::of_process(broker);
            let mut run = beside(peer, &stage, options.threads, &mut report).await?;
            run.broker_us = per_point(before, broker, &stage);
            match *peer {
                "raw" => round.raw = Some(run),
                _ => round.redis = Some(run),
            }
        }
        let edges = ["forebay_edges_total", "forebay_edges_waiting"].map(|name| found.metrics.find(name));
        report.data.insert("edges", json!(edges.iter().flatten().sum::<f64>()));
        report.data.insert("files_over_raw", json!(found.disk_bytes as f64 / bytes as f64));
        if pair > 0 {
            rounds.push(round);
        }
        step.finish_and_clear();
    }
    let mean = bytes / stage.count.max(1);
    report.data.insert("lane", json!(options.lane));
    report.data.insert("data_points", json!(stage.count));
    report.data.insert("mean_bytes", json!(mean));
    report.data.insert("threads", json!(options.threads));
    report.data.insert("triggers_a_view", json!(if options.triggers { 2 } else { 0 }));
    report.rows = rows::rows(&rounds, bytes, stage.count, &options.lane);
    Ok(report)
}

/// The peers that are wanted; without a word those that can be had.
fn peers(wanted: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let named = |name: &str| wanted.iter().any(|peer| peer == name);
    let mut peers = Vec::new();
    if wanted.is_empty() || named("raw") {
        peers.push("raw");
    }
    match redis::installed() {
        true if wanted.is_empty() || named("redis") => peers.push("redis"),
        false if named("redis") => anyhow::bail!(redis::HELP),
        false if wanted.is_empty() => eprintln!("Measured without Redis. {}", redis::HELP),
        _ => {}
    }
    Ok(peers)
}

/// Of the lane, with triggers if they are wanted, whose topic is made.
async fn definitions(stage: &Stage, options: &Options) -> String {
    let plain = stage.definitions(options.threads);
    if !options.triggers {
        return plain;
    }
    let topic = triggers::edges_topic("ingest");
    stage.kafka.create_topics(&[&topic], options.partitions as i32).await;
    triggers::with(&plain, triggers::two_a_view(&options.lane), "ingest")
}

/// Key and payload bytes of all data points; warms the broker's files up.
async fn raw_bytes(stage: &Stage, threads: usize) -> anyhow::Result<u64> {
    let (bootstrap, topics) = (stage.kafka.bootstrap.clone(), stage.topics.clone());
    let seen =
        tokio::task::spawn_blocking(move || raw_kafka::consume(&bootstrap, &topics, threads)).await??;
    Ok(seen.bytes)
}

/// One run of a peer. Its processor time is that of this process, where it consumes, and of Redis.
async fn beside(peer: &str, stage: &Stage, threads: usize, report: &mut Report) -> anyhow::Result<Run> {
    let (bootstrap, topics) = (stage.kafka.bootstrap.clone(), stage.topics.clone());
    let redis = match peer {
        "redis" => Some(redis::Redis::start()?),
        _ => None,
    };
    let address = redis.as_ref().map(|redis| redis.address.clone());
    let before = cpu::of_this_process();
    let consume = move || match address {
        Some(address) => kafka_redis::copy(&bootstrap, &topics, threads, &address),
        None => raw_kafka::consume(&bootstrap, &topics, threads),
    };
    let seen = tokio::task::spawn_blocking(consume).await??;
    let mut cpu = cpu::of_this_process() - before;
    ensure!(seen.count == stage.count, "{peer} saw {} of {} data points", seen.count, stage.count);
    if let Some(redis) = &redis {
        cpu += cpu::of_process(redis.pid);
        report.data.insert("redis_version", json!(redis.version));
    }
    let count = seen.count as f64;
    Ok(Run { rate: count / seen.time.as_secs_f64(), cpu_us: cpu as f64 / count, broker_us: 0.0 })
}

fn per_point(before: u64, pid: u32, stage: &Stage) -> f64 {
    (cpu::of_process(pid) - before) as f64 / stage.count as f64
}
