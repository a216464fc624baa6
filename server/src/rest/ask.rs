//! A request for features as JSON, by REST or by Kafka, and the contract's message it means.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{
    Format, GetFeaturesRequest, OffsetVector, TopicOffsets, ViewSelection, ViewSelections,
};
use serde::Deserialize;
use tonic::Status;

use super::call::entity;

/// Topic, partition, offset: `{"topic": {"0": 5}}`.
pub(crate) type Offsets = BTreeMap<String, BTreeMap<u32, i64>>;

/// A request for features.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ask {
    /// One entity ...
    pub entity: Option<String>,
    /// ... or one by its bytes ...
    pub entity_base64: Option<String>,
    /// ... or several.
    pub entities: Vec<String>,
    /// "name" or "name@version"; or `views`.
    pub feature_service: Option<String>,
    /// Views, each by name or with its fields.
    pub views: Option<Vec<View>>,
    /// How values are given.
    pub format: Shape,
    pub as_of_ms: Option<i64>,
    pub known_at_ms: Option<i64>,
    pub wait_for: Option<Offsets>,
    pub max_staleness_ms: Option<u64>,
    pub include_expired: bool,
    /// Only by Kafka: names the request in its answer.
    pub id: Option<String>,
    /// Only by Kafka: where the answer goes.
    pub reply_topic: Option<String>,
    /// Only by Kafka: REST has a header for it.
    pub timeout_ms: Option<u32>,
}

/// A view of a request.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum View {
    /// All of it.
    Name(String),
    /// Some fields.
    Fields(ViewFields),
}

/// A view with its wanted fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewFields {
    view: String,
    #[serde(default)]
    fields: Vec<String>,
}

/// How values are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// Payloads as they came.
    #[default]
    Json,
    /// Declared fields by name.
    Typed,
    /// Only by Kafka: the contract's GetFeaturesResponse, typed, in its protobuf form.
    Proto,
}

impl Ask {
    /// Refuses what only requests by Kafka have.
    pub(super) fn check_rest(&self) -> Result<(), Status> {
        let by_kafka = [
            ("id", self.id.is_some()),
            ("reply_topic", self.reply_topic.is_some()),
            ("timeout_ms", self.timeout_ms.is_some()),
            ("format proto", self.format == Shape::Proto),
        ];
        match by_kafka.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Status::invalid_argument(format!("{name}: only in requests by Kafka"))),
            None => Ok(()),
        }
    }

    /// The contract's message.
    pub(crate) fn message(&self) -> Result<GetFeaturesRequest, Status> {
        Ok(GetFeaturesRequest {
            entities: self.entities()?,
            selection: self.selection()?,
            format: if self.format == Shape::Json { Format::Json } else { Format::Typed }.into(),
            as_of_ms: self.as_of_ms,
            known_at_ms: self.known_at_ms,
            wait_for: self.wait_for.as_ref().map(vector),
            max_staleness_ms: self.max_staleness_ms,
            include_expired: self.include_expired,
        })
    }

    fn entities(&self) -> Result<Vec<Bytes>, Status> {
        match (&self.entity, &self.entity_base64, self.entities.as_slice()) {
            (Some(one), None, []) => Ok(vec![entity("entity", one)?]),
            (None, Some(encoded), []) => {
                let bytes = BASE64_STANDARD.decode(encoded).map_err(|error| {
                    Status::invalid_argument(format!("entity_base64: not base64: {error}"))
                })?;
                Ok(vec![bytes.into()])
            }
            (None, None, several) => {
                several.iter().enumerate().map(|(i, text)| entity(&format!("entities[{i}]"), text)).collect()
            }
            _ => Err(Status::invalid_argument(
                "give one of entity, entity_base64 and entities, not several of them",
            )),
        }
    }

    fn selection(&self) -> Result<Option<Selection>, Status> {
        let view = |view: &View| match view {
            View::Name(name) => ViewSelection { view: name.clone(), fields: Vec::new() },
            View::Fields(ViewFields { view, fields }) => {
                ViewSelection { view: view.clone(), fields: fields.clone() }
            }
        };
        match (&self.feature_service, &self.views) {
            (Some(_), Some(_)) => Err(Status::invalid_argument("give feature_service or views, not both")),
            (Some(name), None) => Ok(Some(Selection::FeatureService(name.clone()))),
            (None, Some(views)) => {
                let views = views.iter().map(view).collect();
                Ok(Some(Selection::Views(ViewSelections { views })))
            }
            (None, None) => Ok(None),
        }
    }
}

/// The contract's vector of offsets.
pub(crate) fn vector(offsets: &Offsets) -> OffsetVector {
    let topics = offsets.iter().map(|(topic, partitions)| TopicOffsets {
        topic: topic.clone(),
        partitions: partitions.keys().copied().collect(),
        offsets: partitions.values().copied().collect(),
    });
    OffsetVector { topics: topics.collect() }
}
