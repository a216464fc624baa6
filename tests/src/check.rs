//! What tests ask of a running server as a whole: has it passed these positions, and is every key as the model says.
//! Used by beds and by tests with several servers.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use crate::bed::request;
use crate::model::{Definitions, Model};
use crate::rows::rows;
use crate::server::Connection;
use crate::v1::{GetFeaturesRequest, OffsetVector, ShardState};
use crate::wait::eventually;

/// Whether the status says that all these positions are passed.
pub async fn passed(client: &Connection, wanted: &OffsetVector) -> anyhow::Result<()> {
    let status = client.status().await?;
    for wanted in &wanted.topics {
        for (partition, offset) in wanted.partitions.iter().zip(&wanted.offsets) {
            let shards = status.lanes.iter().flat_map(|lane| &lane.shards);
            let shards = shards.filter(|shard| shard.partition == *partition);
            let topic = shards.flat_map(|shard| &shard.topics).find(|topic| topic.topic == wanted.topic);
            let applied =
                topic.with_context(|| format!("{}/{partition}: no shard", wanted.topic))?.applied_offset;
            ensure!(applied >= *offset, "{}/{partition}: {applied} of {offset}", wanted.topic);
        }
    }
    Ok(())
}

/// Reads every key of the model through gRPC in big batches and gives up to 20 differences.
pub async fn differences(client: &Connection, definitions: &Definitions, model: &Model) -> Vec<String> {
    let mut entities: BTreeMap<&str, Vec<&[u8]>> = Default::default();
    for (entity, view) in model.versions.keys() {
        entities.entry(view).or_default().push(entity);
    }
    let mut found = Vec::new();
    for (view, entities) in entities {
        let lateness = definitions.lateness_ms(view);
        for batch in entities.chunks(2000) {
            let asked = GetFeaturesRequest { include_expired: true, ..request(view, batch) };
            let before = crate::event_now();
            let answer =
                client.store.clone().get_features(asked).await.expect("GetFeatures answers").into_inner();
            let after = crate::event_now();
            for (entity, got) in batch.iter().zip(rows(&answer.views[0])) {
                let version = model.latest(entity, view).expect("a key of the model");
                // The answer was made at some moment between: either status is right.
                let right = [before, after].map(|now| crate::compare(version.row(now, lateness), &got));
                if let [Some(difference), Some(_)] = right {
                    let name = String::from_utf8_lossy(entity);
                    found.push(format!("{view} of {name}: {difference} {:?}", answer.unavailable));
                }
                if found.len() == 20 {
                    return found;
                }
            }
        }
    }
    found
}

/// Waits until a shard is HALTED, and gives the reason it says.
pub async fn halted(client: &Connection, lane: &str, partition: u32) -> String {
    eventually(&format!("{lane}/{partition} is halted"), || async {
        let status = client.status().await?;
        let lane = status.lanes.iter().find(|found| found.lane == lane).context("no such lane")?;
        let shard = lane.shards.iter().find(|shard| shard.partition == partition).context("no such shard")?;
        ensure!(shard.state() == ShardState::Halted, "{shard:?}");
        ensure!(!shard.reason.is_empty(), "no reason");
        Ok(shard.reason.clone())
    })
    .await
}
