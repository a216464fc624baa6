//! The main job: what is produced is readable, as JSON and typed, by view and by feature service, with its times, its
//! position and its status; and several lanes answer one request.

use forebay_tests::v1::{self, get_features_request::Selection};
use forebay_tests::{Bed, Cell, Format, POINTS, Record, Status, event_now, eventually, halted, request};
use serde_json::json;

use crate::shared::{bed, entity};

/// A request for a feature service.
fn service(name: &str, entities: &[&[u8]], format: Format) -> v1::GetFeaturesRequest {
    let selection = Some(Selection::FeatureService(name.into()));
    v1::GetFeaturesRequest { selection, format: format.into(), ..request("points", entities) }
}

#[tokio::test]
async fn a_data_point_produced_is_readable_with_its_times_and_position() {
    let bed = bed().await;
    let (key, ts) = (entity("first"), event_now() - 1000);
    let payload = format!(r#"{{ "ts": {ts}, "s": "é", "unknown": [1,2] }}"#);
    let place = bed.put(Record::new("points", &key, payload.clone()).at(ts + 500)).await;
    let row = bed.get("points", &key).await;
    assert_eq!((row.status, row.json), (Status::Present, payload.into_bytes()), "the original bytes");
    assert_eq!((row.place, row.event_time_ms), (Some(place), ts));
    assert_eq!(row.expiry_ms, ts + 7 * 86_400_000);
    assert!(row.ingest_time_ms >= ts + 500, "no earlier than its Kafka timestamp");
}

#[tokio::test]
async fn typed_values_come_in_columns_of_their_type() {
    let bed = bed().await;
    let (key, ts) = (entity("typed"), event_now());
    let payload =
        format!(r#"{{"ts":{ts},"d":1.5,"i":-3,"b":true,"s":"x","t":{ts},"inner":{{"deep":{{"a": 1}}}}}}"#);
    bed.put(Record::new("points", &key, payload)).await;
    let cells = bed.cells("points", &key).await;
    assert_eq!(cells["d"], Cell::present(1.5));
    assert_eq!(cells["i"], Cell::present(-3));
    assert_eq!(cells["b"], Cell::present(true));
    assert_eq!(cells["s"], Cell::present("x"));
    assert_eq!(cells["t"], Cell::present(ts));
    assert_eq!(cells["j"], Cell::present(r#"{"a": 1}"#));
    assert_eq!(cells["n"], Cell::present(7), "the default");
    let typed =
        v1::GetFeaturesRequest { format: Format::Typed.into(), ..request("points", &[b"absent", &key]) };
    let columns = bed.features(typed).await.views.remove(0);
    assert!(columns.json.is_empty(), "typed answers have no JSON");
    let absent = forebay_tests::cells(&columns, 0);
    assert_eq!(absent["d"], Cell { status: Status::NotFound, value: json!(0.0) }, "repeats the row's status");
    assert_eq!(forebay_tests::cells(&columns, 1)["d"], Cell::present(1.5));
}

#[tokio::test]
async fn chosen_fields_come_in_the_order_asked() {
    let bed = bed().await;
    let key = entity("fields");
    bed.put(Record::new("points", &key, format!(r#"{{"ts":{},"i":1,"s":"x"}}"#, event_now()))).await;
    let views = vec![v1::ViewSelection { view: "points".into(), fields: vec!["s".into(), "i".into()] }];
    let asked = v1::GetFeaturesRequest {
        selection: Some(Selection::Views(v1::ViewSelections { views })),
        format: Format::Typed.into(),
        ..request("points", &[&key])
    };
    let columns = bed.features(asked).await.views.remove(0);
    let names: Vec<&str> = columns.fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(names, ["s", "i"]);
    assert!(columns.fields.iter().all(|field| field.status.is_empty()), "empty when every row is PRESENT");
}

#[tokio::test]
async fn a_feature_service_names_its_features_by_version() {
    let bed = bed().await;
    let key = entity("service");
    bed.put(Record::new("points", &key, format!(r#"{{"ts":{},"i":1,"s":"x"}}"#, event_now()))).await;
    for (name, expected) in [
        ("some", vec!["s", "i"]),
        ("some@2", vec!["s", "i"]),
        ("some@1", vec!["i"]),
        ("all", vec!["d", "i", "b", "s", "t", "j", "n"]),
    ] {
        let answer = bed.features(service(name, &[&key], Format::Typed)).await;
        assert_eq!(answer.views.len(), 1, "{name}");
        let names: Vec<&str> = answer.views[0].fields.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(names, expected, "{name}: the highest version unless one is named");
    }
    let answer = bed.features(service("some@1", &[&key], Format::Json)).await;
    assert!(!answer.views[0].json[0].is_empty(), "as JSON it is the whole data point");
}

#[tokio::test]
async fn statuses_say_why_there_is_no_value() {
    let bed = bed().await;
    let (present, deleted, expired, unknown) = (entity("s"), entity("s"), entity("s"), entity("s"));
    let now = event_now();
    bed.send(Record::new("stamp", &present, "{}").at(now)).await;
    bed.send(Record::tombstone("stamp", &deleted).at(now)).await;
    let short = Record::new("stamp", &expired, r#"{"old":1}"#).at(now).header("forebay-ttl-ms", "3000");
    bed.put(short).await;
    bed.settled().await;
    let asked = request("stamp", &[&present, &deleted, &expired, &unknown]);
    let rows = eventually("its TTL passes", || async {
        let rows = bed.rows(asked.clone()).await;
        anyhow::ensure!(rows[2].status != Status::Present, "{rows:?}");
        Ok(rows)
    });
    let rows = rows.await;
    let statuses: Vec<Status> = rows.iter().map(|row| row.status).collect();
    assert_eq!(statuses, [Status::Present, Status::Deleted, Status::Expired, Status::NotFound]);
    assert!(rows[2].json.is_empty() && rows[2].place.is_some(), "EXPIRED says when and where, and no value");
    let rows = bed.rows(v1::GetFeaturesRequest { include_expired: true, ..asked }).await;
    assert_eq!((rows[2].status, rows[2].json.as_slice()), (Status::Expired, &br#"{"old":1}"#[..]));
}

#[tokio::test]
async fn every_answer_says_what_it_was_read_at() {
    let bed = bed().await;
    let key = entity("vector");
    let place = bed.put(Record::new("points", &key, format!(r#"{{"ts":{}}}"#, event_now()))).await;
    let answer = bed.features(request("points", &[&key])).await;
    let vector = answer.read_at.expect("an offset vector");
    let topic = vector.topics.iter().find(|topic| topic.topic == place.topic).expect("the topic");
    let at =
        topic.partitions.iter().position(|partition| *partition == place.partition).expect("its partition");
    assert!(topic.offsets[at] >= place.offset, "{vector:?} includes {place:?}");
    assert_eq!(topic.partitions.len(), 1, "only partitions read: {vector:?}");
}

#[tokio::test]
async fn many_requests_in_flight_on_one_stream_are_matched_by_id() {
    let bed = bed().await;
    let keys: Vec<Vec<u8>> = (0..50).map(|i| entity(&format!("stream{i}"))).collect();
    let ts = event_now();
    let point = |(i, key): (usize, &Vec<u8>)| Record::new("points", key, format!(r#"{{"ts":{ts},"i":{i}}}"#));
    bed.send_all(keys.iter().enumerate().map(point)).await;
    bed.settled().await;
    let ask = |id: u64| {
        let mut asked = request("points", &[&keys[id as usize % 50]]);
        if id % 10 == 3 {
            asked.entities.clear();
        }
        v1::StreamFeaturesRequest { id, request: Some(asked), timeout_ms: 5000 }
    };
    let requests: Vec<_> = (0..5000).map(ask).collect();
    let stream =
        bed.client.store.clone().stream_features(tokio_stream::iter(requests)).await.expect("a stream");
    let mut answers = stream.into_inner();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(answer) = answers.message().await.expect("the stream goes on") {
        assert!(seen.insert(answer.id), "{} twice", answer.id);
        match answer.outcome.expect("an outcome") {
            v1::stream_features_response::Outcome::Response(found) => {
                let expected = format!(r#"{{"ts":{ts},"i":{}}}"#, answer.id % 50);
                assert_eq!(found.views[0].json[0], expected.as_bytes(), "answer {}", answer.id);
            }
            v1::stream_features_response::Outcome::Error(error) => {
                assert_eq!((error.code, answer.id % 10), (3, 3), "{}", error.message);
            }
        }
    }
    assert_eq!(seen.len(), 5000);
}

/// Two lanes of one view each; `late` is the one that will be taken down.
const LANES: &str = r#"
[[lane]]
name = "late"
dead_letter_topic = "{ns}.late-dlq"
[[lane.topic]]
name = "{ns}.late"
[[view]]
id = 2
name = "late"
lane = "late"
entity = "customer"
topics = ["{ns}.late"]
event_time = { path = "ts" }
[[feature_service]]
name = "both"
version = 1
features = ["points.i", "late.*"]
"#;

#[tokio::test]
async fn a_lane_that_is_down_leaves_the_others_answers_whole() {
    let late = LANES.replace(
        "event_time = { path = \"ts\" }",
        "event_time = { path = \"ts\" }\nfield = [{ name = \"x\", type = \"int64\" }]",
    );
    let bed = Bed::new("federation").definitions(&format!("{POINTS}{late}")).start().await;
    let payload = format!(r#"{{"ts":{},"i":1,"x":2}}"#, event_now());
    for topic in ["points", "late"] {
        bed.put(Record::new(topic, b"k", payload.clone())).await;
    }
    let answer = bed.features(service("both", &[b"k"], Format::Typed)).await;
    let views: Vec<&str> = answer.views.iter().map(|view| view.view.as_str()).collect();
    assert_eq!(views, ["points", "late"], "in the order the service names them");
    assert_eq!(forebay_tests::cells(&answer.views[1], 0)["x"], Cell::present(2));
    bed.kafka.delete_topics(&[&bed.topic("late")]).await;
    halted(&bed.client, "late", 0).await;
    halted(&bed.client, "late", 1).await;
    let answer = bed.features(service("both", &[b"k", b"other"], Format::Json)).await;
    let rows: Vec<Vec<Status>> = answer
        .views
        .iter()
        .map(|view| forebay_tests::rows(view).iter().map(|row| row.status).collect())
        .collect();
    assert_eq!(rows, [[Status::Present, Status::NotFound], [Status::Unavailable; 2]]);
    assert!(
        answer.unavailable.iter().all(|shard| shard.lane == "late" && !shard.reason.is_empty()),
        "{answer:?}"
    );
    bed.put(Record::new("points", b"k2", payload)).await;
    assert_eq!(bed.get("points", b"k2").await.status, Status::Present, "and its ingest goes on");
}

#[tokio::test]
async fn status_and_descriptions_say_what_there_is() {
    let bed = bed().await;
    bed.put(Record::new("points", &entity("status"), format!(r#"{{"ts":{}}}"#, event_now()))).await;
    let lanes = eventually("all is synced", || async {
        let status = bed.client.status().await?;
        let main = status.lanes.iter().find(|lane| lane.lane == "main").expect("main").clone();
        let topics = main.shards.iter().flat_map(|shard| &shard.topics);
        anyhow::ensure!(topics.clone().all(|topic| topic.durable_offset == topic.applied_offset), "{main:?}");
        anyhow::ensure!(topics.clone().all(|topic| topic.end_offset == topic.applied_offset + 1), "{main:?}");
        Ok((status, main))
    });
    let (status, main) = lanes.await;
    assert_eq!(status.instance, "one");
    assert!(!status.version.is_empty() && status.uptime_ms > 0);
    assert_eq!((main.partitioner.as_str(), main.partitions, main.shards.len()), ("murmur2", 2, 2));
    assert!(main.shards.iter().map(|shard| shard.keys).sum::<u64>() > 0);
    assert!(main.shards.iter().all(|shard| shard.disk_bytes > 0 && shard.index_bytes > 0), "{main:?}");
    let asked = v1::DescribeViewsRequest { views: vec!["avro".into()] };
    let described = bed.client.admin.clone().describe_views(asked).await.expect("an answer").into_inner();
    assert_eq!(described.views.len(), 1);
    let view = &described.views[0];
    assert_eq!((view.id, view.lane.as_str(), view.avro_json), (10, "side", true));
    assert_eq!((view.event_time.as_str(), view.history.as_str()), ("path head.ts", "latest"));
    assert_eq!(view.ttl_ms, 7 * 86_400_000);
    let last = view.fields.last().expect("fields");
    assert_eq!(
        (last.name.as_str(), last.r#type.as_str(), last.default_json.as_str()),
        ("or", "string", "\"none\"")
    );
}
