//! Our side of `ingest` and `triggers`: a server of its own on fresh files, from the first data point it has applied to the
//! last that is durable.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay_proto::v1::{GetStatusResponse, LaneStatus};
use forebay_tests::Server;

use super::super::Stage;
use super::super::page::Page;
use crate::cpu;
use crate::report::Sample;

/// The server's own defaults, which those of the tests differ from.
const DEFAULTS: &str = "[storage]\nsync_interval = \"50ms\"\nsegment = \"256MiB\"\n";

/// How often it is asked how far it is.
const ASKED_EVERY: Duration = Duration::from_millis(10);

/// One server's run.
pub struct Ours {
    /// Its rate.
    pub sample: Sample,
    /// Bytes of its files at the end, those made ahead included.
    pub disk_bytes: u64,
    /// Bytes it made the file system write.
    pub written_bytes: u64,
    /// Its metrics at the end.
    pub metrics: Page,
}

/// From the first applied data point seen to the last one durable, by the server's own status.
pub async fn served(stage: &Stage, of: &str, name: &str, definitions: &str) -> anyhow::Result<Ours> {
    let config = stage.server(name, definitions, DEFAULTS);
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
        tokio::time::sleep(ASKED_EVERY).await;
    };
    let disk_bytes = lane(&status, of)?.shards.iter().map(|shard| shard.disk_bytes).sum();
    let cpu_us = cpu::of_process(server.pid()) as f64 / total as f64;
    let written_bytes = written_by(server.pid())?;
    let metrics = Page::get(&server.http).await?;
    drop(client);
    finish(&mut server).await;
    let sample = Sample { value: total as f64 / time, cpu_us };
    Ok(Ours { sample, disk_bytes, written_bytes, metrics })
}

/// Stops the server and gives its disk back.
async fn finish(server: &mut Server) {
    server.terminate().await;
    std::fs::remove_dir_all(&server.config.dir).ok();
}

fn written_by(pid: u32) -> anyhow::Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).context("what the server wrote")?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    written.and_then(|bytes| bytes.parse().ok()).context("/proc has no write_bytes")
}

/// A lane of a status.
pub fn lane<'s>(status: &'s GetStatusResponse, name: &str) -> anyhow::Result<&'s LaneStatus> {
    let found = status.lanes.iter().find(|lane| lane.lane == name);
    found.with_context(|| format!("the server has no lane {name}"))
}

/// Offsets applied and durable, summed over partitions.
pub fn passed(lane: &LaneStatus) -> (u64, u64) {
    let topics = || lane.shards.iter().flat_map(|shard| &shard.topics);
    let sum = |offset: fn(&forebay_proto::v1::TopicStatus) -> i64| {
        topics().map(|topic| (offset(topic) + 1).max(0) as u64).sum()
    };
    (sum(|topic| topic.applied_offset), sum(|topic| topic.durable_offset))
}
