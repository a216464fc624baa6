//! Tests of the handlers over real shards in a temporary directory, with a clock that stands still. No consumer and no
//! socket: shards are filled by hand, as ingest would.

mod admission;
mod bad_input;
mod cold;
mod diagnoses;
mod explain;
mod reads;
mod sockets;
mod streams;
mod waits;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{
    GetFeaturesRequest, GetFeaturesResponse, GetHistoryRequest, GetHistoryResponse, OffsetVector,
    Status as ValueStatus, TopicOffsets, ViewColumns, ViewSelection, ViewSelections,
};
use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog, ViewPolicy,
    open,
};
use rdkafka::ClientConfig;
use tonic::Status;

use super::deadline::Deadline;
use super::{Admission, ColdReads, Context, history, read};
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::InForce;
use crate::lane::{Lane, ShardHandle, ShardState, TopicProgress};
use crate::shard_files::{Layout, Readers};
use crate::tuning::tune;

/// The time it is, ms.
pub(super) const NOW: i64 = 1_750_000_000_000;
pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 24 * HOUR;
/// Partitions of lane `main`.
pub(super) const PARTITIONS: u32 = 4;

pub(super) const DEFINITIONS: &str = r#"
[[lane]]
name = "main"
allowed_lateness = "1h"
[[lane.topic]]
name = "points"
[[lane.topic]]
name = "shared"

[[lane]]
name = "away"
[[lane.topic]]
name = "elsewhere"

[[view]]
id = 1
name = "points"
lane = "main"
entity = "customer"
topics = ["points"]
event_time = { path = "ts" }
ttl = "7d"
history = "full"
[[view.field]]
name = "d"
type = "double"
[[view.field]]
name = "i"
type = "int64"
[[view.field]]
name = "s"
type = "string"
[[view.field]]
name = "j"
path = "inner.deep"
type = "json"
[[view.field]]
name = "b"
type = "bool"
default = true

[[view]]
id = 2
name = "headed"
lane = "main"
entity = "customer"
topics = ["shared"]
event_time = { header = "x-time" }
ttl = "1h"
max_ttl = "2h"

[[view]]
id = 3
name = "timed"
lane = "main"
entity = "customer"
topics = ["shared"]

[[view]]
id = 4
name = "remote"
lane = "away"
entity = "customer"
topics = ["elsewhere"]

[[feature_service]]
name = "both"
version = 1
features = ["points.i"]
[[feature_service]]
name = "both"
version = 2
features = ["points.s", "points.i"]
"#;

/// Lane `main` with four shards READY, and lane `away`, whose shards are on another server.
pub(super) struct Bed {
    pub context: Arc<Context>,
    now: Arc<AtomicI64>,
    writers: Vec<ShardWriter>,
    _dir: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::with_producer("127.0.0.1:1")
    }

    pub fn with_producer(bootstrap: &str) -> Bed {
        Bed::with(bootstrap, "")
    }

    pub fn configured(config: &str) -> Bed {
        Bed::with("127.0.0.1:1", config)
    }

    fn with(bootstrap: &str, config: &str) -> Bed {
        let dir = tempfile::tempdir().expect("a directory");
        let now = Arc::new(AtomicI64::new(NOW));
        let config = Config::parse("test", config, dir.path(), []).expect("the test's configuration is good");
        let context = context(dir.path(), config, DEFINITIONS, bootstrap, &now);
        let writers = fill(&context.lanes[0], dir.path());
        context.lanes[1].partitions.store(2, Ordering::Release);
        Bed { context, now, writers, _dir: dir }
    }

    pub fn main(&self) -> &Arc<Lane> {
        &self.context.lanes[0]
    }

    pub fn partition(entity: &str) -> u32 {
        crate::definitions::Partitioner::Murmur2.partition(entity.as_bytes(), PARTITIONS)
    }

    pub fn shard(&self, entity: &str) -> Arc<ShardHandle> {
        self.main().shard(Bed::partition(entity)).expect("all shards are here")
    }

    pub fn set_now(&self, now_ms: i64) {
        self.now.store(now_ms, Ordering::Release);
    }

    /// Stores a value of `points` that was ingested at its event time, and makes it visible. Gives its offset.
    pub fn put(&mut self, entity: &str, event_time_ms: i64, json: &str) -> i64 {
        self.put_kind(entity, event_time_ms, event_time_ms, Some(json))
    }

    pub fn put_kind(&mut self, entity: &str, event_ms: i64, ingest_ms: i64, json: Option<&str>) -> i64 {
        let writer = &mut self.writers[Bed::partition(entity) as usize];
        let offset = writer.position(TopicIndex(0)).map_or(0, |last| last + 1);
        let put = Put {
            view: 1,
            entity: entity.as_bytes(),
            kind: if json.is_some() { Kind::Value } else { Kind::Tombstone },
            event_time_ms: event_ms,
            ingest_time_ms: ingest_ms,
            expiry_ms: event_ms + 7 * DAY,
            topic: TopicIndex(0),
            offset,
            payload: json.unwrap_or_default().as_bytes(),
        };
        writer.put(&put).expect("stored");
        writer.commit().expect("visible");
        self.shard(entity).advanced();
        offset
    }

    pub async fn read(&self, request: GetFeaturesRequest) -> Result<GetFeaturesResponse, Status> {
        read::features(&self.context, request, Deadline::after_ms(0)).await
    }

    /// The one view of a read that must succeed.
    pub async fn view(&self, request: GetFeaturesRequest) -> ViewColumns {
        let mut response = self.read(request).await.expect("a good request");
        assert_eq!(response.views.len(), 1);
        response.views.remove(0)
    }

    pub async fn history(&self, request: GetHistoryRequest) -> Result<GetHistoryResponse, Status> {
        history::history(&self.context, request, Deadline::after_ms(0)).await
    }
}

/// What handlers work with, over lanes without shards.
fn context(
    dir: &std::path::Path,
    config: Config,
    definitions: &str,
    bootstrap: &str,
    now: &Arc<AtomicI64>,
) -> Arc<Context> {
    let path = dir.join("definitions.toml");
    std::fs::write(&path, definitions).expect("written");
    let in_force = Arc::new(InForce::load(&path).expect("the test's definitions are good"));
    let definitions = in_force.shared.load_full();
    let mut producer = ClientConfig::new();
    producer.set("bootstrap.servers", bootstrap);
    let tuned = tune(&config, &definitions.lanes, 2, 1 << 30);
    Arc::new(Context {
        config: Arc::new(config),
        definitions: in_force.shared.clone(),
        in_force,
        registry: None,
        applying: Default::default(),
        lanes: definitions.lanes.iter().map(|lane| Arc::new(Lane::new(lane.clone(), 1))).collect(),
        clock: Clock::fixed(now.clone()),
        producer: producer.create().expect("settings are good"),
        started: Instant::now(),
        cold: ColdReads::new(tuned.cold_reads.value),
        admission: Admission::new(tuned.limits()),
        tuned,
    })
}

fn fill(lane: &Lane, dir: &std::path::Path) -> Vec<ShardWriter> {
    lane.partitions.store(PARTITIONS, Ordering::Release);
    let sync = SyncGroup::spawn("test-sync", SyncPolicy::default()).expect("a thread");
    let log = |name: &str| TopicLog { name: name.into(), topic_id: [0; 16], priority: 0 };
    let mut writers = Vec::new();
    for partition in 0..PARTITIONS {
        let identity = ShardIdentity {
            lane: "main".into(),
            partition,
            partitions: PARTITIONS,
            topics: vec![log("points"), log("shared")],
            views: (1..=3)
                .map(|id| (id, ViewPolicy::full(&format!("view {id}"), 400 * 86_400_000)))
                .collect(),
        };
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let (writer, reader) =
            open(&dir.join(partition.to_string()), &identity, &options, &sync).expect("opens");
        let names = ["points", "shared"];
        let reader = Readers::new(vec![reader], &names, Layout::undivided(&identity.views));
        let topics = names.map(|name| TopicProgress::new(name.into()));
        let shard = ShardHandle::new(partition, Some(reader), topics.into(), ShardState::Ready);
        lane.publish(Arc::new(shard));
        writers.push(writer);
    }
    writers
}

/// A request for `points` of some entities.
pub(super) fn of(entities: &[&str]) -> GetFeaturesRequest {
    GetFeaturesRequest {
        entities: entities.iter().map(|entity| Bytes::copy_from_slice(entity.as_bytes())).collect(),
        selection: Some(Selection::Views(ViewSelections { views: vec![selection("points", &[])] })),
        ..GetFeaturesRequest::default()
    }
}

pub(super) fn selection(view: &str, fields: &[&str]) -> ViewSelection {
    ViewSelection { view: view.into(), fields: fields.iter().map(|field| (*field).into()).collect() }
}

/// A wait for one offset of `points`.
pub(super) fn vector(topic: &str, partition: u32, offset: i64) -> OffsetVector {
    let topic = TopicOffsets { topic: topic.into(), partitions: vec![partition], offsets: vec![offset] };
    OffsetVector { topics: vec![topic] }
}

/// Statuses as the contract names them.
pub(super) fn statuses(codes: &[i32]) -> Vec<ValueStatus> {
    codes.iter().map(|code| ValueStatus::try_from(*code).expect("a status")).collect()
}
