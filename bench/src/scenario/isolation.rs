//! Isolation of lanes: what a burst of the high_volume lane, consumed at full speed, does to the freshness of the standard
//! lane and to reads of it. One server has both lanes; the standard one gets data points at a steady rate all the time. The
//! burst is everything the high_volume topics hold, read again after its files were removed; the quiet run is the same
//! server when it has caught up.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::{GetFeaturesRequest, ShardState};
use forebay_tests::{
    Broker, Connection, Definitions, Kafka, Program, Server, ServerConfig, build_binary, request, run_dir,
};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use super::page::{Buckets, Page};
use super::{ingest, mix_definitions, progress, until, with_lanes};
use crate::report::{Report, Row, Sample};
use crate::{cpu, load};

/// What `forebay-bench isolation` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Data points in the topics of the high_volume lane: the burst.
    #[arg(long, default_value_t = 4_000_000)]
    count: u64,
    /// Data points per second of the standard lane, all the time.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// Reads per second of the standard lane.
    #[arg(long, default_value_t = 2_000)]
    reads: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Niceness of the high_volume lane's threads.
    #[arg(long, default_value_t = 10)]
    nice: u8,
    /// Ingest threads of the high_volume lane; 0: as the server decides.
    #[arg(long, default_value_t = 0)]
    threads: u8,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Divides the number of entities.
    #[arg(long, default_value_t = 20)]
    scale: u64,
}

const STANDARD: &str = "standard";
const BURST: &str = "high_volume";
const PREFIX: &str = "bench.";
/// Data points that the standard lane has before anything is measured.
const FIRST: u64 = 20_000;
/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the pairs.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let stage = Stage::new(options).await?;
    let requests = Arc::new(stage.requests().await?);
    let _producer = stage.keep_producing(options).await;
    let config = stage.server(options);
    let (mut figures, mut last) = (Figures::default(), None);
    for pair in 0..=pairs {
        let step = progress(format!("pair {pair} of {pairs} (0 is a warm-up)"));
        std::fs::remove_dir_all(config.dir.join("data").join(BURST)).ok();
        let mut server = config.start().await;
        let burst = measure(&server, &requests, options, true).await?;
        caught_up(&server).await?;
        let quiet = measure(&server, &requests, options, false).await?;
        server.terminate().await;
        if pair > 0 {
            figures.add(&burst, &quiet);
        }
        last = Some((burst, quiet));
        step.finish_and_clear();
    }
    let mut report = Report::new("isolation");
    report.data.insert("burst_data_points", json!(options.count));
    report.data.insert("standard_data_points_per_s", json!(options.rate));
    report.data.insert("reads_per_s", json!(options.reads));
    report.data.insert("nice", json!(options.nice));
    if let Some((burst, quiet)) = last {
        report.data.insert("burst_applied_per_s", json!(burst.applied_per_s));
        report.data.insert("server_cores_burst", json!(burst.server_cores));
        report.data.insert("server_cores_quiet", json!(quiet.server_cores));
    }
    report.rows = figures.rows();
    Ok(report)
}

/// A broker with the burst on it.
struct Stage {
    _broker: Broker,
    kafka: Kafka,
    definitions: toml::Table,
}

impl Stage {
    async fn new(options: &Options) -> anyhow::Result<Stage> {
        let step = progress(format!("producing a burst of {} data points", options.count));
        let broker = Broker::start("isolation").await;
        let kafka = broker.kafka();
        let definitions = mix_definitions(PREFIX).await?;
        for (lane, count) in [(BURST, options.count), (STANDARD, FIRST)] {
            let mut arguments = produce(&kafka, lane, options);
            arguments.extend(["--create-topics", "--rate", "0", "--json", "--count"].map(str::to_owned));
            arguments.push(count.to_string());
            let output = forebay_tests::run(arguments).await;
            ensure!(output.code == 0, "forebay produce failed: {}", output.stderr);
        }
        step.finish_and_clear();
        Ok(Stage { _broker: broker, kafka, definitions })
    }

    /// Definitions of both lanes.
    fn definitions(&self, options: &Options) -> String {
        let change = |name: &str, lane: &mut toml::Table| {
            if name == BURST {
                lane.insert("nice".into(), toml::Value::Integer(options.nice.into()));
                if options.threads > 0 {
                    lane.insert("threads".into(), toml::Value::Integer(options.threads.into()));
                }
            }
        };
        with_lanes(self.definitions.clone(), change).to_string()
    }

    fn server(&self, options: &Options) -> ServerConfig {
        let dir = run_dir().join("isolation");
        ServerConfig::write(&dir, &self.kafka.bootstrap, "isolation", &self.definitions(options), "")
    }

    /// Reads of one view of the standard lane, of entities it has.
    async fn requests(&self) -> anyhow::Result<Vec<GetFeaturesRequest>> {
        let definitions = Definitions::parse(&self.definitions.to_string());
        let topic = definitions.topics(Some(STANDARD)).pop().context("the lane has topics")?;
        let view = definitions.views_of(&topic).remove(0);
        let records = self.kafka.read_topic(&topic).await;
        let mut keys: Vec<&[u8]> = records.iter().filter_map(|record| record.key.as_deref()).collect();
        keys.sort_unstable();
        keys.dedup();
        ensure!(!keys.is_empty(), "topic {topic} has no entities");
        Ok(keys.into_iter().map(|key| request(&view, &[key])).collect())
    }

    /// Data points for the standard lane until what this gives is dropped.
    async fn keep_producing(&self, options: &Options) -> Program {
        let binary = tokio::task::spawn_blocking(|| build_binary("forebay", "")).await;
        let binary: PathBuf = binary.expect("built");
        let mut arguments = produce(&self.kafka, STANDARD, options);
        arguments.extend(["--rate".to_owned(), options.rate.to_string()]);
        Program::spawn(Command::new(binary).args(arguments))
    }
}

fn produce(kafka: &Kafka, lane: &str, options: &Options) -> Vec<String> {
    let (partitions, scale) = (options.partitions.to_string(), options.scale.to_string());
    let arguments = [
        "produce",
        "--bootstrap",
        &kafka.bootstrap,
        "--topic-prefix",
        PREFIX,
        "--lane",
        lane,
        "--partitions",
        &partitions,
        "--scale",
        &scale,
        "--seed",
        "1",
    ];
    arguments.map(str::to_owned).into()
}

/// What was seen in one run, times in ms.
struct Seen {
    freshness: [f64; 2],
    reads: [f64; 2],
    applied_per_s: f64,
    server_cores: f64,
}

/// Freshness and reads of the standard lane, while the other bursts or not.
async fn measure(
    server: &Server,
    requests: &Arc<Vec<GetFeaturesRequest>>,
    options: &Options,
    bursts: bool,
) -> anyhow::Result<Seen> {
    let client = server.connect().await;
    wait_for_standard(&client).await?;
    if bursts {
        wait_for_burst(&client).await?;
    }
    let (begun, cpu_before) = (Instant::now(), cpu::of_process(server.pid()));
    let (fresh_before, applied_before) = (freshness(server).await?, applied(&client, BURST).await?.0);
    let time = Duration::from_secs_f64(options.seconds);
    let latencies = read(server, requests, options.reads as f64, time).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let fresh = freshness(server).await?.since(&fresh_before);
    let (applied_after, lag) = applied(&client, BURST).await?;
    ensure!(!bursts || lag > 0, "the burst was over before the measurement: give it a larger --count");
    let cpu_us = cpu::of_process(server.pid()) - cpu_before;
    Ok(Seen {
        freshness: [0.5, 0.99].map(|quantile| fresh.quantile(quantile)),
        reads: [0.5, 0.99].map(|quantile| latencies.value_at_quantile(quantile) as f64 / 1e6),
        applied_per_s: applied_after.saturating_sub(applied_before) as f64 / seconds,
        server_cores: cpu_us as f64 / 1e6 / seconds,
    })
}

async fn read(
    server: &Server,
    requests: &Arc<Vec<GetFeaturesRequest>>,
    rate: f64,
    time: Duration,
) -> anyhow::Result<hdrhistogram::Histogram<u64>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc))?.tcp_nodelay(true);
    let channels: Arc<[Channel]> = [endpoint.connect().await?, endpoint.connect().await?].into();
    let requests = requests.clone();
    load::open(rate, time, move |number| {
        let (channel, request) = (
            channels[number as usize % channels.len()].clone(),
            requests[number as usize % requests.len()].clone(),
        );
        async move {
            let answer = FeatureStoreClient::new(channel).get_features(request).await?.into_inner();
            ensure!(answer.views.len() == 1 && answer.unavailable.is_empty(), "{answer:?}");
            Ok(())
        }
    })
    .await
}

/// Offsets applied and still to be applied of a lane; the lag is 0 as long as its logs' ends are not known.
async fn applied(client: &Connection, lane: &str) -> anyhow::Result<(u64, u64)> {
    let status = client.status().await?;
    let lane = ingest::lane(&status, lane)?;
    let lag = lane.shards.iter().flat_map(|shard| &shard.topics).map(|topic| topic.lag_offsets).sum();
    Ok((ingest::passed(lane).0, lag))
}

async fn wait_for_standard(client: &Connection) -> anyhow::Result<()> {
    until("the standard lane serves and is caught up", PATIENCE, async || {
        let status = client.status().await?;
        let lane = ingest::lane(&status, STANDARD)?;
        let ready = lane.partitions > 0 && lane.shards.len() == lane.partitions as usize;
        Ok(ready && lane.shards.iter().all(|shard| shard.state() == ShardState::Ready && shard.lag_ms < 1000))
    })
    .await
}

async fn wait_for_burst(client: &Connection) -> anyhow::Result<()> {
    until("the burst is being consumed", PATIENCE, async || {
        let (applied, lag) = applied(client, BURST).await?;
        Ok(applied > 0 && lag > 0)
    })
    .await
}

async fn caught_up(server: &Server) -> anyhow::Result<()> {
    let client = server.connect().await;
    until("the burst is consumed", PATIENCE, async || {
        let (applied, lag) = applied(&client, BURST).await?;
        Ok(applied > 0 && lag == 0)
    })
    .await
}

/// How fresh the standard lane has been since the server began.
async fn freshness(server: &Server) -> anyhow::Result<Buckets> {
    let lane = format!("lane=\"{STANDARD}\"");
    Ok(Page::get(&server.http).await?.buckets("forebay_freshness_seconds", &lane))
}

/// Pairs of (burst, quiet) by row.
#[derive(Default)]
struct Figures([Vec<(Sample, Sample)>; 4]);

impl Figures {
    fn add(&mut self, burst: &Seen, quiet: &Seen) {
        let of = |seen: &Seen| [seen.freshness[0], seen.freshness[1], seen.reads[0], seen.reads[1]];
        let sample = |value| Sample { value, cpu_us: f64::NAN };
        for (row, (burst, quiet)) in self.0.iter_mut().zip(of(burst).into_iter().zip(of(quiet))) {
            row.push((sample(burst), sample(quiet)));
        }
    }

    fn rows(&self) -> Vec<Row> {
        let names = ["standard freshness p50", "standard freshness p99", "read p50", "read p99"];
        let rows = names.into_iter().zip(&self.0);
        rows.map(|(name, pairs)| Row::new(name, "ms", "quiet", pairs).goal("≤ 2x")).collect()
    }
}
