//! Routes of definitions and status, and the description of all routes.

use forebay_proto::v1::admin_server::Admin as _;
use forebay_proto::v1::registry_server::Registry as _;
use forebay_proto::v1::{GetStatusRequest, LaneStatus, ListDefinitionsRequest, ShardStatus};
use serde_json::{Value, json};
use tonic::Status;

use super::call::Call;
use crate::service::calls;

/// What every route takes and gives.
pub(super) const OPENAPI: &str = include_str!("../../../docs/openapi.json");

pub(super) async fn definitions(call: Call) -> Result<Vec<u8>, Status> {
    let (kind, name) = (call.query.text("kind").to_owned(), call.query.text("name").to_owned());
    let request = call.request(ListDefinitionsRequest { kind, name })?;
    let answer = calls::registry(&call.context).list_definitions(request).await?.into_inner();
    let definition = |found: forebay_proto::v1::Definition| {
        json!({
            "kind": found.kind,
            "name": found.name,
            "version": found.version,
            "toml": found.toml,
            "source": found.source,
        })
    };
    let all: Vec<_> = answer.definitions.into_iter().map(definition).collect();
    Ok(json!({"definitions": all}).to_string().into_bytes())
}

pub(super) async fn status(call: Call) -> Result<Vec<u8>, Status> {
    let request =
        call.request(GetStatusRequest { lane: call.query.text("lane").to_owned(), explain: false })?;
    let status = calls::admin(&call.context).get_status(request).await?.into_inner();
    let registry = status.registry.map(|registry| {
        json!({
            "topic": registry.topic,
            "offset": registry.offset,
            "reason": registry.reason,
            "held_back": registry.held_back,
        })
    });
    let document = json!({
        "version": status.version,
        "instance": status.instance,
        "uptime_ms": status.uptime_ms,
        "lanes": status.lanes.iter().map(lane).collect::<Vec<_>>(),
        "registry": registry,
    });
    Ok(document.to_string().into_bytes())
}

fn lane(lane: &LaneStatus) -> Value {
    let shards: Vec<_> = lane.shards.iter().map(shard).collect();
    json!({
        "lane": lane.lane,
        "partitioner": lane.partitioner,
        "partitions": lane.partitions,
        "shards": shards,
    })
}

fn shard(shard: &ShardStatus) -> Value {
    let topic = |topic: &forebay_proto::v1::TopicStatus| {
        json!({
            "topic": topic.topic,
            "applied_offset": topic.applied_offset,
            "durable_offset": topic.durable_offset,
            "end_offset": topic.end_offset,
            "lag_offsets": topic.lag_offsets,
        })
    };
    json!({
        "partition": shard.partition,
        "state": shard.state().as_str_name(),
        "reason": shard.reason,
        "keys": shard.keys,
        "lag_ms": shard.lag_ms,
        "topics": shard.topics.iter().map(topic).collect::<Vec<_>>(),
    })
}

pub(super) async fn openapi(_: Call) -> Result<Vec<u8>, Status> {
    Ok(OPENAPI.as_bytes().to_vec())
}
