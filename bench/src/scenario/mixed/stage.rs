//! What the day plays on: broker, server, executor and toy model in processes of their own, or a server that runs already.
//! Knows nothing of what is produced and read.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use forebay_server::mix;
use forebay_tests::{Definitions, Kafka};

use super::Options;
use super::watch::Subject;
use crate::scenario::plant::Plant;
use crate::scenario::{reach, with_lanes};

/// Before the names of topics of a broker that is started here.
const PREFIX: &str = "day.";
const GROUP: &str = "day";
/// What judges every edge.
pub const MODEL: &str = "judge";

/// Triggers on the views of devices, whose states change at one or two data points of a thousand, and a model that is
/// asked about every change.
const JUDGED: &str = r#"
[diagnoses]
topic_prefix = "{group}"
ttl = "7d"

[[trigger]]
name = "radio"
id = 500
version = 1
view = "device_radio"
edges_topic = "{group}.edges"
rules = [{ state = "RED", when = "!online && band == '6GHz' && roams > 8" }]

[[trigger]]
name = "traffic"
id = 501
version = 1
view = "device_traffic"
edges_topic = "{group}.edges"
rules = [{ state = "RED", when = "loss > 0.0585 && score >= 50.0" }]

[[model]]
name = "{model}"
version = 1
endpoint = "{endpoint}"
feature_service = "device_health@1"
triggers = ["radio", "traffic"]
inputs = [{ tensor = "x", datatype = "FP64", features = ["device_radio.snr_db"], missing = "nan" }]
outputs = [{ tensor = "score", datatype = "FP64" }, { tensor = "label", datatype = "BYTES" }]
"#;

/// Kafka and a server, wherever they are.
pub struct Stage {
    /// Clients of the broker.
    pub kafka: Kafka,
    /// host:port of the server's gRPC.
    pub grpc: String,
    /// host:port of its metrics.
    pub http: String,
    /// Before every topic name.
    pub prefix: String,
    /// Partitions of each topic.
    pub partitions: usize,
    /// Definitions of the mix, without what judges it.
    pub definitions: Definitions,
    /// Absent: `--target`.
    pub plant: Option<Plant>,
}

impl Stage {
    /// Starts everything, or finds the target.
    pub async fn set(options: &Options) -> anyhow::Result<Stage> {
        match &options.target {
            Some(target) => Stage::find(target, options).await,
            None => Stage::build(options).await,
        }
    }

    async fn find(target: &str, options: &Options) -> anyhow::Result<Stage> {
        let bootstrap = options.bootstrap.as_deref().context("--target needs --bootstrap")?;
        reach(target).await?;
        let prefix = options.topic_prefix.clone();
        let definitions = Definitions::parse(&mix::definitions(&prefix));
        let kafka = Kafka::new(bootstrap);
        let topic = &definitions.topics(None)[0];
        let partitions = kafka.end_offsets(topic).await.len();
        ensure!(partitions > 0, "{bootstrap} has no topic {topic}: see forebay produce --create-topics");
        let (grpc, http) = (target.to_owned(), options.http.clone());
        Ok(Stage { kafka, grpc, http, prefix, partitions, definitions, plant: None })
    }

    async fn build(options: &Options) -> anyhow::Result<Stage> {
        let plain = with_threads(mix::definitions(PREFIX).parse()?, options.threads).to_string();
        let definitions = |endpoint: &str| {
            let judged = JUDGED.replace("{endpoint}", endpoint).replace("{group}", GROUP);
            format!("{plain}\n{}", judged.replace("{model}", MODEL))
        };
        let storage = format!("segment = \"{}\"\nmemory = \"{}\"\n", options.segment, options.memory);
        let plant = Plant::start(GROUP, definitions, &storage, &[], options.partitions).await?;
        Ok(Stage {
            kafka: plant.kafka.clone(),
            grpc: plant.server.grpc.clone(),
            http: plant.server.http.clone(),
            prefix: PREFIX.into(),
            partitions: options.partitions,
            definitions: Definitions::parse(&plain),
            plant: Some(plant),
        })
    }

    /// What is to be watched; `generator` is added to what is here.
    pub fn subject(&self, generator: u32) -> Subject {
        let mut pids = BTreeMap::from([("generator", generator), ("reader", std::process::id())]);
        pids.extend(self.plant.iter().flat_map(Plant::pids));
        let lanes = [mix::STANDARD, mix::HIGH_VOLUME].map(str::to_owned).into();
        Subject { http: self.http.clone(), pids, lanes }
    }

    /// Edges that the executor is done with; nothing if there is none.
    pub async fn judged(&self) -> anyhow::Result<Option<f64>> {
        match &self.plant {
            Some(plant) => Ok(Some(plant.judged().await?)),
            None => Ok(None),
        }
    }

    /// Topics of the mix, with their prefix.
    pub fn topics(&self) -> Vec<String> {
        self.definitions.topics(None)
    }
}

/// The mix's lanes with so many ingest threads for devices.
fn with_threads(definitions: toml::Table, threads: usize) -> toml::Table {
    with_lanes(definitions, |name, lane| {
        if name == mix::HIGH_VOLUME {
            lane.insert("threads".into(), toml::Value::Integer(threads as i64));
        }
    })
}
