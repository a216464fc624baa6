//! Entries of the indexes: which diagnoses an entity has, and which a model made. An entry is a version of its entity or
//! model, at the moment that was judged or the model was asked; it names the diagnosis.

use std::borrow::Cow;

use forebay_proto::v1::{Cause, Snapshot};
use serde::{Deserialize, Serialize};

use super::NotADocument;
use super::text::CauseText;

/// An entry of an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct OfEntity {
    /// The diagnosis.
    pub diagnosis_id: String,
    /// "name@version"; empty if it was erased.
    pub feature_service: String,
    /// What caused it.
    pub cause: Option<Cause>,
    /// It was erased: entries of the same diagnosis before this one do not count.
    pub erased: bool,
}

#[derive(Serialize, Deserialize)]
struct EntityDocument<'d> {
    #[serde(borrow)]
    diagnosis_id: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    feature_service: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    cause: Option<CauseText<'d>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
}

#[derive(Serialize, Deserialize)]
struct ModelDocument<'d> {
    #[serde(borrow)]
    diagnosis_id: Cow<'d, str>,
}

impl OfEntity {
    /// Of a snapshot.
    pub fn of(snapshot: &Snapshot) -> OfEntity {
        OfEntity {
            diagnosis_id: snapshot.diagnosis_id.clone(),
            feature_service: snapshot.feature_service.clone(),
            cause: snapshot.cause.clone(),
            erased: false,
        }
    }

    /// Says that a diagnosis was erased.
    pub fn erased(diagnosis_id: &str) -> OfEntity {
        let diagnosis_id = diagnosis_id.to_owned();
        OfEntity { diagnosis_id, feature_service: String::new(), cause: None, erased: true }
    }

    /// Its document.
    pub fn document(&self) -> Vec<u8> {
        let document = EntityDocument {
            diagnosis_id: self.diagnosis_id.as_str().into(),
            feature_service: self.feature_service.as_str().into(),
            cause: self.cause.as_ref().map(CauseText::of),
            erased: self.erased,
        };
        serde_json::to_vec(&document).expect("all keys are text and a vector takes all bytes")
    }

    /// The entry of a document.
    ///
    /// # Errors
    /// If the bytes are not such a document.
    pub fn parse(document: &[u8]) -> Result<OfEntity, NotADocument> {
        let parsed: EntityDocument<'_> =
            serde_json::from_slice(document).map_err(NotADocument::of("index entry"))?;
        Ok(OfEntity {
            diagnosis_id: parsed.diagnosis_id.into_owned(),
            feature_service: parsed.feature_service.into_owned(),
            cause: parsed.cause.map(CauseText::into_cause),
            erased: parsed.erased,
        })
    }
}

/// The document of a model's entry.
pub fn of_model(diagnosis_id: &str) -> Vec<u8> {
    let document = ModelDocument { diagnosis_id: diagnosis_id.into() };
    serde_json::to_vec(&document).expect("all keys are text and a vector takes all bytes")
}

/// The diagnosis that a model's entry names.
///
/// # Errors
/// If the bytes are not such a document.
pub fn diagnosis_of_model(document: &[u8]) -> Result<String, NotADocument> {
    let parsed: ModelDocument<'_> =
        serde_json::from_slice(document).map_err(NotADocument::of("index entry"))?;
    Ok(parsed.diagnosis_id.into_owned())
}

/// The key that a model's entries have on a partition: the first of `name@version#0`, `#1` ... that is there. So a model
/// is not one key, and an entry is in the shard of its diagnosis.
pub fn model_key(model: &str, partition: u32, partition_of: impl Fn(&[u8]) -> u32) -> String {
    let mut number = 0_u32;
    loop {
        let key = format!("{model}#{number}");
        if partition_of(key.as_bytes()) == partition || number == u32::MAX {
            return key;
        }
        number += 1;
    }
}
