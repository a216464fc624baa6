//! Answers as rows: a value by "view.field" and row number, its status, its times and position. A view over the
//! contract's columns, which stay as they came.

use std::collections::HashMap;

use bytes::Bytes;

use crate::v1::{
    FieldColumn, GetFeaturesResponse, GetHistoryResponse, OffsetVector, Position, ShardUnavailable, Status,
    ViewColumns,
};

/// The rows of an answer: one per entity asked for, or one per version of a history page.
#[derive(Debug, Clone)]
pub struct Rows {
    response: GetFeaturesResponse,
    /// "view" and "view.field" to indices of view and field.
    index: HashMap<String, (usize, Option<usize>)>,
    rows: usize,
}

/// One row: one entity, or one version.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r> {
    rows: &'r Rows,
    row: usize,
}

/// One view or field in all rows, looked up once: the way to walk many rows.
#[derive(Debug, Clone, Copy)]
pub struct Feature<'r> {
    view: &'r ViewColumns,
    field: Option<&'r FieldColumn>,
}

/// What is known of one data point besides its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// The data point's status; its fields may be NULL or INVALID besides.
    pub status: Status,
    /// Event time, ms since the epoch; 0 if there is no data point.
    pub event_time_ms: i64,
    /// Ingest time, ms since the epoch.
    pub ingest_time_ms: i64,
    /// First ms at which it is no longer PRESENT.
    pub expiry_ms: i64,
    /// Where in the log it is; none if there is no data point.
    pub position: Option<Position>,
}

impl Rows {
    /// The rows of an answer.
    pub fn new(response: GetFeaturesResponse) -> Self {
        let mut index = HashMap::new();
        for (at, view) in response.views.iter().enumerate() {
            index.insert(view.view.clone(), (at, None));
            for (field_at, field) in view.fields.iter().enumerate() {
                index.insert(format!("{}.{}", view.view, field.field), (at, Some(field_at)));
            }
        }
        let rows = response.views.first().map_or(0, |view| view.status.len());
        Rows { response, index, rows }
    }

    /// The versions of a history page, newest first.
    pub fn of_history(page: GetHistoryResponse) -> Self {
        Rows::new(GetFeaturesResponse {
            views: page.versions.into_iter().collect(),
            read_at: page.read_at,
            unavailable: Vec::new(),
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Nothing was asked for or found.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row of entity number `row` of the request. Panics if there is none.
    pub fn row(&self, row: usize) -> Row<'_> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        Row { rows: self, row }
    }

    /// All rows in request order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.rows).map(|row| Row { rows: self, row })
    }

    /// A view ("view") or one of its fields ("view.field") in all rows; `None` if it was not asked for.
    pub fn feature(&self, name: &str) -> Option<Feature<'_>> {
        let (view, field) = *self.index.get(name)?;
        let view = &self.response.views[view];
        Some(Feature { view, field: field.map(|field| &view.fields[field]) })
    }

    /// What was applied when the read began: all of it is visible here.
    pub fn read_at(&self) -> Option<&OffsetVector> {
        self.response.read_at.as_ref()
    }

    /// Shards that could not answer, and why.
    pub fn unavailable(&self) -> &[ShardUnavailable] {
        &self.response.unavailable
    }

    /// The answer as it came.
    pub fn response(&self) -> &GetFeaturesResponse {
        &self.response
    }
}

impl<'r> Row<'r> {
    /// Its number: the entity's in the request.
    pub fn number(&self) -> usize {
        self.row
    }

    /// A "double" field's value; `None` where there is none, or it has another type or was not asked for.
    pub fn f64(&self, feature: &str) -> Option<f64> {
        self.rows.feature(feature)?.f64(self.row)
    }

    /// An "int64" or "timestamp" field's value.
    pub fn i64(&self, feature: &str) -> Option<i64> {
        self.rows.feature(feature)?.i64(self.row)
    }

    /// A "bool" field's value.
    pub fn bool(&self, feature: &str) -> Option<bool> {
        self.rows.feature(feature)?.bool(self.row)
    }

    /// A "string" field's value.
    pub fn str(&self, feature: &str) -> Option<&'r str> {
        self.rows.feature(feature)?.str(self.row)
    }

    /// JSON text: of a "json" field, or of a whole view read as JSON.
    pub fn json(&self, feature: &str) -> Option<&'r Bytes> {
        self.rows.feature(feature)?.json(self.row)
    }

    /// The status of a view or field; `STATUS_UNSPECIFIED` if it was not asked for.
    pub fn status(&self, feature: &str) -> Status {
        self.rows.feature(feature).map_or(Status::Unspecified, |feature| feature.status(self.row))
    }

    /// Times and position of a view's data point; `None` if the view was not asked for.
    pub fn meta(&self, view: &str) -> Option<Meta> {
        Some(self.rows.feature(view)?.meta(self.row))
    }
}

impl<'r> Feature<'r> {
    /// A "double" field's value in a row.
    pub fn f64(&self, row: usize) -> Option<f64> {
        self.value(row, &self.field?.doubles).copied()
    }

    /// An "int64" or "timestamp" field's value in a row.
    pub fn i64(&self, row: usize) -> Option<i64> {
        self.value(row, &self.field?.ints).copied()
    }

    /// A "bool" field's value in a row.
    pub fn bool(&self, row: usize) -> Option<bool> {
        self.value(row, &self.field?.bools).copied()
    }

    /// A "string" field's value in a row.
    pub fn str(&self, row: usize) -> Option<&'r str> {
        self.value(row, &self.field?.strings).map(String::as_str)
    }

    /// JSON text in a row: of a "json" field, or of a whole view read as JSON.
    pub fn json(&self, row: usize) -> Option<&'r Bytes> {
        self.value(row, self.field.map_or(&self.view.json, |field| &field.json))
    }

    /// Why there is a value in a row, or none.
    pub fn status(&self, row: usize) -> Status {
        let code = match self.field {
            Some(field) if field.status.is_empty() => Some(Status::Present.into()),
            Some(field) => field.status.get(row).copied(),
            None => self.view.status.get(row).copied(),
        };
        code.and_then(|code| Status::try_from(code).ok()).unwrap_or(Status::Unspecified)
    }

    /// Times and position of the row's data point.
    pub fn meta(&self, row: usize) -> Meta {
        let view = self.view;
        let at = |column: &[i64]| column.get(row).copied().unwrap_or(0);
        let status = view.status.get(row).and_then(|code| Status::try_from(*code).ok());
        let status = status.unwrap_or(Status::Unspecified);
        let known = matches!(status, Status::Present | Status::Expired | Status::Deleted);
        Meta {
            status,
            event_time_ms: at(&view.event_time_ms),
            ingest_time_ms: at(&view.ingest_time_ms),
            expiry_ms: at(&view.expiry_ms),
            position: if known { position(view, row) } else { None },
        }
    }

    /// A value is one where the field is PRESENT, or EXPIRED and asked for all the same.
    fn value<'c, T>(&self, row: usize, column: &'c [T]) -> Option<&'c T> {
        let has_value = match self.status(row) {
            Status::Present => true,
            Status::Expired => self.has_expired_value(row),
            _ => false,
        };
        column.get(row).filter(|_| has_value)
    }

    /// An expired row of JSON has a value if it has text. A typed one says so by its fields' own statuses.
    fn has_expired_value(&self, row: usize) -> bool {
        self.field.is_none() && self.view.json.get(row).is_some_and(|json| !json.is_empty())
    }
}

fn position(view: &ViewColumns, row: usize) -> Option<Position> {
    let topic = view.topics.get(*view.topic_index.get(row)? as usize)?.clone();
    Some(Position { topic, partition: *view.partition.get(row)?, offset: *view.offset.get(row)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(statuses: &[Status]) -> Vec<i32> {
        statuses.iter().map(|status| (*status).into()).collect()
    }

    fn answer() -> GetFeaturesResponse {
        let field = |name: &str, status: &[Status]| FieldColumn {
            field: name.into(),
            status: codes(status),
            ..Default::default()
        };
        let fields = vec![
            FieldColumn { doubles: vec![1.5, 2.5], ..field("d", &[]) },
            FieldColumn {
                strings: vec!["x".into(), String::new()],
                ..field("s", &[Status::Present, Status::Null])
            },
            FieldColumn { ints: vec![0, 7], ..field("i", &[Status::Invalid, Status::Present]) },
        ];
        let view = ViewColumns {
            view: "v".into(),
            status: codes(&[Status::Present, Status::Present]),
            event_time_ms: vec![10, 20],
            ingest_time_ms: vec![11, 21],
            expiry_ms: vec![100, 200],
            topics: vec!["t".into()],
            topic_index: vec![0, 0],
            partition: vec![3, 4],
            offset: vec![5, 6],
            json: Vec::new(),
            fields,
        };
        GetFeaturesResponse { views: vec![view], read_at: None, unavailable: Vec::new() }
    }

    #[test]
    fn values_are_found_by_view_and_field_and_row() {
        let rows = Rows::new(answer());
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.row(1).f64("v.d"), Some(2.5));
        assert_eq!(rows.row(0).str("v.s"), Some("x"));
        assert_eq!(rows.row(1).str("v.s"), None, "NULL");
        assert_eq!(rows.row(1).status("v.s"), Status::Null);
        assert_eq!(rows.row(0).i64("v.i"), None, "INVALID");
        assert_eq!(rows.row(0).f64("v.i"), None, "another type");
        assert_eq!(rows.row(0).status("v.nope"), Status::Unspecified);
    }

    #[test]
    fn meta_has_times_and_position() {
        let rows = Rows::new(answer());
        let meta = rows.row(1).meta("v").expect("the view");
        assert_eq!((meta.event_time_ms, meta.ingest_time_ms, meta.expiry_ms), (20, 21, 200));
        assert_eq!(meta.position, Some(Position { topic: "t".into(), partition: 4, offset: 6 }));
    }

    #[test]
    fn an_expired_value_is_given_only_if_it_came() {
        let mut answer = answer();
        answer.views[0].status = codes(&[Status::Expired, Status::NotFound]);
        answer.views[0].fields.clear();
        answer.views[0].json = vec!["{}".into(), Bytes::new()];
        let rows = Rows::new(answer.clone());
        assert_eq!(rows.row(0).json("v").map(|json| &json[..]), Some(&b"{}"[..]));
        assert_eq!(rows.row(1).json("v"), None);
        assert_eq!(rows.row(1).meta("v").expect("the view").position, None);
        answer.views[0].json[0] = Bytes::new();
        assert_eq!(Rows::new(answer).row(0).json("v"), None);
    }
}
