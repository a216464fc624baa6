//! Two rules over the same data points: what edges each would have told. Feeds on records in the order of their
//! partitions, as ingest does, and keeps all it needs in memory; changes nothing. Called by `forebay triggers replay`;
//! knows no broker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_storage::Kind;

use super::Cost;
use super::machine::{Held, step};
use crate::definitions::Trigger;
use crate::ingest::decode::DataPoint;
use crate::json::Slots;

/// Where a data point is: number of the topic, partition, offset.
pub type Place = (usize, i32, i64);

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
}

/// An edge that only one of the rules tells, or that they tell differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose state changed.
    pub entity: Vec<u8>,
    /// Event time of the data point, ms.
    pub event_time_ms: i64,
    /// By the rule in force.
    pub old: Option<Change>,
    /// By the new rule.
    pub new: Option<Change>,
}

/// What came of a replay.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Data points of the view that were judged.
    pub judged: u64,
    /// Edges of the rule in force.
    pub old: u64,
    /// Edges of the new rule.
    pub new: u64,
    /// Where they differ.
    pub differences: BTreeMap<Place, Difference>,
}

/// The replay of a rule, and of the one in force beside it.
pub struct Replay {
    old: Option<Arc<Trigger>>,
    new: Arc<Trigger>,
    lives: HashMap<Vec<u8>, Life>,
    outcome: Outcome,
}

/// What is known of an entity.
#[derive(Default)]
struct Life {
    /// Event time, tombstone.
    newest: Option<(i64, bool)>,
    expiry_ms: i64,
    old: Option<Held>,
    new: Option<Held>,
}

impl Replay {
    /// Nothing is known yet. `old`: none if the trigger is new.
    pub fn new(old: Option<Arc<Trigger>>, new: Arc<Trigger>) -> Replay {
        Replay { old, new, lives: HashMap::new(), outcome: Outcome::default() }
    }

    /// Takes a data point of the triggers' view, whose fields `slots` has. `now_ms`: its partition's clock.
    pub fn take(&mut self, place: Place, now_ms: i64, point: &DataPoint<'_>, slots: &Slots) {
        let life = self.lives.entry(point.entity.to_vec()).or_default();
        let rank = (point.event_time_ms, point.kind == Kind::Tombstone);
        if life.newest.is_some_and(|newest| rank < newest) {
            return;
        }
        if now_ms.max(point.event_time_ms) >= life.expiry_ms || rank.1 {
            (life.old, life.new) = (None, None);
        }
        (life.newest, life.expiry_ms) = (Some(rank), point.expiry_ms);
        if rank.1 {
            return;
        }
        self.outcome.judged += 1;
        let old = self.old.as_ref().and_then(|old| judge(old, &mut life.old, point, slots));
        let new = judge(&self.new, &mut life.new, point, slots);
        self.outcome.old += u64::from(old.is_some());
        self.outcome.new += u64::from(new.is_some());
        if old != new {
            let (entity, event_time_ms) = (point.entity.to_vec(), point.event_time_ms);
            self.outcome.differences.insert(place, Difference { entity, event_time_ms, old, new });
        }
    }

    /// What came of it.
    pub fn finish(self) -> Outcome {
        self.outcome
    }
}

fn judge(trigger: &Trigger, held: &mut Option<Held>, point: &DataPoint<'_>, slots: &Slots) -> Option<Change> {
    let values = |slot| slots.get(slot, point.payload);
    let step = step(trigger, held.as_ref(), point.event_time_ms, &values, &mut Cost::default())?;
    let change = step.edge_from.map(|from| Change { from, to: step.held.state.clone() });
    *held = Some(step.held);
    change
}
