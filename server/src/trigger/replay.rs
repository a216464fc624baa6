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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::{parse, triggers_over};

    const DEFINITIONS: &str = r#"
[[lane]]
name = "main"
[[lane.topic]]
name = "points"
[[view]]
id = 1
name = "signal"
lane = "main"
entity = "customer"
topics = ["points"]
[[view.field]]
name = "snr"
type = "double"
[[trigger]]
name = "low"
id = 100
version = 1
view = "signal"
rules = [{ state = "RED", when = "snr < 30" }]
"#;

    #[test]
    fn two_rules_over_the_same_data_points_differ_where_they_differ() {
        let definitions = parse(DEFINITIONS).expect("definitions");
        let text = "[[trigger]]\nname = \"low\"\nid = 100\nversion = 2\nview = \"signal\"\n\
                    rules = [{ state = \"RED\", when = \"snr < 20\" }]\n";
        let new = triggers_over("stricter.toml", text, &definitions).expect("a trigger").remove(0);
        let mut replay = Replay::new(Some(definitions.triggers[0].clone()), new);
        let values = [(50.0, 10), (25.0, 20), (15.0, 30), (40.0, 15), (50.0, 40), (15.0, 60), (15.0, 2000)];
        for (offset, (snr, at_ms)) in (0..).zip(values) {
            let payload = format!("{{\"snr\":{snr}}}");
            let mut slots = Slots::new();
            definitions.views[0].plan.scan(payload.as_bytes(), &mut slots).expect("JSON");
            let point = DataPoint {
                view: 1,
                entity: b"e",
                kind: Kind::Value,
                event_time_ms: at_ms,
                expiry_ms: at_ms + 1000,
                payload: payload.as_bytes(),
                write_once: false,
            };
            replay.take((0, 0, offset), at_ms, &point, &slots);
        }
        let outcome = replay.finish();
        // The fourth came late, the last after the one before had expired.
        assert_eq!((outcome.judged, outcome.old, outcome.new), (6, 3, 3));
        let differs: Vec<_> =
            outcome.differences.iter().map(|(place, found)| (place.2, found.old.is_some())).collect();
        assert_eq!(differs, [(1, true), (2, false)]);
    }
}
