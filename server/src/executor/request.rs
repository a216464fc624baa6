//! Diagnoses that are asked for explicitly: a record of the requests topic, read and checked. Knows no model.

use bytes::Bytes;
use serde::Deserialize;

use super::edge::{MAX_ID_BYTES, entity};
use super::source::Record;

/// A diagnosis somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Its id.
    pub diagnosis_id: String,
    /// Who is to be judged.
    pub entity: Bytes,
    /// By what.
    pub wanted: Wanted,
    /// Of which moment, event time, ms: the record's own time if it does not say.
    pub as_of_ms: i64,
    /// Only what was known by then, ingest time, ms.
    pub known_at_ms: Option<i64>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A model's judgement: "name" or "name@version".
    Model(String),
    /// Only the snapshot of a feature service: "name" or "name@version".
    Snapshot(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    diagnosis_id: String,
    entity: Option<String>,
    model: Option<String>,
    feature_service: Option<String>,
    as_of_ms: Option<i64>,
    known_at_ms: Option<i64>,
}

impl Request {
    /// Reads a record; the error says what was expected.
    pub(super) fn read(record: &Record) -> Result<Request, String> {
        let message: Message = serde_json::from_slice(&record.payload)
            .map_err(|error| format!("expected a diagnosis request as JSON: {error}"))?;
        if message.diagnosis_id.is_empty() || message.diagnosis_id.len() > MAX_ID_BYTES {
            return Err(format!("diagnosis_id: expected 1 to {MAX_ID_BYTES} bytes"));
        }
        let wanted = match (message.model, message.feature_service) {
            (Some(model), None) => Wanted::Model(model),
            (None, Some(service)) => Wanted::Snapshot(service),
            _ => return Err("expected \"model\", or \"feature_service\" for a snapshot only".into()),
        };
        // The same at every reading of this record, so that a repetition asks for the same snapshot.
        let as_of_ms = message.as_of_ms.unwrap_or(record.timestamp_ms);
        Ok(Request {
            diagnosis_id: message.diagnosis_id,
            entity: entity(record, message.entity)?,
            wanted,
            as_of_ms,
            known_at_ms: message.known_at_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::edge::tests::record;
    use super::*;

    #[test]
    fn a_request_names_a_model_or_a_feature_service() {
        let asked = record("", r#"{"diagnosis_id":"d","entity":"c-1","model":"judge"}"#);
        let request = Request::read(&asked).expect("a request");
        assert_eq!(request.wanted, Wanted::Model("judge".into()));
        assert_eq!((request.as_of_ms, request.entity.as_ref()), (77, &b"c-1"[..]), "the record's time");
        let asked =
            record("k", r#"{"diagnosis_id":"d","feature_service":"s@1","as_of_ms":5,"known_at_ms":6}"#);
        let request = Request::read(&asked).expect("a request");
        assert_eq!(request.wanted, Wanted::Snapshot("s@1".into()));
        assert_eq!((request.as_of_ms, request.known_at_ms, request.entity.as_ref()), (5, Some(6), &b"k"[..]));
    }

    #[test]
    fn a_bad_request_says_what_was_expected() {
        for (payload, expected) in [
            ("nope", "expected a diagnosis request as JSON"),
            (r#"{"diagnosis_id":"d","entity":"c"}"#, "expected \"model\", or \"feature_service\""),
            (r#"{"diagnosis_id":"","entity":"c","model":"m"}"#, "diagnosis_id: expected 1 to 255 bytes"),
            (r#"{"diagnosis_id":"d","model":"m"}"#, "no entity"),
            (r#"{"diagnosis_id":"d","entity":"c","model":"m","modle":1}"#, "unknown field `modle`"),
            (r#"{"diagnosis_id":"d","entity":"c","model":"m","as_of_ms":"x"}"#, "expected i64"),
        ] {
            let error = Request::read(&record("", payload)).expect_err(payload);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
