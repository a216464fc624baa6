//! Requests no client should send: each is answered with the code and the words that say what was wrong with it, and the
//! server goes on. Nothing of the records themselves here.

use std::time::Duration;

use forebay_tests::v1::{self, get_features_request::Selection};
use forebay_tests::{Format, Place, Record, Status, call, event_now, eventually, request};
use futures::StreamExt;
use prost::Message;
use tonic::{Code, Request};

use crate::shared::{bed, entity};

/// The code and words a GetFeatures request fails with.
async fn refused(
    bed: &forebay_tests::Bed,
    asked: impl tonic::IntoRequest<v1::GetFeaturesRequest>,
) -> (Code, String) {
    let status = bed.client.store.clone().get_features(asked).await.expect_err("a request to refuse");
    (status.code(), status.message().to_owned())
}

/// Panics unless the answer is INVALID_ARGUMENT and says all these words.
fn invalid((code, message): (Code, String), words: &[&str]) {
    assert_eq!(code, Code::InvalidArgument, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

fn said(status: tonic::Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}

fn at(ts: i64) -> String {
    format!(r#"{{"ts":{ts}}}"#)
}

#[tokio::test]
async fn bad_34_empty_request() {
    let bed = bed().await;
    let (mut store, mut admin) = (bed.client.store.clone(), bed.client.admin.clone());
    invalid(refused(&bed, v1::GetFeaturesRequest::default()).await, &["entit"]);
    invalid(said(store.get_history(v1::GetHistoryRequest::default()).await.expect_err("empty")), &["entity"]);
    invalid(
        said(store.push_features(v1::PushFeaturesRequest::default()).await.expect_err("empty")),
        &["data_points"],
    );
    invalid(
        said(store.delete_features(v1::DeleteFeaturesRequest::default()).await.expect_err("empty")),
        &["entit"],
    );
    let empty = tokio_stream::iter([v1::StreamFeaturesRequest { id: 9, ..Default::default() }]);
    let mut answers = store.stream_features(empty).await.expect("a stream").into_inner();
    let answer = answers.message().await.expect("an answer").expect("an answer");
    let Some(v1::stream_features_response::Outcome::Error(error)) = answer.outcome else {
        panic!("{answer:?}")
    };
    assert_eq!((answer.id, error.code), (9, Code::InvalidArgument as i32), "{}", error.message);
    assert!(answers.message().await.expect("the stream ends well").is_none());
    assert!(
        !admin
            .get_status(v1::GetStatusRequest::default())
            .await
            .expect("a whole status")
            .get_ref()
            .lanes
            .is_empty()
    );
    let all = admin.describe_views(v1::DescribeViewsRequest::default()).await.expect("all views");
    assert!(all.get_ref().views.len() > 1);
}

#[tokio::test]
async fn bad_35_no_entities() {
    let bed = bed().await;
    invalid(refused(&bed, request("points", &[])).await, &["entit"]);
    let views = Some(Selection::Views(v1::ViewSelections::default()));
    let none = v1::GetFeaturesRequest { selection: views, ..request("points", &[b"e"]) };
    invalid(refused(&bed, none).await, &["view"]);
    let none = v1::GetFeaturesRequest { selection: None, ..request("points", &[b"e"]) };
    invalid(refused(&bed, none).await, &["view"]);
    let none = v1::DeleteFeaturesRequest { entities: vec![b"e".to_vec().into()], ..Default::default() };
    invalid(said(bed.client.store.clone().delete_features(none).await.expect_err("no views")), &["view"]);
}

#[tokio::test]
async fn bad_36_one_entity_too_many() {
    let bed = bed().await;
    let names: Vec<Vec<u8>> = (0..10_001).map(|i| format!("n{i}").into_bytes()).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let (code, message) = refused(&bed, request("points", &names)).await;
    invalid((code, message.replace(',', "")), &["10001", "10000"]);
    assert_eq!(bed.rows(request("points", &names[..10_000])).await.len(), 10_000);
}

#[tokio::test]
async fn bad_37_unknown_service_view_or_field() {
    let bed = bed().await;
    let service = |name: &str| {
        let selection = Some(Selection::FeatureService(name.into()));
        v1::GetFeaturesRequest { selection, ..request("points", &[b"e"]) }
    };
    let unknown = |(code, message): (Code, String), word: &str| {
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.contains(word), "{word} is not in {message:?}");
    };
    unknown(refused(&bed, request("pionts", &[b"e"])).await, "pionts");
    unknown(refused(&bed, service("nope")).await, "nope");
    for name in ["some@3", "some@0", "some@x", "some@", "@1", ""] {
        assert_eq!(refused(&bed, service(name)).await.0, Code::InvalidArgument, "{name:?}");
    }
    unknown(refused(&bed, service("some@3")).await, "3");
    let views = vec![v1::ViewSelection { view: "points".into(), fields: vec!["d".into(), "nope".into()] }];
    let typed = v1::GetFeaturesRequest {
        selection: Some(Selection::Views(v1::ViewSelections { views })),
        format: Format::Typed.into(),
        ..request("points", &[b"e"])
    };
    unknown(refused(&bed, typed).await, "nope");
    let asked =
        v1::GetHistoryRequest { entity: b"e".to_vec().into(), view: "nope".into(), ..Default::default() };
    unknown(said(bed.client.store.clone().get_history(asked).await.expect_err("unknown")), "nope");
    let point = v1::DataPoint { entity: b"e".to_vec().into(), view: "nope".into(), ..Default::default() };
    let push = v1::PushFeaturesRequest { data_points: vec![point] };
    unknown(said(bed.client.store.clone().push_features(push).await.expect_err("unknown")), "nope");
    let delete = v1::DeleteFeaturesRequest {
        entities: vec![b"e".to_vec().into()],
        views: vec!["nope".into()],
        ..Default::default()
    };
    unknown(said(bed.client.store.clone().delete_features(delete).await.expect_err("unknown")), "nope");
    let describe = v1::DescribeViewsRequest { views: vec!["nope".into()] };
    unknown(said(bed.client.admin.clone().describe_views(describe).await.expect_err("unknown")), "nope");
}

#[tokio::test]
async fn bad_37_an_unknown_format_is_refused() {
    let bed = bed().await;
    invalid(
        refused(&bed, v1::GetFeaturesRequest { format: 77, ..request("points", &[b"e"]) }).await,
        &["format"],
    );
}

#[tokio::test]
async fn bad_38_duplicate_entities_are_answered_as_often_as_asked() {
    let bed = bed().await;
    let key = entity("twice");
    bed.put(Record::new("points", &key, at(event_now()))).await;
    let rows = bed.rows(request("points", &[&key, b"other", &key])).await;
    assert_eq!(rows[0], rows[2]);
    assert_eq!([rows[0].status, rows[1].status], [Status::Present, Status::NotFound]);
    let view = v1::ViewSelection { view: "points".into(), fields: Vec::new() };
    let views = Some(Selection::Views(v1::ViewSelections { views: vec![view.clone(), view] }));
    let twice = v1::GetFeaturesRequest { selection: views, ..request("points", &[&key]) };
    invalid(refused(&bed, twice).await, &["points"]);
}

#[tokio::test]
async fn bad_39_entity_id_empty_or_too_long() {
    let bed = bed().await;
    let long = [b'k'; 256];
    for id in [&b""[..], &long] {
        invalid(refused(&bed, request("points", &[b"fine", id])).await, &["entities[1]", "255"]);
        let asked =
            v1::GetHistoryRequest { entity: id.to_vec().into(), view: "points".into(), ..Default::default() };
        invalid(said(bed.client.store.clone().get_history(asked).await.expect_err("bad")), &["255"]);
        let json = at(event_now()).into_bytes().into();
        let point =
            v1::DataPoint { entity: id.to_vec().into(), view: "points".into(), json, ..Default::default() };
        let push = v1::PushFeaturesRequest { data_points: vec![point] };
        invalid(said(bed.client.store.clone().push_features(push).await.expect_err("bad")), &["255"]);
        let delete = v1::DeleteFeaturesRequest {
            entities: vec![id.to_vec().into()],
            views: vec!["points".into()],
            ..Default::default()
        };
        invalid(said(bed.client.store.clone().delete_features(delete).await.expect_err("bad")), &["255"]);
    }
    assert_eq!(bed.rows(request("points", &[&[b'x'; 255]])).await[0].status, Status::NotFound);
}

#[tokio::test]
async fn bad_40_as_of_negative_future_or_before_history() {
    let bed = bed().await;
    let (key, ts) = (entity("asof"), event_now());
    let place = bed.put(Record::new("points", &key, at(ts))).await;
    let as_of = |time| v1::GetFeaturesRequest { as_of_ms: Some(time), ..request("points", &[&key]) };
    for negative in [-1, i64::MIN] {
        invalid(refused(&bed, as_of(negative)).await, &["as_of_ms", &negative.to_string()]);
    }
    for before in [0, ts - 1] {
        assert_eq!(bed.rows(as_of(before)).await[0].status, Status::NotFound, "as of {before}");
    }
    for after in [ts, ts + 1, ts + 86_400_000, i64::MAX] {
        assert_eq!(bed.rows(as_of(after)).await[0].place.as_ref(), Some(&place), "as of {after}");
    }
}

#[tokio::test]
async fn bad_41_wait_vector_for_a_foreign_or_unreachable_position() {
    let bed = bed().await;
    let wait = |topic: String, partition, offset| {
        let places = [Place { topic, partition, offset }];
        v1::GetFeaturesRequest { wait_for: Some(places.into_iter().collect()), ..request("points", &[b"e"]) }
    };
    invalid(refused(&bed, wait("foreign".into(), 0, 0)).await, &["foreign"]);
    invalid(refused(&bed, wait(bed.topic("points"), 2, 0)).await, &[&bed.topic("points"), "2"]);
    let mut uneven = wait(bed.topic("points"), 0, 0);
    uneven.wait_for.as_mut().expect("set").topics[0].offsets.clear();
    invalid(refused(&bed, uneven).await, &["wait_for"]);
    let unreachable = |entity: &[u8], partition| v1::GetFeaturesRequest {
        entities: vec![entity.to_vec().into()],
        ..wait(bed.topic("points"), partition, 1 << 40)
    };
    let here = bed.entity_on(0);
    let answer = bed.features(unreachable(&here, 0)).await;
    assert_eq!(answer.views[0].status, [Status::Unavailable as i32], "after the server's own waiting time");
    let why = &answer.unavailable[0];
    assert_eq!((why.lane.as_str(), why.partition), ("main", 0));
    assert!(!why.reason.is_empty());
    let mut within = Request::new(unreachable(&here, 0));
    within.set_timeout(Duration::from_millis(700));
    let answer = bed.client.store.clone().get_features(within).await.expect("in time").into_inner();
    assert_eq!(answer.views[0].status, [Status::Unavailable as i32], "before the caller's deadline");
    let other = bed.features(unreachable(&here, 1)).await;
    assert_eq!(other.views[0].status, [Status::NotFound as i32], "a shard waits for its own partition only");
}

#[tokio::test]
async fn bad_42_deadline_zero_past_or_an_hour() {
    let bed = bed().await;
    let timed = |timeout: &str| {
        let mut asked = Request::new(request("points", &[b"e"]));
        asked.metadata_mut().insert("grpc-timeout", timeout.parse().expect("ASCII"));
        asked
    };
    for timeout in ["0S", "0n", "1n"] {
        // The answer may be ready before anybody looks at the clock.
        if let Err(status) = bed.client.store.clone().get_features(timed(timeout)).await {
            assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        }
    }
    for timeout in ["1H", "99999999H", "nonsense"] {
        bed.client.store.clone().get_features(timed(timeout)).await.expect("an answer at once");
    }
    let asked = |id, timeout_ms| {
        let places = [Place { topic: bed.topic("points"), partition: 0, offset: 1 << 40 }];
        let wait = Some(places.into_iter().collect());
        let request =
            Some(v1::GetFeaturesRequest { wait_for: wait, ..request("points", &[&bed.entity_on(0)]) });
        v1::StreamFeaturesRequest { id, request, timeout_ms }
    };
    let requests = tokio_stream::iter([asked(1, 3_600_000), asked(2, 1)]).chain(tokio_stream::pending());
    let mut answers =
        bed.client.store.clone().stream_features(requests).await.expect("a stream").into_inner();
    let first = answers.message().await.expect("an answer").expect("an answer");
    assert_eq!(first.id, 2, "an hour of waiting does not hold up the one behind it: {first:?}");
}

#[tokio::test]
async fn bad_43_cancel_mid_call_and_mid_stream() {
    let bed = bed().await;
    let places = [Place { topic: bed.topic("points"), partition: 0, offset: 1 << 40 }];
    let key = bed.entity_on(0);
    let endless =
        v1::GetFeaturesRequest { wait_for: Some(places.into_iter().collect()), ..request("points", &[&key]) };
    for _ in 0..100 {
        let mut store = bed.client.store.clone();
        let asked = endless.clone();
        let cancelled = tokio::time::timeout(Duration::from_millis(3), store.get_features(asked)).await;
        // What was dropped before counts until the server hears of it: it may refuse to take in more.
        let refused = |answer: &Result<_, tonic::Status>| {
            answer.as_ref().err().map(tonic::Status::code) == Some(Code::ResourceExhausted)
        };
        assert!(
            cancelled.as_ref().map_or(true, refused),
            "it was waiting when it was dropped: {cancelled:?}"
        );
        let asked = v1::StreamFeaturesRequest { id: 1, request: Some(endless.clone()), timeout_ms: 0 };
        let requests = tokio_stream::iter(vec![asked; 50]).chain(tokio_stream::pending());
        drop(store.stream_features(requests).await.expect("a stream"));
    }
    let answer = eventually("what was dropped is let go of", || async {
        Ok(bed.client.store.clone().get_features(request("points", &[&key])).await?.into_inner())
    })
    .await;
    assert_eq!(answer.views[0].status, [Status::NotFound as i32]);
}

#[tokio::test]
async fn bad_44_message_over_the_limit() {
    let bed = bed().await;
    let json = format!(r#"{{"ts":{},"s":"{}"}}"#, event_now(), "x".repeat(1000));
    let point = v1::DataPoint {
        entity: entity("over").into(),
        view: "points".into(),
        json: json.into(),
        ..Default::default()
    };
    let push = v1::PushFeaturesRequest { data_points: vec![point; 5000] };
    let status =
        bed.client.store.clone().push_features(push).await.expect_err("5 MB against a limit of 4 MiB");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    assert_eq!(bed.get("points", b"e").await.status, Status::NotFound, "the connection goes on");
}

#[tokio::test]
async fn bad_48_unknown_proto_fields_are_passed_over() {
    let bed = bed().await;
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{}", bed.server.grpc)).expect("a URL");
    let channel = channel.connect().await.expect("connects");
    let mut message = request("points", &[b"e"]).encode_to_vec();
    // Field 1000, a varint; field 1001, a string.
    message.extend([0xc0, 0x3e, 0x05, 0xca, 0x3e, 0x03, b'n', b'e', b'w']);
    let answer = call(&channel, "/forebay.v1.FeatureStore/GetFeatures", message).await.expect("an answer");
    let answer = v1::GetFeaturesResponse::decode(answer.as_slice()).expect("decodes");
    assert_eq!(answer.views[0].status, [Status::NotFound as i32]);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unimplemented() {
    let bed = bed().await;
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{}", bed.server.grpc)).expect("a URL");
    let channel = channel.connect().await.expect("connects");
    for path in ["/forebay.v1.Diagnoses/Nope", "/forebay.v1.FeatureStore/Nope", "/x/y"] {
        let status = call(&channel, path, Vec::new()).await.expect_err("nothing is there");
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn bad_push_is_checked_as_a_whole_and_produces_nothing() {
    let bed = bed().await;
    let (key, ts) = (entity("whole"), event_now());
    let point = |json: String| v1::DataPoint {
        entity: key.clone().into(),
        view: "points".into(),
        json: json.into_bytes().into(),
        ..Default::default()
    };
    let bads = [
        ("not_json", "nope".to_owned()),
        ("not_json", String::new()),
        ("not_object", "[]".into()),
        ("no_event_time", "{}".into()),
        ("bad_event_time", r#"{"ts":5}"#.into()),
        ("future", at(ts + 3_600_000)),
        ("too_deep", format!(r#"{{"ts":{ts},"x":{}{}}}"#, "[".repeat(200), "]".repeat(200))),
    ];
    let before = bed.kafka.end_offsets(&bed.topic("points")).await;
    for (reason, bad) in bads {
        let data_points = vec![point(at(ts)), point(bad), point(at(ts))];
        let push = v1::PushFeaturesRequest { data_points };
        let status = bed.client.store.clone().push_features(push).await.expect_err(reason);
        invalid(said(status), &[reason, "1"]);
    }
    let mut long = point(at(ts));
    long.ttl_ms = Some(0);
    let push = v1::PushFeaturesRequest { data_points: vec![long] };
    invalid(said(bed.client.store.clone().push_features(push).await.expect_err("ttl 0")), &["ttl"]);
    assert_eq!(bed.get("points", &key).await.status, Status::NotFound);
    // Other tests produce to the topic too: what matters is that none of it is ours.
    let produced = bed.kafka.read_topic(&bed.topic("points")).await;
    assert!(produced.iter().all(|record| record.key.as_ref() != Some(&key)), "from {before:?} on");
}
