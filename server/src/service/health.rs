//! Readiness: whether every shard of every lane serves, or why not. Asked by `/readyz`, and told to the gRPC health
//! service as it changes.

use std::sync::Arc;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Context;
use crate::lane::{Lane, ShardHandle, ShardState};

/// How soon a change of readiness shows in the health service.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The services whose health is readiness; "" stands for the server as a whole.
const READS: [&str; 3] = ["", "forebay.v1.FeatureStore", "forebay.v1.Diagnoses"];

/// What is not ready, one line each; empty: all of it is. With `lane` of that lane only; `None` if there is no such lane.
pub fn not_ready(context: &Context, lane: Option<&str>) -> Option<Vec<String>> {
    match lane {
        None => Some(context.lanes.iter().flat_map(|lane| lane_not_ready(lane)).collect()),
        Some(name) => context.lane(name).map(|lane| lane_not_ready(lane)),
    }
}

fn lane_not_ready(lane: &Lane) -> Vec<String> {
    let (name, shards) = (&lane.definition.name, lane.shards());
    let mut reasons: Vec<String> = lane.trouble().into_iter().collect();
    if reasons.is_empty() && lane.partition_count().is_none() {
        reasons.push("Kafka has not told the partitions of its topics yet".into());
    } else if reasons.is_empty() && shards.is_empty() {
        reasons.push("the consumer group has given this server no shard".into());
    }
    let waiting = shards.iter().filter(|shard| shard.state() != ShardState::Ready);
    let lane = reasons.into_iter().map(|reason| format!("lane {name}: {reason}"));
    lane.chain(waiting.map(|shard| shard_not_ready(name, shard))).collect()
}

fn shard_not_ready(lane: &str, shard: &ShardHandle) -> String {
    format!("lane {lane}, partition {}: {}: {}", shard.partition, shard.state().name(), shard.reason())
}

/// Keeps the health service at what readiness is; ends when dropped.
pub(super) async fn report(context: Arc<Context>, reporter: HealthReporter) {
    let mut told = None;
    loop {
        let ready = context.lanes.iter().all(|lane| lane_not_ready(lane).is_empty());
        if told != Some(ready) {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            set(&reporter, status).await;
            told = Some(ready);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Tells every watcher of the health service.
pub(super) async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for service in READS {
        reporter.set_service_status(service, status).await;
    }
}
