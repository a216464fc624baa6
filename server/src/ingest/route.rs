//! Which views a lane's records may be of, looked up by topic; compiled from the definitions and compiled again when a
//! reload replaced them. Used by the ingest threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_storage::{Keep, ViewPolicy};

use crate::definitions::{Definitions, HistoryClass, LaneDefinition, SharedDefinitions, Trigger, View};

/// The views of each topic of a lane.
pub struct Routes {
    shared: SharedDefinitions,
    lane: Arc<LaneDefinition>,
    taken_from: Arc<Definitions>,
    by_topic: Vec<Vec<Arc<View>>>,
    /// By view id; only views that have any.
    triggers: BTreeMap<u16, Vec<Arc<Trigger>>>,
}

impl Routes {
    /// From the definitions in force.
    pub fn new(shared: SharedDefinitions, lane: Arc<LaneDefinition>) -> Self {
        let taken_from = shared.load_full();
        let by_topic = views_by_topic(&taken_from, &lane);
        let triggers = triggers_by_view(&taken_from, &lane);
        Routes { shared, lane, taken_from, by_topic, triggers }
    }

    /// Takes up the definitions in force; whether they are others than before. To be called between batches.
    pub fn refresh(&mut self) -> bool {
        let changed = !Arc::ptr_eq(&self.shared.load(), &self.taken_from);
        if changed {
            self.taken_from = self.shared.load_full();
            self.by_topic = views_by_topic(&self.taken_from, &self.lane);
            self.triggers = triggers_by_view(&self.taken_from, &self.lane);
        }
        changed
    }

    /// What the lane's view ids mean, and how their data points are kept, by the definitions taken up last.
    pub fn policies(&self) -> BTreeMap<u16, ViewPolicy> {
        policies(&self.taken_from, &self.lane)
    }

    /// The triggers that judge a view's values.
    #[inline]
    pub fn triggers(&self, view: u16) -> &[Arc<Trigger>] {
        match self.triggers.is_empty() {
            true => &[],
            false => self.triggers.get(&view).map_or(&[], Vec::as_slice),
        }
    }

    /// Whether the lane has any trigger.
    pub fn has_triggers(&self) -> bool {
        !self.triggers.is_empty()
    }

    /// The views that the lane's topic number `topic` feeds.
    pub fn views(&self, topic: usize) -> &[Arc<View>] {
        &self.by_topic[topic]
    }
}

fn views_by_topic(definitions: &Definitions, lane: &LaneDefinition) -> Vec<Vec<Arc<View>>> {
    let views = |topic: &String| {
        let of_lane = views_of(definitions, lane);
        of_lane.filter(|view| view.topics.contains(topic)).cloned().collect()
    };
    lane.topics.iter().map(|topic| views(&topic.name)).collect()
}

fn triggers_by_view(definitions: &Definitions, lane: &LaneDefinition) -> BTreeMap<u16, Vec<Arc<Trigger>>> {
    let mut by_view: BTreeMap<u16, Vec<Arc<Trigger>>> = BTreeMap::new();
    for trigger in triggers_of(definitions, lane) {
        by_view.entry(trigger.view.id).or_default().push(trigger.clone());
    }
    by_view
}

fn triggers_of<'d>(
    definitions: &'d Definitions,
    lane: &LaneDefinition,
) -> impl Iterator<Item = &'d Arc<Trigger>> {
    let name = lane.name.clone();
    definitions.triggers.iter().filter(move |trigger| trigger.view.lane_name == name)
}

fn views_of<'d>(definitions: &'d Definitions, lane: &LaneDefinition) -> impl Iterator<Item = &'d Arc<View>> {
    let name = lane.name.clone();
    definitions.views.iter().filter(move |view| view.lane_name == name)
}

/// What must not change for a view id of this lane while there is data under it, and how that data is kept.
pub fn policies(definitions: &Definitions, lane: &LaneDefinition) -> BTreeMap<u16, ViewPolicy> {
    let views = views_of(definitions, lane).map(|view| (view.id, policy(view)));
    let states = triggers_of(definitions, lane).map(|trigger| (trigger.id, state_policy(trigger)));
    views.chain(states).collect()
}

fn policy(view: &View) -> ViewPolicy {
    let keep = match view.history {
        HistoryClass::Latest => Keep::Latest,
        HistoryClass::Full => Keep::Full,
    };
    ViewPolicy { description: view.fingerprint(), retention_ms: view.max_ttl_ms, keep, beside: None }
}

/// The records of a trigger's states are kept as its view's are, and beside them.
fn state_policy(trigger: &Trigger) -> ViewPolicy {
    ViewPolicy { description: trigger.fingerprint(), beside: Some(trigger.view.id), ..policy(&trigger.view) }
}
