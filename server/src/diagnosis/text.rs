//! Parts that several documents have: entity ids, causes, JSON inside JSON. Used by the documents beside it.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_proto::v1::Cause;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NotADocument;
use crate::json::{Plan, Slots};

/// Finds nothing, and so only says whether a document is one that ingest takes.
static NO_PATHS: LazyLock<Plan> = LazyLock::new(|| Plan::compile(&[], false));

/// Whether ingest takes these bytes as a payload: a JSON object that is not nested too deep.
pub(super) fn is_storable(document: &[u8]) -> bool {
    NO_PATHS.scan(document, &mut Slots::new()).is_ok()
}

/// Bytes as text, or else as base64: one of the two.
pub(super) fn text_or_base64(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(Cow::Borrowed(text)), None),
        Err(_) => (None, Some(Cow::Owned(base64_text(bytes)))),
    }
}

/// The way back.
pub(super) fn bytes_of(
    kind: &'static str,
    text: Option<Cow<'_, str>>,
    base64: Option<Cow<'_, str>>,
) -> Result<Vec<u8>, NotADocument> {
    match (text, base64) {
        (Some(text), _) => Ok(text.into_owned().into_bytes()),
        (None, Some(base64)) => from_base64(kind, &base64),
        (None, None) => Err(NotADocument::because(kind, "it has no entity")),
    }
}

/// As documents have bytes that are no text.
pub(super) fn base64_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The way back.
pub(super) fn from_base64(kind: &'static str, text: &str) -> Result<Vec<u8>, NotADocument> {
    STANDARD.decode(text).map_err(|error| NotADocument::because(kind, error.to_string()))
}

/// JSON to embed as it is; nothing if it is not JSON, or has spaces around it, which would be lost.
pub(super) fn raw(json: &[u8]) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_slice(json).ok()?;
    (raw.get().len() == json.len()).then_some(raw)
}

/// A JSON object to embed, without spaces around it; nothing if there is none.
///
/// # Errors
/// If there is something else.
pub(super) fn object<'j>(
    kind: &'static str,
    name: &str,
    json: &'j [u8],
) -> Result<Option<&'j RawValue>, NotADocument> {
    if json.is_empty() {
        return Ok(None);
    }
    let raw: Result<&RawValue, _> = serde_json::from_slice(json);
    match raw {
        Ok(raw) if raw.get().starts_with('{') => Ok(Some(raw)),
        Ok(_) => Err(NotADocument::because(kind, format!("{name} is not a JSON object"))),
        Err(error) => Err(NotADocument::because(kind, format!("{name} is not JSON: {error}"))),
    }
}

/// A document as bytes that ingest takes.
///
/// # Errors
/// If it is nested too deep.
pub(super) fn storable(kind: &'static str, document: &impl Serialize) -> Result<Vec<u8>, NotADocument> {
    let bytes = serde_json::to_vec(document).expect("all keys are text and a vector takes all bytes");
    match NO_PATHS.scan(&bytes, &mut Slots::new()) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(NotADocument::because(kind, error.to_string())),
    }
}

/// A cause as documents have it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CauseText<'d> {
    #[serde(borrow)]
    edge_id: Cow<'d, str>,
    #[serde(borrow)]
    trigger: Cow<'d, str>,
    trigger_version: u32,
    #[serde(borrow)]
    from_state: Cow<'d, str>,
    #[serde(borrow)]
    to_state: Cow<'d, str>,
}

impl<'d> CauseText<'d> {
    pub(super) fn of(cause: &'d Cause) -> CauseText<'d> {
        CauseText {
            edge_id: cause.edge_id.as_str().into(),
            trigger: cause.trigger.as_str().into(),
            trigger_version: cause.trigger_version,
            from_state: cause.from_state.as_str().into(),
            to_state: cause.to_state.as_str().into(),
        }
    }

    pub(super) fn into_cause(self) -> Cause {
        Cause {
            edge_id: self.edge_id.into_owned(),
            trigger: self.trigger.into_owned(),
            trigger_version: self.trigger_version,
            from_state: self.from_state.into_owned(),
            to_state: self.to_state.into_owned(),
        }
    }
}
