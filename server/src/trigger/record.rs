//! A trigger's state as it is stored beside the value that brought it, and an edge as it is told. Both are JSON with a
//! fixed order of names. An edge's id is a hash of what makes it that edge, so that whoever reads the value again makes
//! the same id. Used by `ingest`; knows no shard and no producer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::machine::Held;
use crate::definitions::Trigger;

/// Where the value is that brought a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position<'n> {
    /// Kafka topic.
    pub topic: &'n str,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
}

/// A state as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord<'p> {
    /// The state.
    #[serde(borrow)]
    pub state: Cow<'p, str>,
    /// Event time of the value that brought it, ms.
    pub since_ms: i64,
    /// The state before, if this record is an edge.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub from: Option<Cow<'p, str>>,
    /// Version of the trigger.
    pub version: u32,
    /// Id of the edge, if this record is one.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Cow<'p, str>>,
    /// Another state that was seen and does not count yet.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Cow<'p, str>>,
    /// Event time of the first value of those that brought the candidate, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate_since_ms: Option<i64>,
    /// First ms at which the value it was written beside no longer shows.
    pub value_expiry_ms: i64,
}

impl<'p> StateRecord<'p> {
    /// Of a stored payload; nothing if it is none of ours.
    pub fn parse(payload: &'p [u8]) -> Option<StateRecord<'p>> {
        serde_json::from_slice(payload).ok()
    }

    /// As it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A state to be stored beside a value.
    pub fn new(held: &'p Held, version: u32, edge: Option<(&'p str, &'p str)>, value_expiry_ms: i64) -> Self {
        StateRecord {
            state: Cow::Borrowed(&held.state),
            since_ms: held.since_ms,
            from: edge.map(|(from, _)| Cow::Borrowed(from)),
            version,
            edge: edge.map(|(_, id)| Cow::Borrowed(id)),
            candidate: held.candidate.as_ref().map(|(state, _)| Cow::Borrowed(state.as_str())),
            candidate_since_ms: held.candidate.as_ref().map(|(_, since_ms)| *since_ms),
            value_expiry_ms,
        }
    }

    /// What it holds.
    pub fn held(&self) -> Held {
        Held {
            state: self.state.clone().into_owned(),
            since_ms: self.since_ms,
            candidate: self.candidate.clone().map(Cow::into_owned).zip(self.candidate_since_ms),
        }
    }
}

/// Id of the edge that a value at a position makes: hex of 128 bits.
pub fn edge_id(trigger: &str, version: u32, entity: &[u8], position: Position<'_>) -> String {
    let mut hash = Xxh3::new();
    for part in [trigger.as_bytes(), entity, position.topic.as_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(&version.to_le_bytes());
    hash.update(&position.partition.to_le_bytes());
    hash.update(&position.offset.to_le_bytes());
    format!("{:032x}", hash.digest128())
}

/// An edge as it is told.
#[derive(Debug, Clone)]
pub struct Edge<'e> {
    /// Its id.
    pub id: &'e str,
    /// What fired.
    pub trigger: &'e Trigger,
    /// The version that fired.
    pub version: u32,
    /// Whose state changed.
    pub entity: &'e [u8],
    /// The state before.
    pub from: &'e str,
    /// The state now.
    pub to: &'e str,
    /// Event time of the value, ms.
    pub event_time_ms: i64,
    /// Ingest time of the value, ms.
    pub ingest_time_ms: i64,
    /// Event time since which the state is held, ms.
    pub since_ms: i64,
    /// Where the value is.
    pub position: Position<'e>,
}

impl Edge<'_> {
    /// The message's value.
    pub fn to_json(&self) -> Vec<u8> {
        let (name, entity) = match std::str::from_utf8(self.entity) {
            Ok(text) => ("entity", text.to_owned()),
            Err(_) => ("entity_base64", base64(self.entity)),
        };
        let Position { topic, partition, offset } = self.position;
        let value = json!({
            "edge_id": self.id,
            "trigger": self.trigger.name,
            "trigger_version": self.version,
            "view": self.trigger.view.name,
            name: entity,
            "from": self.from,
            "to": self.to,
            "event_time_ms": self.event_time_ms,
            "ingest_time_ms": self.ingest_time_ms,
            "since_ms": self.since_ms,
            "position": {"topic": topic, "partition": partition, "offset": offset},
            "lane": self.trigger.view.lane_name,
        });
        serde_json::to_vec(&value).unwrap_or_default()
    }
}

/// Standard alphabet, padded.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back_as_it_was_stored() {
        let held = Held { state: "RED".into(), since_ms: 5, candidate: Some(("GREEN".into(), 9)) };
        let stored = StateRecord::new(&held, 3, Some(("GREEN", "00ff")), 1000).to_json();
        let record = StateRecord::parse(&stored).unwrap();
        assert_eq!(record.held(), held);
        assert_eq!(
            (record.from.as_deref(), record.edge.as_deref(), record.version),
            (Some("GREEN"), Some("00ff"), 3)
        );
        assert_eq!(StateRecord::parse(b"{}"), None);
    }

    #[test]
    fn an_edge_has_the_same_id_whenever_its_value_is_read() {
        let at = Position { topic: "points", partition: 3, offset: 7 };
        let id = edge_id("snr", 1, b"modem-1", at);
        assert_eq!(id, edge_id("snr", 1, b"modem-1", at));
        assert_eq!(id.len(), 32);
        for other in [
            edge_id("snr", 2, b"modem-1", at),
            edge_id("sn", 1, b"rmodem-1", at),
            edge_id("snr", 1, b"modem-1", Position { offset: 8, ..at }),
            edge_id("snr", 1, b"modem-1", Position { partition: 4, ..at }),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_in_base64() {
        assert_eq!(
            [base64(b"f"), base64(b"fo"), base64(b"foo"), base64(&[255; 4])],
            ["Zg==", "Zm8=", "Zm9v", "/////w=="]
        );
    }
}
