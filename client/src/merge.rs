//! Puts the answers of several servers back together as one server would have answered: rows in request order, topics
//! and fields renumbered, offset vectors united. Pure; `reads` calls it.

use std::collections::BTreeMap;

use tonic::Code;

use crate::Error;
use crate::v1::{
    FieldColumn, GetFeaturesResponse, OffsetVector, ShardUnavailable, Status, TopicOffsets, ViewColumns,
    ViewSelection,
};

/// An answer being put together; every row is UNAVAILABLE until it is placed.
#[derive(Debug)]
pub(crate) struct Assembly {
    rows: usize,
    views: Vec<ViewColumns>,
    read_at: BTreeMap<String, BTreeMap<u32, i64>>,
    unavailable: BTreeMap<(String, u32), String>,
}

impl Assembly {
    /// Of these views, with so many rows each.
    pub(crate) fn new(views: &[ViewSelection], rows: usize, json: bool) -> Self {
        let columns = |selection: &ViewSelection| empty_columns(&selection.view, rows, json);
        Assembly {
            rows,
            views: views.iter().map(columns).collect(),
            read_at: BTreeMap::new(),
            unavailable: BTreeMap::new(),
        }
    }

    /// Puts a part's answer in its place: `views[i]` and `entities[i]` say which view and row of the whole the part's
    /// i-th are. A row placed twice is the later one's.
    pub(crate) fn place(
        &mut self,
        server: &str,
        views: &[usize],
        entities: &[usize],
        part: GetFeaturesResponse,
    ) -> Result<(), Error> {
        let fits = |columns: &ViewColumns| columns.status.len() == entities.len() && is_even(columns);
        if part.views.len() != views.len() || !part.views.iter().all(fits) {
            let message = "its answer does not have the rows that were asked for".to_owned();
            return Err(Error::Server { server: server.to_owned(), code: Code::Internal, message });
        }
        for (view, columns) in views.iter().zip(part.views) {
            place_view(&mut self.views[*view], self.rows, entities, columns);
        }
        self.unite(part.read_at.unwrap_or_default());
        for shard in part.unavailable {
            self.unavailable.insert((shard.lane, shard.partition), shard.reason);
        }
        Ok(())
    }

    /// The rows of this shard stay UNAVAILABLE.
    pub(crate) fn unavailable(&mut self, lane: &str, partition: u32, reason: String) {
        self.unavailable.insert((lane.to_owned(), partition), reason);
    }

    /// The shard is being asked elsewhere: what was said of it no longer counts.
    pub(crate) fn ask_again(&mut self, lane: &str, partition: u32) {
        self.unavailable.remove(&(lane.to_owned(), partition));
    }

    /// The whole answer.
    pub(crate) fn finish(mut self) -> GetFeaturesResponse {
        self.views.iter_mut().flat_map(|view| &mut view.fields).for_each(finish_field);
        let unavailable = self.unavailable.into_iter().map(|((lane, partition), reason)| ShardUnavailable {
            lane,
            partition,
            reason,
        });
        GetFeaturesResponse {
            views: self.views,
            unavailable: unavailable.collect(),
            read_at: Some(offset_vector(self.read_at)),
        }
    }

    /// A partition read twice counts as the lower of the two: that much both saw.
    fn unite(&mut self, read_at: OffsetVector) {
        for topic in read_at.topics {
            let partitions = self.read_at.entry(topic.topic).or_default();
            for (partition, offset) in topic.partitions.into_iter().zip(topic.offsets) {
                partitions.entry(partition).and_modify(|known| *known = offset.min(*known)).or_insert(offset);
            }
        }
    }
}

/// Unites offset vectors of writes: the highest offset of each partition.
pub(crate) fn highest(vectors: impl IntoIterator<Item = OffsetVector>) -> OffsetVector {
    let mut highest: BTreeMap<String, BTreeMap<u32, i64>> = BTreeMap::new();
    for topic in vectors.into_iter().flat_map(|vector| vector.topics) {
        let partitions = highest.entry(topic.topic).or_default();
        for (partition, offset) in topic.partitions.into_iter().zip(topic.offsets) {
            partitions.entry(partition).and_modify(|known| *known = offset.max(*known)).or_insert(offset);
        }
    }
    offset_vector(highest)
}

fn offset_vector(topics: BTreeMap<String, BTreeMap<u32, i64>>) -> OffsetVector {
    let topics = topics.into_iter().map(|(topic, offsets)| {
        let (partitions, offsets) = offsets.into_iter().unzip();
        TopicOffsets { topic, partitions, offsets }
    });
    OffsetVector { topics: topics.collect() }
}

fn empty_columns(view: &str, rows: usize, json: bool) -> ViewColumns {
    ViewColumns {
        view: view.to_owned(),
        status: vec![Status::Unavailable.into(); rows],
        event_time_ms: vec![0; rows],
        ingest_time_ms: vec![0; rows],
        expiry_ms: vec![0; rows],
        topics: Vec::new(),
        topic_index: vec![0; rows],
        partition: vec![0; rows],
        offset: vec![0; rows],
        json: if json { vec![bytes::Bytes::new(); rows] } else { Vec::new() },
        fields: Vec::new(),
    }
}

/// All columns are as long as the status column, or absent where the format allows it.
fn is_even(columns: &ViewColumns) -> bool {
    let rows = columns.status.len();
    let optional = |length: usize| length == 0 || length == rows;
    let fixed = [
        columns.event_time_ms.len(),
        columns.ingest_time_ms.len(),
        columns.expiry_ms.len(),
        columns.topic_index.len(),
        columns.partition.len(),
        columns.offset.len(),
    ];
    let field = |field: &FieldColumn| {
        let values =
            [field.doubles.len(), field.ints.len(), field.bools.len(), field.strings.len(), field.json.len()];
        optional(field.status.len()) && values.into_iter().all(optional)
    };
    fixed.into_iter().all(|length| length == rows)
        && optional(columns.json.len())
        && columns.fields.iter().all(field)
}

fn place_view(whole: &mut ViewColumns, rows: usize, at: &[usize], part: ViewColumns) {
    let topics = renumbered(&mut whole.topics, part.topics);
    scatter(&mut whole.status, rows, at, part.status);
    scatter(&mut whole.event_time_ms, rows, at, part.event_time_ms);
    scatter(&mut whole.ingest_time_ms, rows, at, part.ingest_time_ms);
    scatter(&mut whole.expiry_ms, rows, at, part.expiry_ms);
    scatter(&mut whole.partition, rows, at, part.partition);
    scatter(&mut whole.offset, rows, at, part.offset);
    scatter(&mut whole.json, rows, at, part.json);
    let renumber = |index: u32| topics.get(index as usize).copied().unwrap_or(0);
    scatter(&mut whole.topic_index, rows, at, part.topic_index.into_iter().map(renumber));
    for field in part.fields {
        place_field(&mut whole.fields, rows, at, field);
    }
}

/// For each of the part's topics its index in the whole's, which grows as needed.
fn renumbered(whole: &mut Vec<String>, part: Vec<String>) -> Vec<u32> {
    let index = |topic: String| {
        let at = whole.iter().position(|known| *known == topic).unwrap_or_else(|| {
            whole.push(topic);
            whole.len() - 1
        });
        at as u32
    };
    part.into_iter().map(index).collect()
}

fn place_field(fields: &mut Vec<FieldColumn>, rows: usize, at: &[usize], part: FieldColumn) {
    let known = fields.iter().position(|field| field.field == part.field);
    let known = known.unwrap_or_else(|| {
        let status = vec![Status::Unavailable.into(); rows];
        fields.push(FieldColumn { field: part.field, status, ..Default::default() });
        fields.len() - 1
    });
    let whole = &mut fields[known];
    let status = match part.status.is_empty() {
        true => vec![Status::Present.into(); at.len()],
        false => part.status,
    };
    scatter(&mut whole.status, rows, at, status);
    scatter(&mut whole.doubles, rows, at, part.doubles);
    scatter(&mut whole.ints, rows, at, part.ints);
    scatter(&mut whole.bools, rows, at, part.bools);
    scatter(&mut whole.strings, rows, at, part.strings);
    scatter(&mut whole.json, rows, at, part.json);
}

/// As the contract has it: no status column where every row is PRESENT.
fn finish_field(field: &mut FieldColumn) {
    let present: i32 = Status::Present.into();
    if field.status.iter().all(|status| *status == present) {
        field.status.clear();
    }
}

/// Puts `part[i]` at `whole[at[i]]`; a column that is empty in the part stays as it is.
fn scatter<T: Default + Clone>(
    whole: &mut Vec<T>,
    rows: usize,
    at: &[usize],
    part: impl IntoIterator<Item = T>,
) {
    let mut part = part.into_iter().peekable();
    if part.peek().is_none() {
        return;
    }
    whole.resize(rows, T::default());
    for (at, value) in at.iter().zip(part) {
        whole[*at] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(view: &str) -> ViewSelection {
        ViewSelection { view: view.into(), fields: Vec::new() }
    }

    fn answer(view: &str, topic: &str, offsets: &[i64]) -> GetFeaturesResponse {
        let mut columns = empty_columns(view, offsets.len(), true);
        columns.status.fill(Status::Present.into());
        columns.topics = vec![topic.into()];
        columns.offset = offsets.to_vec();
        columns.json = offsets.iter().map(|offset| offset.to_string().into()).collect();
        let read_at = TopicOffsets { topic: topic.into(), partitions: vec![0], offsets: vec![9] };
        GetFeaturesResponse {
            views: vec![columns],
            read_at: Some(OffsetVector { topics: vec![read_at] }),
            unavailable: Vec::new(),
        }
    }

    #[test]
    fn rows_come_back_in_request_order_with_their_own_topics() {
        let mut whole = Assembly::new(&[selection("v")], 3, true);
        whole.place("s", &[0], &[2, 0], answer("v", "a", &[20, 0])).expect("fits");
        whole.place("s", &[0], &[1], answer("v", "b", &[10])).expect("fits");
        let whole = whole.finish();
        let view = &whole.views[0];
        assert_eq!(view.offset, [0, 10, 20]);
        let topic = |row: usize| view.topics[view.topic_index[row] as usize].as_str();
        assert_eq!([topic(0), topic(1), topic(2)], ["a", "b", "a"]);
        assert_eq!(view.json[2], "20");
        let read_at = whole.read_at.expect("read_at");
        assert_eq!(read_at.topics.iter().map(|topic| topic.topic.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn rows_nobody_answered_are_unavailable_with_a_reason() {
        let mut whole = Assembly::new(&[selection("v")], 2, true);
        whole.place("s", &[0], &[1], answer("v", "a", &[10])).expect("fits");
        whole.unavailable("main", 3, "down".into());
        let whole = whole.finish();
        assert_eq!(whole.views[0].status().next().expect("a row"), Status::Unavailable);
        assert_eq!(whole.views[0].status().nth(1).expect("a row"), Status::Present);
        assert_eq!(whole.unavailable[0].partition, 3);
    }

    #[test]
    fn typed_columns_are_united_by_field_and_sized_for_all_rows() {
        let field = |name: &str, double: f64| FieldColumn {
            field: name.into(),
            doubles: vec![double],
            ..Default::default()
        };
        let typed = |fields: Vec<FieldColumn>| {
            let mut part = answer("v", "a", &[1]);
            part.views[0].json.clear();
            part.views[0].fields = fields;
            part
        };
        let mut whole = Assembly::new(&[selection("v")], 2, false);
        whole.place("s", &[0], &[1], typed(vec![field("x", 1.5), field("y", 2.5)])).expect("fits");
        whole.place("s", &[0], &[0], typed(vec![field("x", 0.5)])).expect("fits");
        let fields = &whole.finish().views[0].fields;
        assert_eq!(fields[0].doubles, [0.5, 1.5]);
        assert!(fields[0].status.is_empty(), "every row is PRESENT");
        assert_eq!(fields[1].doubles, [0.0, 2.5]);
        assert_eq!(fields[1].status().next().expect("a row"), Status::Unavailable);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error_not_a_panic() {
        let mut whole = Assembly::new(&[selection("v")], 2, true);
        assert!(whole.place("s", &[0], &[0, 1], answer("v", "a", &[1])).is_err());
        let mut uneven = answer("v", "a", &[1, 2]);
        uneven.views[0].offset.pop();
        assert!(whole.place("s", &[0], &[0, 1], uneven).is_err());
    }

    #[test]
    fn positions_of_writes_unite_to_the_highest() {
        let vector = |partition, offset| OffsetVector {
            topics: vec![TopicOffsets {
                topic: "t".into(),
                partitions: vec![partition],
                offsets: vec![offset],
            }],
        };
        let all = highest([vector(0, 5), vector(1, 7), vector(0, 4)]);
        assert_eq!(all.topics[0].partitions, [0, 1]);
        assert_eq!(all.topics[0].offsets, [5, 7]);
    }
}
