//! The scenarios, one module each, and what they share: a broker with the mix on it and a server reading it.

pub mod ingest;
pub mod read;

use std::time::Duration;

use anyhow::Context;
use forebay_tests::{Broker, Kafka, ServerConfig, run, run_dir};
use indicatif::{ProgressBar, ProgressStyle};

/// A broker that holds data points of the mix, and the definitions of their lanes.
pub struct Stage {
    /// The broker.
    pub broker: Broker,
    /// Clients of it.
    pub kafka: Kafka,
    /// Definitions for servers.
    pub definitions: String,
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
        let definitions = run(["produce", "--print-definitions", "--topic-prefix", prefix]).await.ok().stdout;
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
        anyhow::ensure!(output.code == 0, "forebay produce failed: {}", output.stderr);
        step.finish_and_clear();
        let topics = forebay_tests::Definitions::parse(&definitions).topics(Some(lane));
        Ok(Stage { broker, kafka, definitions, topics, count })
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

/// A line that shows what is going on, on a terminal.
pub fn progress(what: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.into());
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a template"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
