//! Splits a read by shard and its shards by server. Pure: it is given what is known of the servers and their load, and
//! says who should be asked for what; `reads` does the asking.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use rand::Rng as _;

use crate::topology::Topology;
use crate::v1::get_features_request::Selection;
use crate::v1::{Format, GetFeaturesRequest, ViewSelection, ViewSelections};

/// A partition of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Shard {
    pub(crate) lane: usize,
    pub(crate) partition: u32,
}

/// A read, split by shard.
#[derive(Debug)]
pub(crate) struct Split {
    /// The views asked for, in request order.
    pub(crate) views: Vec<ViewSelection>,
    /// For each lane the indices of its views.
    views_of: BTreeMap<usize, Vec<usize>>,
    /// For each shard the indices of its entities, ascending.
    pub(crate) entities_of: BTreeMap<Shard, Vec<usize>>,
    entities: usize,
}

/// What one server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) server: usize,
    pub(crate) shards: Vec<Shard>,
    /// Indices into `Split::views`, ascending.
    pub(crate) views: Vec<usize>,
    /// Indices into the request's entities, ascending.
    pub(crate) entities: Vec<usize>,
}

impl Split {
    /// `None` if the topology does not know a view, the service or a lane's partitions: any server will say what is
    /// wrong.
    pub(crate) fn new(topology: &Topology, request: &GetFeaturesRequest) -> Option<Split> {
        let views = views(topology, request)?;
        let mut views_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, selection) in views.iter().enumerate() {
            views_of.entry(topology.lane_of_view(&selection.view)?).or_default().push(index);
        }
        let mut entities_of: BTreeMap<Shard, Vec<usize>> = BTreeMap::new();
        for lane in views_of.keys().copied() {
            for (index, entity) in request.entities.iter().enumerate() {
                let partition = topology.lane(lane).partition(entity)?;
                entities_of.entry(Shard { lane, partition }).or_default().push(index);
            }
        }
        Some(Split { views, views_of, entities_of, entities: request.entities.len() })
    }

    /// Groups shards by the server chosen for each: one part per server and lane, and one per server where the lanes
    /// want the same entities of it.
    pub(crate) fn parts(&self, chosen: &HashMap<Shard, usize>) -> Vec<Part> {
        let mut by_lane: BTreeMap<(usize, usize), Vec<Shard>> = BTreeMap::new();
        for (shard, server) in chosen {
            by_lane.entry((*server, shard.lane)).or_default().push(*shard);
        }
        let mut parts: Vec<Part> = Vec::new();
        for ((server, lane), mut shards) in by_lane {
            shards.sort_unstable();
            let mut entities: Vec<usize> =
                shards.iter().flat_map(|shard| &self.entities_of[shard]).copied().collect();
            entities.sort_unstable();
            let views = self.views_of[&lane].clone();
            let same = parts.iter_mut().find(|part| part.server == server && part.entities == entities);
            match same {
                Some(part) => part.add_lane(shards, views),
                None => parts.push(Part { server, shards, views, entities }),
            }
        }
        parts
    }

    /// The part is the request itself.
    pub(crate) fn is_whole(&self, part: &Part) -> bool {
        part.entities.len() == self.entities && part.views.len() == self.views.len()
    }

    /// The request to send for a part. Positions to wait for are left out where another lane's shards hold them.
    pub(crate) fn request(
        &self,
        topology: &Topology,
        whole: &GetFeaturesRequest,
        part: &Part,
    ) -> GetFeaturesRequest {
        let views = part.views.iter().map(|view| self.views[*view].clone()).collect();
        let mut wait_for = whole.wait_for.clone();
        let is_ours = |topic: &str| match topology.lane_of_topic(topic) {
            Some(lane) => part.shards.iter().any(|shard| shard.lane == lane),
            None => true,
        };
        if let Some(positions) = &mut wait_for {
            positions.topics.retain(|topic| is_ours(&topic.topic));
        }
        GetFeaturesRequest {
            entities: part.entities.iter().map(|entity| whole.entities[*entity].clone()).collect(),
            selection: Some(Selection::Views(ViewSelections { views })),
            wait_for,
            format: whole.format,
            as_of_ms: whole.as_of_ms,
            known_at_ms: whole.known_at_ms,
            max_staleness_ms: whole.max_staleness_ms,
            include_expired: whole.include_expired,
        }
    }
}

impl Part {
    fn add_lane(&mut self, shards: Vec<Shard>, views: Vec<usize>) {
        self.shards.extend(shards);
        self.views.extend(views);
        self.views.sort_unstable();
    }
}

/// The entities of a write, by the server that has their shard; entities without a known one are `any`'s.
pub(crate) fn by_owner(
    topology: &Topology,
    view: &str,
    entities: &[Bytes],
    any: usize,
) -> BTreeMap<usize, Vec<Bytes>> {
    let lane = topology.lane_of_view(view).map(|lane| topology.lane(lane));
    let mut by_owner: BTreeMap<usize, Vec<Bytes>> = BTreeMap::new();
    for entity in entities {
        let owner = lane.and_then(|lane| lane.owners(lane.partition(entity)?).first().copied());
        by_owner.entry(owner.unwrap_or(any)).or_default().push(entity.clone());
    }
    by_owner
}

/// Which of a shard's servers to ask: one that this read asks anyway, else the less busy of two taken at random.
pub(crate) fn choose(
    candidates: &[usize],
    already: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> usize,
) -> Option<usize> {
    if let Some(server) = candidates.iter().copied().find(|server| already(*server)) {
        return Some(server);
    }
    match candidates {
        [] => None,
        [only] => Some(*only),
        many => {
            let first = rand::rng().random_range(0..many.len());
            let second = (first + rand::rng().random_range(1..many.len())) % many.len();
            Some(if load(many[second]) < load(many[first]) { many[second] } else { many[first] })
        }
    }
}

/// The views a request names, or its service does. A service's fields count only in typed answers.
fn views(topology: &Topology, request: &GetFeaturesRequest) -> Option<Vec<ViewSelection>> {
    match request.selection.as_ref()? {
        Selection::Views(selections) => Some(selections.views.clone()),
        Selection::FeatureService(service) => {
            let mut views = topology.service(service)?.to_vec();
            if request.format() == Format::Json {
                views.iter_mut().for_each(|selection| selection.fields.clear());
            }
            Some(views)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::{definitions, lane_status};
    use crate::v1::{GetStatusResponse, OffsetVector, TopicOffsets};

    /// Two servers, two lanes of 8 partitions each; server 0 has the even ones of `a` and all of `b`.
    fn topology() -> Topology {
        let views = definitions(&[("a1", "a"), ("b1", "b"), ("a2", "a")]);
        let all: Vec<u32> = (0..8).collect();
        let status = |lanes| GetStatusResponse { lanes, ..Default::default() };
        let zero = status(vec![lane_status("a", 8, &[0, 2, 4, 6]), lane_status("b", 8, &all)]);
        let one = status(vec![lane_status("a", 8, &[1, 3, 5, 7]), lane_status("b", 8, &[])]);
        Topology::new(&Topology::default(), &[(0, zero, views.clone()), (1, one, views)])
    }

    fn request(views: &[&str], entities: usize) -> GetFeaturesRequest {
        let query = crate::Query::new((0..entities).map(|entity| format!("e-{entity}")));
        views.iter().fold(query, |query, view| query.whole_view(*view)).request
    }

    fn owners(topology: &Topology, split: &Split) -> HashMap<Shard, usize> {
        let owner = |shard: &Shard| topology.lane(shard.lane).owners(shard.partition)[0];
        split.entities_of.keys().map(|shard| (*shard, owner(shard))).collect()
    }

    #[test]
    fn every_row_is_in_exactly_one_part_and_on_a_server_that_has_it() {
        let topology = topology();
        let request = request(&["a1", "b1", "a2"], 100);
        let split = Split::new(&topology, &request).expect("all is known");
        let parts = split.parts(&owners(&topology, &split));
        let mut rows = std::collections::HashSet::new();
        for part in &parts {
            for view in &part.views {
                for entity in &part.entities {
                    assert!(rows.insert((*view, *entity)), "{view} {entity} twice");
                }
            }
        }
        assert_eq!(rows.len(), 300);
        assert_eq!(parts.len(), 3, "lane a on both servers, lane b on one: {parts:?}");
    }

    #[test]
    fn one_server_with_everything_gets_the_request_whole() {
        let views = definitions(&[("a1", "a"), ("b1", "b")]);
        let all: Vec<u32> = (0..8).collect();
        let lanes = vec![lane_status("a", 8, &all), lane_status("b", 8, &all)];
        let status = GetStatusResponse { lanes, ..Default::default() };
        let topology = Topology::new(&Topology::default(), &[(0, status, views)]);
        let request = request(&["b1", "a1"], 10);
        let split = Split::new(&topology, &request).expect("all is known");
        let parts = split.parts(&owners(&topology, &split));
        assert!(parts.len() == 1 && split.is_whole(&parts[0]), "{parts:?}");
        assert_eq!(split.request(&topology, &request, &parts[0]), request);
    }

    #[test]
    fn a_part_waits_only_for_positions_of_its_lanes() {
        let topology = topology();
        let mut request = request(&["a1", "b1"], 1);
        let topic = |name: &str| TopicOffsets { topic: name.into(), partitions: vec![0], offsets: vec![1] };
        request.wait_for =
            Some(OffsetVector { topics: vec![topic("a.points"), topic("b.points"), topic("unheard-of")] });
        let split = Split::new(&topology, &request).expect("all is known");
        let lane = topology.lane_of_view("a1").expect("a lane");
        let shard = *split.entities_of.keys().find(|shard| shard.lane == lane).expect("a shard");
        let part = Part { server: 0, shards: vec![shard], views: vec![0], entities: vec![0] };
        let positions = split.request(&topology, &request, &part).wait_for.expect("positions");
        let topics: Vec<_> = positions.topics.iter().map(|topic| topic.topic.as_str()).collect();
        assert_eq!(topics, ["a.points", "unheard-of"]);
    }

    #[test]
    fn what_the_topology_does_not_know_is_not_split() {
        let topology = topology();
        assert!(Split::new(&topology, &request(&["nope"], 1)).is_none());
        assert!(Split::new(&topology, &GetFeaturesRequest::default()).is_none());
    }

    #[test]
    fn the_choice_prefers_a_server_already_asked_then_the_less_busy() {
        assert_eq!(choose(&[], |_| false, |_| 0), None);
        assert_eq!(choose(&[3, 5, 7], |server| server == 7, |_| 0), Some(7));
        for _ in 0..50 {
            assert_eq!(choose(&[3, 5], |_| false, |server| server), Some(3));
        }
    }

    #[test]
    fn a_deletion_goes_to_the_owner_of_each_entity() {
        let entities: Vec<Bytes> = (0..50).map(|entity| format!("e-{entity}").into()).collect();
        let split = by_owner(&topology(), "a1", &entities, 1);
        assert_eq!(split.values().map(Vec::len).sum::<usize>(), 50);
        assert_eq!(split.len(), 2);
        assert_eq!(by_owner(&topology(), "nope", &entities, 1).len(), 1);
    }
}
