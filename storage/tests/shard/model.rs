//! What a shard must answer: a map of version lists and the positions, nothing else. Shares no code with the engine.

use std::collections::BTreeMap;

use forebay_storage::{HistoryRange, Kind, Outcome};

use crate::store::{Point, TOPICS};

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub point: Point,
}

/// The state of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub versions: BTreeMap<(Vec<u8>, u16), Vec<Version>>,
    pub positions: BTreeMap<u16, i64>,
}

impl Version {
    /// The greatest is current.
    pub fn rank(&self) -> (i64, bool, u8, &'static str, i64) {
        let (name, priority) = TOPICS[usize::from(self.point.topic)];
        let point = &self.point;
        (point.event_time_ms, point.kind == Kind::Tombstone, priority, name, point.offset)
    }
}

impl Model {
    /// Takes a data point as `put` does.
    pub fn put(&mut self, point: Point) -> Outcome {
        let position = self.positions.entry(point.topic).or_insert(-1);
        if point.offset <= *position {
            return Outcome::Replayed;
        }
        *position = point.offset;
        let new = Version { point: point.clone() };
        let versions = self.versions.entry((point.entity, point.view)).or_default();
        let outcome = match versions.iter().max_by_key(|version| version.rank()) {
            Some(current) if new.rank() < current.rank() => Outcome::Late,
            Some(Version { point })
                if (point.event_time_ms, point.kind) == (new.point.event_time_ms, new.point.kind)
                    && point.payload == new.point.payload =>
            {
                Outcome::Duplicate
            }
            _ => Outcome::Current,
        };
        versions.push(new);
        outcome
    }

    pub fn skip(&mut self, topic: u16, offset: i64) {
        let position = self.positions.entry(topic).or_insert(-1);
        *position = offset.max(*position);
    }

    fn of(&self, entity: &[u8], view: u16) -> impl Iterator<Item = &Version> {
        self.versions.get(&(entity.to_vec(), view)).into_iter().flatten()
    }

    pub fn as_of(
        &self,
        entity: &[u8],
        view: u16,
        as_of_ms: i64,
        known_at_ms: Option<i64>,
    ) -> Option<&Version> {
        let range = HistoryRange { to_ms: as_of_ms.checked_add(1), known_at_ms, ..HistoryRange::default() };
        self.history(entity, view, &range).into_iter().next()
    }

    /// Versions newest first.
    pub fn history(&self, entity: &[u8], view: u16, range: &HistoryRange) -> Vec<&Version> {
        let after = range.after.map(|key| {
            let found = self
                .of(entity, view)
                .find(|version| (version.point.topic, version.point.offset) == (key.topic.0, key.offset));
            found.expect("pages are asked for after versions that exist").rank()
        });
        let wanted = |version: &&Version| {
            let point = &version.point;
            range.from_ms.is_none_or(|from| point.event_time_ms >= from)
                && range.to_ms.is_none_or(|to| point.event_time_ms < to)
                && range.known_at_ms.is_none_or(|known| point.ingest_time_ms <= known)
                && after.is_none_or(|after| version.rank() < after)
        };
        let mut versions: Vec<_> = self.of(entity, view).filter(wanted).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.rank()));
        versions
    }
}
