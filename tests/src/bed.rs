//! A test bed: topics of a test's own on a broker, a server with definitions over them, a connection, and the few calls
//! most tests are made of. Built with `Bed::new(name).….start()`.

use std::path::PathBuf;

use forebay_client::Partitioner;

use crate::check::{differences, passed};
use crate::kafka::Kafka;
use crate::model::{Definitions, Model};
use crate::record::{Place, Record};
use crate::rows::{Cell, Row, cells, rows};
use crate::server::{Connection, Server, ServerConfig};
use crate::v1::{
    GetFeaturesRequest, GetFeaturesResponse, GetHistoryRequest, OffsetVector, ViewSelection, ViewSelections,
};
use crate::wait::eventually;
use crate::{Broker, Format, run_dir};

/// One lane `main`, one topic `points`, one view `points`: event time in `ts`, full history, a field of each type.
/// `{ns}` stands for the test's namespace.
pub const POINTS: &str = r#"
[[lane]]
name = "main"
dead_letter_topic = "{ns}.dlq"
[[lane.topic]]
name = "{ns}.points"

[[view]]
id = 1
name = "points"
lane = "main"
entity = "customer"
topics = ["{ns}.points"]
event_time = { path = "ts" }
history = "full"
[[view.field]]
name = "d"
type = "double"
[[view.field]]
name = "i"
type = "int64"
[[view.field]]
name = "b"
type = "bool"
[[view.field]]
name = "s"
type = "string"
[[view.field]]
name = "t"
type = "timestamp"
[[view.field]]
name = "j"
path = "inner.deep"
type = "json"
[[view.field]]
name = "n"
type = "int64"
default = 7

[[feature_service]]
name = "all"
version = 1
features = ["points.*"]
[[feature_service]]
name = "some"
version = 1
features = ["points.i"]
[[feature_service]]
name = "some"
version = 2
features = ["points.s", "points.i"]
"#;

/// A server with topics of its own.
pub struct Bed {
    /// The broker.
    pub kafka: Kafka,
    /// Before every topic name, and the consumer group.
    pub namespace: String,
    /// What the server was given, `{ns}` replaced.
    pub definitions: String,
    /// The server; kill, stop and restart it as you like.
    pub server: Server,
    /// Both services of it. After a restart call `reconnect`.
    pub client: Connection,
    /// Partitions each topic was made with.
    pub partitions: u32,
}

/// What a bed is made of; every part has a default.
pub struct BedBuilder {
    name: String,
    definitions: String,
    partitions: i32,
    config: String,
    kafka: Option<Kafka>,
    binary: Option<PathBuf>,
    env: Vec<(String, String)>,
    dead_letter_topics: bool,
}

impl BedBuilder {
    /// Definitions with `{ns}` before topic names; default [`POINTS`].
    pub fn definitions(mut self, toml: &str) -> Self {
        self.definitions = toml.into();
        self
    }

    /// Partitions of each topic; default 2.
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = count;
        self
    }

    /// TOML over the configuration's defaults, with `{ns}` before topic names.
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// A broker of the test's own.
    pub fn kafka(mut self, kafka: Kafka) -> Self {
        self.kafka = Some(kafka);
        self
    }

    /// Another binary than `forebay`.
    pub fn binary(mut self, path: PathBuf) -> Self {
        self.binary = Some(path);
        self
    }

    /// An environment variable for the server.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Does not create the dead-letter topics.
    pub fn without_dead_letter_topics(mut self) -> Self {
        self.dead_letter_topics = false;
        self
    }

    /// Topics and files, and no server yet.
    pub async fn prepare(self) -> (ServerConfig, Kafka, String, String) {
        let kafka = match self.kafka {
            Some(kafka) => kafka,
            None => Broker::shared().await,
        };
        let namespace = format!("{}-{:06x}", self.name, rand::random::<u32>() & 0xff_ffff);
        let definitions = self.definitions.replace("{ns}", &namespace);
        let parsed = Definitions::parse(&definitions);
        let mut topics = parsed.topics(None);
        topics.extend(parsed.diagnoses_topics());
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        kafka.create_topics(&names, self.partitions).await;
        if self.dead_letter_topics {
            let mut dead = parsed.dead_letter_topics();
            dead.dedup();
            kafka.create_topics(&dead.iter().map(String::as_str).collect::<Vec<_>>(), 1).await;
        }
        let dir = run_dir().join(&namespace);
        let (bootstrap, more) = (kafka.bootstrap.clone(), self.config.replace("{ns}", &namespace));
        let (ns, toml) = (namespace.clone(), definitions.clone());
        let write = move || ServerConfig::write(&dir, &bootstrap, &ns, &toml, &more);
        let mut config = tokio::task::spawn_blocking(write).await.expect("no panic");
        config.env = self.env;
        if let Some(binary) = self.binary {
            config.binary = binary;
        }
        (config, kafka, namespace, definitions)
    }

    /// Creates the topics, starts the server and waits until it is ready.
    pub async fn start(self) -> Bed {
        let partitions = self.partitions as u32;
        let (config, kafka, namespace, definitions) = self.prepare().await;
        let server = config.start().await;
        server.wait_ready().await;
        let client = server.connect().await;
        Bed { kafka, namespace, definitions, server, client, partitions }
    }
}

impl Bed {
    /// A bed to be built. The name is part of topic names: letters, digits, `_`.
    #[expect(clippy::new_ret_no_self, reason = "a bed is always built")]
    pub fn new(name: &str) -> BedBuilder {
        BedBuilder {
            name: name.into(),
            definitions: POINTS.into(),
            partitions: 2,
            config: String::new(),
            kafka: None,
            binary: None,
            env: Vec::new(),
            dead_letter_topics: true,
        }
    }

    /// The full name of a topic of this bed.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    /// The same record on this bed's topic.
    pub fn own(&self, mut record: Record) -> Record {
        record.topic = self.topic(&record.topic);
        record
    }

    /// Produces a record to this bed's topic.
    pub async fn send(&self, record: Record) -> Place {
        self.kafka.send(&self.own(record)).await
    }

    /// Produces records to this bed's topics, in order.
    pub async fn send_all(&self, records: impl IntoIterator<Item = Record>) -> Vec<Place> {
        let records: Vec<_> = records.into_iter().map(|record| self.own(record)).collect();
        self.kafka.send_all(&records).await
    }

    /// Waits until the server has passed these positions (applied them or put them aside).
    pub async fn applied(&self, places: &[Place]) {
        let wanted: OffsetVector = places.iter().cloned().collect();
        eventually("the positions are applied", || async { passed(&self.client, &wanted).await }).await;
    }

    /// Waits until the server has passed everything that is in its topics now.
    pub async fn settled(&self) {
        let mut places = Vec::new();
        for topic in Definitions::parse(&self.definitions).topics(None) {
            for (partition, end) in self.kafka.end_offsets(&topic).await.into_iter().enumerate() {
                let place = Place { topic: topic.clone(), partition: partition as u32, offset: end - 1 };
                places.extend((end > 0).then_some(place));
            }
        }
        self.applied(&places).await;
    }

    /// Restarts the server on its files (after a kill or stop, or killing it), waits until it is ready, reconnects.
    pub async fn restart(&mut self) {
        self.server.restart().await;
        self.server.wait_ready().await;
        self.client = self.server.connect().await;
    }

    /// The latest of one view for one entity, as JSON.
    pub async fn get(&self, view: &str, entity: &[u8]) -> Row {
        self.rows(request(view, &[entity])).await.remove(0)
    }

    /// Asks for one view and gives its rows; panics if the call fails.
    pub async fn rows(&self, request: GetFeaturesRequest) -> Vec<Row> {
        rows(&self.features(request).await.views[0])
    }

    /// Asks, again while the server is busy with what other tests ask of it; panics if the call fails.
    pub async fn features(&self, request: GetFeaturesRequest) -> GetFeaturesResponse {
        let answer = eventually("the server lets a read in", || async {
            match self.client.store.clone().get_features(request.clone()).await {
                Err(status) if status.message().starts_with("this server is busy") => Err(status.into()),
                answer => Ok(answer),
            }
        });
        answer.await.expect("GetFeatures answers").into_inner()
    }

    /// The typed values of one view for one entity, by field; panics if the call fails.
    pub async fn cells(&self, view: &str, entity: &[u8]) -> std::collections::BTreeMap<String, Cell> {
        let asked = GetFeaturesRequest { format: Format::Typed.into(), ..request(view, &[entity]) };
        cells(&self.features(asked).await.views[0], 0)
    }

    /// Produces a record that must become a version, and waits until it has been passed.
    pub async fn put(&self, record: Record) -> Place {
        let place = self.send(record).await;
        self.applied(std::slice::from_ref(&place)).await;
        place
    }

    /// What became of a lane's data points since the server started.
    pub async fn counters(&self, lane: &str) -> crate::v1::LaneCounters {
        let status = self.client.status().await.expect("status");
        let lane = status.lanes.into_iter().find(|found| found.lane == lane).expect("the lane");
        lane.counters.expect("counters")
    }

    /// Creates a topic that was just deleted.
    pub async fn create_again(&self, topic: &str, partitions: i32) {
        eventually("the topic is created again", || async {
            self.kafka.try_create_topics(&[topic], partitions).await
        })
        .await
    }

    /// A new entity id that murmur2 puts on this partition of the bed's topics.
    pub fn entity_on(&self, partition: u32) -> Vec<u8> {
        loop {
            let entity = format!("e{:016x}", rand::random::<u64>()).into_bytes();
            if Partitioner::Murmur2.partition(&entity, self.partitions) == partition {
                return entity;
            }
        }
    }

    /// The same server for another test: shares the process, which this one cannot end, over a connection of its own.
    pub async fn look(&self) -> Bed {
        let server = self.server.look();
        let client = server.connect().await;
        let (namespace, definitions) = (self.namespace.clone(), self.definitions.clone());
        Bed { kafka: self.kafka.clone(), namespace, definitions, server, client, partitions: self.partitions }
    }

    /// All versions of a key, page by page.
    pub async fn history(&self, mut request: GetHistoryRequest) -> Vec<Row> {
        let mut versions = Vec::new();
        loop {
            let page =
                self.client.store.clone().get_history(request.clone()).await.expect("GetHistory answers");
            let page = page.into_inner();
            versions.extend(page.versions.as_ref().map(rows).unwrap_or_default());
            if page.next_page_token.is_empty() {
                return versions;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The model of this bed's topics as they are now.
    pub async fn model(&self) -> Model {
        Model::read(&self.kafka, &Definitions::parse(&self.definitions)).await
    }

    /// Reads every key of the model and gives the differences; empty if the server is right.
    pub async fn differences(&self, model: &Model) -> Vec<String> {
        differences(&self.client, &Definitions::parse(&self.definitions), model).await
    }
}

/// A request for the latest of one view, as JSON.
pub fn request(view: &str, entities: &[&[u8]]) -> GetFeaturesRequest {
    let views = vec![ViewSelection { view: view.into(), fields: Vec::new() }];
    GetFeaturesRequest {
        entities: entities.iter().map(|entity| entity.to_vec().into()).collect(),
        selection: Some(crate::v1::get_features_request::Selection::Views(ViewSelections { views })),
        ..GetFeaturesRequest::default()
    }
}
