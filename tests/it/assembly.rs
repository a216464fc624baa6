//! Requests for features by Kafka: answers are gRPC's, in the order of the requests of a key; what cannot be answered is put
//! aside and keeps nobody waiting; a server that is killed in between answers everything at least once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use forebay_tests::{Bed, Consumed, Format, Record, event_now, eventually, http_with, request, v1};
use prost::Message as _;
use serde_json::{Value, json};

/// One thread unless a test wants more: when partitions change hands, requests may be answered twice.
const ASSEMBLY: &str = "[assembly]\nrequests_topic = \"{ns}.requests\"\n";

const PARTITIONS: u32 = 2;

/// A server that takes requests, and topics for answers.
async fn start(name: &str) -> Bed {
    start_with(name, "").await
}

/// The same with more in its [assembly].
async fn start_with(name: &str, more: &str) -> Bed {
    let builder = Bed::new(name).config(ASSEMBLY).config(more);
    let (config, kafka, namespace, definitions) = builder.prepare().await;
    let topic = |name: &str| format!("{namespace}.{name}");
    kafka.create_topics(&[&topic("requests"), &topic("replies")], PARTITIONS as i32).await;
    kafka.create_topics(&[&topic("requests.dlq")], 1).await;
    let server = config.start().await;
    server.wait_ready().await;
    let client = server.connect().await;
    Bed { kafka, namespace, definitions, server, client, partitions: PARTITIONS }
}

/// A request of an entity, named by a number, with more in it.
fn ask(bed: &Bed, id: usize, entity: &str, more: Value) -> Record {
    let mut body = json!({"entity": entity, "views": ["points"], "reply_topic": bed.topic("replies")});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Record::new("requests", entity.as_bytes(), body.to_string()).header("correlation-id", id.to_string())
}

fn header(record: &Consumed, name: &str) -> String {
    let found = record.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
    String::from_utf8(found.unwrap_or_default()).expect("UTF-8")
}

/// The answers by the number of the request, once there are as many different ones.
async fn answers(bed: &Bed, count: usize) -> BTreeMap<usize, Consumed> {
    eventually("every request is answered", || async {
        let all = bed.kafka.read_topic(&bed.topic("replies")).await;
        let all: BTreeMap<usize, Consumed> = all
            .into_iter()
            .map(|answer| (header(&answer, "correlation-id").parse().expect("a number"), answer))
            .collect();
        ensure!(all.len() >= count, "{} of {count}", all.len());
        Ok(all)
    })
    .await
}

fn json_of(answer: &Consumed) -> Value {
    serde_json::from_slice(answer.value.as_deref().expect("a value")).expect("JSON")
}

async fn put(bed: &Bed, entity: &str, i: i64) -> forebay_tests::Place {
    let ts = event_now();
    bed.put(Record::new("points", entity.as_bytes(), format!(r#"{{"ts":{ts},"i":{i},"s":"x"}}"#))).await
}

#[tokio::test]
async fn answers_are_those_of_rest_and_grpc() {
    let bed = start("assembly").await;
    put(&bed, "k", 42).await;
    let typed = json!({"format": "typed", "feature_service": "some@2", "views": null});
    bed.send(ask(&bed, 0, "k", json!({}))).await;
    bed.send(ask(&bed, 1, "k", typed)).await;
    bed.send(ask(&bed, 2, "k", json!({"format": "proto"}))).await;
    bed.send(ask(&bed, 3, "k", json!({"views": ["pionts"]}))).await;
    bed.send(ask(&bed, 4, "nobody", json!({"entities": ["k", "nobody"], "entity": null}))).await;
    let answers = answers(&bed, 5).await;
    let by_rest = async |body: Value| {
        let json = [("content-type", "application/json")];
        let (_, text) = http_with(&bed.server.http, "POST", "/v1/features", &json, &body.to_string()).await;
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(json_of(&answers[&0]), by_rest(json!({"entity": "k", "views": ["points"]})).await);
    let typed = json!({"entity": "k", "feature_service": "some@2", "format": "typed"});
    assert_eq!(json_of(&answers[&1]), by_rest(typed).await);
    let asked = v1::GetFeaturesRequest { format: Format::Typed.into(), ..request("points", &[b"k"]) };
    let bytes = answers[&2].value.as_deref().expect("a value");
    let decoded = v1::GetFeaturesResponse::decode(bytes).expect("the contract's message");
    assert_eq!(decoded.views, bed.features(asked).await.views);
    assert_eq!(header(&answers[&3], "forebay-status"), "INVALID_ARGUMENT");
    assert!(json_of(&answers[&3])["message"].as_str().expect("words").contains("did you mean \"points\"?"));
    assert_eq!(header(&answers[&0], "forebay-status"), "OK");
    assert_eq!(answers[&4].key.as_deref(), Some(b"nobody".as_slice()), "the key of the request");
    assert_eq!(json_of(&answers[&4])["entities"][1]["views"]["points"]["status"], "NOT_FOUND");
}

#[tokio::test]
async fn answers_keep_the_order_of_a_key_and_others_pass_one_that_waits() {
    let bed = start("assembly_order").await;
    let place = put(&bed, "slow", 1).await;
    let next = json!({place.topic.clone(): {place.partition.to_string(): place.offset + 1}});
    bed.send(ask(&bed, 0, "slow", json!({"wait_for": next, "timeout_ms": 60_000}))).await;
    bed.send_all((1..20).map(|id| ask(&bed, id, "slow", json!({})))).await;
    bed.send_all((20..60).map(|id| ask(&bed, id, &format!("other-{}", id % 4), json!({})))).await;
    let quick = answers(&bed, 40).await;
    assert!(quick.keys().all(|id| *id >= 20), "those behind the one that waits, wait: {:?}", quick.keys());
    put(&bed, "slow", 2).await;
    answers(&bed, 60).await;
    let mut last: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for answer in bed.kafka.read_topic(&bed.topic("replies")).await {
        let id: usize = header(&answer, "correlation-id").parse().expect("a number");
        let before = last.insert(answer.key.expect("a key"), id);
        assert!(before.is_none_or(|before| before < id), "{before:?} before {id}");
    }
}

#[tokio::test]
async fn poison_is_put_aside_with_its_reason_and_keeps_nobody_waiting() {
    let bed = start("assembly_poison").await;
    put(&bed, "k", 1).await;
    let mut absent = ask(&bed, 1, "k", json!({"reply_topic": bed.topic("absent")}));
    absent = absent.header("mine", "kept");
    bed.send(Record::new("requests", b"k", "not JSON")).await;
    bed.send(absent).await;
    bed.send(Record::new("requests", b"k", r#"{"entity": "k", "views": ["points"]}"#)).await;
    bed.send(Record::tombstone("requests", b"k")).await;
    bed.send(ask(&bed, 2, "k", json!({}))).await;
    answers(&bed, 1).await;
    let letters = eventually("all are put aside", || async {
        let letters = bed.kafka.read_topic(&bed.topic("requests.dlq")).await;
        ensure!(letters.len() >= 4, "{}", letters.len());
        Ok(letters)
    })
    .await;
    let mut reasons: Vec<_> = letters.iter().map(|letter| header(letter, "forebay-dlq-reason")).collect();
    reasons.sort();
    assert_eq!(reasons, ["malformed_request", "malformed_request", "no_reply_topic", "unknown_reply_topic"]);
    let kept = letters.iter().find(|letter| header(letter, "mine") == "kept").expect("its own headers stay");
    assert!(header(kept, "forebay-dlq-detail").contains("does not exist"));
    assert_eq!(header(kept, "forebay-dlq-topic"), bed.topic("requests"));
    let group = format!("{}.assembly", bed.namespace);
    eventually("everything is committed", || async {
        let committed = bed.kafka.committed(&group, &bed.topic("requests")).await;
        let ends = bed.kafka.end_offsets(&bed.topic("requests")).await;
        ensure!(committed.iter().zip(&ends).all(|(at, end)| at.max(&0) == end), "{committed:?} {ends:?}");
        Ok(())
    })
    .await;
    assert_eq!(bed.server.metric("forebay_assembly_dead_lettered_total").await, Some(4.0));
}

#[tokio::test]
async fn a_server_killed_in_between_answers_every_request() {
    const COUNT: usize = 6_000;
    let mut bed = start_with("assembly_kill", "threads = 2\n").await;
    for i in 0..20 {
        put(&bed, &format!("e{i}"), i).await;
    }
    for part in 0..3 {
        let ids = part * COUNT / 3..(part + 1) * COUNT / 3;
        bed.send_all(ids.map(|id| ask(&bed, id, &format!("e{}", id % 20), json!({})))).await;
        bed.server.kill9();
        bed.restart().await;
    }
    let answers = answers(&bed, COUNT).await;
    assert_eq!(answers.keys().copied().collect::<BTreeSet<_>>(), (0..COUNT).collect());
    for (id, answer) in answers {
        let row = &json_of(&answer)["entities"][0]["views"]["points"];
        assert_eq!((&row["status"], &row["value"]["i"]), (&"PRESENT".into(), &(id % 20).into()), "{id}");
    }
}
