//! From data points to diagnoses, with servers and executor killed at random: the edges, snapshots and predictions that
//! are there at the end are those that a model computes from the topics, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::ensure;
use forebay_tests::v1::{
    self, Diagnosis, GetDiagnosisRequest, ListDiagnosesRequest, PredictionStatus, Snapshot,
};
use forebay_tests::{
    Bed, Connection, Consumed, Definitions, Edge, Kafka, Model, ModelTrigger, Program, Server, ServerConfig,
    Status, Told, edges_of, eventually_within, heavy, run,
};
use rand::Rng;
use serde_json::Value;

const PARTITIONS: i32 = 4;
const WEEK_MS: i64 = 7 * 86_400_000;
/// Views that a snapshot has, in the feature service's order.
const VIEWS: [&str; 2] = ["device_radio", "device_traffic"];

/// What is defined beside the mix; about two data points of a hundred about a device's radio change its state.
const JUDGED: &str = r#"
[diagnoses]
topic_prefix = "{ns}"
ttl = "30d"

[[trigger]]
name = "radio"
id = 500
version = 1
view = "device_radio"
edges_topic = "{ns}.edges"
rules = [{ state = "RED", when = "!online && band == '6GHz' && roams > 6" }]

[[feature_service]]
name = "device"
version = 1
features = ["device_radio.*", "device_traffic.score"]

[[model]]
name = "judge"
version = 1
endpoint = "{endpoint}"
feature_service = "device@1"
triggers = ["radio"]
attempts = 100
circuit = { failures = 0 }
inputs = [{ tensor = "x", datatype = "FP64", features = ["device_radio.snr_db"] }]
outputs = [{ tensor = "score", datatype = "FP64" }, { tensor = "label", datatype = "BYTES" }]
"#;

/// The same rule, said in Rust.
const RULES: [ModelTrigger; 1] = [ModelTrigger {
    name: "radio",
    loud: false,
    rule: |value, _| {
        let roams = value["roams"].as_i64().is_some_and(|roams| roams > 6);
        let is_red = value["online"] == false && value["radio"]["band"] == "6GHz" && roams;
        if is_red { "RED" } else { "GREEN" }
    },
}];

/// Size of the run: 500,000 unless the environment says otherwise.
fn points() -> u64 {
    let set = std::env::var("FOREBAY_TEST_LOOP_POINTS").ok();
    set.map_or(500_000, |count| count.parse().expect("FOREBAY_TEST_LOOP_POINTS is a number"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Everything that may be killed.
struct Loop {
    servers: [Server; 2],
    executor: Program,
    addresses: String,
    kafka: Kafka,
    namespace: String,
    definitions: Definitions,
}

impl Loop {
    /// Two servers of one group, each at a port that it keeps, and an executor that knows both.
    async fn start(endpoint: &str) -> Loop {
        let toml = run(["produce", "--print-definitions", "--topic-prefix", "{ns}."]).await.ok().stdout;
        // A snapshot is exact for as long as it is repeatable: views that keep all versions.
        let toml = toml.replace("history = \"latest\"", "history = \"full\"");
        let toml = toml + &JUDGED.replace("{endpoint}", endpoint);
        let ports = [free_port(), free_port()];
        let at = |port: u16| format!("[server]\nlisten = \"127.0.0.1:{port}\"\n");
        let more =
            "[execute]\nrequests_topic = \"{ns}.requests\"\ndead_letter_topic = \"{ns}.execute-dlq\"\n";
        let bed = Bed::new("whole").definitions(&toml).partitions(PARTITIONS).config(&(at(ports[0]) + more));
        let (one, kafka, namespace, toml) = bed.prepare().await;
        let topics = ["edges", "requests", "execute-dlq"].map(|name| format!("{namespace}.{name}"));
        kafka.create_topics(&topics.each_ref().map(String::as_str), PARTITIONS).await;
        let dir = forebay_tests::run_dir().join(format!("{namespace}-two"));
        let two = at(ports[1]) + "instance = \"two\"\n";
        let two = ServerConfig::write(&dir, &kafka.bootstrap, &namespace, &toml, &two);
        let servers = [one.start().await, two.start().await];
        let addresses = ports.map(|port| format!("http://127.0.0.1:{port}")).join(",");
        let executor = Loop::executor(&servers[0], &addresses).await;
        let definitions = Definitions::parse(&toml);
        Loop { servers, executor, addresses, kafka, namespace, definitions }
    }

    async fn executor(server: &Server, addresses: &str) -> Program {
        Program::executor(server, &[("FOREBAY_EXECUTE_SERVERS", addresses)]).await
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }

    /// Sends the mix, for about as long as the kills take.
    async fn produce(bootstrap: String, namespace: String, count: u64, seed: u32) {
        let prefix = format!("{namespace}.");
        let rate = (count / 30).max(1000).to_string();
        // Each device comes some thirty times.
        let (count, scale, seed) = (count.to_string(), (1_000_000_000 / count).to_string(), seed.to_string());
        let target = ["produce", "--bootstrap", &bootstrap, "--topic-prefix", &prefix];
        let size = ["--count", &count, "--scale", &scale, "--seed", &seed, "--rate", &rate];
        let shares = ["--late", "0.01", "--bad", "0.0001", "--tombstone", "0.001"];
        run(target.into_iter().chain(size).chain(shares)).await.ok();
    }

    /// Edges on the topic's end, transaction markers included: only for how far it is.
    async fn told(&self) -> i64 {
        self.kafka.end_offsets(&self.topic("edges")).await.iter().sum()
    }

    /// Kills one of the three, as it comes, and starts it again.
    async fn kill(&mut self, which: usize) {
        match which {
            2 => {
                self.executor.kill9();
                self.executor = Loop::executor(&self.servers[0], &self.addresses).await;
            }
            server => {
                self.servers[server].kill9();
                self.servers[server].restart().await;
            }
        }
    }

    /// Waits until everything is taken in and every edge is told.
    async fn settled(&self) {
        let (topic, group) = (self.topic("high_volume.radio"), format!("{}.high_volume", self.namespace));
        eventually_within(Duration::from_secs(180), "every edge is told", || async {
            let (ends, told) =
                (self.kafka.end_offsets(&topic).await, self.kafka.committed(&group, &topic).await);
            ensure!(told == ends, "told {told:?} of {ends:?}");
            Ok(())
        })
        .await;
    }

    /// The diagnosis of an id, from the server that has its shard, once it has a prediction.
    async fn diagnosis(&self, clients: &[Connection], id: &str) -> anyhow::Result<Diagnosis> {
        let mut refused = Vec::new();
        for client in clients {
            let request = GetDiagnosisRequest { diagnosis_id: id.into(), wait_for: None };
            match client.diagnoses.clone().get_diagnosis(request).await {
                Ok(found) if found.get_ref().prediction.is_some() => return Ok(found.into_inner()),
                Ok(_) => refused.push("no prediction yet".to_owned()),
                Err(status) => refused.push(status.to_string()),
            }
        }
        anyhow::bail!("{id}: {refused:?}")
    }

    /// Ids that a topic of diagnoses has.
    async fn ids(&self, topic: &str) -> BTreeSet<String> {
        let records = self.kafka.read_topic(&self.topic(topic)).await;
        let id = |record: &Consumed| String::from_utf8(record.key.clone().expect("a key")).expect("an id");
        records.iter().map(id).collect()
    }
}

/// What a snapshot must have of a view: the model's version as of the edge, of what was known and applied then.
fn expected<'m>(
    model: &'m Model,
    edge: &Edge,
    snapshot: &Snapshot,
    view: &str,
) -> Option<&'m forebay_tests::Version> {
    let applied = |version: &forebay_tests::Version| {
        let topics = snapshot.read_at.iter().flat_map(|vector| &vector.topics);
        let topic = topics.into_iter().find(|topic| topic.topic == version.place.topic);
        topic.is_some_and(|topic| {
            let at = topic.partitions.iter().position(|partition| *partition == version.place.partition);
            at.is_some_and(|at| topic.offsets[at] >= version.place.offset)
        })
    };
    let known = |version: &forebay_tests::Version| {
        version.event_time_ms <= snapshot.as_of_ms
            && snapshot.known_at_ms.is_none_or(|known| version.ingest_time_ms <= known)
    };
    let versions = model.history(&edge.entity, view, None);
    versions.into_iter().find(|version| known(version) && applied(version))
}

fn check_snapshot(model: &Model, edge: &Edge, snapshot: &Snapshot) {
    let of = |view: &str| model.history(&edge.entity, view, None);
    let cause = of("device_radio").into_iter().find(|version| version.place == edge.place);
    let cause = cause.expect("the edge's data point");
    assert_eq!((snapshot.as_of_ms, snapshot.known_at_ms), (cause.event_time_ms, Some(cause.ingest_time_ms)));
    assert_eq!((&snapshot.entity[..], &*snapshot.feature_service), (&edge.entity[..], "device@1"));
    assert_eq!(snapshot.values.iter().map(|value| &*value.view).collect::<Vec<_>>(), VIEWS);
    for value in &snapshot.values {
        match expected(model, edge, snapshot, &value.view) {
            None => assert_eq!(value.status(), Status::NotFound, "{value:?}"),
            Some(version) => {
                let status = if version.tombstone { Status::Deleted } else { Status::Present };
                let place = value.position.as_ref().expect("a position");
                assert_eq!(value.status(), status);
                assert_eq!(place.offset, version.place.offset, "{} of {edge:?}", value.view);
                assert_eq!(
                    (&*place.topic, place.partition),
                    (&*version.place.topic, version.place.partition)
                );
                assert_eq!(&value.json[..], &version.payload[..]);
                assert_eq!(
                    (value.event_time_ms, value.ingest_time_ms, value.expiry_ms),
                    (version.event_time_ms, version.ingest_time_ms, version.expiry_ms)
                );
            }
        }
    }
    let document: Value = serde_json::from_slice(&snapshot.document).expect("a document is JSON");
    assert_eq!(document["diagnosis_id"], snapshot.diagnosis_id);
}

/// What the toy model makes of the one feature it sees.
fn score(payload: &[u8]) -> f64 {
    let value: Value = serde_json::from_slice(payload).expect("JSON");
    let snr = value["radio"]["snr_db"].as_f64().expect("snr_db");
    1.0 / (1.0 + ((snr - 30.0) / 5.0).exp())
}

/// A tombstone of the edge's own millisecond may have taken the value: then there is nothing to ask the model.
fn check_prediction(prediction: &v1::Prediction, snapshot: &Snapshot) {
    if snapshot.values[0].status() != v1::Status::Present {
        return assert_eq!(prediction.status(), PredictionStatus::NotAsked, "{prediction:?}");
    }
    assert_eq!(prediction.status(), PredictionStatus::Ok, "{prediction:?}");
    let outputs: Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
    let (said, wanted) = (outputs["score"].as_f64().expect("a score"), score(&snapshot.values[0].json));
    assert!((said - wanted).abs() < 1e-12, "{said} is not {wanted}");
}

/// How often each diagnosis of some entities is listed for its entity.
async fn listed(client: &Connection, entities: &BTreeSet<&[u8]>) -> BTreeMap<String, usize> {
    let mut listed = BTreeMap::new();
    for entity in entities {
        let request =
            ListDiagnosesRequest { entity: entity.to_vec().into(), limit: 1000, ..Default::default() };
        // Half of the entities are the other server's.
        let Ok(page) = client.diagnoses.clone().list_diagnoses(request).await else { continue };
        for entry in page.into_inner().entries {
            *listed.entry(entry.diagnosis_id).or_default() += 1;
        }
    }
    listed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_p12_p15_ten_kills_leave_each_edge_snapshot_and_prediction_once_and_as_the_model_has_it() {
    let _permit = heavy().await;
    let toy = Program::toy_model(&["--input", "x:FP64:1"]).await;
    let mut all = Loop::start(&toy.endpoint()).await;
    let (count, seed) = (points(), rand::random());
    println!("--seed {seed}, {count} data points");
    let producing =
        tokio::spawn(Loop::produce(all.kafka.bootstrap.clone(), all.namespace.clone(), count, seed));
    for round in 0..10 {
        let which = rand::rng().random_range(0..3);
        let aim = all.told().await + rand::rng().random_range(1..=(count / 700) as i64);
        // Until it has gone on a little, or there is nothing to go on with.
        let on = async {
            while all.told().await < aim {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), on).await.ok();
        println!(
            "round {round}: {} edges and markers told, killing {}",
            all.told().await,
            ["one", "two", "executor"][which]
        );
        all.kill(which).await;
    }
    producing.await.expect("all is produced");
    all.settled().await;
    let topics = all.definitions.topics(Some("high_volume"));
    let model = Model::read_topics(&all.kafka, &all.definitions, &topics, true).await;
    let records = all.kafka.read_topic(&all.topic("high_volume.radio")).await;
    let edges = edges_of(records, WEEK_MS, &RULES, |place| model.refused.contains_key(place));
    let told = Told::read(&all.kafka, &all.topic("edges")).await;
    assert_eq!(told.repeated(), Vec::<&str>::new(), "told twice");
    assert_eq!(told.plain(), edges, "the edges told are those of the model");
    println!("{} edges of {count} data points", edges.len());
    assert!(edges.len() as u64 > count / 120, "the run had edges to lose");
    let wanted: BTreeMap<&str, &Edge> = told.edges.iter().map(|(id, edge)| (id.as_str(), edge)).collect();
    let clients = [all.servers[0].connect().await, all.servers[1].connect().await];
    for (id, edge) in &wanted {
        let find = || all.diagnosis(&clients, id);
        let diagnosis = eventually_within(Duration::from_secs(180), "every edge is judged", find).await;
        let snapshot = diagnosis.snapshot.as_ref().expect("a snapshot");
        check_snapshot(&model, edge, snapshot);
        check_prediction(diagnosis.prediction.as_ref().expect("a prediction"), snapshot);
    }
    for topic in ["snapshots", "predictions"] {
        let ids = all.ids(topic).await;
        assert!(ids.iter().map(String::as_str).eq(wanted.keys().copied()), "{topic}: none but of an edge");
    }
    let entities: BTreeSet<&[u8]> = wanted.values().map(|edge| &edge.entity[..]).take(2000).collect();
    let mut by_entity = listed(&clients[0], &entities).await;
    by_entity.extend(listed(&clients[1], &entities).await);
    let of_them = wanted.iter().filter(|(_, edge)| entities.contains(&edge.entity[..]));
    assert!(of_them.map(|(id, _)| *id).eq(by_entity.keys().map(String::as_str)));
    assert!(by_entity.values().all(|times| *times == 1));
    assert_eq!(all.kafka.read_topic(&all.topic("execute-dlq")).await.len(), 0);
}
