//! The Admin service: what every shard is doing, what is defined, and taking up changed definitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_proto::v1::admin_server::Admin;
use forebay_proto::v1::{
    DescribeViewsRequest, DescribeViewsResponse, FeatureServiceDescription, FieldDescription,
    GetStatusRequest, GetStatusResponse, LaneCounters, LaneStatus, ReloadDefinitionsRequest,
    ReloadDefinitionsResponse, ShardState as StateCode, ShardStatus, TopicStatus, ViewDescription,
};
use tonic::{Request, Response, Status};

use super::errors::invalid;
use super::{Context, explain, registry, request};
use crate::definitions::{Definitions, FeatureService, Field, LaneDefinition, Partitioner, View};
use crate::lane::{Counters, Lane, ShardHandle, ShardState};

/// Answers Admin calls.
pub(super) struct AdminService {
    context: Arc<Context>,
}

impl AdminService {
    pub(super) fn new(context: Arc<Context>) -> AdminService {
        AdminService { context }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        status(&self.context, &request.into_inner()).map(Response::new)
    }

    async fn describe_views(
        &self,
        request: Request<DescribeViewsRequest>,
    ) -> Result<Response<DescribeViewsResponse>, Status> {
        let definitions = self.context.definitions.load();
        describe(&definitions, &request.into_inner().views).map(Response::new)
    }

    async fn reload_definitions(
        &self,
        request: Request<ReloadDefinitionsRequest>,
    ) -> Result<Response<ReloadDefinitionsResponse>, Status> {
        let changes = self.reload(request.into_inner().dry_run)?;
        Ok(Response::new(ReloadDefinitionsResponse { changes }))
    }
}

impl AdminService {
    /// Reads a few small files: short enough to do where it is called.
    fn reload(&self, dry_run: bool) -> Result<Vec<String>, Status> {
        let reloaded = self.context.in_force.reload(dry_run);
        let changes = reloaded.map_err(|reasons| Status::failed_precondition(reasons.join("\n")))?;
        if let (false, Some(registry)) = (dry_run, &self.context.registry) {
            registry.try_again();
        }
        Ok(changes)
    }
}

fn status(context: &Context, request: &GetStatusRequest) -> Result<GetStatusResponse, Status> {
    let lane = request.lane.as_str();
    if !lane.is_empty() {
        request::check_name("lane", lane)?;
        context.definitions.load().lane(lane).map_err(|unknown| invalid(unknown.0))?;
    }
    let chosen = context.lanes.iter().filter(|known| lane.is_empty() || known.definition.name == lane);
    let now_ms = context.clock.now_ms();
    Ok(GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: context.config.server.instance.clone(),
        uptime_ms: context.started.elapsed().as_millis() as u64,
        lanes: chosen.map(|lane| lane_status(lane, now_ms)).collect(),
        registry: registry::status(context),
        settings: if request.explain { explain::settings(context, lane) } else { Vec::new() },
    })
}

fn lane_status(lane: &Lane, now_ms: i64) -> LaneStatus {
    LaneStatus {
        lane: lane.definition.name.clone(),
        partitioner: partitioner(&lane.definition).into(),
        partitions: lane.partition_count().unwrap_or(0),
        shards: lane.shards().iter().map(|shard| shard_status(shard, now_ms)).collect(),
        counters: Some(counters(&lane.counters)),
    }
}

fn partitioner(lane: &LaneDefinition) -> &'static str {
    match lane.partitioner {
        Partitioner::Murmur2 => "murmur2",
        Partitioner::Crc32 => "crc32",
    }
}

fn counters(counters: &Counters) -> LaneCounters {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    LaneCounters {
        applied: read(&counters.applied),
        late: read(&counters.late),
        duplicate: read(&counters.duplicate),
        dead_lettered: read(&counters.dead_lettered),
        expired: read(&counters.expired),
        replayed: read(&counters.replayed),
        wrong_partition: read(&counters.wrong_partition),
    }
}

fn shard_status(shard: &ShardHandle, now_ms: i64) -> ShardStatus {
    let stats = shard.reader.as_ref().map(|reader| reader.stats()).unwrap_or_default();
    ShardStatus {
        partition: shard.partition,
        state: state_code(&shard.state()) as i32,
        reason: shard.reason(),
        topics: (0..shard.topics.len()).map(|topic| topic_status(shard, topic)).collect(),
        keys: stats.keys,
        disk_bytes: stats.disk_bytes,
        index_bytes: stats.index_bytes,
        hot_bytes: stats.hot_bytes,
        lag_ms: shard.staleness_ms(now_ms),
    }
}

fn state_code(state: &ShardState) -> StateCode {
    match state {
        ShardState::Opening => StateCode::Opening,
        ShardState::CatchingUp => StateCode::CatchingUp,
        ShardState::Ready => StateCode::Ready,
        ShardState::Halted(_) => StateCode::Halted,
        ShardState::Closed => StateCode::Closed,
    }
}

fn topic_status(shard: &ShardHandle, topic: usize) -> TopicStatus {
    let progress = &shard.topics[topic];
    TopicStatus {
        topic: progress.name.clone(),
        applied_offset: shard.applied_offset(topic),
        durable_offset: shard.durable_offset(topic),
        end_offset: progress.end_offset.load(Ordering::Acquire),
        lag_offsets: shard.lag_offsets(topic),
    }
}

fn describe(definitions: &Definitions, names: &[String]) -> Result<DescribeViewsResponse, Status> {
    let views = match names {
        [] => definitions.views.iter().map(|view| view_description(view)).collect(),
        names => names
            .iter()
            .map(|name| request::view(definitions, name).map(|view| view_description(view)))
            .collect::<Result<_, _>>()?,
    };
    let services = definitions.services.iter().map(|service| service_description(definitions, service));
    Ok(DescribeViewsResponse { views, feature_services: services.collect() })
}

fn view_description(view: &View) -> ViewDescription {
    ViewDescription {
        name: view.name.clone(),
        id: view.id.into(),
        lane: view.lane_name.clone(),
        entity_kind: view.entity_kind.clone(),
        topics: view.topics.clone(),
        event_time: view.event_time.describe(),
        ttl_ms: view.ttl_ms as u64,
        history: view.history.as_str().into(),
        avro_json: view.avro_json,
        fields: view.fields.iter().map(field_description).collect(),
    }
}

fn field_description(field: &Field) -> FieldDescription {
    FieldDescription {
        name: field.name.clone(),
        path: field.path.join("."),
        r#type: field.field_type.as_str().into(),
        default_json: field.default_json(),
    }
}

fn service_description(definitions: &Definitions, service: &FeatureService) -> FeatureServiceDescription {
    FeatureServiceDescription {
        name: service.name.clone(),
        version: service.version,
        features: definitions.feature_names(service),
    }
}
