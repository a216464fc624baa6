//! The scenarios, one module each, and what they share: a broker with the mix on it and a server reading it.

pub mod assembly;
pub mod edges;
pub mod engine;
pub mod ingest;
pub mod isolation;
pub mod mixed;
pub mod page;
pub mod plant;
pub mod read;
pub mod recover;
pub mod triggers;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay_tests::{Broker, Connection, Kafka, ServerConfig, run, run_dir};
use indicatif::{ProgressBar, ProgressStyle};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::{Offset, TopicPartitionList};
use tonic::transport::Endpoint;

/// A broker that holds data points of the mix, and the definitions of their lanes.
pub struct Stage {
    /// The broker.
    pub broker: Broker,
    /// Clients of it.
    pub kafka: Kafka,
    definitions: toml::Table,
    /// Topics that hold the data points.
    pub topics: Vec<String>,
    /// How many there are.
    pub count: u64,
}

impl Stage {
    /// Starts a broker and produces `count` data points of one lane over `partitions` partitions.
    pub async fn new(lane: &str, count: u64, partitions: u32, scale: u64) -> anyhow::Result<Stage> {
        let step = progress(format!("producing {count} data points of lane {lane}"));
        let broker = Broker::start("bench").await;
        let kafka = broker.kafka();
        let prefix = "bench.";
        let definitions = only_lane(mix_definitions(prefix).await?, lane);
        let numbers = [count.to_string(), partitions.to_string(), scale.to_string()];
        let output = run([
            "produce",
            "--bootstrap",
            &kafka.bootstrap,
            "--topic-prefix",
            prefix,
            "--create-topics",
            "--partitions",
            &numbers[1],
            "--lane",
            lane,
            "--count",
            &numbers[0],
            "--scale",
            &numbers[2],
            "--rate",
            "0",
            "--seed",
            "1",
            "--late",
            "0.01",
            "--bad",
            "0.0001",
            "--json",
        ])
        .await;
        ensure!(output.code == 0, "forebay produce failed: {}", output.stderr);
        step.finish_and_clear();
        let topics = forebay_tests::Definitions::parse(&definitions.to_string()).topics(Some(lane));
        Ok(Stage { broker, kafka, definitions, topics, count })
    }

    /// Definitions of the lane, for a server with so many ingest threads.
    pub fn definitions(&self, threads: usize) -> String {
        let change = |_: &str, lane: &mut toml::Table| {
            lane.insert("threads".into(), toml::Value::Integer(threads as i64));
        };
        with_lanes(self.definitions.clone(), change).to_string()
    }

    /// Configuration of a server with files and a consumer group of its own. `more` is TOML over the defaults.
    pub fn server(&self, name: &str, definitions: &str, more: &str) -> ServerConfig {
        ServerConfig::write(&run_dir().join(name), &self.kafka.bootstrap, name, definitions, more)
    }

    /// Process id of the broker.
    pub async fn broker_pid(&self) -> anyhow::Result<u32> {
        self.broker.pid().await.context("the broker has no pid")
    }
}

/// The mix's definitions, with this before the names of its topics.
async fn mix_definitions(prefix: &str) -> anyhow::Result<toml::Table> {
    let text = run(["produce", "--print-definitions", "--topic-prefix", prefix]).await.ok().stdout;
    text.parse().context("the mix's definitions are TOML")
}

/// Definitions with every lane changed; `change` is given its name.
fn with_lanes(mut definitions: toml::Table, change: impl Fn(&str, &mut toml::Table)) -> toml::Table {
    let lanes = definitions.get_mut("lane").and_then(toml::Value::as_array_mut).into_iter().flatten();
    for lane in lanes.filter_map(toml::Value::as_table_mut) {
        let name = lane.get("name").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        change(&name, lane);
    }
    definitions
}

/// What concerns one lane: a server is ready only when all topics of all its lanes are there.
fn only_lane(mut definitions: toml::Table, lane: &str) -> toml::Table {
    let keep = |definitions: &mut toml::Table, list: &str, key: &str| {
        if let Some(list) = definitions.get_mut(list).and_then(toml::Value::as_array_mut) {
            list.retain(|entry| entry.get(key).and_then(toml::Value::as_str) == Some(lane));
        }
    };
    keep(&mut definitions, "lane", "name");
    keep(&mut definitions, "view", "lane");
    definitions.remove("feature_service");
    definitions
}

/// Connects to a server somebody else runs, which may not be there.
async fn reach(address: &str) -> anyhow::Result<Connection> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect().await.with_context(|| {
        format!("--target {address} does not answer; it is the gRPC address of a running server, host:port")
    })?;
    Ok(Connection::over(channel))
}

/// What a topic's partitions get from now on: these are their ends.
fn behind(topic: &str, ends: &[i64]) -> anyhow::Result<TopicPartitionList> {
    let mut from = TopicPartitionList::new();
    for (partition, end) in (0..).zip(ends) {
        from.add_partition_offset(topic, partition, Offset::Offset(*end))?;
    }
    Ok(from)
}

/// Asks until something holds, for as long as there is patience.
async fn until(
    what: &str,
    patience: Duration,
    holds: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !holds().await? {
        ensure!(begin.elapsed() < patience, "{what}: not within {patience:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until a server has applied so many data points of a lane.
async fn applied(client: &Connection, lane: &str, count: u64, patience: Duration) -> anyhow::Result<()> {
    let holds = async || {
        let status = client.status().await?;
        Ok(ingest::lane(&status, lane)?.counters.unwrap_or_default().applied >= count)
    };
    until(&format!("{count} data points of lane {lane} are applied"), patience, holds).await
}

/// Moments at a steady rate, and how late they were met. For threads: it sleeps.
struct Schedule {
    begin: Instant,
    rate: f64,
    behind: Duration,
}

impl Schedule {
    /// So many a second from a moment on; infinity: all at once.
    fn new(begin: Instant, rate: f64) -> Schedule {
        Schedule { begin, rate, behind: Duration::ZERO }
    }

    /// Waits for a moment, from 0 on; gives how long it is after the begin.
    fn wait_for(&mut self, number: u64) -> Duration {
        let due = Duration::from_secs_f64(number as f64 / self.rate);
        if let Some(early) = due.checked_sub(self.begin.elapsed()) {
            std::thread::sleep(early);
        }
        self.behind = self.behind.max(self.begin.elapsed().saturating_sub(due));
        due
    }

    /// How late the latest was met, ms.
    fn behind_ms(&self) -> f64 {
        self.behind.as_secs_f64() * 1e3
    }
}

/// Hands a record to a producer, and waits where its queue is full.
fn send_patiently(producer: &BaseProducer, mut record: BaseRecord<'_, String, String>) -> anyhow::Result<()> {
    while let Err((error, back)) = producer.send(record) {
        ensure!(error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull), "{error}");
        producer.poll(Duration::from_millis(5));
        record = back;
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

/// A line that shows what is going on, on a terminal.
pub fn progress(what: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.into());
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
