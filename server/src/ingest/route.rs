//! Which views a lane's records may be of, looked up by topic; compiled from the definitions and compiled again when a
//! reload replaced them. Used by the ingest threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_storage::{Keep, ViewPolicy};

use crate::definitions::{Definitions, HistoryClass, LaneDefinition, SharedDefinitions, View};

/// The views of each topic of a lane.
pub struct Routes {
    shared: SharedDefinitions,
    lane: Arc<LaneDefinition>,
    taken_from: Arc<Definitions>,
    by_topic: Vec<Vec<Arc<View>>>,
}

impl Routes {
    /// From the definitions in force.
    pub fn new(shared: SharedDefinitions, lane: Arc<LaneDefinition>) -> Self {
        let taken_from = shared.load_full();
        let by_topic = views_by_topic(&taken_from, &lane);
        Routes { shared, lane, taken_from, by_topic }
    }

    /// Takes up the definitions in force; whether they are others than before. To be called between batches.
    pub fn refresh(&mut self) -> bool {
        let changed = !Arc::ptr_eq(&self.shared.load(), &self.taken_from);
        if changed {
            self.taken_from = self.shared.load_full();
            self.by_topic = views_by_topic(&self.taken_from, &self.lane);
        }
        changed
    }

    /// What the lane's view ids mean, and how their data points are kept, by the definitions taken up last.
    pub fn policies(&self) -> BTreeMap<u16, ViewPolicy> {
        policies(&self.taken_from, &self.lane)
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

fn views_of<'d>(definitions: &'d Definitions, lane: &LaneDefinition) -> impl Iterator<Item = &'d Arc<View>> {
    let name = lane.name.clone();
    definitions.views.iter().filter(move |view| view.lane_name == name)
}

/// What must not change for a view id of this lane while there is data under it, and how that data is kept.
pub fn policies(definitions: &Definitions, lane: &LaneDefinition) -> BTreeMap<u16, ViewPolicy> {
    views_of(definitions, lane).map(|view| (view.id, policy(view))).collect()
}

fn policy(view: &View) -> ViewPolicy {
    let keep = match view.history {
        HistoryClass::Latest => Keep::Latest,
        HistoryClass::Full => Keep::Full,
    };
    ViewPolicy { description: view.fingerprint(), retention_ms: view.max_ttl_ms, keep }
}
