//! Answers as JSON, written straight into bytes: payloads go in as they came. Used by REST and by requests by Kafka, so
//! that both give the same.
//!
//! A row is `{"status", "event_time_ms", "ingest_time_ms", "expiry_ms", "position", "value"}`, or typed with `"fields"` in
//! the place of `"value"`, and `"field_status"` for those that are not PRESENT.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use forebay_proto::v1::{
    FieldColumn, GetFeaturesResponse, OffsetVector, Position, ShardUnavailable, Status, ViewColumns,
};

use super::call::BASE64;

/// `{"entities": [{"entity", "views": {name: row}}], "read_at", "unavailable"}`.
pub(crate) fn features(entities: &[Bytes], answer: &GetFeaturesResponse) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_hint(answer));
    out.extend_from_slice(b"{\"entities\":[");
    for (row, entity) in entities.iter().enumerate() {
        comma(&mut out, row);
        out.extend_from_slice(b"{\"entity\":");
        text(&mut out, &entity_text(entity));
        out.extend_from_slice(b",\"views\":{");
        for (at, view) in answer.views.iter().enumerate() {
            comma(&mut out, at);
            text(&mut out, &view.view);
            out.push(b':');
            write_row(&mut out, view, row);
        }
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
    vector_member(&mut out, "read_at", answer.read_at.as_ref());
    out.extend_from_slice(b",\"unavailable\":[");
    for (at, ShardUnavailable { lane, partition, reason }) in answer.unavailable.iter().enumerate() {
        comma(&mut out, at);
        out.extend_from_slice(b"{\"lane\":");
        text(&mut out, lane);
        number(&mut out, ",\"partition\":", i64::from(*partition));
        out.extend_from_slice(b",\"reason\":");
        text(&mut out, reason);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

fn size_hint(answer: &GetFeaturesResponse) -> usize {
    let view = |view: &ViewColumns| {
        view.json.iter().map(Bytes::len).sum::<usize>() + view.status.len() * (200 + 24 * view.fields.len())
    };
    256 + answer.views.iter().map(view).sum::<usize>()
}

/// The rows of a view, in a list.
pub(super) fn rows(out: &mut Vec<u8>, view: &ViewColumns) {
    out.push(b'[');
    for row in 0..view.status.len() {
        comma(out, row);
        write_row(out, view, row);
    }
    out.push(b']');
}

fn write_row(out: &mut Vec<u8>, view: &ViewColumns, row: usize) {
    let status = status_of(view.status.get(row));
    out.extend_from_slice(b"{\"status\":");
    text(out, status.as_str_name());
    if matches!(status, Status::Present | Status::Expired | Status::Deleted) {
        let at = |times: &[i64]| times.get(row).copied().unwrap_or_default();
        number(out, ",\"event_time_ms\":", at(&view.event_time_ms));
        number(out, ",\"ingest_time_ms\":", at(&view.ingest_time_ms));
        number(out, ",\"expiry_ms\":", at(&view.expiry_ms));
        write_place(out, view, row);
        write_value(out, view, row, status);
    }
    out.push(b'}');
}

fn write_place(out: &mut Vec<u8>, view: &ViewColumns, row: usize) {
    let topic = view.topic_index.get(row).and_then(|at| view.topics.get(*at as usize));
    let Some(topic) = topic else { return };
    out.extend_from_slice(b",\"position\":{\"topic\":");
    text(out, topic);
    number(out, ",\"partition\":", view.partition.get(row).copied().unwrap_or_default().into());
    number(out, ",\"offset\":", view.offset.get(row).copied().unwrap_or_default());
    out.push(b'}');
}

fn write_value(out: &mut Vec<u8>, view: &ViewColumns, row: usize, status: Status) {
    match view.json.get(row) {
        Some(json) if !json.is_empty() => {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(json);
        }
        Some(_) => {}
        None if status == Status::Deleted => {}
        None => write_fields(out, &view.fields, row),
    }
}

fn write_fields(out: &mut Vec<u8>, fields: &[FieldColumn], row: usize) {
    out.extend_from_slice(b",\"fields\":{");
    for (at, column) in fields.iter().enumerate() {
        comma(out, at);
        text(out, &column.field);
        out.push(b':');
        write_cell(out, column, row);
    }
    out.push(b'}');
    let status = |column: &FieldColumn| match column.status.is_empty() {
        true => Status::Present,
        false => status_of(column.status.get(row)),
    };
    let absent = fields.iter().filter(|column| status(column) != Status::Present);
    for (at, column) in absent.clone().enumerate() {
        out.extend_from_slice(if at == 0 { b",\"field_status\":{" } else { b"," });
        text(out, &column.field);
        out.push(b':');
        text(out, status(column).as_str_name());
    }
    if absent.count() > 0 {
        out.push(b'}');
    }
}

fn write_cell(out: &mut Vec<u8>, column: &FieldColumn, row: usize) {
    if !column.status.is_empty() && status_of(column.status.get(row)) != Status::Present {
        return out.extend_from_slice(b"null");
    }
    if let Some(number) = column.doubles.get(row) {
        // Infallible: a Vec takes what it is given.
        serde_json::to_writer(out, number).unwrap_or_default();
    } else if let Some(value) = column.ints.get(row) {
        number(out, "", *value);
    } else if let Some(value) = column.bools.get(row) {
        out.extend_from_slice(if *value { b"true" } else { b"false" });
    } else if let Some(value) = column.strings.get(row) {
        text(out, value);
    } else {
        match column.json.get(row) {
            Some(json) if !json.is_empty() => out.extend_from_slice(json),
            _ => out.extend_from_slice(b"null"),
        }
    }
}

fn status_of(code: Option<&i32>) -> Status {
    code.and_then(|code| Status::try_from(*code).ok()).unwrap_or(Status::Unspecified)
}

/// `,"name":{"topic":{"0":5}}`; an empty object if there is none.
pub(super) fn vector_member(out: &mut Vec<u8>, name: &str, vector: Option<&OffsetVector>) {
    out.push(b',');
    text(out, name);
    out.push(b':');
    write_vector(out, vector);
}

/// `{"topic":{"0":5}}`.
pub(super) fn write_vector(out: &mut Vec<u8>, vector: Option<&OffsetVector>) {
    out.push(b'{');
    for (at, topic) in vector.iter().flat_map(|vector| &vector.topics).enumerate() {
        comma(out, at);
        text(out, &topic.topic);
        out.extend_from_slice(b":{");
        for (at, (partition, offset)) in topic.partitions.iter().zip(&topic.offsets).enumerate() {
            comma(out, at);
            // Infallible: a Vec takes what it is given.
            write!(out, "\"{partition}\":{offset}").unwrap_or_default();
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// `{"topic", "partition", "offset"}`.
pub(super) fn write_position(out: &mut Vec<u8>, position: &Position) {
    out.extend_from_slice(b"{\"topic\":");
    text(out, &position.topic);
    number(out, ",\"partition\":", position.partition.into());
    number(out, ",\"offset\":", position.offset);
    out.push(b'}');
}

/// An entity id as text, or `base64:` and its bytes.
pub(crate) fn entity_text(entity: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(entity) {
        Ok(text) if !text.starts_with(BASE64) => text.into(),
        _ => format!("{BASE64}{}", BASE64_STANDARD.encode(entity)).into(),
    }
}

fn comma(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

fn number(out: &mut Vec<u8>, before: &str, value: i64) {
    out.extend_from_slice(before.as_bytes());
    // Infallible: a Vec takes what it is given.
    write!(out, "{value}").unwrap_or_default();
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Infallible: a Vec takes what it is given.
    serde_json::to_writer(out, text).unwrap_or_default();
}
