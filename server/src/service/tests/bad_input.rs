//! The catalogue of bad requests: each gets a clear error that names what is wrong.

use forebay_proto::v1::{DataPoint, DeleteFeaturesRequest, Format, GetHistoryRequest, PushFeaturesRequest};
use tonic::Code;

use super::super::{delete, push};
use super::*;

/// That the request fails as INVALID_ARGUMENT and says this.
async fn refused(bed: &Bed, request: GetFeaturesRequest, said: &str) {
    let status = bed.read(request).await.expect_err(said);
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    assert!(status.message().contains(said), "{said:?} in {:?}", status.message());
}

fn selecting(views: Vec<ViewSelection>) -> GetFeaturesRequest {
    GetFeaturesRequest { selection: Some(Selection::Views(ViewSelections { views })), ..of(&["e"]) }
}

#[tokio::test]
async fn bad_34_an_empty_request_is_refused() {
    let bed = Bed::new();
    refused(&bed, GetFeaturesRequest::default(), "entities: none given").await;
    refused(&bed, GetFeaturesRequest { selection: None, ..of(&["e"]) }, "name a feature_service, or views")
        .await;
    refused(&bed, selecting(Vec::new()), "views: none given").await;
    let status = bed.history(GetHistoryRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message().contains("entity: empty")), (Code::InvalidArgument, true));
}

#[tokio::test]
async fn bad_35_no_entities_are_refused() {
    refused(&Bed::new(), of(&[]), "entities: none given").await;
}

#[tokio::test]
async fn bad_36_more_entities_than_allowed_are_refused_with_the_limit() {
    let bed = Bed::new();
    refused(&bed, of(&["e"; 10_001]), "entities: 10001 given, at most 10000 are allowed").await;
    assert!(bed.read(of(&["e"; 10_000])).await.is_ok());
}

#[tokio::test]
async fn bad_37_unknown_names_are_refused_with_what_is_near() {
    let bed = Bed::new();
    refused(&bed, selecting(vec![selection("pionts", &[])]), "did you mean \"points\"?").await;
    refused(&bed, selecting(vec![selection("", &[])]), "name is empty").await;
    refused(&bed, selecting(vec![selection(&"x".repeat(1 << 20), &[])]), "a name of 1048576 bytes").await;
    let typed = |fields: &[&str]| GetFeaturesRequest {
        format: Format::Typed as i32,
        ..selecting(vec![selection("points", fields)])
    };
    refused(&bed, typed(&["nothing"]), "no field \"nothing\"").await;
    refused(&bed, typed(&["i", "i"]), "named twice").await;
    let service = |name: &str| GetFeaturesRequest {
        selection: Some(Selection::FeatureService(name.into())),
        ..of(&["e"])
    };
    refused(&bed, service("bothe"), "did you mean \"both\"?").await;
    refused(&bed, service("both@9"), "the highest is 2").await;
    refused(&bed, service("both@x"), "both").await;
    let history = GetHistoryRequest { entity: "e".into(), view: "pionts".into(), ..Default::default() };
    assert_eq!(bed.history(history).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn bad_37_a_view_named_twice_and_fields_of_json_are_refused() {
    let bed = Bed::new();
    let twice = vec![selection("points", &[]), selection("points", &[])];
    refused(&bed, selecting(twice), "named twice").await;
    refused(&bed, selecting(vec![selection("points", &["i"])]), "format TYPED").await;
    refused(&bed, GetFeaturesRequest { format: 7, ..of(&["e"]) }, "format: 7").await;
}

#[tokio::test]
async fn bad_38_duplicate_entities_are_answered_as_often_as_asked() {
    let mut bed = Bed::new();
    bed.put("e", NOW, r#"{"i":1}"#);
    let view = bed.view(of(&["e", "x", "e", "e"])).await;
    use ValueStatus::{NotFound, Present};
    assert_eq!(statuses(&view.status), [Present, NotFound, Present, Present]);
}

#[tokio::test]
async fn bad_39_entity_ids_that_are_empty_or_too_long_are_refused() {
    let bed = Bed::new();
    refused(&bed, of(&["e", ""]), "entities[1]: empty").await;
    refused(&bed, of(&[&"x".repeat(256)]), "entities[0]: 256 bytes").await;
    assert!(bed.read(of(&[&"x".repeat(255)])).await.is_ok());
}

#[tokio::test]
async fn bad_40_negative_times_and_known_at_alone_are_refused() {
    let bed = Bed::new();
    refused(&bed, GetFeaturesRequest { as_of_ms: Some(-1), ..of(&["e"]) }, "as_of_ms: -1").await;
    let known_at_ms = Some(-1);
    refused(&bed, GetFeaturesRequest { as_of_ms: Some(1), known_at_ms, ..of(&["e"]) }, "known_at_ms: -1")
        .await;
    refused(&bed, GetFeaturesRequest { known_at_ms: Some(1), ..of(&["e"]) }, "only with as_of_ms").await;
}

#[tokio::test]
async fn bad_40_a_history_with_a_wrong_range_limit_or_token_is_refused() {
    let bed = Bed::new();
    let good = || GetHistoryRequest { entity: "e".into(), view: "points".into(), ..Default::default() };
    for (request, said) in [
        (GetHistoryRequest { from_ms: Some(2), to_ms: Some(1), ..good() }, "from_ms: 2 is after to_ms 1"),
        (GetHistoryRequest { from_ms: Some(-1), ..good() }, "from_ms: -1"),
        (GetHistoryRequest { limit: 10_001, ..good() }, "at most 10000"),
        (GetHistoryRequest { page_token: "nonsense".into(), ..good() }, "page_token"),
        (GetHistoryRequest { fields: vec!["i".into()], ..good() }, "format TYPED"),
    ] {
        let status = bed.history(request).await.expect_err(said);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(said), "{said:?} in {:?}", status.message());
    }
}

/// That a push of these fails as INVALID_ARGUMENT and says all of this.
async fn push_refused(bed: &Bed, data_points: Vec<DataPoint>, said: &[&str]) {
    let status = push::push(&bed.context, PushFeaturesRequest { data_points }, Deadline::after_ms(0))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    for said in said {
        assert!(status.message().contains(said), "{said:?} in {:?}", status.message());
    }
}

fn point(view: &str, json: &str) -> DataPoint {
    DataPoint {
        entity: "e".into(),
        view: view.into(),
        json: Bytes::copy_from_slice(json.as_bytes()),
        ..DataPoint::default()
    }
}

#[tokio::test]
async fn a_push_names_every_bad_data_point() {
    let bed = Bed::new();
    let good = || point("points", &format!("{{\"ts\":{NOW}}}"));
    let with_ts = |ts: i64| point("points", &format!("{{\"ts\":{ts}}}"));
    let all = vec![
        DataPoint { entity: Bytes::new(), ..good() },
        good(),
        point("pionts", "{}"),
        point("points", "{\"ts\":"),
        point("points", "[]"),
        point("points", "{}"),
        with_ts(NOW + 6 * 60_000),
        with_ts(NOW - 7 * DAY),
        DataPoint { ttl_ms: Some(0), ..good() },
    ];
    let said = [
        "nothing was produced, 8 bad",
        "data_points[0]: entity: empty",
        "data_points[2]: no view \"pionts\"; did you mean \"points\"?",
        "data_points[3]: not_json",
        "data_points[4]: not_object",
        "data_points[5]: no_event_time",
        "data_points[6]: future",
        "data_points[7]: older than its TTL",
        "data_points[8]: ttl_ms: 0",
    ];
    push_refused(&bed, all, &said).await;
    push_refused(&bed, Vec::new(), &["at least one data point"]).await;
    push_refused(&bed, vec![good(); 10_001], &["at most 10000"]).await;
    push_refused(&bed, vec![point("points", "{}"); 12], &["data_points[9]", "and 2 more"]).await;
}

#[tokio::test]
async fn a_push_checks_times_by_the_view() {
    let bed = Bed::new();
    let with = |view: &str, event_time_ms, ttl_ms| DataPoint { event_time_ms, ttl_ms, ..point(view, "{}") };
    push_refused(&bed, vec![with("headed", Some(5), None)], &["bad_event_time"]).await;
    push_refused(&bed, vec![with("headed", None, Some(3 * HOUR as u64))], &["ttl_ms: 10800000 is over"])
        .await;
    push_refused(&bed, vec![with("headed", Some(NOW - HOUR), None)], &["older than its TTL"]).await;
    push_refused(&bed, vec![with("timed", Some(NOW + DAY), None)], &["future"]).await;
    let path = DataPoint { event_time_ms: Some(NOW), ..point("points", &format!("{{\"ts\":{NOW}}}")) };
    push_refused(&bed, vec![path], &["takes the event time from ts in the payload"]).await;
}

#[tokio::test]
async fn a_delete_is_checked_like_a_read() {
    let bed = Bed::new();
    let ask = |entities: &[&str], views: &[&str], event_time_ms| DeleteFeaturesRequest {
        entities: of(entities).entities,
        views: views.iter().map(|view| (*view).into()).collect(),
        event_time_ms,
    };
    for (request, said) in [
        (ask(&[], &["points"], None), "entities: none given"),
        (ask(&["e"], &[], None), "views: none given"),
        (ask(&["e"], &["pionts"], None), "did you mean"),
        (ask(&["e"], &["points", "points"], None), "named twice"),
        (ask(&["e"], &["points"], Some(5)), "2000"),
        (ask(&["e"], &["points"], Some(NOW + DAY)), "ahead of now"),
        (ask(&["e"], &["points"], Some(NOW - 8 * DAY)), "nothing to delete"),
    ] {
        let status = delete::delete(&bed.context, request, Deadline::after_ms(0)).await.expect_err(said);
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
        assert!(status.message().contains(said), "{said:?} in {:?}", status.message());
    }
}
