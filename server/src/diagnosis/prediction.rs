//! The prediction document: what a model said, or why it said nothing.

use std::borrow::Cow;

use bytes::Bytes;
use forebay_proto::v1::{Prediction, PredictionStatus};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NotADocument;
use super::text::{self, CauseText};

const KIND: &str = "prediction";

/// The keys and their order.
#[derive(Serialize, Deserialize)]
struct Document<'d> {
    #[serde(borrow)]
    diagnosis_id: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    entity: Option<Cow<'d, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    entity_base64: Option<Cow<'d, str>>,
    #[serde(borrow)]
    model: Cow<'d, str>,
    #[serde(borrow)]
    model_version: Cow<'d, str>,
    as_of_ms: i64,
    predicted_at_ms: i64,
    latency_ms: u32,
    attempts: u32,
    #[serde(borrow)]
    status: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    error: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    outputs: Option<&'d RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    cause: Option<CauseText<'d>>,
}

/// The document of a prediction. Spaces around its outputs are not kept.
///
/// # Errors
/// If its outputs are not a JSON object, or nested too deep to be stored.
pub fn document(prediction: &Prediction) -> Result<Vec<u8>, NotADocument> {
    let (entity, entity_base64) = text::text_or_base64(&prediction.entity);
    let document = Document {
        diagnosis_id: prediction.diagnosis_id.as_str().into(),
        entity,
        entity_base64,
        model: prediction.model.as_str().into(),
        model_version: prediction.model_version.as_str().into(),
        as_of_ms: prediction.as_of_ms,
        predicted_at_ms: prediction.predicted_at_ms,
        latency_ms: prediction.latency_ms,
        attempts: prediction.attempts,
        status: prediction.status().as_str_name().into(),
        error: prediction.error.as_str().into(),
        outputs: text::object(KIND, "outputs_json", &prediction.outputs_json)?,
        cause: prediction.cause.as_ref().map(CauseText::of),
    };
    text::storable(KIND, &document)
}

/// The prediction of a document.
///
/// # Errors
/// If the bytes are not such a document.
pub fn parse(document: &[u8]) -> Result<Prediction, NotADocument> {
    let parsed: Document<'_> = serde_json::from_slice(document).map_err(NotADocument::of(KIND))?;
    let status = PredictionStatus::from_str_name(&parsed.status);
    let no_status = || NotADocument::because(KIND, format!("there is no status \"{}\"", parsed.status));
    Ok(Prediction {
        diagnosis_id: parsed.diagnosis_id.into_owned(),
        entity: text::bytes_of(KIND, parsed.entity, parsed.entity_base64)?.into(),
        model: parsed.model.into_owned(),
        model_version: parsed.model_version.into_owned(),
        predicted_at_ms: parsed.predicted_at_ms,
        latency_ms: parsed.latency_ms,
        status: status.ok_or_else(no_status)? as i32,
        error: parsed.error.into_owned(),
        outputs_json: parsed
            .outputs
            .map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()))
            .unwrap_or_default(),
        cause: parsed.cause.map(CauseText::into_cause),
        attempts: parsed.attempts,
        as_of_ms: parsed.as_of_ms,
    })
}
