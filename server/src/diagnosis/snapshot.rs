//! The snapshot document: the features a diagnosis saw, by value, with where each came from.

use std::borrow::Cow;

use bytes::Bytes;
use forebay_proto::v1::{
    OffsetVector, Position, Snapshot, SnapshotFeature, SnapshotValue, Status, TopicOffsets,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NotADocument;
use super::text::{self, CauseText};

const KIND: &str = "snapshot";

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
    feature_service: Cow<'d, str>,
    as_of_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_at_ms: Option<i64>,
    #[serde(borrow)]
    read_at: Vec<Place<'d>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    cause: Option<CauseText<'d>>,
    #[serde(borrow)]
    values: Vec<Value<'d>>,
}

#[derive(Serialize, Deserialize)]
struct Place<'d> {
    #[serde(borrow)]
    topic: Cow<'d, str>,
    partition: u32,
    offset: i64,
}

#[derive(Serialize, Deserialize)]
struct Value<'d> {
    #[serde(borrow)]
    view: Cow<'d, str>,
    #[serde(borrow)]
    status: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    version: Option<Version<'d>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<Feature<'d>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    json: Option<&'d RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    json_base64: Option<Cow<'d, str>>,
}

#[derive(Serialize, Deserialize)]
struct Version<'d> {
    event_time_ms: i64,
    ingest_time_ms: i64,
    expiry_ms: i64,
    #[serde(borrow)]
    position: Place<'d>,
}

#[derive(Serialize, Deserialize)]
struct Feature<'d> {
    #[serde(borrow)]
    name: Cow<'d, str>,
    #[serde(borrow)]
    status: Cow<'d, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'d RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Cow<'d, str>>,
}

/// How payloads are written.
#[derive(Clone, Copy, PartialEq)]
enum Embed {
    /// As they are, where that keeps every byte.
    Raw,
    /// All as base64: embedded they would be nested deeper than ingest takes.
    Base64,
}

/// The document of a snapshot, whose own `document` does not matter.
pub fn document(snapshot: &Snapshot) -> Vec<u8> {
    let text = write(snapshot, Embed::Raw);
    if text::is_storable(&text) { text } else { write(snapshot, Embed::Base64) }
}

/// The snapshot of a document, with it.
///
/// # Errors
/// If the bytes are not such a document.
pub fn parse(document: Bytes) -> Result<Snapshot, NotADocument> {
    let parsed: Document<'_> = serde_json::from_slice(&document).map_err(NotADocument::of(KIND))?;
    let snapshot = Snapshot {
        diagnosis_id: parsed.diagnosis_id.into_owned(),
        entity: text::bytes_of(KIND, parsed.entity, parsed.entity_base64)?.into(),
        feature_service: parsed.feature_service.into_owned(),
        as_of_ms: parsed.as_of_ms,
        known_at_ms: parsed.known_at_ms,
        read_at: Some(vector(parsed.read_at)),
        values: parsed.values.into_iter().map(Value::into_value).collect::<Result<_, _>>()?,
        cause: parsed.cause.map(CauseText::into_cause),
        document: Bytes::new(),
    };
    Ok(Snapshot { document, ..snapshot })
}

fn write(snapshot: &Snapshot, embed: Embed) -> Vec<u8> {
    let (entity, entity_base64) = text::text_or_base64(&snapshot.entity);
    let document = Document {
        diagnosis_id: snapshot.diagnosis_id.as_str().into(),
        entity,
        entity_base64,
        feature_service: snapshot.feature_service.as_str().into(),
        as_of_ms: snapshot.as_of_ms,
        known_at_ms: snapshot.known_at_ms,
        read_at: snapshot.read_at.as_ref().map(places).unwrap_or_default(),
        cause: snapshot.cause.as_ref().map(CauseText::of),
        values: snapshot.values.iter().map(|value| Value::of(value, embed)).collect(),
    };
    serde_json::to_vec(&document).expect("all keys are text and a vector takes all bytes")
}

/// In the order of topics and partitions, whatever the order they were read in.
fn places(vector: &OffsetVector) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    for topic in &vector.topics {
        for (partition, offset) in topic.partitions.iter().zip(&topic.offsets) {
            let topic = topic.topic.as_str().into();
            places.push(Place { topic, partition: *partition, offset: *offset });
        }
    }
    places.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    places
}

fn vector(places: Vec<Place<'_>>) -> OffsetVector {
    let mut topics: Vec<TopicOffsets> = Vec::new();
    for place in places {
        if topics.last().is_none_or(|last| last.topic != place.topic) {
            topics.push(TopicOffsets { topic: place.topic.into_owned(), ..TopicOffsets::default() });
        }
        if let Some(last) = topics.last_mut() {
            last.partitions.push(place.partition);
            last.offsets.push(place.offset);
        }
    }
    OffsetVector { topics }
}

impl<'d> Value<'d> {
    fn of(value: &'d SnapshotValue, embed: Embed) -> Value<'d> {
        let (json, json_base64) = embedded(&value.json, embed);
        let version = value.position.as_ref().map(|position| Version {
            event_time_ms: value.event_time_ms,
            ingest_time_ms: value.ingest_time_ms,
            expiry_ms: value.expiry_ms,
            position: Place {
                topic: position.topic.as_str().into(),
                partition: position.partition,
                offset: position.offset,
            },
        });
        Value {
            view: value.view.as_str().into(),
            status: value.status().as_str_name().into(),
            version,
            features: value.features.iter().map(|feature| Feature::of(feature, embed)).collect(),
            json,
            json_base64,
        }
    }

    fn into_value(self) -> Result<SnapshotValue, NotADocument> {
        let mut value = SnapshotValue {
            view: self.view.into_owned(),
            status: status(&self.status)?,
            json: extracted(self.json, self.json_base64)?,
            features: self.features.into_iter().map(Feature::into_feature).collect::<Result<_, _>>()?,
            ..SnapshotValue::default()
        };
        if let Some(version) = self.version {
            value.event_time_ms = version.event_time_ms;
            value.ingest_time_ms = version.ingest_time_ms;
            value.expiry_ms = version.expiry_ms;
            let Place { topic, partition, offset } = version.position;
            value.position = Some(Position { topic: topic.into_owned(), partition, offset });
        }
        Ok(value)
    }
}

impl<'d> Feature<'d> {
    fn of(feature: &'d SnapshotFeature, embed: Embed) -> Feature<'d> {
        let is_null = feature.status() == Status::Null;
        let (value, value_base64) = if is_null { (None, None) } else { embedded(&feature.json, embed) };
        let (name, status) = (feature.name.as_str().into(), feature.status().as_str_name().into());
        Feature { name, status, value, value_base64 }
    }

    fn into_feature(self) -> Result<SnapshotFeature, NotADocument> {
        let status = status(&self.status)?;
        let json = match status == Status::Null as i32 {
            true => Bytes::from_static(b"null"),
            false => extracted(self.value, self.value_base64)?,
        };
        Ok(SnapshotFeature { name: self.name.into_owned(), status, json })
    }
}

fn embedded(json: &[u8], embed: Embed) -> (Option<&RawValue>, Option<Cow<'_, str>>) {
    let raw = text::raw(json).filter(|_| embed == Embed::Raw);
    let base64 = (raw.is_none() && !json.is_empty()).then(|| text::base64_text(json).into());
    (raw, base64)
}

fn extracted(raw: Option<&RawValue>, base64: Option<Cow<'_, str>>) -> Result<Bytes, NotADocument> {
    match (raw, base64) {
        (Some(raw), _) => Ok(Bytes::copy_from_slice(raw.get().as_bytes())),
        (None, Some(base64)) => text::from_base64(KIND, &base64).map(Bytes::from),
        (None, None) => Ok(Bytes::new()),
    }
}

fn status(name: &str) -> Result<i32, NotADocument> {
    let known = Status::from_str_name(name).map(|status| status as i32);
    known.ok_or_else(|| NotADocument::because(KIND, format!("there is no status \"{name}\"")))
}
