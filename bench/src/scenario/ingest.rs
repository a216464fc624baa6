//! Ingest: data points that are already in Kafka, parsed, applied and durable, against raw consumption of the same
//! topics. Broker and both sides share the machine's cores.

use std::time::{Duration, Instant};

use anyhow::ensure;
use forebay_proto::v1::{GetStatusResponse, LaneStatus};
use forebay_tests::Server;
use serde_json::json;

use super::{Stage, progress};
use crate::cpu;
use crate::peers::raw_kafka;
use crate::report::{Report, Row, Sample};

/// What `forebay-bench ingest` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Data points to consume in each measurement.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Lane of the mix: standard or high_volume.
    #[arg(long, default_value = "high_volume")]
    lane: String,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Consumer threads of both sides.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Divides the number of entities.
    #[arg(long, default_value_t = 20)]
    scale: u64,
}

/// Runs the pairs.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let stage = Stage::new(&options.lane, options.count, options.partitions, options.scale).await?;
    let broker = stage.broker_pid().await?;
    let mut samples = Vec::new();
    let (mut bytes, mut disk, mut broker_cpu) = (0, 0, [0, 0]);
    for pair in 0..=pairs {
        let step = progress(format!("pair {pair} of {pairs} (0 is a warm-up)"));
        let before = cpu::of_process(broker);
        let raw = raw(&stage, options.threads).await?;
        let between = cpu::of_process(broker);
        let definitions = stage.definitions(options.threads);
        let ours = served(&stage, &options.lane, &format!("ingest-{pair}"), &definitions).await?;
        broker_cpu = [between - before, cpu::of_process(broker) - between];
        (bytes, disk) = (raw.bytes, ours.disk_bytes);
        if pair > 0 {
            samples.push((ours.sample, raw.sample));
        }
        step.finish_and_clear();
    }
    let mut report = Report::new("ingest");
    report.data.insert("lane", json!(options.lane));
    report.data.insert("data_points", json!(stage.count));
    report.data.insert("mean_bytes", json!(bytes / stage.count.max(1)));
    report.data.insert("segments_over_raw", json!(disk as f64 / bytes as f64));
    report.data.insert("threads", json!(options.threads));
    report.data.insert("broker_cpu_us_per_data_point_raw", json!(broker_cpu[0] as f64 / stage.count as f64));
    report.data.insert("broker_cpu_us_per_data_point_ours", json!(broker_cpu[1] as f64 / stage.count as f64));
    report.rows.push(Row::new("applied and durable", "data points/s", "raw consume", &samples));
    Ok(report)
}

struct Raw {
    sample: Sample,
    bytes: u64,
}

async fn raw(stage: &Stage, threads: usize) -> anyhow::Result<Raw> {
    let (bootstrap, topics) = (stage.kafka.bootstrap.clone(), stage.topics.clone());
    let before = cpu::of_this_process();
    let seen =
        tokio::task::spawn_blocking(move || raw_kafka::consume(&bootstrap, &topics, threads)).await??;
    let cpu = cpu::of_this_process() - before;
    ensure!(seen.count == stage.count, "raw consumption saw {} of {}", seen.count, stage.count);
    let value = seen.count as f64 / seen.time.as_secs_f64();
    Ok(Raw { sample: Sample { value, cpu_us: cpu as f64 / seen.count as f64 }, bytes: seen.bytes })
}

/// One server's run.
pub(super) struct Ours {
    /// Its rate.
    pub sample: Sample,
    disk_bytes: u64,
    metrics: String,
}

impl Ours {
    /// A metric as it was at the end, all its labels together.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let of = |line: &str| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<f64>().ok();
        self.metrics.lines().filter_map(of).reduce(|sum, value| sum + value)
    }
}

/// From the first applied data point seen to the last one durable, by the server's own status.
pub(super) async fn served(stage: &Stage, of: &str, name: &str, definitions: &str) -> anyhow::Result<Ours> {
    let config = stage.server(name, definitions, "");
    let mut server = config.start().await;
    let client = server.connect().await;
    let total = stage.count;
    let (mut first, deadline) = (None, Instant::now() + Duration::from_secs(300));
    let (time, status) = loop {
        let status = client.status().await?;
        let lane = lane(&status, of)?;
        let (applied, durable) = passed(lane);
        let now = Instant::now();
        if applied > 0 {
            let (begin, already) = *first.get_or_insert((now, applied));
            if durable >= total {
                break ((now - begin).as_secs_f64() * total as f64 / (total - already).max(1) as f64, status);
            }
        }
        ensure!(now < deadline, "{durable} of {total} durable after 300 s: {lane:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let disk_bytes = lane(&status, of)?.shards.iter().map(|shard| shard.disk_bytes).sum();
    let cpu_us = cpu::of_process(server.pid()) as f64 / total as f64;
    let (_, metrics) = server.http_get("/metrics").await?;
    drop(client);
    finish(&mut server).await;
    Ok(Ours { sample: Sample { value: total as f64 / time, cpu_us }, disk_bytes, metrics })
}

/// Stops the server and gives its disk back.
async fn finish(server: &mut Server) {
    server.terminate().await;
    std::fs::remove_dir_all(&server.config.dir).ok();
}

fn lane<'s>(status: &'s GetStatusResponse, name: &str) -> anyhow::Result<&'s LaneStatus> {
    let found = status.lanes.iter().find(|lane| lane.lane == name);
    found.ok_or_else(|| anyhow::anyhow!("the server has no lane {name}"))
}

/// Offsets applied and durable, summed over partitions.
fn passed(lane: &LaneStatus) -> (u64, u64) {
    let topics = || lane.shards.iter().flat_map(|shard| &shard.topics);
    let sum = |offset: fn(&forebay_proto::v1::TopicStatus) -> i64| {
        topics().map(|topic| (offset(topic) + 1).max(0) as u64).sum()
    };
    (sum(|topic| topic.applied_offset), sum(|topic| topic.durable_offset))
}
