//! Which lane and which shard answers what of a request: entities grouped by partition, so that each shard is pinned
//! once. Called by `read`; knows partitioners and lanes, and nothing of what shards hold.

use std::sync::Arc;

use bytes::Bytes;

use super::Context;
use super::request::Wanted;
use super::wait::Gate;
use crate::definitions::{Definitions, LaneDefinition};
use crate::lane::Lane;

/// What one lane answers.
pub(super) struct Part {
    /// Lane name.
    pub name: String,
    /// The lane; absent when the definitions name one that this process was started without.
    pub lane: Option<Arc<Lane>>,
    /// How long past its expiry a version is still told of.
    pub lateness_ms: i64,
    /// Which columns of the answer are of this lane.
    pub columns: Vec<usize>,
    /// The view id of each of those columns.
    pub view_ids: Vec<u16>,
    /// Its shards that the request's entities are on.
    pub groups: Vec<Group>,
}

/// The entities of a request that one shard holds.
pub(super) struct Group {
    /// Partition.
    pub partition: u32,
    /// Indices of the entities.
    pub rows: Vec<u32>,
    /// Whether the shard may be read.
    pub gate: Gate,
}

/// Splits a request by lane and shard.
pub(super) fn parts(
    context: &Context,
    definitions: &Definitions,
    wanted: &[Wanted],
    entities: &[Bytes],
) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (column, wanted) in wanted.iter().enumerate() {
        let definition = &definitions.lanes[wanted.view.lane];
        let part = match parts.iter_mut().position(|part| part.name == definition.name) {
            Some(at) => &mut parts[at],
            None => parts.push_mut(part(context, definition, entities)),
        };
        part.columns.push(column);
        part.view_ids.push(wanted.view.id);
    }
    parts
}

fn part(context: &Context, definition: &LaneDefinition, entities: &[Bytes]) -> Part {
    let lane = context.lane(&definition.name).cloned();
    let groups = match lane.as_ref().and_then(|lane| lane.partition_count()) {
        Some(partitions) => group(definition, partitions, entities),
        None => {
            vec![Group { partition: 0, rows: (0..entities.len() as u32).collect(), gate: Gate::Undecided }]
        }
    };
    Part {
        name: definition.name.clone(),
        lane,
        lateness_ms: definition.allowed_lateness_ms,
        columns: Vec::new(),
        view_ids: Vec::new(),
        groups,
    }
}

/// Entities by partition, ascending; within a partition in the order asked.
fn group(definition: &LaneDefinition, partitions: u32, entities: &[Bytes]) -> Vec<Group> {
    let partition = |entity: &Bytes| definition.partitioner.partition(entity, partitions);
    let mut places: Vec<(u32, u32)> =
        entities.iter().enumerate().map(|(row, entity)| (partition(entity), row as u32)).collect();
    places.sort_unstable();
    let groups = places.chunk_by(|a, b| a.0 == b.0);
    groups
        .map(|places| Group {
            partition: places[0].0,
            rows: places.iter().map(|(_, row)| *row).collect(),
            gate: Gate::Undecided,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::Partitioner;

    #[test]
    fn entities_are_grouped_by_partition_and_duplicates_stay() {
        let definitions = crate::definitions::parse(super::super::tests::DEFINITIONS).expect("good");
        let definition = &definitions.lanes[0];
        let entities: Vec<Bytes> = (0..100).map(|i| Bytes::from(format!("e{}", i % 50))).collect();
        let groups = group(definition, 7, &entities);
        assert_eq!(groups.iter().map(|group| group.rows.len()).sum::<usize>(), 100);
        for group in &groups {
            for row in &group.rows {
                assert_eq!(Partitioner::Murmur2.partition(&entities[*row as usize], 7), group.partition);
            }
        }
    }
}
