//! The outcome document: what turned out to be true of a diagnosis.

use std::borrow::Cow;

use bytes::Bytes;
use forebay_proto::v1::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NotADocument;
use super::text;

const KIND: &str = "outcome";

/// The keys and their order.
#[derive(Serialize, Deserialize)]
struct Document<'d> {
    #[serde(borrow)]
    diagnosis_id: Cow<'d, str>,
    #[serde(borrow)]
    label: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    source: Cow<'d, str>,
    event_time_ms: i64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    detail: Option<&'d RawValue>,
}

/// The document of an outcome that was found out at `event_time_ms`. Spaces around its detail are not kept.
///
/// # Errors
/// If its detail is not a JSON object, or nested too deep to be stored.
pub fn document(outcome: &Outcome, event_time_ms: i64) -> Result<Vec<u8>, NotADocument> {
    let document = Document {
        diagnosis_id: outcome.diagnosis_id.as_str().into(),
        label: outcome.label.as_str().into(),
        source: outcome.source.as_str().into(),
        event_time_ms,
        detail: text::object(KIND, "detail_json", &outcome.detail_json)?,
    };
    text::storable(KIND, &document)
}

/// The outcome of a document.
///
/// # Errors
/// If the bytes are not such a document.
pub fn parse(document: &[u8]) -> Result<Outcome, NotADocument> {
    let parsed: Document<'_> = serde_json::from_slice(document).map_err(NotADocument::of(KIND))?;
    Ok(Outcome {
        diagnosis_id: parsed.diagnosis_id.into_owned(),
        label: parsed.label.into_owned(),
        detail_json: parsed
            .detail
            .map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()))
            .unwrap_or_default(),
        source: parsed.source.into_owned(),
        event_time_ms: Some(parsed.event_time_ms),
    })
}
