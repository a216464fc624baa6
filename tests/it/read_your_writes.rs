//! What was pushed or deleted through the API is seen by a read that waits for the returned positions, always.

use forebay_tests::{Bed, Place, Record, Status, event_now, heavy, request, rows, v1};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::shared::{bed, entity};

fn point(view: &str, entity: &[u8], json: String) -> v1::DataPoint {
    let (entity, json) = (entity.to_vec().into(), json.into_bytes().into());
    v1::DataPoint { entity, view: view.into(), json, ..v1::DataPoint::default() }
}

async fn push(bed: &Bed, data_points: Vec<v1::DataPoint>) -> v1::PushFeaturesResponse {
    let push = v1::PushFeaturesRequest { data_points };
    bed.client.store.clone().push_features(push).await.expect("pushed").into_inner()
}

async fn read(
    bed: &Bed,
    view: &str,
    entities: &[&[u8]],
    after: Option<v1::OffsetVector>,
) -> Vec<forebay_tests::Row> {
    bed.rows(v1::GetFeaturesRequest { wait_for: after, ..request(view, entities) }).await
}

#[tokio::test]
async fn a_push_is_seen_by_a_read_with_its_positions() {
    let _permit = heavy().await;
    let bed = bed().await;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let writer = |task: u64| {
        let bed = &bed;
        async move {
            let mut random = StdRng::seed_from_u64(seed ^ task);
            let client = bed.server.connect().await;
            for round in 0..60 {
                let count = random.random_range(1..6);
                let keys: Vec<_> =
                    (0..count).map(|i| format!("ryw-{seed}-{task}-{i}").into_bytes()).collect();
                let ts = event_now();
                let points =
                    keys.iter().map(|key| point("points", key, format!(r#"{{"ts":{ts},"i":{round}}}"#)));
                let push = v1::PushFeaturesRequest { data_points: points.collect() };
                let pushed = client.store.clone().push_features(push).await.expect("pushed").into_inner();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let asked = v1::GetFeaturesRequest { wait_for: pushed.positions, ..request("points", &keys) };
                let answer = client.store.clone().get_features(asked).await.expect("an answer").into_inner();
                for (i, row) in rows(&answer.views[0]).iter().enumerate() {
                    let at = &pushed.data_points[i];
                    let place = Place { topic: at.topic.clone(), partition: at.partition, offset: at.offset };
                    let right = (row.status, row.place.as_ref()) == (Status::Present, Some(&place));
                    assert!(right, "seed {seed} task {task} round {round}: {row:?} is not {at:?} {answer:?}");
                    assert_eq!(row.json, format!(r#"{{"ts":{ts},"i":{round}}}"#).into_bytes());
                }
            }
        }
    };
    futures::future::join_all((0..8).map(writer)).await;
}

#[tokio::test]
async fn a_push_says_where_each_data_point_is() {
    let bed = bed().await;
    let keys = [bed.entity_on(0), bed.entity_on(1), bed.entity_on(0)];
    let ts = event_now();
    let pushed =
        push(&bed, keys.iter().map(|key| point("points", key, format!(r#"{{"ts":{ts}}}"#))).collect()).await;
    let partitions: Vec<u32> = pushed.data_points.iter().map(|position| position.partition).collect();
    assert_eq!(partitions, [0, 1, 0], "the lane's partitioner, in request order");
    let last: v1::OffsetVector = pushed
        .data_points
        .iter()
        .map(|at| Place { topic: at.topic.clone(), partition: at.partition, offset: at.offset })
        .collect();
    assert_eq!(pushed.positions, Some(last));
}

#[tokio::test]
async fn a_push_has_its_event_time_where_its_view_looks_for_it() {
    let bed = bed().await;
    let (key, ts) = (entity("when"), event_now() - 5000);
    let points = ["header", "stamp"]
        .map(|view| v1::DataPoint { event_time_ms: Some(ts), ..point(view, &key, "{}".into()) });
    let pushed = push(&bed, points.to_vec()).await;
    for view in ["header", "stamp"] {
        let row = read(&bed, view, &[&key], pushed.positions.clone()).await.remove(0);
        assert_eq!((row.status, row.event_time_ms), (Status::Present, ts), "{view}");
    }
    let before = event_now();
    let pushed = push(&bed, vec![point("stamp", &key, "{}".into())]).await;
    let row = read(&bed, "stamp", &[&key], pushed.positions).await.remove(0);
    assert!((before..=event_now()).contains(&row.event_time_ms), "absent: now");
}

#[tokio::test]
async fn a_push_may_have_a_ttl_of_its_own() {
    let bed = bed().await;
    let (key, ts) = (entity("ttl"), event_now());
    let point = v1::DataPoint { ttl_ms: Some(60_000), ..point("points", &key, format!(r#"{{"ts":{ts}}}"#)) };
    let pushed = push(&bed, vec![point]).await;
    let row = read(&bed, "points", &[&key], pushed.positions).await.remove(0);
    assert_eq!((row.status, row.expiry_ms), (Status::Present, ts + 60_000));
}

#[tokio::test]
async fn pushes_to_a_topic_of_two_views_find_theirs() {
    let bed = bed().await;
    let (key, ts) = (entity("pair"), event_now());
    let points = ["left", "right"].map(|view| point(view, &key, format!(r#"{{"ts":{ts},"view":"{view}"}}"#)));
    let pushed = push(&bed, points.to_vec()).await;
    for view in ["left", "right"] {
        let row = read(&bed, view, &[&key], pushed.positions.clone()).await.remove(0);
        assert_eq!(row.json, format!(r#"{{"ts":{ts},"view":"{view}"}}"#).into_bytes());
    }
}

async fn delete(bed: &Bed, request: v1::DeleteFeaturesRequest) -> Option<v1::OffsetVector> {
    bed.client.store.clone().delete_features(request).await.expect("deleted").into_inner().positions
}

#[tokio::test]
async fn a_deletion_is_seen_by_a_read_with_its_positions() {
    let bed = bed().await;
    let (a, b, ts) = (entity("del"), entity("del"), event_now());
    let points =
        [point("points", &a, format!(r#"{{"ts":{ts}}}"#)), point("points", &b, format!(r#"{{"ts":{ts}}}"#))];
    let pushed = push(&bed, points.to_vec()).await;
    read(&bed, "points", &[&a, &b], pushed.positions).await;
    let deletion = v1::DeleteFeaturesRequest {
        entities: vec![a.clone().into()],
        views: vec!["points".into(), "stamp".into()],
        event_time_ms: None,
    };
    let positions = delete(&bed, deletion).await;
    let statuses: Vec<Status> =
        read(&bed, "points", &[&a, &b], positions.clone()).await.iter().map(|row| row.status).collect();
    assert_eq!(statuses, [Status::Deleted, Status::Present]);
    assert_eq!(
        read(&bed, "stamp", &[&a], positions).await[0].status,
        Status::Deleted,
        "even where there was nothing"
    );
}

#[tokio::test]
async fn a_deletion_without_a_time_deletes_what_is_known_even_if_it_is_from_the_future() {
    let bed = bed().await;
    let (key, ahead) = (entity("ahead"), event_now() + 120_000);
    let pushed = push(&bed, vec![point("points", &key, format!(r#"{{"ts":{ahead}}}"#))]).await;
    read(&bed, "points", &[&key], pushed.positions).await;
    let deletion = v1::DeleteFeaturesRequest {
        entities: vec![key.clone().into()],
        views: vec!["points".into()],
        event_time_ms: None,
    };
    let positions = delete(&bed, deletion).await;
    let row = read(&bed, "points", &[&key], positions).await.remove(0);
    assert_eq!((row.status, row.event_time_ms), (Status::Deleted, ahead));
}

#[tokio::test]
async fn a_deletion_at_a_time_leaves_what_is_newer() {
    let bed = bed().await;
    let (key, ts) = (entity("then"), event_now());
    bed.put(Record::new("points", &key, format!(r#"{{"ts":{ts}}}"#))).await;
    let deletion = v1::DeleteFeaturesRequest {
        entities: vec![key.clone().into()],
        views: vec!["points".into()],
        event_time_ms: Some(ts - 1),
    };
    let positions = delete(&bed, deletion).await;
    assert_eq!(read(&bed, "points", &[&key], positions).await[0].status, Status::Present);
    let as_of = v1::GetFeaturesRequest { as_of_ms: Some(ts - 1), ..request("points", &[&key]) };
    assert_eq!(bed.rows(as_of).await[0].status, Status::Deleted);
}
