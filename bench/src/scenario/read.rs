//! Reads: one value of about 1 KB by unary GetFeatures and by StreamFeatures, against a tonic echo of the same bytes in
//! a process of its own. Rates are closed-loop, latencies open-loop at half the slower side's rate.

mod side;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::{GetFeaturesRequest, Status};
use forebay_tests::{Definitions, request};
use prost::Message;
use serde_json::json;

use self::side::Side;
use super::{Stage, progress};
use crate::peers::echo;
use crate::report::{Report, Row};

/// What `forebay-bench read` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Unary requests in flight.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Stream requests in flight.
    #[arg(long, default_value_t = 512)]
    window: usize,
    /// Channels (connections) of the load generator.
    #[arg(long, default_value_t = 2)]
    channels: usize,
}

/// Data points in the server while it is read.
const DATA_POINTS: u64 = 200_000;

/// Runs the pairs.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let stage = Stage::new("high_volume", DATA_POINTS, 4, 100).await?;
    let server = stage.server("read", &stage.definitions(1), "").start().await;
    server.wait_ready().await;
    let requests = Arc::new(requests(&stage).await?);
    let ours = Side::new(&server.grpc, requests.clone(), server.pid(), true, options).await?;
    let (peer_process, address) = start_echo()?;
    let peer = Side::new(&address, requests.clone(), peer_process.0.id(), false, options).await?;
    let canned = prepare(&ours, &peer).await?;

    let time = Duration::from_secs(options.seconds);
    let (mut rates, mut p50, mut p99, mut streams, mut factors) = (vec![], vec![], vec![], vec![], vec![]);
    let mut target = 0.0;
    for pair in 0..=pairs {
        let step = progress(format!("pair {pair} of {pairs} (0 is a warm-up)"));
        let rate = (ours.unary(options.in_flight, time).await?, peer.unary(options.in_flight, time).await?);
        if pair == 0 {
            target = rate.0.value.min(rate.1.value) / 2.0;
        }
        let latency = (ours.latency(target, time).await?, peer.latency(target, time).await?);
        let stream = (ours.stream(options.window, time).await?, peer.stream(options.window, time).await?);
        if pair > 0 {
            rates.push(rate);
            p50.push((latency.0.0, latency.1.0));
            p99.push((latency.0.1, latency.1.1));
            streams.push(stream);
            factors.push((stream.0, rate.0));
        }
        step.finish_and_clear();
    }
    let mut report = Report::new("read");
    report.data.insert("answer_bytes", json!(canned));
    report.data.insert("entities", json!(requests.len()));
    report.data.insert("open_loop_rate_per_s", json!(target as u64));
    report.rows.push(Row::new("unary, 1 value", "requests/s", "tonic echo", &rates));
    report.rows.push(Row::new("unary p50", "µs", "tonic echo", &p50));
    report.rows.push(Row::new("unary p99", "µs", "tonic echo", &p99));
    report.rows.push(Row::new("stream, 1 value", "requests/s", "tonic stream echo", &streams));
    report.rows.push(Row::new("stream over unary", "requests/s", "our unary", &factors));
    Ok(report)
}

/// Requests for entities whose value is about 1 KB.
async fn requests(stage: &Stage) -> anyhow::Result<Vec<GetFeaturesRequest>> {
    let view = Definitions::parse(&stage.definitions(1)).views_of(&stage.topics[0]).remove(0);
    let records = stage.kafka.read_topic(&stage.topics[0]).await;
    let size = |value: &Vec<u8>| (900..1200).contains(&value.len());
    let fitting = records.iter().filter(|record| record.value.as_ref().is_some_and(size));
    let mut keys: Vec<&[u8]> = fitting.filter_map(|record| record.key.as_deref()).collect();
    keys.sort_unstable();
    keys.dedup();
    ensure!(!keys.is_empty(), "the mix has no value of about 1 KB");
    Ok(keys.into_iter().take(20_000).map(|key| request(&view, &[key])).collect())
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start_echo() -> anyhow::Result<(Killed, String)> {
    let child = Command::new(std::env::current_exe()?).arg("echo-server").stdout(Stdio::piped()).spawn()?;
    let mut child = Killed(child);
    let mut address = String::new();
    BufReader::new(child.0.stdout.take().context("piped")?).read_line(&mut address)?;
    Ok((child, address.trim().to_owned()))
}

/// Has the echo answer with the bytes of one of our answers; gives their number.
async fn prepare(ours: &Side, peer: &Side) -> anyhow::Result<usize> {
    let mut answers = Vec::new();
    for request in ours.requests.iter().take(200) {
        let answer =
            FeatureStoreClient::new(ours.channel(0)).get_features(request.clone()).await?.into_inner();
        let status = answer.views[0].status.first();
        ensure!(status == Some(&(Status::Present as i32)), "not PRESENT: {answer:?}");
        answers.push(answer);
    }
    answers.sort_by_key(Message::encoded_len);
    let bytes = Bytes::from(answers[answers.len() / 2].encode_to_vec());
    let length = bytes.len();
    echo::call(peer.channel(0), echo::PREPARE, bytes).await?;
    Ok(length)
}
