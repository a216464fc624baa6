//! The table of routes against `docs/openapi.json`, both ways; what an answer looks like is compared with a real server's.

use std::collections::BTreeSet;

use forebay_proto::v1::{
    FieldColumn, GetFeaturesResponse, OffsetVector, ShardUnavailable, Status, TopicOffsets, ViewColumns,
};
use serde_json::{Value, json};

use super::admin::OPENAPI;
use super::route::ROUTES;
use super::values;

fn described() -> Value {
    serde_json::from_str(OPENAPI).expect("it is JSON")
}

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let routes: BTreeSet<(String, String)> =
        ROUTES.iter().map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase())).collect();
    let document = described();
    let paths = document["paths"].as_object().expect("paths").iter();
    let found = paths.flat_map(|(path, methods)| {
        methods.as_object().expect("methods").keys().map(|method| (path.clone(), method.clone()))
    });
    assert_eq!(routes, found.collect());
}

#[test]
fn parameters_are_those_of_the_routes() {
    let document = described();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let of = |place: &str| -> BTreeSet<&str> {
            let parameters = operation["parameters"].as_array().expect("parameters").iter();
            let here = parameters.filter(|parameter| parameter["in"] == place);
            here.map(|parameter| parameter["name"].as_str().expect("a name")).collect()
        };
        assert_eq!(of("query"), route.query.iter().copied().collect(), "{}", route.path);
        let parts = route.path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
        assert_eq!(of("path"), parts.collect(), "{}", route.path);
        assert_eq!(of("header"), BTreeSet::from(["x-timeout-ms"]), "{}", route.path);
        let takes_body = !operation["requestBody"].is_null();
        assert!(route.method == "POST" || !takes_body, "{}", route.path);
        assert!(!operation["summary"].as_str().expect("a summary").is_empty());
    }
}

#[test]
fn every_reference_of_the_description_is_defined() {
    let document = described();
    let names: BTreeSet<&str> = OPENAPI
        .split("#/components/schemas/")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('"')?.0))
        .collect();
    let defined = document["components"]["schemas"].as_object().expect("schemas");
    assert_eq!(names, defined.keys().map(String::as_str).collect());
}

#[test]
fn answers_are_json_with_payloads_as_they_came() {
    let view = ViewColumns {
        view: "a\"b".into(),
        status: vec![Status::Present as i32, Status::NotFound as i32, Status::Deleted as i32],
        event_time_ms: vec![5, 0, 6],
        ingest_time_ms: vec![7, 0, 8],
        expiry_ms: vec![9, 0, 10],
        topics: vec!["t".into()],
        topic_index: vec![0; 3],
        partition: vec![3, 0, 4],
        offset: vec![11, 0, 12],
        json: vec!["{\"x\" : 1.50}".into(), "".into(), "".into()],
        ..ViewColumns::default()
    };
    let column = |field: &str| FieldColumn { field: field.into(), ..FieldColumn::default() };
    let typed = ViewColumns {
        view: "typed".into(),
        json: Vec::new(),
        fields: vec![
            FieldColumn { doubles: vec![1.5, 0.0, 0.0], ..column("d") },
            FieldColumn { status: vec![Status::Null as i32, 3, 5], ints: vec![0; 3], ..column("i") },
            FieldColumn { strings: vec!["\n".into(), "".into(), "".into()], ..column("s") },
            FieldColumn { json: vec!["[1]".into(), "".into(), "".into()], ..column("j") },
        ],
        ..view.clone()
    };
    let answer = GetFeaturesResponse {
        views: vec![view, typed],
        read_at: Some(OffsetVector {
            topics: vec![TopicOffsets { topic: "t".into(), partitions: vec![3, 4], offsets: vec![11, 12] }],
        }),
        unavailable: vec![ShardUnavailable { lane: "l".into(), partition: 1, reason: "why".into() }],
    };
    let entities = ["e".into(), vec![0xff, 0].into(), "base64:".into()];
    let text = values::features(&entities, &answer);
    assert!(String::from_utf8_lossy(&text).contains("\"value\":{\"x\" : 1.50}"), "byte for byte");
    let found: Value = serde_json::from_slice(&text).expect("JSON");
    let meta = json!({"status": "PRESENT", "event_time_ms": 5, "ingest_time_ms": 7, "expiry_ms": 9,
        "position": {"topic": "t", "partition": 3, "offset": 11}});
    let with = |name: &str, value: Value| {
        let mut row = meta.clone();
        row[name] = value;
        row
    };
    assert_eq!(found["entities"][0]["views"]["a\"b"], with("value", json!({"x": 1.5})));
    let mut fields = with("fields", json!({"d": 1.5, "i": null, "s": "\n", "j": [1]}));
    fields["field_status"] = json!({"i": "NULL"});
    assert_eq!(found["entities"][0]["views"]["typed"], fields);
    assert_eq!(
        found["entities"][1],
        json!({"entity": "base64:/wA=", "views": {
        "a\"b": {"status": "NOT_FOUND"}, "typed": {"status": "NOT_FOUND"}}})
    );
    assert_eq!(found["entities"][2]["entity"], "base64:YmFzZTY0Og==");
    assert_eq!(found["entities"][2]["views"]["typed"]["status"], "DELETED");
    assert_eq!(found["read_at"], json!({"t": {"3": 11, "4": 12}}));
    assert_eq!(found["unavailable"], json!([{"lane": "l", "partition": 1, "reason": "why"}]));
}
