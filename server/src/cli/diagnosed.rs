//! A diagnosis as it is shown: for people as text and tables, for programs as the documents that are stored. Used by the
//! commands about diagnoses.

use comfy_table::Table;
use forebay_client::v1::{Cause, Diagnosis, Outcome, Prediction, Snapshot, SnapshotValue};
use serde_json::Value;
use serde_json::value::RawValue;

use super::output::{self, Object};
use crate::diagnosis::{outcome, prediction};

/// Longest value shown in a table, characters.
const SHOWN: usize = 60;

/// The stored documents under their names.
pub fn json(diagnosis: &Diagnosis) -> Object {
    let mut object = Object::default();
    object.push("diagnosis_id", &diagnosis.diagnosis_id);
    object.push("snapshot", diagnosis.snapshot.as_ref().map(|snapshot| output::raw_json(&snapshot.document)));
    object.push("prediction", diagnosis.prediction.as_ref().and_then(prediction_json));
    object.push("outcome", diagnosis.outcome.as_ref().and_then(outcome_json));
    object
}

fn prediction_json(said: &Prediction) -> Option<Box<RawValue>> {
    Some(output::raw_json(&prediction::document(said).ok()?))
}

fn outcome_json(found: &Outcome) -> Option<Box<RawValue>> {
    Some(output::raw_json(&outcome::document(found, found.event_time_ms.unwrap_or_default()).ok()?))
}

/// All of it, for people.
pub fn text(diagnosis: &Diagnosis) -> String {
    let mut parts = vec![format!("diagnosis   {}", diagnosis.diagnosis_id)];
    match &diagnosis.snapshot {
        Some(snapshot) => parts.push(snapshot_text(snapshot)),
        None => parts.push("snapshot    none".into()),
    }
    match &diagnosis.prediction {
        Some(said) => parts.push(prediction_text(said)),
        None => parts.push("\nprediction  none yet".into()),
    }
    match &diagnosis.outcome {
        Some(found) => parts.push(outcome_text(found)),
        None => parts.push("\noutcome     not known yet".into()),
    }
    parts.join("\n")
}

/// The snapshot for people: what it is of, then a line for each feature.
pub fn snapshot_text(snapshot: &Snapshot) -> String {
    let mut head = vec![
        format!("entity      {}", output::id(&snapshot.entity)),
        format!("features    {} as of {}", snapshot.feature_service, output::rfc3339(snapshot.as_of_ms)),
    ];
    head.extend(snapshot.known_at_ms.map(|known_at| format!("known at    {}", output::rfc3339(known_at))));
    head.extend(snapshot.cause.as_ref().map(|cause| format!("cause       {}", cause_text(cause))));
    let mut table = output::table(&["view", "feature", "value", "event time", "position"]);
    snapshot.values.iter().for_each(|value| value_rows(&mut table, value));
    format!("{}\n\n{}", head.join("\n"), output::rendered(&table))
}

/// The edge in a few words.
pub fn cause_text(cause: &Cause) -> String {
    let Cause { edge_id, trigger, trigger_version, from_state, to_state } = cause;
    format!("{trigger}@{trigger_version}: {from_state} -> {to_state} (edge {edge_id})")
}

fn value_rows(table: &mut Table, value: &SnapshotValue) {
    let position = value.position.as_ref();
    let at = position.map(|_| output::rfc3339(value.event_time_ms)).unwrap_or_default();
    let place = position.map(output::position).unwrap_or_default();
    if value.features.is_empty() {
        table.add_row([value.view.as_str(), "", output::status(value.status()), &at, &place]);
    }
    for feature in &value.features {
        let shown = match feature.json.is_empty() {
            true => output::status(feature.status()).to_owned(),
            false => shortened(&feature.json),
        };
        table.add_row([value.view.as_str(), &feature.name, &shown, &at, &place]);
    }
}

fn shortened(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.into_owned(),
    }
}

fn prediction_text(said: &Prediction) -> String {
    let version = match said.model_version.is_empty() {
        true => String::new(),
        false => format!(" (served as {})", said.model_version),
    };
    let mut text = format!(
        "\nprediction  {} by {}{version} at {}, after {} ms",
        said.status().as_str_name(),
        said.model,
        output::rfc3339(said.predicted_at_ms),
        said.latency_ms
    );
    if said.attempts > 1 {
        text += &format!(", asked {} times", said.attempts);
    }
    if !said.error.is_empty() {
        text += &format!("\n            {}", said.error);
    }
    if let Ok(Value::Object(outputs)) = serde_json::from_slice(&said.outputs_json) {
        let lines = outputs.iter().map(|(name, value)| format!("\n            {name} = {value}"));
        text.extend(lines);
    }
    text
}

fn outcome_text(found: &Outcome) -> String {
    let by = if found.source.is_empty() { String::new() } else { format!(", says {}", found.source) };
    let at = output::rfc3339(found.event_time_ms.unwrap_or_default());
    let mut text = format!("\noutcome     {}{by}, at {at}", found.label);
    if !found.detail_json.is_empty() {
        text += &format!("\n            {}", String::from_utf8_lossy(&found.detail_json));
    }
    text
}
