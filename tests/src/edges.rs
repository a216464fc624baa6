//! The edges that must be told, computed from the data points in the topics by a state machine of a few lines, and the
//! edges that were told, as a read-committed reader has them. Shares no code with the server.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kafka::Kafka;
use crate::record::{Consumed, Place};

/// A trigger as a test states it: the state that a payload gives an entity that is in a state.
pub struct ModelTrigger {
    /// Its name.
    pub name: &'static str,
    /// From the payload and the state held (none: unknown) to the state.
    pub rule: fn(&Value, Option<&str>) -> &'static str,
    /// Whether the first state is an edge from UNKNOWN.
    pub loud: bool,
}

/// An edge: who, what, between which states, by which data point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Name of the trigger.
    pub trigger: String,
    /// The entity.
    pub entity: Vec<u8>,
    /// Where the data point is.
    pub place: Place,
    /// The states.
    pub from: String,
    /// The states.
    pub to: String,
}

/// What was told, by edge id.
pub struct Told {
    /// In the order of the topic's partitions.
    pub edges: Vec<(String, Edge)>,
}

/// The edges of all data points of a topic, in order of place; see [`edges_of`]. Nothing in the topic is refused.
pub async fn expected_edges(kafka: &Kafka, topic: &str, ttl_ms: i64, triggers: &[ModelTrigger]) -> Vec<Edge> {
    edges_of(kafka.read_topic(topic).await, ttl_ms, triggers, |_| false)
}

/// The edges of a topic's records, in order of place. Event time is in `ts`, time to live is `ttl_ms` (a header may say
/// otherwise). Records that are `refused` only move the partition's clock.
pub fn edges_of(
    mut records: Vec<Consumed>,
    ttl_ms: i64,
    triggers: &[ModelTrigger],
    refused: impl Fn(&Place) -> bool,
) -> Vec<Edge> {
    let mut lives: BTreeMap<Vec<u8>, Life> = BTreeMap::new();
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    let mut edges = Vec::new();
    records.sort_by(|a, b| a.place.cmp(&b.place));
    for record in records {
        let clock = clocks.entry(record.place.partition).or_default();
        *clock = record.timestamp_ms.max(*clock);
        if refused(&record.place) {
            continue;
        }
        let life = lives.entry(record.key.clone().expect("a key")).or_default();
        life.take(&record, *clock, ttl_ms, triggers, &mut edges);
    }
    edges.sort();
    edges
}

/// What is known of an entity.
#[derive(Default)]
struct Life {
    newest: Option<(i64, bool)>,
    payload: Vec<u8>,
    expiry_ms: i64,
    states: BTreeMap<&'static str, &'static str>,
}

impl Life {
    fn take(
        &mut self,
        record: &Consumed,
        clock: i64,
        ttl_ms: i64,
        triggers: &[ModelTrigger],
        edges: &mut Vec<Edge>,
    ) {
        let number = |name: &str| record.header(name).map(|text| text.parse::<i64>().expect("a number"));
        let payload = record.value.clone().unwrap_or_default();
        let value: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let event = match record.value {
            Some(_) => value["ts"].as_i64().expect("ts"),
            None => number("forebay-event-time").unwrap_or(record.timestamp_ms),
        };
        let rank = (event, record.value.is_none());
        let expiry = event + number("forebay-ttl-ms").unwrap_or(ttl_ms);
        if expiry <= clock || self.newest.is_some_and(|newest| rank < newest) {
            return;
        }
        let again = self.newest == Some(rank) && self.payload == payload;
        let lives = clock.max(event) < self.expiry_ms;
        (self.newest, self.payload, self.expiry_ms) = (Some(rank), payload, expiry);
        if again {
            return;
        }
        if record.value.is_none() {
            return self.states.clear();
        }
        for trigger in triggers {
            let held = self.states.get(trigger.name).copied().filter(|_| lives);
            let given = (trigger.rule)(&value, held);
            let told = if held.is_none() { trigger.loud } else { held != Some(given) };
            if told {
                edges.push(Edge {
                    trigger: trigger.name.into(),
                    entity: record.key.clone().expect("a key"),
                    place: record.place.clone(),
                    from: held.unwrap_or("UNKNOWN").into(),
                    to: given.into(),
                });
            }
            self.states.insert(trigger.name, given);
        }
    }
}

impl Told {
    /// All edges of a topic, transactions that were aborted left out.
    pub async fn read(kafka: &Kafka, topic: &str) -> Told {
        let mut edges: Vec<_> = kafka.read_topic(topic).await.iter().map(told).collect();
        edges.sort_by(|a, b| a.1.cmp(&b.1));
        Told { edges }
    }

    /// Ids that were told more than once.
    pub fn repeated(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.edges.iter().map(|(id, _)| id.as_str()).collect();
        ids.sort_unstable();
        ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
    }

    /// The edges without their ids, in order.
    pub fn plain(&self) -> Vec<Edge> {
        self.edges.iter().map(|(_, edge)| edge.clone()).collect()
    }
}

fn told(record: &Consumed) -> (String, Edge) {
    let value = record.value.as_deref().expect("an edge has a value");
    let value: Value = serde_json::from_slice(value).expect("an edge is JSON");
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}")).to_owned();
    assert_eq!(record.header("forebay-edge-id"), Some(text("edge_id")));
    assert_eq!(record.key.as_deref(), Some(text("entity").as_bytes()));
    let position = &value["position"];
    let edge = Edge {
        trigger: text("trigger"),
        entity: text("entity").into_bytes(),
        place: Place {
            topic: position["topic"].as_str().expect("topic").into(),
            partition: position["partition"].as_u64().expect("partition") as u32,
            offset: position["offset"].as_i64().expect("offset"),
        },
        from: text("from"),
        to: text("to"),
    };
    (text("edge_id"), edge)
}
