//! Answers turned on their side: one [`Row`] per entity or version from the contract's parallel columns. The columns'
//! lengths are checked here, once for all tests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Place;
use crate::v1::{FieldColumn, Status, ViewColumns};

/// What an answer says of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Status of the value.
    pub status: Status,
    /// Event time in ms; 0 where there is nothing.
    pub event_time_ms: i64,
    /// Ingest time in ms; 0 where there is nothing.
    pub ingest_time_ms: i64,
    /// When it stops being PRESENT; 0 where there is nothing.
    pub expiry_ms: i64,
    /// Where it is in the log; absent where there is nothing.
    pub place: Option<Place>,
    /// The payload; empty where there is none or the answer is typed.
    pub json: Vec<u8>,
}

/// The rows of a view's columns; panics if a column has a length it must not have.
pub fn rows(columns: &ViewColumns) -> Vec<Row> {
    let count = columns.status.len();
    let lengths = [
        ("event_time_ms", columns.event_time_ms.len()),
        ("ingest_time_ms", columns.ingest_time_ms.len()),
        ("expiry_ms", columns.expiry_ms.len()),
        ("topic_index", columns.topic_index.len()),
        ("partition", columns.partition.len()),
        ("offset", columns.offset.len()),
    ];
    for (name, length) in lengths {
        assert_eq!(length, count, "column {name} of {}", columns.view);
    }
    assert!(columns.json.is_empty() || columns.json.len() == count, "column json of {}", columns.view);
    for field in &columns.fields {
        assert!(field.status.is_empty() || field.status.len() == count, "status of field {}", field.field);
    }
    (0..count).map(|i| row(columns, i)).collect()
}

fn row(columns: &ViewColumns, i: usize) -> Row {
    let status = Status::try_from(columns.status[i]).expect("a known status");
    let nothing = matches!(status, Status::NotFound | Status::Unavailable);
    let place = (!nothing).then(|| Place {
        topic: columns.topics[columns.topic_index[i] as usize].clone(),
        partition: columns.partition[i],
        offset: columns.offset[i],
    });
    Row {
        status,
        event_time_ms: columns.event_time_ms[i],
        ingest_time_ms: columns.ingest_time_ms[i],
        expiry_ms: columns.expiry_ms[i],
        place,
        json: columns.json.get(i).map(|json| json.to_vec()).unwrap_or_default(),
    }
}

/// One typed value.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// PRESENT, NULL, INVALID, or the row's own status.
    pub status: Status,
    /// The value as JSON; of type "json" as a JSON string of its text. The zero of its type where there is none.
    pub value: Value,
}

impl Cell {
    /// A value that is there.
    pub fn present(value: impl Into<Value>) -> Cell {
        Cell { status: Status::Present, value: value.into() }
    }
}

/// The typed values of row `i`, by field.
pub fn cells(columns: &ViewColumns, i: usize) -> BTreeMap<String, Cell> {
    rows(columns);
    columns.fields.iter().map(|field| (field.field.clone(), cell(field, i))).collect()
}

fn cell(column: &FieldColumn, i: usize) -> Cell {
    let status =
        column.status.get(i).map_or(Status::Present, |code| Status::try_from(*code).expect("a status"));
    let mut values = Vec::new();
    values.extend(column.doubles.get(i).map(|value| json!(value)));
    values.extend(column.ints.get(i).map(|value| json!(value)));
    values.extend(column.bools.get(i).map(|value| json!(value)));
    values.extend(column.strings.get(i).map(|value| json!(value)));
    values.extend(column.json.get(i).map(|text| json!(String::from_utf8_lossy(text))));
    assert_eq!(values.len(), 1, "exactly one value column of field {} is filled", column.field);
    Cell { status, value: values.remove(0) }
}
