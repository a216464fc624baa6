//! Who judges in the demo: the toy model behind real gRPC, the executor as it is, and a watcher who reads the edges from
//! Kafka as anyone may and looks for the diagnosis of each. What the watcher found is in `Judged`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use forebay_client::Client;
use forebay_client::v1::{Diagnosis, GetDiagnosisRequest};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::{ClientConfig, Message};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

use super::model::{self, Behaviour};
use crate::clock::Clock;
use crate::config::Config;
use crate::executor;

/// Where edges go.
pub(super) const EDGES: &str = "forebay.edges";
/// The state that is judged.
const JUDGED_STATE: &str = "RED";
/// How long a diagnosis may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the watcher looks for one.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// Edges on Kafka.
    pub edges: u64,
    /// Those that a model was to judge.
    pub wanted: u64,
    /// Predictions that are stored.
    pub diagnoses: u64,
    /// Snapshots that are stored.
    pub snapshots: u64,
    /// From an edge's Kafka timestamp to its prediction being readable, in microseconds.
    pub edge_to_prediction: Histogram<u64>,
    /// One of them, for people to look at.
    pub example: Option<Example>,
    /// What went wrong last.
    pub last_failure: String,
}

/// A diagnosis in a few words.
#[derive(Debug, Clone)]
pub(super) struct Example {
    pub id: String,
    pub entity: String,
    pub outputs: String,
}

impl Default for Judged {
    fn default() -> Self {
        Judged {
            edges: 0,
            wanted: 0,
            diagnoses: 0,
            snapshots: 0,
            edge_to_prediction: Histogram::new_with_bounds(1, 60_000_000, 3).expect("good bounds"),
            example: None,
            last_failure: String::new(),
        }
    }
}

impl Judged {
    /// Edge to prediction at this quantile, in ms to a hundredth.
    pub fn edge_to_prediction_ms(&self, quantile: f64) -> f64 {
        (self.edge_to_prediction.value_at_quantile(quantile) as f64 / 10.0).round() / 100.0
    }
}

/// The toy model, where it listens.
pub(super) struct Toy {
    /// `http://host:port`.
    pub endpoint: String,
    serving: JoinHandle<anyhow::Result<()>>,
    stop: watch::Sender<bool>,
}

impl Toy {
    /// Starts it on a free port.
    pub async fn start() -> anyhow::Result<Toy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the toy model")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let behaviour =
            Behaviour { inputs: vec![("signal".into(), "FP64".into(), 1)], ..Behaviour::default() };
        let (stop, mut stopped) = watch::channel(false);
        let until = async move {
            stopped.wait_for(|stop| *stop).await.ok();
        };
        Ok(Toy { endpoint, serving: tokio::spawn(model::serve(listener, behaviour, until)), stop })
    }

    /// Stops it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.serving.await?
    }
}

/// The executor and the watcher, at work.
pub(super) struct Judges {
    executor: executor::Running,
    watcher: JoinHandle<anyhow::Result<()>>,
    judged: Arc<Mutex<Judged>>,
    stop: watch::Sender<bool>,
}

impl Judges {
    /// Sets them to work.
    pub async fn start(config: Config, bootstrap: &str, client: Client) -> anyhow::Result<Judges> {
        let consumer = consumer(bootstrap)?;
        let executor = executor::start(config).await.context("starting the executor")?;
        let judged = Arc::new(Mutex::new(Judged::default()));
        let stop = watch::Sender::new(false);
        let watcher = tokio::spawn(watch_edges(consumer, client, judged.clone(), stop.subscribe()));
        Ok(Judges { executor, watcher, judged, stop })
    }

    /// What was found so far.
    pub fn judged(&self) -> Judged {
        self.judged.lock().clone()
    }

    /// Waits until every edge that is wanted has its diagnosis, then stops everyone. `told`: edges the server told.
    pub async fn leave(self, told: u64) -> anyhow::Result<Judged> {
        let (begun, mut pause) = (Instant::now(), interval(Duration::from_millis(20)));
        let is_behind = |judged: &Judged| judged.edges < told || judged.diagnoses < judged.wanted;
        while begun.elapsed() < PATIENCE && is_behind(&self.judged.lock()) {
            pause.tick().await;
        }
        self.stop.send_replace(true);
        self.watcher.await??;
        self.executor.stop().await.context("stopping the executor")?;
        let judged = self.judged.lock().clone();
        ensure!(
            !is_behind(&judged),
            "{told} edges were told and {} seen; {} of {} have no diagnosis: {}",
            judged.edges,
            judged.wanted - judged.diagnoses,
            judged.wanted,
            judged.last_failure
        );
        Ok(judged)
    }
}

/// What the demo needs of an edge's message.
#[derive(Debug, Deserialize)]
struct Edge {
    edge_id: String,
    #[serde(default)]
    entity: String,
    to: String,
}

fn consumer(bootstrap: &str) -> anyhow::Result<StreamConsumer> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("group.id", "forebay-demo.watcher");
    settings.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
    settings.set("fetch.wait.max.ms", "5");
    let consumer: StreamConsumer = settings.create().context("a consumer of edges")?;
    consumer.subscribe(&[EDGES]).context("subscribing to the edges")?;
    Ok(consumer)
}

async fn watch_edges(
    consumer: StreamConsumer,
    client: Client,
    judged: Arc<Mutex<Judged>>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut looking = JoinSet::new();
    loop {
        let message = tokio::select! {
            message = consumer.recv() => message,
            _ = looking.join_next(), if !looking.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let Ok(message) = message else { continue };
        let edge: Edge = serde_json::from_slice(message.payload().unwrap_or_default()).context("an edge")?;
        let told_ms = message.timestamp().to_millis().unwrap_or_default();
        let is_wanted = edge.to == JUDGED_STATE;
        let mut judged_now = judged.lock();
        judged_now.edges += 1;
        judged_now.wanted += u64::from(is_wanted);
        drop(judged_now);
        if is_wanted {
            looking.spawn(look_for(edge, told_ms, client.clone(), judged.clone()));
        }
    }
}

/// Looks for the diagnosis of an edge until it is there.
async fn look_for(edge: Edge, told_ms: i64, client: Client, judged: Arc<Mutex<Judged>>) {
    let (begun, mut pause) = (Instant::now(), interval(LOOK_EVERY));
    while begun.elapsed() < PATIENCE {
        pause.tick().await;
        let request = GetDiagnosisRequest { diagnosis_id: edge.edge_id.clone(), wait_for: None };
        match client.get_diagnosis(request, None).await {
            Ok(diagnosis) if diagnosis.prediction.is_some() => {
                return note(&edge, told_ms, &diagnosis, &judged);
            }
            Ok(_) => {}
            Err(error) => judged.lock().last_failure = error.to_string(),
        }
    }
}

fn note(edge: &Edge, told_ms: i64, diagnosis: &Diagnosis, judged: &Mutex<Judged>) {
    let took_ms = (Clock::system().now_ms() - told_ms).max(0) as u64;
    let outputs = diagnosis.prediction.as_ref().map(|prediction| prediction.outputs_json.clone());
    let outputs = String::from_utf8_lossy(&outputs.unwrap_or_default()).into_owned();
    let mut judged = judged.lock();
    judged.diagnoses += 1;
    judged.snapshots += u64::from(diagnosis.snapshot.is_some());
    judged.edge_to_prediction.saturating_record((took_ms * 1000).max(1));
    let (id, entity) = (edge.edge_id.clone(), edge.entity.clone());
    judged.example.get_or_insert(Example { id, entity, outputs });
}
