//! One view's value in a snapshot: from a row of a read to the message of the contract, with the service's features as
//! JSON text.

use bytes::Bytes;
use forebay_proto::v1::{Position, SnapshotFeature, SnapshotValue, Status, ViewColumns};
use serde_json::Value;

use crate::definitions::View;
use crate::json::Slots;
use crate::json::typed::{Cell, cell};

/// The first row of a view that was read as JSON, with these of its fields.
pub fn of_row(columns: &ViewColumns, view: &View, fields: &[usize]) -> SnapshotValue {
    let status =
        columns.status.first().copied().and_then(|code| Status::try_from(code).ok()).unwrap_or_default();
    let json = columns.json.first().cloned().unwrap_or_default();
    let first = |column: &[i64]| column.first().copied().unwrap_or_default();
    let known = !matches!(status, Status::NotFound | Status::Unavailable | Status::Unspecified);
    SnapshotValue {
        view: view.name.clone(),
        status: status as i32,
        event_time_ms: first(&columns.event_time_ms),
        ingest_time_ms: first(&columns.ingest_time_ms),
        expiry_ms: first(&columns.expiry_ms),
        position: if known { position(columns) } else { None },
        features: features(status, &json, view, fields),
        json,
    }
}

fn position(columns: &ViewColumns) -> Option<Position> {
    let topic = columns.topics.get(*columns.topic_index.first()? as usize)?.clone();
    Some(Position { topic, partition: *columns.partition.first()?, offset: *columns.offset.first()? })
}

fn features(status: Status, json: &[u8], view: &View, fields: &[usize]) -> Vec<SnapshotFeature> {
    let mut slots = Slots::new();
    let scanned = status == Status::Present && view.plan.scan(json, &mut slots).is_ok();
    let feature = |field: &usize| {
        let field = &view.fields[*field];
        let (status, json) = match () {
            () if status != Status::Present => (status, Bytes::new()),
            () if !scanned => (Status::Invalid, Bytes::new()),
            () => text(cell(field, view.avro_json, slots.get(field.slot, json))),
        };
        SnapshotFeature { name: field.name.clone(), status: status as i32, json }
    };
    fields.iter().map(feature).collect()
}

/// A typed value as JSON text.
fn text(cell: Cell<'_>) -> (Status, Bytes) {
    let text: Bytes = match cell {
        Cell::Null => return (Status::Null, Bytes::from_static(b"null")),
        Cell::Invalid => return (Status::Invalid, Bytes::new()),
        Cell::Double(number) => Value::from(number).to_string().into(),
        Cell::Int(number) => number.to_string().into(),
        Cell::Bool(value) => value.to_string().into(),
        Cell::Str(text) => Value::from(text).to_string().into(),
        Cell::Json(text) => text.into_owned().into(),
    };
    (Status::Present, text)
}
