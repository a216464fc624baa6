//! Reads of what is not in memory: the same answers from another thread, within the deadline, and nobody else waits.

use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{StreamFeaturesRequest, StreamFeaturesResponse};
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

use super::super::cold::Reach;
use super::super::stream::Answers;
use super::*;

/// Entities with a few versions each.
fn filled() -> (Bed, Vec<String>) {
    let mut bed = Bed::new();
    let entities: Vec<String> = (0..40).map(|n| format!("entity {n}")).collect();
    for (n, entity) in entities.iter().enumerate() {
        for version in 0..3 {
            bed.put(entity, NOW - 100 + version, &format!(r#"{{"i":{n},"d":{version}.5}}"#));
        }
    }
    (bed, entities)
}

/// Lets nothing of any shard be in memory.
fn cool(bed: &Bed) {
    let shards = bed.main().shards();
    shards
        .iter()
        .flat_map(|shard| shard.reader.as_ref().expect("open").all())
        .for_each(|reader| reader.set_resident_bytes(0));
}

fn all(entities: &[String]) -> GetFeaturesRequest {
    of(&entities.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test]
async fn answers_from_the_disk_are_those_from_memory() {
    let (bed, entities) = filled();
    let mut requests = vec![all(&entities)];
    requests.push(GetFeaturesRequest { as_of_ms: Some(NOW - 99), ..all(&entities) });
    requests.push(GetFeaturesRequest {
        selection: Some(Selection::FeatureService("both@1".into())),
        ..all(&entities)
    });
    let history = GetHistoryRequest {
        entity: entities[3].clone().into(),
        view: "points".into(),
        limit: 2,
        ..GetHistoryRequest::default()
    };
    let mut hot = Vec::new();
    for request in &requests {
        hot.push(bed.read(request.clone()).await.expect("a good request"));
    }
    let page = bed.history(history.clone()).await.expect("a good request");
    assert_eq!(page.versions.as_ref().expect("rows").status.len(), 2);
    cool(&bed);
    for (request, hot) in requests.iter().zip(hot) {
        assert_eq!(bed.read(request.clone()).await.expect("read from the disk"), hot);
    }
    assert_eq!(bed.history(history).await.expect("read from the disk"), page);
    let read = |shard: &Arc<ShardHandle>| shard.reader.as_ref().expect("open").stats().cold_reads;
    assert!(bed.main().shards().iter().map(read).sum::<u64>() > 100);
}

#[tokio::test]
async fn a_request_of_a_stream_that_waits_for_the_disk_holds_no_other_up() {
    let (bed, entities) = filled();
    cool(&bed);
    let entity = entities[0].as_str();
    let fresh =
        (0..).map(|n| format!("fresh {n}")).find(|fresh| Bed::partition(fresh) != Bed::partition(entity));
    let fresh = fresh.expect("some");
    let mut bed = bed;
    bed.shard(&fresh).reader.as_ref().expect("open").of(1).set_resident_bytes(u64::MAX);
    bed.put(&fresh, NOW, r#"{"i":1}"#);
    let all_threads = bed.context.cold.all_at_once();
    let (asked, received) = futures::channel::mpsc::unbounded();
    let stop = watch::Sender::new(false);
    let mut answers =
        Box::pin(Answers::new(bed.context.clone(), received, Deadline::after_ms(0), stop.subscribe()));
    for (id, entity) in [(1, entity), (2, &fresh)] {
        let request = StreamFeaturesRequest { id, request: Some(of(&[entity])), timeout_ms: 0 };
        asked.unbounded_send(Ok(request)).expect("it is open");
    }
    let mut next =
        async || -> StreamFeaturesResponse { answers.next().await.expect("an answer").expect("no end") };
    assert_eq!(next().await.id, 2);
    assert!(next().now_or_never().is_none());
    drop(all_threads);
    assert_eq!(next().await.id, 1);
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_the_disk() {
    let (bed, entities) = filled();
    cool(&bed);
    let all_threads = bed.context.cold.all_at_once();
    let late = read::features(&bed.context, all(&entities), Deadline::after_ms(30)).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    assert!(late.message().contains("from the disk"), "{late}");
    drop(all_threads);
    read::features(&bed.context, all(&entities), Deadline::after_ms(60_000)).await.expect("time enough");
}

#[test]
fn a_read_in_memory_does_not_wait() {
    let (bed, entities) = filled();
    cool(&bed);
    let shard = bed.shard(&entities[0]);
    let pin = Reach::Memory.pin(shard.reader.as_ref().expect("open").of(1));
    assert!(matches!(pin.latest(entities[0].as_bytes(), 1), Err(forebay_storage::ReadError::Cold)));
}
