//! Payloads that are no JSON, or JSON at its edges: the first are dead-lettered, the second kept byte for byte and every
//! field says for itself whether it has a value of its declared type.

use forebay_tests::{Bed, Cell, Record, Status, event_now};
use serde_json::{Value, json};

use crate::shared::{bed, entity};

/// Sends a payload whose event time is now; `{ts}` stands for it.
async fn put(bed: &Bed, topic: &str, payload: &str) -> Vec<u8> {
    let (key, payload) = (entity("json"), payload.replace("{ts}", &event_now().to_string()));
    bed.put(Record::new(topic, &key, payload.clone())).await;
    let row = bed.get(topic, &key).await;
    assert_eq!((row.status, row.json), (Status::Present, payload.into_bytes()), "kept byte for byte");
    key
}

async fn refused(bed: &Bed, payload: impl AsRef<[u8]>, reason: &str) {
    bed.refused(Record::new("points", &entity("json"), payload.as_ref()), reason).await;
}

async fn cell(bed: &Bed, view: &str, payload: &str, field: &str) -> Cell {
    let key = put(bed, view, payload).await;
    bed.cells(view, &key).await[field].clone()
}

/// The status of a field and, if it is PRESENT, its value; `null` for NULL and the status' name otherwise.
async fn field(bed: &Bed, view: &str, payload: &str, name: &str) -> Value {
    let cell = cell(bed, view, payload, name).await;
    match cell.status {
        Status::Present => cell.value,
        Status::Null => Value::Null,
        other => json!(other.as_str_name()),
    }
}

#[tokio::test]
async fn bad_09_not_json() {
    let bed = bed().await;
    for payload in ["hello", "{'ts':1}", r#"{"ts":1,}"#, r#"{"ts":01}"#, r#"{"ts":1} x"#, "{ts:1}", "\u{1}"] {
        refused(&bed, payload, "not_json").await;
    }
}

#[tokio::test]
async fn bad_10_truncated_json() {
    let bed = bed().await;
    let whole = format!(r#"{{"ts":{},"s":"abc","inner":{{"deep":[1]}}}}"#, event_now());
    for length in [1, 4, 9, 26, whole.len() - 2, whole.len() - 1] {
        refused(&bed, &whole[..length], "not_json").await;
    }
}

#[tokio::test]
async fn bad_11_scalar_or_array() {
    let bed = bed().await;
    for payload in ["1", "\"x\"", "null", "true", "[]", r#"[{"ts":1700000000000}]"#] {
        refused(&bed, payload, "not_object").await;
    }
}

#[tokio::test]
async fn bad_12_ten_thousand_levels_deep() {
    let bed = bed().await;
    let deep = |levels: usize| {
        format!(r#"{{"ts":{{ts}},"x":{}1{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1))
    };
    let objects = format!("{}1{}", r#"{"ts":"#.repeat(10_000), "}".repeat(10_000));
    let ts = event_now().to_string();
    for payload in [deep(10_000).replace("{ts}", &ts), deep(129).replace("{ts}", &ts), objects] {
        refused(&bed, payload, "too_deep").await;
    }
    put(&bed, "points", &deep(128)).await;
}

#[tokio::test]
async fn bad_13_duplicate_field_names_the_last_wins() {
    let bed = bed().await;
    let ts = event_now();
    let key = put(&bed, "points", &format!(r#"{{"ts":1,"i":1,"i":"x","ts":{ts},"i":3,"\u0069":4}}"#)).await;
    assert_eq!(bed.cells("points", &key).await["i"], Cell::present(4), "an escaped name is the same name");
    assert_eq!(bed.get("points", &key).await.event_time_ms, ts);
}

#[tokio::test]
async fn bad_14_numbers_at_the_edges() {
    let bed = bed().await;
    refused(&bed, format!(r#"{{"ts":{},"d":NaN}}"#, event_now()), "not_json").await;
    refused(&bed, format!(r#"{{"ts":{},"d":-Infinity}}"#, event_now()), "not_json").await;
    let invalid = json!("INVALID");
    for (name, text, expected) in [
        ("d", "1e400", invalid.clone()),
        ("d", "-1e400", invalid.clone()),
        ("d", "1e-400", json!(0.0)),
        ("d", "9223372036854775808", json!(9223372036854775808.0)),
        ("d", "7", json!(7.0)),
        ("i", "9223372036854775808", invalid.clone()),
        ("i", "9223372036854775807", json!(i64::MAX)),
        ("i", "-9223372036854775808", json!(i64::MIN)),
        ("i", "-0", json!(0)),
        ("i", "1.0", invalid.clone()),
        ("i", "1e3", invalid.clone()),
        ("t", "1700000000000", json!(1_700_000_000_000_i64)),
        ("t", "1.5", invalid.clone()),
    ] {
        let got = field(&bed, "points", &format!(r#"{{"ts":{{ts}},"{name}":{text}}}"#), name).await;
        assert_eq!(got, expected, "{name} {text}");
    }
    let zero = cell(&bed, "points", r#"{"ts":{ts},"d":-0}"#, "d").await;
    assert!(zero.value.as_f64().is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()), "{zero:?}");
}

#[tokio::test]
async fn bad_15_text_that_is_no_text() {
    let bed = bed().await;
    let ts = event_now();
    refused(&bed, [format!(r#"{{"ts":{ts},"s":""#).as_bytes(), b"\xff\"}"].concat(), "not_json").await;
    refused(&bed, [b"\xef\xbb\xbf", format!(r#"{{"ts":{ts}}}"#).as_bytes()].concat(), "not_json").await;
    refused(&bed, format!("{{\"ts\":{ts},\"s\":\"a\0b\"}}"), "not_json").await;
    refused(&bed, format!("{{\"ts\":{ts}}}\0"), "not_json").await;
    for (text, expected) in [
        (r#""\ud800""#, json!("INVALID")),
        (r#""\udc00\ud800""#, json!("INVALID")),
        (r#""\ud83d\ude00""#, json!("\u{1f600}")),
        (r#""a\u0000b""#, json!("a\0b")),
        (r#""\"\\\/\b\f\n\r\t""#, json!("\"\\/\u{8}\u{c}\n\r\t")),
        (r#""é""#, json!("é")),
    ] {
        assert_eq!(
            field(&bed, "points", &format!(r#"{{"ts":{{ts}},"s":{text}}}"#), "s").await,
            expected,
            "{text}"
        );
    }
}

#[tokio::test]
async fn bad_23_unknown_avro_branch() {
    let bed = bed().await;
    let invalid = json!("INVALID");
    for (name, text, expected) in [
        ("s", r#"{"string":"x"}"#, json!("x")),
        ("s", r#""bare""#, json!("bare")),
        ("s", r#"{"strong":"x"}"#, invalid.clone()),
        ("s", r#"{"string":"x","more":1}"#, invalid.clone()),
        ("s", r#"{"long":5}"#, invalid.clone()),
        ("s", "{}", invalid.clone()),
        ("s", "null", Value::Null),
        ("d", r#"{"double":1.5}"#, json!(1.5)),
        ("d", r#"{"float":1.5}"#, json!(1.5)),
        ("d", r#"{"int":3}"#, json!(3.0)),
        ("d", r#"{"string":"1.5"}"#, invalid.clone()),
        ("i", r#"{"long":5}"#, json!(5)),
        ("i", r#"{"int":5}"#, json!(5)),
        ("i", r#"{"double":5}"#, invalid.clone()),
        ("i", r#"{"long":"5"}"#, invalid.clone()),
        ("b", r#"{"boolean":true}"#, json!(true)),
        ("b", r#"{"bool":true}"#, invalid.clone()),
        ("or", "null", json!("none")),
    ] {
        let payload = format!(r#"{{"head":{{"ts":{{"long":{{ts}}}}}},"{name}":{text}}}"#);
        assert_eq!(field(&bed, "avro", &payload, name).await, expected, "{name} {text}");
    }
}

#[tokio::test]
async fn bad_23_a_path_looks_through_a_record_of_a_union() {
    let bed = bed().await;
    let payload = r#"{"head":{"com.example.Head":{"ts":{"long":{ts}},"id":{"string":"me"}}}}"#;
    assert_eq!(field(&bed, "avro", payload, "deep").await, json!("me"));
}

#[tokio::test]
async fn bad_24_field_of_the_wrong_type() {
    let bed = bed().await;
    let payload = r#"{"ts":{ts},"d":"1.5","i":true,"b":1,"s":[],"t":"2024-01-01T00:00:00Z","inner":{"deep":{"x":[1, 2]}},"n":"7"}"#;
    let key = put(&bed, "points", payload).await;
    let cells = bed.cells("points", &key).await;
    for name in ["d", "i", "b", "s", "t", "n"] {
        assert_eq!(cells[name].status, Status::Invalid, "{name}");
    }
    assert_eq!(cells["j"], Cell::present(r#"{"x":[1, 2]}"#), "the fields beside them are fine");
    let wrapped = field(&bed, "points", r#"{"ts":{ts},"s":{"string":"x"}}"#, "s").await;
    assert_eq!(wrapped, json!("INVALID"), "unwrapped only where the view says so");
}

#[tokio::test]
async fn bad_24_absent_and_null_are_null_or_the_default() {
    let bed = bed().await;
    let key = put(&bed, "points", r#"{"ts":{ts},"d":null,"inner":7,"n":null}"#).await;
    let cells = bed.cells("points", &key).await;
    for name in ["d", "i", "b", "s", "t", "j"] {
        assert_eq!(cells[name].status, Status::Null, "{name}");
    }
    assert_eq!(cells["n"], Cell::present(7));
}
