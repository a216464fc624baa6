//! Who has which shard, and which lane each view lives in: what the servers' status and definitions said last. Pure data
//! with the questions routing asks of it; `client` fetches and replaces it.

use std::collections::{BTreeMap, HashMap};

use crate::Partitioner;
use crate::v1::{
    DescribeViewsResponse, FeatureServiceDescription, GetStatusResponse, LaneStatus, ShardState, ShardStatus,
    ViewSelection,
};

/// What is known of all servers at one moment.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    lanes: Vec<LaneMap>,
    lane_of_view: HashMap<String, usize>,
    lane_of_topic: HashMap<String, usize>,
    services: HashMap<String, Vec<ViewSelection>>,
}

/// One lane over all servers.
#[derive(Debug)]
pub(crate) struct LaneMap {
    pub(crate) name: String,
    partitioner: Partitioner,
    partitions: u32,
    /// By partition: the servers that have it READY.
    owners: Vec<Vec<usize>>,
    /// Why shards are not READY, by partition, for people.
    reasons: HashMap<u32, String>,
}

impl Topology {
    /// Puts together what each server (by its index) said. Lanes keep the numbers they had before, so that a read under
    /// way can go on with newer knowledge.
    pub(crate) fn new(before: &Topology, said: &[(usize, GetStatusResponse, DescribeViewsResponse)]) -> Self {
        let lanes = before.lanes.iter().map(|lane| LaneMap::new(&lane.name)).collect();
        let mut topology = Topology { lanes, ..Topology::default() };
        for (server, status, definitions) in said {
            for lane in &status.lanes {
                topology.add_lane(*server, &status.instance, lane);
            }
            topology.add_definitions(definitions);
        }
        topology
    }

    /// The lane of a view.
    pub(crate) fn lane_of_view(&self, view: &str) -> Option<usize> {
        self.lane_of_view.get(view).copied()
    }

    /// The lane that reads a topic.
    pub(crate) fn lane_of_topic(&self, topic: &str) -> Option<usize> {
        self.lane_of_topic.get(topic).copied()
    }

    /// The views a feature service ("name" or "name@3") names, with their fields.
    pub(crate) fn service(&self, service: &str) -> Option<&[ViewSelection]> {
        self.services.get(service).map(Vec::as_slice)
    }

    pub(crate) fn lane(&self, lane: usize) -> &LaneMap {
        &self.lanes[lane]
    }

    fn add_lane(&mut self, server: usize, instance: &str, status: &LaneStatus) {
        let at = self.lanes.iter().position(|lane| lane.name == status.lane).unwrap_or_else(|| {
            self.lanes.push(LaneMap::new(&status.lane));
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[at];
        if status.partitioner == "crc32" {
            lane.partitioner = Partitioner::Crc32;
        }
        lane.grow(status.partitions);
        for shard in &status.shards {
            lane.add_shard(server, instance, shard);
            for topic in &shard.topics {
                self.lane_of_topic.insert(topic.topic.clone(), at);
            }
        }
    }

    fn add_definitions(&mut self, definitions: &DescribeViewsResponse) {
        for view in &definitions.views {
            if let Some(lane) = self.lanes.iter().position(|lane| lane.name == view.lane) {
                self.lane_of_view.entry(view.name.clone()).or_insert(lane);
            }
        }
        let mut services: Vec<_> = definitions.feature_services.iter().collect();
        services.sort_by_key(|service| service.version);
        for service in services {
            let views = service_views(service);
            self.services.insert(format!("{}@{}", service.name, service.version), views.clone());
            // Ascending versions: the highest one stays under the bare name.
            self.services.insert(service.name.clone(), views);
        }
    }
}

impl LaneMap {
    /// Nothing but its name is known yet.
    fn new(name: &str) -> Self {
        LaneMap {
            name: name.to_owned(),
            partitioner: Partitioner::Murmur2,
            partitions: 0,
            owners: Vec::new(),
            reasons: HashMap::new(),
        }
    }

    fn grow(&mut self, partitions: u32) {
        self.partitions = self.partitions.max(partitions);
        self.owners.resize(self.partitions as usize, Vec::new());
    }

    fn add_shard(&mut self, server: usize, instance: &str, shard: &ShardStatus) {
        self.grow(shard.partition.saturating_add(1).min(1 << 20));
        match shard.state() {
            ShardState::Ready => {
                if let Some(owners) = self.owners.get_mut(shard.partition as usize) {
                    owners.push(server);
                }
            }
            state => {
                let why = format!("{instance} has it {} {}", state.as_str_name(), shard.reason);
                self.reasons.insert(shard.partition, why.trim_end().to_owned());
            }
        }
    }

    /// The partition of an entity; `None` while the number of partitions is unknown.
    pub(crate) fn partition(&self, entity: &[u8]) -> Option<u32> {
        (self.partitions > 0).then(|| self.partitioner.partition(entity, self.partitions))
    }

    /// The servers that have a partition READY.
    pub(crate) fn owners(&self, partition: u32) -> &[usize] {
        self.owners.get(partition as usize).map_or(&[], Vec::as_slice)
    }

    /// All partitions by server, each with one that has it; nothing if there is one that nobody has READY.
    pub(crate) fn shares(&self) -> Option<BTreeMap<usize, Vec<u32>>> {
        let mut shares: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for partition in 0..self.partitions {
            let owner = self.owners(partition).first()?;
            shares.entry(*owner).or_default().push(partition);
        }
        Some(shares)
    }

    /// Why nobody has it READY, for people.
    pub(crate) fn reason(&self, partition: u32) -> String {
        let said = self.reasons.get(&partition);
        said.cloned().unwrap_or_else(|| "no server that answers has it; is one down?".to_owned())
    }
}

/// "view.field" in order becomes one selection per view, in order of first mention.
fn service_views(service: &FeatureServiceDescription) -> Vec<ViewSelection> {
    let mut views: Vec<ViewSelection> = Vec::new();
    for feature in &service.features {
        let (view, field) = feature.split_once('.').unwrap_or((feature, ""));
        let at = views.iter().position(|selection| selection.view == view).unwrap_or_else(|| {
            views.push(ViewSelection { view: view.to_owned(), fields: Vec::new() });
            views.len() - 1
        });
        if !field.is_empty() && field != "*" {
            views[at].fields.push(field.to_owned());
        }
    }
    views
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::v1::{TopicStatus, ViewDescription};

    /// What a server says that has these partitions of a lane READY, of `partitions`.
    pub(crate) fn lane_status(lane: &str, partitions: u32, ready: &[u32]) -> LaneStatus {
        let shard = |partition: &u32| ShardStatus {
            partition: *partition,
            state: ShardState::Ready.into(),
            topics: vec![TopicStatus { topic: format!("{lane}.points"), ..Default::default() }],
            ..Default::default()
        };
        LaneStatus {
            lane: lane.into(),
            partitioner: "murmur2".into(),
            partitions,
            shards: ready.iter().map(shard).collect(),
            counters: None,
        }
    }

    /// Definitions with these (view, lane) pairs and service s@1 = first view's a; s@2 = all views' a.
    pub(crate) fn definitions(views: &[(&str, &str)]) -> DescribeViewsResponse {
        let view = |(name, lane): &(&str, &str)| ViewDescription {
            name: (*name).into(),
            lane: (*lane).into(),
            ..Default::default()
        };
        let service = |version, features: Vec<String>| FeatureServiceDescription {
            name: "s".into(),
            version,
            features,
        };
        let features: Vec<String> = views.iter().map(|(name, _)| format!("{name}.a")).collect();
        DescribeViewsResponse {
            views: views.iter().map(view).collect(),
            feature_services: vec![service(2, features.clone()), service(1, features[..1].to_vec())],
        }
    }

    fn status(lanes: Vec<LaneStatus>) -> GetStatusResponse {
        GetStatusResponse { instance: "i".into(), lanes, ..Default::default() }
    }

    #[test]
    fn replicas_of_a_shard_are_all_its_owners() {
        let views = definitions(&[("v", "main")]);
        let topology = Topology::new(
            &Topology::default(),
            &[
                (0, status(vec![lane_status("main", 4, &[0, 1])]), views.clone()),
                (1, status(vec![lane_status("main", 4, &[1, 2])]), views),
            ],
        );
        let lane = topology.lane(topology.lane_of_view("v").expect("a lane"));
        assert_eq!(lane.owners(0), [0]);
        assert_eq!(lane.owners(1), [0, 1]);
        assert_eq!(lane.owners(3), [0usize; 0]);
        assert!(lane.partition(b"x").is_some_and(|partition| partition < 4));
        assert!(lane.reason(3).contains("no server"));
        assert_eq!(topology.lane_of_topic("main.points"), Some(0));
    }

    #[test]
    fn a_shard_that_is_not_ready_has_no_owner_but_a_reason() {
        let mut lane = lane_status("main", 1, &[0]);
        lane.shards[0].state = ShardState::Halted.into();
        lane.shards[0].reason = "the log is gone".into();
        let topology =
            Topology::new(&Topology::default(), &[(0, status(vec![lane]), definitions(&[("v", "main")]))]);
        assert!(topology.lane(0).owners(0).is_empty());
        assert_eq!(topology.lane(0).reason(0), "i has it HALTED the log is gone");
    }

    #[test]
    fn a_lane_keeps_its_number_when_others_are_not_heard_of() {
        let views = definitions(&[("v", "a"), ("w", "b")]);
        let both = status(vec![lane_status("a", 1, &[0]), lane_status("b", 1, &[0])]);
        let before = Topology::new(&Topology::default(), &[(0, both, views.clone())]);
        let after = Topology::new(&before, &[(1, status(vec![lane_status("b", 1, &[0])]), views)]);
        assert_eq!(before.lane_of_view("w"), after.lane_of_view("w"));
        assert_eq!(after.lane(1).owners(0), [1]);
        assert!(after.lane(0).owners(0).is_empty() && after.lane(0).partition(b"x").is_none());
    }

    #[test]
    fn a_service_without_version_is_its_highest() {
        let topology = Topology::new(
            &Topology::default(),
            &[(0, status(vec![lane_status("main", 1, &[0])]), definitions(&[("v", "main"), ("w", "main")]))],
        );
        assert_eq!(topology.service("s").map(<[_]>::len), Some(2));
        assert_eq!(topology.service("s@1").map(<[_]>::len), Some(1));
        assert!(topology.service("t").is_none());
    }
}
