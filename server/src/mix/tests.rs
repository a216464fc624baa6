//! The mix against its own definitions: every declared field is found in the payloads, with its type.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use serde_json::Value;

use super::sender::Sender;
use super::*;
use crate::definitions::EventTimeSource;
use crate::json::{Slots, typed};

const NOW_MS: i64 = 1_800_000_000_000;
const NONE: Shares = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };

/// (name, path, type, has a default) of each field, and whether the view wraps values.
type Declared = (Vec<(String, String, String, bool)>, bool);

fn declared() -> HashMap<String, Declared> {
    let table: toml::Table = definitions("").parse().expect("TOML");
    let views = table["view"].as_array().expect("views").iter().map(|view| {
        let text =
            |table: &toml::Value, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let field = |field: &toml::Value| {
            let name = text(field, "name").expect("name");
            let path = text(field, "path").unwrap_or_else(|| name.clone());
            (name, path, text(field, "type").expect("type"), field.get("default").is_some())
        };
        let fields = view["field"].as_array().expect("fields").iter().map(field).collect();
        let avro = view.get("avro_json").is_some_and(|avro| avro.as_bool() == Some(true));
        (text(view, "name").expect("name"), (fields, avro))
    });
    views.collect()
}

/// The value at a path; with `avro` through single-key wrappers.
fn at<'j>(mut value: &'j Value, path: &str, avro: bool) -> Option<&'j Value> {
    let inside = |value: &'j Value| value.as_object().filter(|o| avro && o.len() == 1)?.values().next();
    for key in path.split('.') {
        value = value.get(key).or_else(|| inside(value)?.get(key))?;
    }
    Some(inside(value).unwrap_or(value))
}

fn fits(value: &Value, declared: &str) -> bool {
    match declared {
        "double" => value.is_f64() || value.is_i64(),
        "int64" | "timestamp" => value.is_i64(),
        "bool" => value.is_boolean(),
        "string" => value.is_string(),
        _ => value.is_array() || value.is_object(),
    }
}

#[test]
fn declared_fields_are_in_the_payloads() {
    let declared = declared();
    let mut found: HashMap<(&str, String), u32> = HashMap::new();
    for view in VIEWS {
        let mut mix = Mix::new(9, 1000, NONE).only(|other| other.name == view.name);
        for _ in 0..100 {
            let value = mix.next(NOW_MS).value.clone().expect("a value");
            let json: Value = serde_json::from_slice(&value).expect("JSON");
            let (fields, avro) = &declared[view.name];
            for (name, path, kind, _) in fields {
                match at(&json, path, *avro) {
                    None | Some(Value::Null) => {}
                    Some(value) if fits(value, kind) => {
                        *found.entry((view.name, name.clone())).or_default() += 1
                    }
                    Some(value) => panic!("{}.{name} is no {kind}: {value}", view.name),
                }
            }
        }
    }
    for (view, (fields, _)) in &declared {
        for (name, ..) in fields {
            assert!(
                found.contains_key(&(view.as_str(), name.clone())),
                "{view}.{name} ({name}) is never there"
            );
        }
    }
}

#[test]
fn half_of_the_standard_views_are_avro_json() {
    let declared = declared();
    assert_eq!(declared.len(), VIEWS.len());
    assert_eq!(declared.values().filter(|(_, avro)| *avro).count(), 5);
}

#[test]
fn topics_and_prefix_agree_with_the_definitions() {
    let table: toml::Table = definitions("x.").parse().expect("TOML");
    let lanes = table["lane"].as_array().expect("lanes");
    let of_lane = |lane: &toml::Value| lane["topic"].as_array().expect("topics").clone();
    let defined: Vec<_> = lanes.iter().flat_map(of_lane).map(|topic| topic["name"].clone()).collect();
    let ours: Vec<_> =
        topics(None).into_iter().map(|topic| toml::Value::from(format!("x.{topic}"))).collect();
    assert_eq!(ours, defined);
    for lane in lanes {
        let name = lane["name"].as_str().expect("a name");
        assert_eq!(
            lane["dead_letter_topic"].as_str(),
            Some(format!("x.{}", dead_letter_topic(name)).as_str())
        );
    }
}

/// Everything goes to its topic, and to the partition that Java's partitioner gives.
#[test]
fn records_reach_kafka() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in topics(None) {
        cluster.create_topic(&format!("t.{topic}"), 3, 1).expect("a topic");
    }
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", cluster.bootstrap_servers());
    let sender = Sender::connect(&settings, "t.", None).expect("connects");
    let mut mix = Mix::new(1, 1000, Shares { bad: 0.02, tombstone: 0.02, ..Shares::default() });
    for _ in 0..2000 {
        sender.send(mix.next(NOW_MS), NOW_MS).expect("queued");
    }
    sender.flush().expect("flushed");
    assert_eq!(sender.deliveries().delivered.load(Ordering::Relaxed), 2000);
    assert_eq!(sender.deliveries().failed.load(Ordering::Relaxed), 0);
    let missing = Sender::connect(&settings, "other.", None).err().expect("no such topic").to_string();
    assert!(missing.contains("does not exist"), "{missing}");
}

/// The server's own reading of definitions and payloads: no field is INVALID, every event time is the record's.
#[test]
fn the_server_reads_every_field_and_event_time() {
    let definitions = crate::definitions::parse(&definitions("x.")).expect("good definitions");
    assert_eq!((definitions.views.len(), definitions.lanes.len()), (VIEWS.len(), 2));
    let mut mix = Mix::new(11, 1000, NONE);
    let mut slots = Slots::new();
    for _ in 0..5000 {
        let record = mix.next(NOW_MS);
        let view = definitions.view(record.view).expect("a view");
        let payload = record.value.as_deref().expect("a value");
        view.plan.scan(payload, &mut slots).expect("JSON");
        for field in &view.fields {
            let cell = typed::cell(field, view.avro_json, slots.get(field.slot, payload));
            assert_ne!(cell, typed::Cell::Invalid, "{}.{}", view.name, field.name);
        }
        if let EventTimeSource::Path { unit, .. } = &view.event_time {
            let raw = slots.get(0, payload).expect("an event time");
            assert_eq!(typed::event_time(raw, *unit, view.avro_json), Ok(record.event_time_ms));
        }
    }
}
