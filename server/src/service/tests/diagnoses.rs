//! What is kept of diagnoses, read from shards that were filled by hand: of four partitions of the lane, two are here.

use forebay_proto::v1::{CreateSnapshotRequest, GetSnapshotRequest, ListDiagnosesRequest, Snapshot};
use tonic::Code;

use super::super::diagnoses::{create, get, list};
use super::*;
use crate::definitions::diagnoses::{BY_ENTITY, LANE, SNAPSHOTS};
use crate::diagnosis::entry::OfEntity;
use crate::diagnosis::snapshot;

const SERVICES: &str = r#"
[[feature_service]]
name = "far"
version = 1
features = ["points.i", "remote.*"]
[diagnoses]
ttl = "30d"
"#;
/// Partitions of the lane that are here.
const HERE: [u32; 2] = [0, 2];

struct Kept {
    bed: Bed,
    writers: Vec<ShardWriter>,
    dir: tempfile::TempDir,
}

impl Kept {
    fn new() -> Kept {
        let dir = tempfile::tempdir().expect("a directory");
        let mut bed = Bed::new();
        let remote = "[[view.field]]\nname = \"r\"\ntype = \"int64\"\n[[feature_service]]";
        let definitions = DEFINITIONS.replacen("[[feature_service]]", remote, 1) + SERVICES;
        let config = Config::parse("test", "", dir.path(), []).expect("defaults are good");
        let context = context(dir.path(), config, &definitions, "127.0.0.1:1", &bed.now);
        bed.writers = super::fill(&context.lanes[0], &dir.path().join("main"));
        context.lanes[1].partitions.store(2, Ordering::Release);
        bed.context = context;
        let mut kept = Kept { bed, writers: Vec::new(), dir };
        kept.fill();
        kept
    }

    fn lane(&self) -> Arc<Lane> {
        self.bed.context.lane(LANE).expect("it comes with [diagnoses]").clone()
    }

    fn fill(&mut self) {
        let (lane, definitions) = (self.lane(), self.bed.context.definitions.load_full());
        lane.partitions.store(PARTITIONS, Ordering::Release);
        let sync = SyncGroup::spawn("test-sync", SyncPolicy::default()).expect("a thread");
        let names: Vec<&str> = lane.definition.topics.iter().map(|topic| topic.name.as_str()).collect();
        let log = |name: &&str| TopicLog { name: (*name).into(), topic_id: [0; 16], priority: 0 };
        let views = definitions.views.iter().filter(|view| view.lane_name == LANE);
        let views = views.map(|view| (view.id, ViewPolicy::full(&view.name, 400 * DAY))).collect();
        for partition in HERE {
            let topics = names.iter().map(log).collect();
            let views: std::collections::BTreeMap<u16, ViewPolicy> = std::clone::Clone::clone(&views);
            let identity =
                ShardIdentity { lane: LANE.into(), partition, partitions: PARTITIONS, topics, views };
            let options = Options { segment_bytes: 1 << 20, ..Options::default() };
            let path = self.dir.path().join(format!("kept-{partition}"));
            let (writer, reader) = open(&path, &identity, &options, &sync).expect("opens");
            let reader = Readers::new(vec![reader], &names, Layout::undivided(&identity.views));
            let topics = names.iter().map(|name| TopicProgress::new((*name).into())).collect();
            lane.publish(Arc::new(ShardHandle::new(partition, Some(reader), topics, ShardState::Ready)));
            self.writers.push(writer);
        }
    }

    /// A key with this beginning on one of these partitions.
    fn key(begin: &str, on: &[u32]) -> String {
        let keys = (0..).map(|i| format!("{begin}{i}"));
        keys.into_iter().find(|key| on.contains(&Bed::partition(key))).expect("some key is")
    }

    /// Stores a version of a built-in view that lives for a day.
    fn put(&mut self, view: &str, key: &str, event_time_ms: i64, document: Option<&[u8]>) {
        let at = HERE.iter().position(|here| *here == Bed::partition(key)).expect("it is here");
        let (writer, lane) = (&mut self.writers[at], self.bed.context.lane(LANE).expect("there"));
        let definitions = self.bed.context.definitions.load();
        let view = definitions.view(view).expect("built in");
        let topic =
            lane.definition.topics.iter().position(|topic| topic.name == view.topics[0]).expect("its topic");
        let index = TopicIndex(topic as u16);
        let put = Put {
            view: view.id,
            entity: key.as_bytes(),
            kind: if document.is_some() { Kind::Value } else { Kind::Tombstone },
            event_time_ms,
            ingest_time_ms: event_time_ms,
            expiry_ms: event_time_ms + DAY,
            topic: index,
            offset: writer.position(index).map_or(0, |last| last + 1),
            payload: document.unwrap_or_default(),
        };
        writer.put(&put).expect("stored");
        writer.commit().expect("visible");
    }

    async fn snapshot(&self, id: &str) -> Result<Snapshot, Status> {
        let request = GetSnapshotRequest { diagnosis_id: id.into(), wait_for: None };
        get::snapshot(&self.bed.context, request, Deadline::after_ms(0)).await
    }

    async fn create(&self, id: &str, service: &str) -> Status {
        let request = CreateSnapshotRequest {
            diagnosis_id: id.into(),
            entity: "e".into(),
            feature_service: service.into(),
            ..Default::default()
        };
        let answer = create::create(&self.bed.context, request, Deadline::after_ms(500)).await;
        answer.expect_err("there is no Kafka")
    }

    async fn list(&self, entity: &str, limit: u32) -> Vec<(String, i64)> {
        let mut request = ListDiagnosesRequest {
            entity: Bytes::copy_from_slice(entity.as_bytes()),
            limit,
            ..Default::default()
        };
        let mut all = Vec::new();
        loop {
            let page =
                list::list(&self.bed.context, request.clone(), Deadline::after_ms(0)).await.expect("a page");
            all.extend(page.entries.into_iter().map(|entry| (entry.diagnosis_id, entry.as_of_ms)));
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }
}

fn some_snapshot(id: &str) -> Vec<u8> {
    let (diagnosis_id, feature_service) = (id.to_owned(), "both@1".to_owned());
    let entity = Bytes::from_static(b"e");
    snapshot::document(&Snapshot {
        diagnosis_id,
        entity,
        feature_service,
        as_of_ms: NOW,
        ..Snapshot::default()
    })
}

#[tokio::test]
async fn a_snapshot_is_given_as_it_is_stored_until_it_expires() {
    let mut kept = Kept::new();
    let (id, erased) = (Kept::key("d", &HERE), Kept::key("x", &HERE));
    let document = some_snapshot(&id);
    kept.put(SNAPSHOTS, &id, NOW, Some(&document));
    kept.put(SNAPSHOTS, &erased, NOW, None);
    assert_eq!(kept.snapshot(&id).await.expect("there").document, document);
    assert_eq!(kept.snapshot(&erased).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(kept.create(&erased, "both").await.code(), Code::FailedPrecondition);
    kept.bed.set_now(NOW + DAY - 1);
    assert_eq!(kept.snapshot(&id).await.expect("a last millisecond").document, document);
    kept.bed.set_now(NOW + DAY);
    assert_eq!(kept.snapshot(&id).await.unwrap_err().code(), Code::NotFound);
    // The erasure is over too: what stops it now is that there is no Kafka.
    assert_ne!(kept.create(&erased, "both").await.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn bad_50_a_diagnosis_whose_shard_is_elsewhere_is_unavailable_by_lane_and_partition() {
    let kept = Kept::new();
    let id = Kept::key("d", &[1, 3]);
    let named = format!("lane diagnoses, partition {}: not here", Bed::partition(&id));
    for status in [kept.snapshot(&id).await.unwrap_err(), kept.create(&id, "both").await] {
        assert!(status.code() == Code::Unavailable && status.message().contains(&named), "{status:?}");
    }
}

#[tokio::test]
async fn a_snapshot_that_would_lack_a_value_is_not_kept() {
    let kept = Kept::new();
    let status = kept.create(&Kept::key("d", &HERE), "far").await;
    assert!(status.code() == Code::Unavailable, "{status:?}");
    assert!(status.message().contains("nothing was kept: lane away"), "{status:?}");
}

#[tokio::test]
async fn what_is_stored_and_is_no_document_is_data_loss_and_says_what_is_wrong() {
    let mut kept = Kept::new();
    let id = Kept::key("d", &HERE);
    kept.put(SNAPSHOTS, &id, NOW, Some(b"{\"diagnosis_id\":7}"));
    let status = kept.snapshot(&id).await.unwrap_err();
    assert!(
        status.code() == Code::DataLoss && status.message().contains("not a snapshot document"),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_list_has_each_diagnosis_once_and_none_that_expired_or_was_erased() {
    let mut kept = Kept::new();
    let entity = Kept::key("e", &HERE);
    let entry = |id: &str| {
        let (diagnosis_id, feature_service) = (id.to_owned(), "both@1".to_owned());
        OfEntity { diagnosis_id, feature_service, cause: None, erased: false }.document()
    };
    kept.put(BY_ENTITY, &entity, NOW - DAY, Some(&entry("expired")));
    kept.put(BY_ENTITY, &entity, NOW - 5, Some(&entry("old")));
    for id in ["a", "b", "a", "gone", "b", "c"] {
        kept.put(BY_ENTITY, &entity, NOW - 1, Some(&entry(id)));
    }
    kept.put(BY_ENTITY, &entity, NOW - 1, Some(&OfEntity::erased("gone").document()));
    kept.put(BY_ENTITY, &entity, NOW - 1, Some(&entry("d")));
    kept.put(BY_ENTITY, &entity, NOW, Some(&entry("new")));
    for limit in [0, 1, 2, 3] {
        let listed = kept.list(&entity, limit).await;
        let ids: Vec<_> = listed.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["new", "d", "c", "b", "a", "old"], "pages of {limit}");
        assert_eq!((listed[0].1, listed[1].1, listed[5].1), (NOW, NOW - 1, NOW - 5));
    }
    assert_eq!(kept.list(&Kept::key("none", &HERE), 0).await, []);
}
