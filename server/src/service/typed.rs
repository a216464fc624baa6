//! Values as typed columns, one per wanted field. Of a payload that is stored by shape only the wanted fields are touched;
//! any other is scanned once by its view's plan. Filled by `columns`; knows plans and types, not what a version is worth.

use bytes::Bytes;
use forebay_proto::v1::{FieldColumn, Status as ValueStatus};
use forebay_storage::{ReadError, Version};

use super::request::Wanted;
use crate::definitions::{Field, FieldType, View};
use crate::json::Slots;
use crate::json::typed::{Cell, cell};

use std::sync::Arc;

/// A field of a row that has no value has this until `finish` knows the row's status.
const NO_VALUE: i32 = ValueStatus::Unspecified as i32;

/// One column per wanted field.
pub(super) struct FieldColumns {
    view: Arc<View>,
    fields: Vec<usize>,
    columns: Vec<FieldColumn>,
    slots: Slots,
}

impl FieldColumns {
    /// `rows` rows without value.
    pub(super) fn new(wanted: &Wanted, rows: usize) -> FieldColumns {
        let columns = wanted.fields.iter().map(|field| column(&wanted.view.fields[*field], rows)).collect();
        let (view, fields) = (wanted.view.clone(), wanted.fields.clone());
        FieldColumns { view, fields, columns, slots: Slots::new() }
    }

    /// Adds a row without value.
    pub(super) fn add_row(&mut self) {
        for (field, column) in self.fields.iter().zip(&mut self.columns) {
            column.status.push(NO_VALUE);
            match self.view.fields[*field].field_type {
                FieldType::Double => column.doubles.push(0.0),
                FieldType::Int64 | FieldType::Timestamp => column.ints.push(0),
                FieldType::Bool => column.bools.push(false),
                FieldType::String => column.strings.push(String::new()),
                FieldType::Json => column.json.push(Bytes::new()),
            }
        }
    }

    /// Fills a row from a version's payload and gives how many bytes of the answer that takes. `text` is empty and may be
    /// used.
    pub(super) fn set(
        &mut self,
        row: usize,
        version: &Version<'_>,
        text: &mut Vec<u8>,
    ) -> Result<usize, ReadError> {
        let Some(fields) = version.fields(&self.view.stored)? else {
            version.payload_into(text)?;
            return Ok(self.set_scanned(row, text));
        };
        let (mut bytes, view) = (0, &self.view);
        let mut wanted = self.fields.iter().map(|field| &view.fields[*field]).zip(&mut self.columns);
        let slots = self.fields.iter().map(|field| view.fields[*field].slot);
        fields.each(slots, text, |raw| {
            if let Some((field, column)) = wanted.next() {
                bytes += set_cell(column, row, cell(field, view.avro_json, raw));
            }
        });
        Ok(bytes)
    }

    /// From a whole payload.
    fn set_scanned(&mut self, row: usize, payload: &[u8]) -> usize {
        // Ingest lets only valid objects in; were one not, every field of it would be INVALID rather than guessed.
        let valid = self.view.plan.scan(payload, &mut self.slots).is_ok();
        let mut bytes = 0;
        for (field, column) in self.fields.iter().zip(&mut self.columns) {
            let field = &self.view.fields[*field];
            let raw = self.slots.get(field.slot, payload);
            let value = if valid { cell(field, self.view.avro_json, raw) } else { Cell::Invalid };
            bytes += set_cell(column, row, value);
        }
        bytes
    }

    /// The finished columns, given the status of every row.
    pub(super) fn finish(mut self, rows: &[i32]) -> Vec<FieldColumn> {
        for column in &mut self.columns {
            for (status, row) in column.status.iter_mut().zip(rows) {
                if *status == NO_VALUE {
                    *status = *row;
                }
            }
            if column.status.iter().all(|status| *status == ValueStatus::Present as i32) {
                column.status = Vec::new();
            }
        }
        self.columns
    }
}

fn column(field: &Field, rows: usize) -> FieldColumn {
    let mut column =
        FieldColumn { field: field.name.clone(), status: vec![NO_VALUE; rows], ..FieldColumn::default() };
    match field.field_type {
        FieldType::Double => column.doubles = vec![0.0; rows],
        FieldType::Int64 | FieldType::Timestamp => column.ints = vec![0; rows],
        FieldType::Bool => column.bools = vec![false; rows],
        FieldType::String => column.strings = vec![String::new(); rows],
        FieldType::Json => column.json = vec![Bytes::new(); rows],
    }
    column
}

/// Puts a cell into its column and gives the bytes it takes there.
fn set_cell(column: &mut FieldColumn, row: usize, cell: Cell<'_>) -> usize {
    let (status, bytes) = match cell {
        Cell::Null => (ValueStatus::Null, 1),
        Cell::Invalid => (ValueStatus::Invalid, 1),
        Cell::Double(value) => (ValueStatus::Present, put(&mut column.doubles, row, value, 8)),
        Cell::Int(value) => (ValueStatus::Present, put(&mut column.ints, row, value, 8)),
        Cell::Bool(value) => (ValueStatus::Present, put(&mut column.bools, row, value, 1)),
        Cell::Str(text) => {
            let bytes = text.len() + 2;
            (ValueStatus::Present, put(&mut column.strings, row, text.into_owned(), bytes))
        }
        Cell::Json(text) => {
            let bytes = text.len() + 2;
            (ValueStatus::Present, put(&mut column.json, row, Bytes::from(text.into_owned()), bytes))
        }
    };
    column.status[row] = status as i32;
    bytes
}

fn put<T>(column: &mut [T], row: usize, value: T, bytes: usize) -> usize {
    column[row] = value;
    bytes
}
