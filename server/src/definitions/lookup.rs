//! Finding what is defined by the name a person gave, with a suggestion when there is no such thing, and describing it
//! in the words of the definitions. Called by the service, ingest and the command line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Value;

use super::{
    Definitions, EventTimeSource, FeatureService, Field, FieldType, HistoryClass, LaneDefinition, View,
};
use crate::config::suggest::did_you_mean;
use crate::json::typed::Cell;

/// A name that is not defined; the message names what is near.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(pub String);

fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Unknown {
    Unknown(format!("no {kind} \"{name}\"{}", did_you_mean(name, known)))
}

impl Definitions {
    /// These definitions, taking the place of others: the ids of views that are gone stay taken.
    pub fn after(mut self, old: &Definitions) -> Definitions {
        let has = |id| {
            let views = self.views.iter().map(|view| view.id);
            views.chain(self.triggers.iter().map(|trigger| trigger.id)).any(|own| own == id)
        };
        self.retired = old.ids_taken().into_iter().filter(|(id, _)| !has(*id)).collect();
        self
    }

    /// Ids that stored records may have, with the names of those who have or had them.
    pub(super) fn ids_taken(&self) -> BTreeMap<u16, String> {
        let retired = self.retired.iter().map(|(id, owner)| (*id, owner.clone()));
        let views = self.views.iter().map(|view| (view.id, view.name.clone()));
        let triggers = self.triggers.iter().map(|trigger| (trigger.id, trigger.owner()));
        retired.chain(views).chain(triggers).collect()
    }

    /// A view by name.
    pub fn view(&self, name: &str) -> Result<&Arc<View>, Unknown> {
        let found = self.view_by_name.get(name).map(|at| &self.views[*at]);
        found.ok_or_else(|| unknown("view", name, self.views.iter().map(|view| view.name.as_str())))
    }

    /// A feature service: "name" is its highest version, "name@3" is version 3.
    pub fn service(&self, wanted: &str) -> Result<&Arc<FeatureService>, Unknown> {
        let (name, version) = match wanted.split_once('@') {
            None => (wanted, None),
            Some((name, version)) => (name, Some(version)),
        };
        let versions = || self.services.iter().filter(|service| service.name == name);
        let Some(highest) = versions().max_by_key(|service| service.version) else {
            return Err(unknown(
                "feature service",
                name,
                self.services.iter().map(|service| service.name.as_str()),
            ));
        };
        let Some(version) = version else { return Ok(highest) };
        let number: Option<u32> = version.parse().ok();
        versions().find(|service| Some(service.version) == number).ok_or_else(|| {
            Unknown(format!(
                "feature service \"{name}\" has no version {version}: the highest is {}",
                highest.version
            ))
        })
    }

    /// A lane by name.
    pub fn lane(&self, name: &str) -> Result<&Arc<LaneDefinition>, Unknown> {
        let found = self.lanes.iter().find(|lane| lane.name == name);
        found.ok_or_else(|| unknown("lane", name, self.lanes.iter().map(|lane| lane.name.as_str())))
    }

    /// The features of a service as "view.field", in order.
    pub fn feature_names(&self, service: &FeatureService) -> Vec<String> {
        let of = |wanted: &super::ServiceView| {
            let view = &self.views[wanted.view];
            wanted
                .fields
                .iter()
                .map(|at| format!("{}.{}", view.name, view.fields[*at].name))
                .collect::<Vec<_>>()
        };
        service.features.iter().flat_map(of).collect()
    }

    /// Type of a feature named "view.field"; both names may have dots in them.
    pub fn feature_type(&self, feature: &str) -> Option<FieldType> {
        let mut splits = feature.match_indices('.').map(|(at, _)| (&feature[..at], &feature[at + 1..]));
        splits.find_map(|(view, field)| {
            let view = self.view(view).ok()?;
            Some(view.fields[view.field(field).ok()?].field_type)
        })
    }

    /// A model: "name" is its highest version, "name@3" is version 3.
    pub fn model(&self, wanted: &str) -> Result<&Arc<super::Model>, Unknown> {
        let named = |model: &&Arc<super::Model>| model.name == wanted || model.title() == wanted;
        let highest = self.models.iter().filter(named).max_by_key(|model| model.version);
        let known: Vec<_> = self.models.iter().map(|model| model.title()).collect();
        highest.ok_or_else(|| unknown("model", wanted, known.iter().map(String::as_str)))
    }
}

impl View {
    /// Index of a field by name.
    pub fn field(&self, name: &str) -> Result<usize, Unknown> {
        let found = self.fields.iter().position(|field| field.name == name);
        found.ok_or_else(|| {
            let hint = did_you_mean(name, self.fields.iter().map(|field| field.name.as_str()));
            Unknown(format!("view \"{}\" has no field \"{name}\"{hint}", self.name))
        })
    }

    /// What must not change as long as the view's id is in stored records.
    pub fn fingerprint(&self) -> String {
        format!("view {} of {} in lane {}", self.name, self.entity_kind, self.lane_name)
    }
}

impl EventTimeSource {
    /// `path ts`, `path ts in seconds`, `header x-event-time` or `kafka`.
    pub fn describe(&self) -> String {
        match self {
            EventTimeSource::Path { path, unit: super::TimeUnit::Milliseconds } => {
                format!("path {}", path.join("."))
            }
            EventTimeSource::Path { path, unit: super::TimeUnit::Seconds } => {
                format!("path {} in seconds", path.join("."))
            }
            EventTimeSource::Header(name) => format!("header {name}"),
            EventTimeSource::Kafka => "kafka".into(),
        }
    }
}

impl HistoryClass {
    /// As in definitions.
    pub fn as_str(self) -> &'static str {
        match self {
            HistoryClass::Latest => "latest",
            HistoryClass::Full => "full",
        }
    }
}

impl FieldType {
    /// Every type.
    pub const ALL: [FieldType; 6] = [
        FieldType::Double,
        FieldType::Int64,
        FieldType::Bool,
        FieldType::String,
        FieldType::Timestamp,
        FieldType::Json,
    ];

    /// As in definitions.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldType::Double => "double",
            FieldType::Int64 => "int64",
            FieldType::Bool => "bool",
            FieldType::String => "string",
            FieldType::Timestamp => "timestamp",
            FieldType::Json => "json",
        }
    }

    /// A default written in TOML as the cell it will be; `None` if it is not of this type.
    pub(super) fn default_from(self, value: &Value) -> Option<Cell<'static>> {
        match (self, value) {
            (FieldType::Double, Value::Float(number)) => {
                Some(Cell::Double(*number)).filter(|_| number.is_finite())
            }
            (FieldType::Double, Value::Integer(number)) => Some(Cell::Double(*number as f64)),
            (FieldType::Int64 | FieldType::Timestamp, Value::Integer(number)) => Some(Cell::Int(*number)),
            (FieldType::Bool, Value::Boolean(value)) => Some(Cell::Bool(*value)),
            (FieldType::String, Value::String(text)) => Some(Cell::Str(Cow::Owned(text.clone()))),
            (FieldType::Json, value) => {
                let json = serde_json::to_vec(&json(value)?).ok()?;
                Some(Cell::Json(Cow::Owned(json)))
            }
            _ => None,
        }
    }
}

/// TOML as JSON; dates and numbers that are none have no counterpart.
fn json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::String(text) => text.clone().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::Boolean(value) => (*value).into(),
        Value::Datetime(_) => return None,
        Value::Array(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Value::Table(table) => {
            let members = table.iter().map(|(key, value)| Some((key.clone(), json(value)?)));
            serde_json::Value::Object(members.collect::<Option<_>>()?)
        }
    })
}

impl Field {
    /// JSON text of the default; empty: none.
    pub fn default_json(&self) -> String {
        match &self.default {
            None | Some(Cell::Null | Cell::Invalid) => String::new(),
            Some(Cell::Double(number)) => serde_json::Value::from(*number).to_string(),
            Some(Cell::Int(number)) => number.to_string(),
            Some(Cell::Bool(value)) => value.to_string(),
            Some(Cell::Str(text)) => serde_json::Value::from(text.as_ref()).to_string(),
            Some(Cell::Json(text)) => String::from_utf8_lossy(text).into_owned(),
        }
    }
}
