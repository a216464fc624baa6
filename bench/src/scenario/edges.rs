//! Edge to prediction: data points of which each changes its entity's state, at a fixed rate; a snapshot, a model that
//! takes a millisecond, a stored prediction for each. All are timed by what the topics say, and a sample from outside: an
//! edge is read from Kafka, and its diagnosis looked for until the prediction is readable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_proto::v1::GetDiagnosisRequest;
use forebay_tests::{Connection, event_now};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Headers;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message};
use serde_json::json;
use tokio::task::JoinSet;

use super::mixed::diagnoses;
use super::plant::Plant;
use super::{Schedule, applied, behind, progress, send_patiently, until};
use crate::cpu;
use crate::report::{Report, Row};

/// What `forebay-bench edges` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Edges a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Seconds of it.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Seconds of the same before, which do not count.
    #[arg(long, default_value_t = 30.0)]
    warm_up: f64,
    /// Entities that change their state in turn.
    #[arg(long, default_value_t = 20_000)]
    entities: usize,
    /// Partitions of each topic. Each has requests of its own, which is what the broker's time goes to.
    #[arg(long, default_value_t = 1)]
    partitions: usize,
    /// How long the model takes, ms.
    #[arg(long, default_value_t = 1)]
    model_ms: u64,
    /// One edge in so many is timed from outside.
    #[arg(long, default_value_t = 20)]
    sample: u64,
}

const GROUP: &str = "edges";
const TOPIC: &str = "edges.points";
/// Between two looks for a diagnosis; later a twentieth of the time that has passed, so that a store that is behind is not
/// kept from its work by those who look.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long everything may take to be done with.
const PATIENCE: Duration = Duration::from_secs(60);

const DEFINITIONS: &str = r#"
[[lane]]
name = "main"
dead_letter_topic = "edges.main.dlq"
[[lane.topic]]
name = "edges.points"

[[view]]
id = 1
name = "points"
lane = "main"
entity = "entity"
topics = ["edges.points"]
event_time = { path = "ts" }
history = "latest"
[[view.field]]
name = "level"
type = "double"

[[feature_service]]
name = "level"
version = 1
features = ["points.level"]

[diagnoses]
topic_prefix = "edges"
ttl = "7d"

[[trigger]]
name = "high"
id = 100
version = 1
view = "points"
edges_topic = "edges.edges"
rules = [{ state = "RED", when = "level > 0.5" }]

[[model]]
name = "judge"
version = 1
endpoint = "{endpoint}"
feature_service = "level@1"
triggers = ["high"]
inputs = [{ tensor = "x", datatype = "FP64", features = ["points.level"] }]
outputs = [{ tensor = "score", datatype = "FP64" }, { tensor = "label", datatype = "BYTES" }]
"#;

/// What was seen from outside.
#[derive(Debug)]
struct Seen {
    /// From the edge's Kafka timestamp to its prediction being readable, ms.
    readable_ms: Histogram<u64>,
    /// Diagnoses that did not come.
    missing: u64,
}

/// The scenario.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let step = progress("starting broker, server, executor and model");
    let model_ms = options.model_ms.to_string();
    let definitions = |endpoint: &str| DEFINITIONS.replace("{endpoint}", endpoint);
    let model = ["--delay-ms", model_ms.as_str()];
    let plant = Plant::start(GROUP, definitions, "", &model, options.partitions).await?;
    let server = plant.server.connect().await;
    // One for all: a new one holds its first half second of data points back, until it has a number.
    let producer = Arc::new(producer(&plant.kafka.bootstrap)?);
    prime(&producer, &server, options).await?;
    step.set_message("edges");
    let warm = send(&producer, options, 0, options.warm_up).await?;
    judged(&plant, warm.edges).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (since_ms, before) = (event_now(), cpus(&plant));
    let watcher = tokio::spawn(watch(consumer(&plant).await?, server.clone(), options.sample, stopped));
    let sent = send(&producer, options, warm.edges, options.seconds).await?;
    judged(&plant, warm.edges + sent.edges).await?;
    let after = cpus(&plant);
    stop.send_replace(true);
    let seen = watcher.await??;
    step.set_message("reading the topics");
    let found = diagnoses::find(&plant, since_ms).await?;
    step.finish_and_clear();
    let mut report = Report::new("edges");
    report.data.insert("edges_per_s", json!(options.rate));
    report.data.insert("model_ms", json!(options.model_ms));
    report.data.insert("entities", json!(options.entities));
    report.data.insert("timed_from_outside", json!(seen.readable_ms.len()));
    report.data.insert("look_every_ms", json!(LOOK_EVERY.as_millis() as u64));
    let readable = |at: f64| seen.readable_ms.value_at_quantile(at) as f64;
    let stored = |at: f64| found.took_ms.value_at_quantile(at) as f64;
    let frozen = |at: f64| found.frozen_ms.value_at_quantile(at) as f64;
    let from_data_point = |at: f64| found.from_data_point_ms.value_at_quantile(at) as f64;
    report.rows = vec![
        Row::alone("edge to prediction readable, p50", "ms", readable(0.5), ""),
        Row::alone("edge to prediction readable, p99", "ms", readable(0.99), "< 250"),
        Row::alone("edge to snapshot in Kafka, p50", "ms", frozen(0.5), ""),
        Row::alone("edge to snapshot in Kafka, p99", "ms", frozen(0.99), ""),
        Row::alone("edge to prediction in Kafka, p50", "ms", stored(0.5), ""),
        Row::alone("edge to prediction in Kafka, p99", "ms", stored(0.99), "< 250"),
        Row::alone("data point to prediction in Kafka, p50", "ms", from_data_point(0.5), ""),
        Row::alone("data point to prediction in Kafka, p99", "ms", from_data_point(0.99), ""),
        Row::alone("edges not told", "", (warm.edges + sent.edges) as f64 - found.edges as f64, "<= 0"),
        Row::alone("edges told twice", "", found.repeated as f64, "<= 0"),
        Row::alone("edges and snapshots that do not match", "", found.snapshots_off as f64, "<= 0"),
        Row::alone("edges and predictions that do not match", "", found.predictions_off as f64, "<= 0"),
        Row::alone("diagnoses that were not found", "", seen.missing as f64, "<= 0"),
        Row::alone("sent behind the schedule, most", "ms", sent.behind_ms, ""),
    ];
    for (process, us) in after {
        let each = us.saturating_sub(before[process]) as f64 / sent.edges as f64;
        report.rows.push(Row::alone(format!("CPU, {process}"), "µs/edge", each, ""));
    }
    Ok(report)
}

/// Every entity's first state, which is told to nobody.
async fn prime(producer: &Arc<BaseProducer>, server: &Connection, options: &Options) -> anyhow::Result<()> {
    let count = options.entities as u64;
    let producer = producer.clone();
    tokio::task::spawn_blocking(move || {
        (0..count).try_for_each(|entity| point(&producer, entity, 0))?;
        Ok::<_, anyhow::Error>(producer.flush(PATIENCE)?)
    })
    .await??;
    applied(server, "main", count, PATIENCE).await
}

struct Sent {
    edges: u64,
    behind_ms: f64,
}

/// Waits until the executor is done with so many edges.
async fn judged(plant: &Plant, edges: u64) -> anyhow::Result<()> {
    until("every edge is judged", PATIENCE, async || Ok(plant.judged().await? >= edges as f64)).await
}

/// Turns the entities' states in turn, one data point each, on schedule; so many have been turned before.
async fn send(
    producer: &Arc<BaseProducer>,
    options: &Options,
    before: u64,
    seconds: f64,
) -> anyhow::Result<Sent> {
    let (producer, options) = (producer.clone(), options.clone());
    tokio::task::spawn_blocking(move || {
        let total = (options.rate * seconds) as u64;
        let mut schedule = Schedule::new(Instant::now(), options.rate);
        for number in 0..total {
            schedule.wait_for(number);
            let (turn, entities) = (before + number, options.entities as u64);
            let (entity, round) = (turn % entities, turn / entities);
            // All begin at 0.
            point(&producer, entity, (round + 1) % 2)?;
        }
        producer.flush(PATIENCE)?;
        Ok(Sent { edges: total, behind_ms: schedule.behind_ms() })
    })
    .await?
}

fn producer(bootstrap: &str) -> anyhow::Result<BaseProducer> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("partitioner", "murmur2_random");
    Ok(settings.set("linger.ms", "10").set("enable.idempotence", "true").create()?)
}

fn point(producer: &BaseProducer, entity: u64, level: u64) -> anyhow::Result<()> {
    let key = format!("entity-{entity:08}");
    let value = format!(r#"{{"ts":{},"level":{level}.0}}"#, event_now());
    send_patiently(producer, BaseRecord::to(TOPIC).key(&key).payload(&value))
}

/// Reads the edges from now on: what was told in the warm-up would keep a core busy while the first are timed.
async fn consumer(plant: &Plant) -> anyhow::Result<StreamConsumer> {
    let topic = plant.topic("edges");
    let ends = plant.kafka.end_offsets(&topic).await;
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &plant.kafka.bootstrap).set("group.id", "forebay-bench-edges");
    settings.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    // It only looks on, and must not be what the broker is busy with.
    settings.set("fetch.min.bytes", "65536").set("fetch.wait.max.ms", "50");
    let consumer: StreamConsumer = settings.create()?;
    consumer.assign(&behind(&topic, &ends)?)?;
    Ok(consumer)
}

/// Takes edges until it is told to stop, and looks for the diagnoses of a sample of them.
async fn watch(
    consumer: StreamConsumer,
    server: Connection,
    sample: u64,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<Seen> {
    let readable_ms = Histogram::new_with_bounds(1, 600_000, 3)?;
    let seen = Arc::new(Mutex::new(Seen { readable_ms, missing: 0 }));
    let (mut looking, mut count) = (JoinSet::new(), 0_u64);
    loop {
        let message = tokio::select! {
            message = consumer.recv() => message?,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while looking.try_join_next().is_some() {}
        count += 1;
        if !count.is_multiple_of(sample.max(1)) {
            continue;
        }
        let told_ms = message.timestamp().to_millis().unwrap_or_default();
        let headers = message.headers().context("an edge has headers")?;
        let id =
            headers.iter().find(|header| header.key == "forebay-edge-id").and_then(|header| header.value);
        let id = String::from_utf8_lossy(id.unwrap_or_default()).into_owned();
        looking.spawn(look_for(id, told_ms, server.clone(), seen.clone()));
    }
    while looking.join_next().await.is_some() {}
    let seen = Arc::into_inner(seen).context("nobody looks any more")?;
    Ok(seen.into_inner())
}

async fn look_for(id: String, told_ms: i64, server: Connection, seen: Arc<Mutex<Seen>>) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let request = GetDiagnosisRequest { diagnosis_id: id.clone(), wait_for: None };
        let answer = server.diagnoses.clone().get_diagnosis(request).await;
        if answer.is_ok_and(|found| found.get_ref().prediction.is_some()) {
            let took_ms = (event_now() - told_ms).max(0) as u64;
            return seen.lock().readable_ms.saturating_record(took_ms);
        }
        tokio::time::sleep(LOOK_EVERY.max(begin.elapsed() / 20)).await;
    }
    seen.lock().missing += 1;
}

/// Processor time of every process so far, µs.
fn cpus(plant: &Plant) -> BTreeMap<&'static str, u64> {
    let pids = plant.pids().into_iter().chain([("server", plant.server.pid()), ("load", std::process::id())]);
    pids.map(|(name, pid)| (name, cpu::of_process(pid))).collect()
}
