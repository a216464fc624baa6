//! What the demo plays on: a mock Kafka cluster in this process with the mix's topics, a server with its files in a
//! temporary directory, and a client of it. Knows nothing of what is produced and read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use forebay_client::v1::{GetStatusResponse, LaneStatus, ShardState, ShardStatus};
use forebay_client::{Client, ClientConfig};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tempfile::TempDir;

use super::judges::EDGES;
use crate::config::Config;
use crate::lane::Lane;
use crate::mix::{HIGH_VOLUME, STANDARD, dead_letter_topic, definitions, topics};
use crate::serve::{self, Running};

/// Partitions of each topic. The mock cluster keeps 5 MiB or 100,000 messages of each.
const PARTITIONS: i32 = 4;
/// Topics of edges, requests and diagnoses, and of their dead letters.
const JUDGED_TOPICS: [&str; 8] = [
    EDGES,
    "forebay.snapshots",
    "forebay.predictions",
    "forebay.outcomes",
    "forebay.diagnoses",
    "forebay.diagnoses.dlq",
    "forebay.diagnosis-requests",
    "forebay.execute.dlq",
];
/// How long the server may take to serve all of its shards.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Kafka's stand-in, server and client.
pub(super) struct Stage {
    /// host:port of the stand-in.
    pub bootstrap: String,
    /// `http://host:port` of the server's gRPC.
    pub server: String,
    /// `http://host:port` of the server's metrics and health.
    pub http: String,
    /// The public client, connected to it.
    pub client: Client,
    running: Running,
    files: TempDir,
    // Dropped after the server that uses it.
    _cluster: MockCluster<'static, DefaultProducerContext>,
}

/// The server's own account of what became of the data points, over all lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub applied: u64,
    pub late: u64,
    pub duplicates: u64,
    pub dead_lettered: u64,
    pub expired: u64,
    pub replayed: u64,
    /// Records between what is applied and the end of the logs.
    pub lag: u64,
    /// The furthest any shard is behind in time.
    pub lag_ms: u64,
    /// Distinct (entity, view).
    pub keys: u64,
}

impl Stage {
    /// Builds it all and waits until every shard serves. `endpoint`: where the model is.
    pub async fn set(endpoint: &str) -> anyhow::Result<Stage> {
        let cluster = cluster()?;
        let bootstrap = cluster.bootstrap_servers();
        let files =
            tempfile::Builder::new().prefix("forebay-demo-").tempdir().context("a temporary directory")?;
        write_definitions(files.path(), endpoint)?;
        let running = serve::start(config(files.path(), &bootstrap, "")?, |_, _| Ok(()))
            .await
            .context("starting the server")?;
        let server = format!("http://{}", running.grpc);
        let http = format!("http://{}", running.http);
        let client = Client::connect(ClientConfig::new([server.as_str()])).await?;
        let stage = Stage { bootstrap, server, http, client, running, files, _cluster: cluster };
        match tokio::time::timeout(READY_TIMEOUT, stage.ready()).await {
            Ok(outcome) => outcome?,
            Err(_) => bail!("the server did not become ready: {}", stage.waits_for().await),
        }
        Ok(stage)
    }

    /// Why it is not ready, for people.
    async fn waits_for(&self) -> String {
        let Ok(status) = self.status().await else { return "it does not answer".to_owned() };
        let shard = |lane: &str, shard: &ShardStatus| {
            format!("{lane}/{} {} {}", shard.partition, shard.state().as_str_name(), shard.reason)
        };
        let of_lane = |lane: &LaneStatus| match lane.shards.is_empty() {
            true => format!("{} has no shards", lane.lane),
            false => lane.shards.iter().map(|of| shard(&lane.lane, of)).collect::<Vec<_>>().join(", "),
        };
        status.lanes.iter().map(of_lane).collect::<Vec<_>>().join("; ")
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            pause.tick().await;
            let Ok(status) = self.status().await else { continue };
            if let Some(reason) = halted(&status) {
                bail!("the server halted a shard: {reason}");
            }
            if all_ready(&status) {
                return Ok(());
            }
        }
    }

    async fn status(&self) -> anyhow::Result<GetStatusResponse> {
        let said = self.client.status("").await.pop().context("no server is configured")?;
        Ok(said.status?)
    }

    /// What the server says now.
    pub async fn counts(&self) -> anyhow::Result<Counts> {
        Ok(count(&self.status().await?))
    }

    /// What an executor beside the server is started with.
    pub fn executor_config(&self) -> anyhow::Result<Config> {
        let section = format!("[execute]\nservers = [\"{}\"]\nhttp_listen = \"127.0.0.1:0\"\n", self.server);
        config(self.files.path(), &self.bootstrap, &section)
    }

    /// Edges that the server has told.
    pub fn edges(&self) -> u64 {
        let told = |lane: &Arc<Lane>| lane.counters.edges.load(Ordering::Relaxed);
        self.running.lanes.iter().map(told).sum()
    }

    /// Edges that are still to be told.
    pub fn edges_waiting(&self) -> u64 {
        let waiting = |lane: &Arc<Lane>| lane.counters.edges_waiting.load(Ordering::Relaxed);
        self.running.lanes.iter().map(waiting).sum()
    }

    /// Stops the server as SIGTERM would; its files go.
    pub async fn strike(self) -> anyhow::Result<()> {
        self.running.stop().await.context("stopping the server")
    }
}

fn cluster() -> anyhow::Result<MockCluster<'static, DefaultProducerContext>> {
    let cluster = MockCluster::new(1).context("a mock Kafka cluster")?;
    for topic in topics(None) {
        cluster.create_topic(topic, PARTITIONS, 1)?;
    }
    for lane in [STANDARD, HIGH_VOLUME] {
        cluster.create_topic(&dead_letter_topic(lane), 1, 1)?;
    }
    for topic in JUDGED_TOPICS {
        cluster.create_topic(topic, PARTITIONS, 1)?;
    }
    Ok(cluster)
}

/// The mix's, and what judges it.
fn write_definitions(dir: &Path, endpoint: &str) -> anyhow::Result<()> {
    let path = dir.join("definitions.toml");
    let judged = include_str!("definitions.toml").replace("{endpoint}", endpoint);
    let text = format!("{}\n{judged}", definitions(""));
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Writes the file a server is started with, `more` included, and reads it as it would. The stand-in answers a fetch that found nothing
/// when its wait is over, not when something comes: hence the short wait.
fn config(dir: &Path, bootstrap: &str, more: &str) -> anyhow::Result<Config> {
    let toml = format!(
        "[server]\ninstance = \"demo\"\nlisten = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
         definitions = \"definitions.toml\"\n\
         [kafka]\nbootstrap = \"{bootstrap}\"\ngroup = \"forebay-demo\"\n\
         [kafka.consumer]\n\"fetch.wait.max.ms\" = \"5\"\n\
         [storage]\ndir = \"data\"\nsegment = \"16MiB\"\n{more}"
    );
    let file = dir.join("forebay.toml");
    std::fs::write(&file, toml).with_context(|| format!("writing {}", file.display()))?;
    Ok(Config::load(&file)?)
}

fn halted(status: &GetStatusResponse) -> Option<&str> {
    let mut shards = status.lanes.iter().flat_map(|lane| &lane.shards);
    shards.find(|shard| shard.state() == ShardState::Halted).map(|shard| shard.reason.as_str())
}

fn all_ready(status: &GetStatusResponse) -> bool {
    let ready = |lane: &LaneStatus| {
        lane.shards.len() == PARTITIONS as usize
            && lane.shards.iter().all(|shard| shard.state() == ShardState::Ready)
    };
    !status.lanes.is_empty() && status.lanes.iter().all(ready)
}

fn count(status: &GetStatusResponse) -> Counts {
    let mut counts = Counts::default();
    // What the diagnoses' lane takes in is no data point.
    let of_mix = |lane: &&LaneStatus| [STANDARD, HIGH_VOLUME].contains(&lane.lane.as_str());
    for lane in status.lanes.iter().filter(of_mix) {
        let said = lane.counters.unwrap_or_default();
        counts.applied += said.applied;
        counts.late += said.late;
        counts.duplicates += said.duplicate;
        counts.dead_lettered += said.dead_lettered;
        counts.expired += said.expired;
        counts.replayed += said.replayed;
        for shard in &lane.shards {
            counts.lag += shard.topics.iter().map(|topic| topic.lag_offsets).sum::<u64>();
            counts.lag_ms = counts.lag_ms.max(shard.lag_ms);
            counts.keys += shard.keys;
        }
    }
    counts
}
