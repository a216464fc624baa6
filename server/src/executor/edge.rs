//! Edges as triggers tell them: a record of the edges topic, read and checked. Knows no model.

use bytes::Bytes;
use forebay_proto::v1::{Cause, OffsetVector, TopicOffsets};
use serde::Deserialize;

use super::source::Record;

/// A change of state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edge {
    /// Whose state changed.
    pub entity: Bytes,
    /// Event time of the data point that changed it, ms.
    pub event_time_ms: i64,
    /// Its ingest time, ms.
    pub ingest_time_ms: i64,
    /// To wait for, so that what is read includes it.
    pub position: OffsetVector,
    /// What a diagnosis keeps of it.
    pub cause: Cause,
}

#[derive(Deserialize)]
struct Message {
    edge_id: String,
    trigger: String,
    trigger_version: u32,
    entity: Option<String>,
    from: String,
    to: String,
    event_time_ms: i64,
    ingest_time_ms: i64,
    position: Position,
}

#[derive(Deserialize)]
struct Position {
    topic: String,
    partition: u32,
    offset: i64,
}

impl Edge {
    /// Reads a record; the error says what was expected.
    pub(super) fn read(record: &Record) -> Result<Edge, String> {
        let message: Message = serde_json::from_slice(&record.payload)
            .map_err(|error| format!("expected an edge as JSON: {error}"))?;
        let entity = entity(record, message.entity)?;
        if message.edge_id.is_empty() || message.edge_id.len() > MAX_ID_BYTES {
            return Err(format!("edge_id: expected 1 to {MAX_ID_BYTES} bytes"));
        }
        let Position { topic, partition, offset } = message.position;
        let position = TopicOffsets { topic, partitions: vec![partition], offsets: vec![offset] };
        Ok(Edge {
            entity,
            event_time_ms: message.event_time_ms,
            ingest_time_ms: message.ingest_time_ms,
            position: OffsetVector { topics: vec![position] },
            cause: Cause {
                edge_id: message.edge_id,
                trigger: message.trigger,
                trigger_version: message.trigger_version,
                from_state: message.from,
                to_state: message.to,
            },
        })
    }
}

/// Longest id of a diagnosis, bytes.
pub(super) const MAX_ID_BYTES: usize = 255;

/// The entity is the record's key, which holds any bytes; without one, what the message says.
pub(super) fn entity(record: &Record, said: Option<String>) -> Result<Bytes, String> {
    let entity = match record.key.is_empty() {
        true => Bytes::from(said.unwrap_or_default()),
        false => record.key.clone(),
    };
    match entity.len() {
        1..=255 => Ok(entity),
        0 => Err("no entity: expected it as the record's key, or as \"entity\"".into()),
        length => Err(format!("an entity of {length} bytes: expected 1 to 255")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record with this payload and key.
    pub(in crate::executor) fn record(key: &str, payload: &str) -> Record {
        Record {
            topic: "forebay.edges".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: 77,
            key: key.to_owned().into(),
            payload: payload.to_owned().into(),
        }
    }

    /// An edge of trigger `low_snr` to this state.
    pub(in crate::executor) fn edge(id: &str, to: &str) -> Record {
        let payload = format!(
            r#"{{"edge_id":"{id}","trigger":"low_snr","trigger_version":2,"view":"signal","entity":"c-1",
                "from":"GREEN","to":"{to}","event_time_ms":1000,"ingest_time_ms":1001,"since_ms":1000,
                "position":{{"topic":"points","partition":3,"offset":44}},"lane":"main","more":1}}"#
        );
        record("c-1", &payload)
    }

    #[test]
    fn an_edge_is_read_with_all_a_diagnosis_needs() {
        let edge = Edge::read(&edge("e1", "RED")).expect("an edge");
        assert_eq!(
            (edge.entity.as_ref(), edge.event_time_ms, edge.ingest_time_ms),
            (&b"c-1"[..], 1000, 1001)
        );
        let place = &edge.position.topics[0];
        assert_eq!(
            (place.topic.as_str(), &place.partitions[..], &place.offsets[..]),
            ("points", &[3][..], &[44][..])
        );
        assert_eq!((edge.cause.from_state.as_str(), edge.cause.to_state.as_str()), ("GREEN", "RED"));
        assert_eq!((edge.cause.trigger.as_str(), edge.cause.trigger_version), ("low_snr", 2));
    }

    #[test]
    fn a_bad_edge_says_what_was_expected() {
        let good = String::from_utf8(edge("e1", "RED").payload.to_vec()).expect("text");
        for (from, to, expected) in [
            ("{\"edge_id\":\"e1\",", "{", "missing field `edge_id`"),
            ("\"e1\"", "\"\"", "edge_id: expected 1 to 255 bytes"),
            ("1000", "\"now\"", "invalid type: string \"now\", expected i64"),
            ("\"offset\":44", "\"offse\":44", "missing field `offset`"),
            ("\"lane\":", "lane", "expected an edge as JSON"),
        ] {
            let error = Edge::read(&record("c-1", &good.replacen(from, to, 1))).expect_err(expected);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let keyless = Edge::read(&record("", &good)).expect("the message names it");
        assert_eq!(keyless.entity.as_ref(), b"c-1");
        let nobody = Edge::read(&record("", &good.replace("\"c-1\"", "\"\""))).expect_err("no entity");
        assert!(nobody.starts_with("no entity"), "{nobody}");
        assert!(Edge::read(&record(&"x".repeat(256), &good)).expect_err("too long").contains("256 bytes"));
    }
}
