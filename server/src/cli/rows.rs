//! Rows of an answer as tables and as JSON: what `get` and `history` share.

use comfy_table::Table;
use forebay_client::v1::FieldColumn;
use forebay_client::{Feature, Meta, Rows, Status};
use serde_json::json;
use serde_json::value::RawValue;

use super::output::{self, Object, rfc3339};

/// Headings of a table of rows, after the first.
pub const HEADINGS: [&str; 5] = ["status", "event time", "age", "position", "value"];

/// A line of a table: the first cell given, the rest from the row.
pub fn table_row(table: &mut Table, first: &str, rows: &Rows, view: &str, row: usize, now_ms: i64) {
    let Some(feature) = rows.feature(view) else { return };
    let meta = feature.meta(row);
    let known = meta.position.is_some();
    let when = |text: String| if known { text } else { String::new() };
    table.add_row([
        first.to_owned(),
        output::status(meta.status).to_owned(),
        when(rfc3339(meta.event_time_ms)),
        when(output::span(now_ms - meta.event_time_ms)),
        meta.position.as_ref().map(output::position).unwrap_or_default(),
        value_text(rows, &feature, view, row),
    ]);
}

/// A row as JSON: status, times, position, and `value` (JSON) or `fields` (typed).
pub fn row_json(rows: &Rows, view: &str, row: usize) -> Object {
    let Some(feature) = rows.feature(view) else { return Object::default() };
    let mut object = meta_json(&feature.meta(row));
    if let Some(json) = feature.json(row) {
        object.push("value", output::raw_json(json));
    }
    let mut values = Object::default();
    for field in fields(rows, view) {
        if let Some(feature) = rows.feature(&format!("{view}.{}", field.field)) {
            values.push(&field.field, field_json(&feature, row));
        }
    }
    if !values.is_empty() {
        object.push("fields", values);
    }
    object
}

fn meta_json(meta: &Meta) -> Object {
    let mut object = Object::default();
    object.push("status", output::status(meta.status));
    if let Some(position) = &meta.position {
        object.push("event_time_ms", meta.event_time_ms);
        object.push("ingest_time_ms", meta.ingest_time_ms);
        object.push("expiry_ms", meta.expiry_ms);
        object.push("position", output::position_json(position));
    }
    object
}

fn fields<'r>(rows: &'r Rows, view: &str) -> &'r [FieldColumn] {
    let columns = rows.response().views.iter().find(|columns| columns.view == view);
    columns.map_or(&[], |columns| &columns.fields)
}

fn field_json(feature: &Feature<'_>, row: usize) -> Object {
    let mut object = Object::default();
    object.push("status", output::status(feature.status(row)));
    if let Some(value) = field_value(feature, row) {
        object.push("value", value);
    }
    object
}

/// The value of whichever type the field has, as JSON.
fn field_value(feature: &Feature<'_>, row: usize) -> Option<Box<RawValue>> {
    let value = match (feature.f64(row), feature.i64(row), feature.bool(row), feature.str(row)) {
        (Some(value), ..) => json!(value),
        (_, Some(value), ..) => json!(value),
        (_, _, Some(value), _) => json!(value),
        (.., Some(value)) => json!(value),
        _ => return feature.json(row).map(|json| output::raw_json(json)),
    };
    Some(output::raw_json(value.to_string().as_bytes()))
}

fn value_text(rows: &Rows, feature: &Feature<'_>, view: &str, row: usize) -> String {
    if let Some(json) = feature.json(row) {
        return output::pretty_json(json);
    }
    let has_fields = matches!(feature.status(row), Status::Present | Status::Expired);
    let fields = fields(rows, view).iter().filter(|_| has_fields);
    let lines = fields.filter_map(|field| {
        let feature = rows.feature(&format!("{view}.{}", field.field))?;
        let value = match field_value(&feature, row) {
            Some(value) => value.get().to_owned(),
            None => output::status(feature.status(row)).to_owned(),
        };
        Some(format!("{} = {value}", field.field))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use forebay_client::v1::{GetFeaturesResponse, ViewColumns};

    use super::*;

    fn rows() -> Rows {
        let view = ViewColumns {
            view: "v".into(),
            status: vec![Status::Present.into(), Status::NotFound.into()],
            event_time_ms: vec![1_700_000_000_000, 0],
            ingest_time_ms: vec![1_700_000_000_001, 0],
            expiry_ms: vec![1_700_000_060_000, 0],
            topics: vec!["t".into()],
            topic_index: vec![0, 0],
            partition: vec![3, 0],
            offset: vec![7, 0],
            json: Vec::new(),
            fields: vec![FieldColumn { field: "d".into(), doubles: vec![1.5, 0.0], ..Default::default() }],
        };
        Rows::new(GetFeaturesResponse { views: vec![view], ..Default::default() })
    }

    #[test]
    fn a_table_tells_status_times_position_and_fields() {
        let mut table = output::table(&["view", "status", "event time", "age", "position", "value"]);
        for row in 0..2 {
            table_row(&mut table, "v", &rows(), "v", row, 1_700_000_061_000);
        }
        let text = output::rendered(&table);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["v", "PRESENT", "2023-11-14T22:13:20Z", "1m", "1s", "t/3@7", "d", "=", "1.5"]);
        assert_eq!(lines[2], ["v", "NOT_FOUND"]);
    }

    #[test]
    fn json_has_only_what_is_known() {
        let json = |row| serde_json::to_value(row_json(&rows(), "v", row)).expect("JSON");
        let first = json(0);
        assert_eq!(first["position"], json!({"topic": "t", "partition": 3, "offset": 7}));
        assert_eq!(first["fields"]["d"], json!({"status": "PRESENT", "value": 1.5}));
        let second = json(1);
        assert_eq!(second["status"], "NOT_FOUND");
        assert!(second.get("event_time_ms").is_none());
    }
}
