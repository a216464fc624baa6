//! Triggers against a real broker: every edge is told once, whatever happens to the server, and says what the stored
//! states say. A model of a few lines computes from the topics what must be told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use forebay_tests::{
    Bed, BedBuilder, Edge, Kafka, ModelTrigger, POINTS, Record, Server, Told, event_now, eventually,
    eventually_within, expected_edges, heavy, run,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

const HOUR: i64 = 3_600_000;
const WEEK: i64 = 168 * HOUR;

const TRIGGERS: &str = r#"
[[trigger]]
name = "low"
id = 100
version = 1
view = "points"
edges_topic = "{ns}.edges"
rules = [{ state = "RED", when = "d < 10", until = "d >= 12" }]
[[trigger]]
name = "words"
id = 101
version = 1
view = "points"
first_sight = "edge"
otherwise = "GOOD"
edges_topic = "{ns}.edges"
rules = [{ state = "BAD", when = "s.startsWith('bad')" }]
"#;

/// The same, said in Rust.
const MODEL: [ModelTrigger; 2] = [
    ModelTrigger {
        name: "low",
        loud: false,
        rule: |value, held| match value["d"].as_f64() {
            Some(d) if held == Some("RED") && d >= 12.0 => "GREEN",
            _ if held == Some("RED") => "RED",
            Some(d) if d < 10.0 => "RED",
            _ => "GREEN",
        },
    },
    ModelTrigger {
        name: "words",
        loud: true,
        rule: |value, _| match value["s"].as_str() {
            Some(text) if text.starts_with("bad") => "BAD",
            _ => "GOOD",
        },
    },
];

/// A server with triggers, and the topic of their edges.
struct Watched {
    server: Server,
    kafka: Kafka,
    points: String,
    edges: String,
    group: String,
    stamp: i64,
    random: StdRng,
}

impl Watched {
    async fn start(bed: BedBuilder, seed: u64) -> Watched {
        println!("seed {seed}");
        let (config, kafka, namespace, _) = bed.definitions(&(POINTS.to_owned() + TRIGGERS)).prepare().await;
        let edges = format!("{namespace}.edges");
        kafka.create_topics(&[&edges], 3).await;
        let server = config.start().await;
        server.wait_ready().await;
        let (points, group) = (format!("{namespace}.points"), format!("{namespace}.main"));
        let random = StdRng::seed_from_u64(seed);
        Watched { server, kafka, points, edges, group, stamp: event_now() - HOUR, random }
    }

    /// Data points of 200 entities that change states often, some late, some deleted.
    async fn produce(&mut self, count: usize) {
        let records: Vec<Record> = (0..count).map(|_| self.record()).collect();
        self.kafka.send_all(&records).await;
    }

    fn record(&mut self) -> Record {
        let entity = format!("customer-{:03}", self.random.random_range(0..200));
        self.stamp += 1;
        let late = if self.random.random_bool(0.05) { self.random.random_range(1..500) } else { 0 };
        let ts = self.stamp - late;
        if self.random.random_bool(0.02) {
            let tombstone = Record::tombstone(&self.points, entity.as_bytes());
            return tombstone.header("forebay-event-time", ts.to_string()).at(self.stamp);
        }
        let d: f64 = self.random.random_range(5.0..15.0);
        let word = ["good", "bad", "badly", "so so"][self.random.random_range(0..4)];
        let json = match self.random.random_range(0..10) {
            0 => format!(r#"{{"ts":{ts},"d":null,"s":"{word}"}}"#),
            1 => format!(r#"{{"ts":{ts},"s":7}}"#),
            _ => format!(r#"{{"ts":{ts},"d":{d:.3},"s":"{word}","i":{}}}"#, self.random.random_range(0..99)),
        };
        Record::new(&self.points, entity.as_bytes(), json).at(self.stamp)
    }

    async fn applied(&self) -> anyhow::Result<i64> {
        let status = self.server.connect().await.status().await?;
        let shards = status.lanes.iter().flat_map(|lane| &lane.shards);
        Ok(shards.flat_map(|shard| &shard.topics).map(|topic| topic.applied_offset + 1).sum())
    }

    /// Waits until everything that is in the topic is taken in, and the group says that it is told.
    async fn settled(&self) {
        eventually_within(Duration::from_secs(90), "everything is told", || async {
            let ends = self.kafka.end_offsets(&self.points).await;
            let told = self.kafka.committed(&self.group, &self.points).await;
            ensure!(told == ends, "told {told:?} of {ends:?}\n{}", tail(&self.server));
            Ok(())
        })
        .await;
    }

    /// Waits until so much of the topic is told.
    async fn tells(&self, wanted: i64) {
        eventually("edges are told", || async {
            let told = self.kafka.committed(&self.group, &self.points).await;
            ensure!(told.iter().sum::<i64>() >= wanted, "told {told:?}\n{}", tail(&self.server));
            Ok(())
        })
        .await;
    }

    /// What was told is what the model says, each edge once.
    async fn check(&self) -> Vec<Edge> {
        let expected = expected_edges(&self.kafka, &self.points, WEEK, &MODEL).await;
        let told = Told::read(&self.kafka, &self.edges).await;
        assert_eq!(told.repeated(), Vec::<&str>::new(), "told twice");
        let told = told.plain();
        let missing: Vec<_> = expected.iter().filter(|edge| told.binary_search(edge).is_err()).collect();
        let extra: Vec<_> = told.iter().filter(|edge| expected.binary_search(edge).is_err()).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{} of {} missing: {:?}; {} too many: {:?}",
            missing.len(),
            expected.len(),
            missing.first(),
            extra.len(),
            extra.first()
        );
        told
    }
}

fn tail(server: &Server) -> String {
    server.log().lines().rev().take(6).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_each_edge_id_is_seen_once_by_a_read_committed_consumer() {
    let _permit = heavy().await;
    let small = Bed::new("p15").partitions(4).config("[ingest]\nbatch_max = 40\n");
    let mut watched = Watched::start(small, rand::random()).await;
    let mut total = 0;
    for round in 0..8 {
        watched.produce(3000).await;
        let kill_at = total + watched.random.random_range(1..3000);
        total += 3000;
        let reached = eventually("ingest goes on", || async {
            let applied = watched.applied().await?;
            ensure!(applied >= kill_at, "{applied} of {kill_at}\n{}", tail(&watched.server));
            Ok(applied)
        })
        .await;
        if round % 2 == 1 {
            // Some edges are told: amid a transaction, or between two.
            watched.tells(total / 3).await;
        }
        watched.server.kill9();
        let told = watched.kafka.committed(&watched.group, &watched.points).await;
        println!("round {round}: killed at {reached}, the group was told up to {told:?}");
        watched.server.restart().await;
    }
    watched.settled().await;
    let told = watched.check().await;
    println!("{} edges of {total} data points", told.len());
    assert!(told.len() > total as usize / 5, "the run had edges to lose: {}", told.len());
}

/// Event time, offset, state, and the state before if there was an edge.
type Stored = (i64, i64, String, Option<String>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_state_and_edge_never_disagree() {
    let _permit = heavy().await;
    let mut watched = Watched::start(Bed::new("p16").partitions(2), rand::random()).await;
    for _ in 0..3 {
        watched.produce(2000).await;
        eventually("something was taken in", || async {
            ensure!(watched.applied().await? > 0);
            Ok(())
        })
        .await;
        watched.server.kill9();
        watched.server.restart().await;
    }
    watched.settled().await;
    watched.check().await;
    let told = Told::read(&watched.kafka, &watched.edges).await;
    assert_eq!(watched.server.terminate().await, 0);
    let ids: BTreeSet<&str> = told.edges.iter().map(|(id, _)| id.as_str()).collect();
    let mut stored: BTreeMap<(String, u64), Stored> = BTreeMap::new();
    let mut stored_ids = BTreeSet::new();
    for partition in 0..2 {
        let shard = watched.server.config.dir.join("data/main").join(partition.to_string());
        let lines = run(["inspect", shard.to_str().expect("UTF-8"), "--json"]).await.ok().json_lines();
        for record in lines
            .iter()
            .filter(|line| line["what"] == "record" && matches!(line["view"].as_u64(), Some(100 | 101)))
        {
            let payload = record["payload"].as_str().filter(|_| record["kind"] == "value");
            let payload: Value =
                payload.map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
            if let Some(id) = payload["edge"].as_str() {
                stored_ids.insert(id.to_owned());
            }
            let key = (
                record["entity"].as_str().expect("an entity").to_owned(),
                record["view"].as_u64().expect("a view"),
            );
            let at = (record["event_time_ms"].as_i64(), record["offset"].as_i64());
            let (event, offset) = (at.0.expect("event time"), at.1.expect("offset"));
            let newest = stored.get(&key).is_none_or(|known| (known.0, known.1) <= (event, offset));
            if newest {
                let from = payload["from"].as_str().map(str::to_owned);
                stored.insert(key, (event, offset, payload["state"].as_str().unwrap_or("").to_owned(), from));
            }
        }
    }
    let stored_ids: BTreeSet<&str> = stored_ids.iter().map(String::as_str).collect();
    assert_eq!(stored_ids.len(), ids.len());
    assert_eq!(stored_ids, ids, "every stored edge is told, and every told edge is stored");
    // The chain of each entity leads from state to state, and ends in the state that is stored.
    let mut last: BTreeMap<(String, String), &Edge> = BTreeMap::new();
    for (_, edge) in &told.edges {
        let key = (String::from_utf8_lossy(&edge.entity).into_owned(), edge.trigger.clone());
        assert_ne!(edge.from, edge.to);
        last.insert(key, edge);
    }
    let mut checked = 0;
    for ((entity, trigger), edge) in last {
        let id = if trigger == "low" { 100 } else { 101 };
        let (_, offset, state, from) = &stored[&(entity, id)];
        if *offset == edge.place.offset {
            assert_eq!((state, from.as_ref()), (&edge.to, Some(&edge.from)), "{edge:?}");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} entities ended with an edge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_a_rebuilt_or_restarted_shard_tells_nothing_twice() {
    let mut watched = Watched::start(Bed::new("rebuilt").partitions(2), rand::random()).await;
    watched.produce(1500).await;
    watched.settled().await;
    let before = watched.check().await;
    assert_eq!(watched.server.terminate().await, 0);
    watched.server.restart().await;
    watched.settled().await;
    assert_eq!(watched.check().await, before);
    watched.server.kill9();
    std::fs::remove_dir_all(watched.server.config.dir.join("data")).expect("wiped");
    watched.produce(500).await;
    watched.server.restart().await;
    watched.server.wait_ready().await;
    watched.settled().await;
    let after = watched.check().await;
    assert!(after.len() > before.len(), "{} edges, then {}", before.len(), after.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_whose_value_expired_is_unknown() {
    let mut watched = Watched::start(Bed::new("expiry").partitions(1), 7).await;
    let start = event_now() - 24 * HOUR;
    let record = |at: i64, d: f64, ttl: i64| {
        let json = format!(r#"{{"ts":{at},"d":{d},"s":"good"}}"#);
        Record::new(&watched.points, b"e", json).at(at).header("forebay-ttl-ms", ttl.to_string())
    };
    let records = [
        record(start, 1.0, HOUR),
        // The value lives: an edge.
        record(start + HOUR - 1, 20.0, HOUR),
        record(start + HOUR, 1.0, HOUR),
        // It expired to the millisecond: unknown, and so silent.
        record(start + 2 * HOUR, 20.0, HOUR),
        record(start + 2 * HOUR + 1, 1.0, HOUR),
        // Values that only repeat the state keep it alive.
        record(start + 3 * HOUR - 1, 1.0, HOUR),
        record(start + 4 * HOUR - 3, 1.0, HOUR),
        record(start + 5 * HOUR - 5, 20.0, HOUR),
    ];
    watched.kafka.send_all(&records).await;
    watched.settled().await;
    let told = watched.check().await;
    let low: Vec<i64> =
        told.iter().filter(|edge| edge.trigger == "low").map(|edge| edge.place.offset).collect();
    assert_eq!(low, [1, 2, 4, 7]);
    assert_eq!(watched.server.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_emit_keeps_states_and_tells_nothing() {
    let quiet = Bed::new("quiet").partitions(1).config("[triggers]\nemit = false\n");
    let mut watched = Watched::start(quiet, rand::random()).await;
    watched.produce(300).await;
    watched.settled().await;
    assert!(Told::read(&watched.kafka, &watched.edges).await.edges.is_empty());
    let judged = watched.server.metric("forebay_trigger_evaluations_total{lane=\"main\"}").await;
    assert!(judged.context("the metric").expect("is there") > 300.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_that_cannot_be_told_wait_and_are_told_once() {
    let bed = Bed::new("waits").partitions(1).definitions(&(POINTS.to_owned() + TRIGGERS));
    let (config, kafka, namespace, _) = bed.prepare().await;
    let server = config.start().await;
    server.wait_ready().await;
    let (points, edges) = (format!("{namespace}.points"), format!("{namespace}.edges"));
    let group = format!("{namespace}.main");
    let mut watched = Watched {
        server,
        kafka,
        points,
        edges,
        group,
        stamp: event_now() - HOUR,
        random: StdRng::seed_from_u64(3),
    };
    watched.produce(200).await;
    eventually("edges wait", || async {
        let waiting = watched.server.metric("forebay_edges_waiting{lane=\"main\"}").await;
        ensure!(waiting.is_some_and(|waiting| waiting > 10.0), "{waiting:?}");
        let failures = watched.server.metric("forebay_edge_failures_total{lane=\"main\"}").await;
        ensure!(failures.is_some_and(|failures| failures > 0.0), "{failures:?}");
        Ok(())
    })
    .await;
    watched.kafka.create_topics(&[&watched.edges], 2).await;
    watched.settled().await;
    assert!(!watched.check().await.is_empty());
}
