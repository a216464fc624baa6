//! A server in the process for this crate's own tests: it has the shards it is told to have, answers with who it is, and
//! fails when told to. The real server is tested elsewhere.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::Partitioner;
use crate::topology::tests::{definitions, lane_status};
use crate::v1::admin_server::{Admin, AdminServer};
use crate::v1::feature_store_server::{FeatureStore, FeatureStoreServer};
use crate::v1::get_features_request::Selection;
use crate::v1::{self, *};

/// Partitions of its only lane, `main`, with views `v` and `w`.
pub(crate) const PARTITIONS: u32 = 8;

/// What the fake does and what it saw.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Partitions it has READY.
    pub(crate) ready: Vec<u32>,
    /// What it says to be READY, if that is not the truth.
    pub(crate) claims: Option<Vec<u32>>,
    /// The next calls fail with these, one each.
    pub(crate) failures: VecDeque<Status>,
    /// Entities of each GetFeatures, in order of arrival.
    pub(crate) reads: Vec<GetFeaturesRequest>,
    /// The gRPC timeouts that came with reads.
    pub(crate) timeouts: Vec<Option<String>>,
    pub(crate) pushes: Vec<PushFeaturesRequest>,
    pub(crate) deletions: Vec<DeleteFeaturesRequest>,
    /// Reads of this entity never end.
    pub(crate) black_hole: Option<&'static str>,
}

/// A running fake; ends when dropped.
pub(crate) struct Fake {
    pub(crate) uri: String,
    pub(crate) state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Fake {
    /// Has these partitions.
    pub(crate) async fn start(ready: &[u32]) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Fake::on(listener, ready)
    }

    pub(crate) fn on(listener: TcpListener, ready: &[u32]) -> Fake {
        let uri = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State { ready: ready.to_vec(), ..State::default() }));
        let service = Service(state.clone());
        let server = tonic::transport::Server::builder()
            .add_service(FeatureStoreServer::new(service.clone()))
            .add_service(AdminServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { server.await.expect("serves") });
        Fake { uri, state, task }
    }

    /// How many entities it was asked for, in all reads.
    pub(crate) fn entities_read(&self) -> usize {
        self.state.lock().reads.iter().map(|read| read.entities.len()).sum()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    fn fail(&self) -> Result<(), Status> {
        self.0.lock().failures.pop_front().map_or(Ok(()), Err)
    }

    async fn read(&self, request: GetFeaturesRequest) -> Result<GetFeaturesResponse, Status> {
        self.0.lock().reads.push(request.clone());
        self.fail()?;
        let black_hole = self.0.lock().black_hole.map(str::as_bytes);
        if request.entities.iter().any(|entity| Some(&entity[..]) == black_hole) {
            std::future::pending::<()>().await;
        }
        let Some(Selection::Views(views)) = &request.selection else {
            return Err(Status::invalid_argument("the fake reads views"));
        };
        if views.views.iter().any(|view| view.view == "nope") {
            return Err(Status::not_found("there is no view nope"));
        }
        Ok(answer(&request, views, &self.0.lock().ready))
    }
}

fn hint_ms(status: &Status) -> u32 {
    let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
    hint.map_or(0, |after| after.as_millis() as u32)
}

/// Each row's JSON is `"entity view"`; rows of partitions it has not are UNAVAILABLE.
fn answer(request: &GetFeaturesRequest, views: &ViewSelections, ready: &[u32]) -> GetFeaturesResponse {
    let partitions: Vec<u32> =
        request.entities.iter().map(|entity| Partitioner::Murmur2.partition(entity, PARTITIONS)).collect();
    let here = |partition: &u32| ready.contains(partition);
    let view = |selection: &ViewSelection| ViewColumns {
        view: selection.view.clone(),
        status: partitions
            .iter()
            .map(|p| if here(p) { v1::Status::Present } else { v1::Status::Unavailable }.into())
            .collect(),
        event_time_ms: vec![1; partitions.len()],
        ingest_time_ms: vec![2; partitions.len()],
        expiry_ms: vec![3; partitions.len()],
        topics: vec!["main.points".into()],
        topic_index: vec![0; partitions.len()],
        offset: vec![9; partitions.len()],
        json: request
            .entities
            .iter()
            .zip(&partitions)
            .map(|(entity, partition)| {
                let text = format!("{} {}", String::from_utf8_lossy(entity), selection.view);
                if here(partition) { text.into() } else { bytes::Bytes::new() }
            })
            .collect(),
        partition: partitions.clone(),
        fields: Vec::new(),
    };
    let mut missing: Vec<u32> = partitions.iter().copied().filter(|partition| !here(partition)).collect();
    missing.sort_unstable();
    missing.dedup();
    let unavailable = missing.into_iter().map(|partition| ShardUnavailable {
        lane: "main".into(),
        partition,
        reason: "not on this server".into(),
    });
    GetFeaturesResponse {
        views: views.views.iter().map(view).collect(),
        read_at: None,
        unavailable: unavailable.collect(),
    }
}

#[tonic::async_trait]
impl FeatureStore for Service {
    async fn get_features(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.0.lock().timeouts.push(timeout);
        self.read(request.into_inner()).await.map(Response::new)
    }

    type StreamFeaturesStream = Pin<Box<dyn Stream<Item = Result<StreamFeaturesResponse, Status>> + Send>>;

    async fn stream_features(
        &self,
        request: Request<Streaming<StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        let service = self.clone();
        let one = move |message: Result<StreamFeaturesRequest, Status>| {
            let service = service.clone();
            async move {
                let message = message?;
                let read = service.read(message.request.unwrap_or_default()).await;
                let outcome = match read {
                    Ok(response) => stream_features_response::Outcome::Response(response),
                    // The fake's way to break a stream.
                    Err(status) if status.code() == tonic::Code::Aborted => return Err(status),
                    Err(status) => stream_features_response::Outcome::Error(RequestError {
                        code: status.code().into(),
                        message: status.message().into(),
                        retry_after_ms: hint_ms(&status),
                    }),
                };
                Ok(StreamFeaturesResponse { id: message.id, outcome: Some(outcome) })
            }
        };
        Ok(Response::new(Box::pin(request.into_inner().map(one).buffer_unordered(64))))
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        self.fail()?;
        let request = request.into_inner();
        let partition = Partitioner::Murmur2.partition(&request.entity, PARTITIONS);
        match self.0.lock().ready.contains(&partition) {
            true => Ok(Response::new(GetHistoryResponse::default())),
            false => Err(Status::unavailable("not on this server")),
        }
    }

    async fn push_features(
        &self,
        request: Request<PushFeaturesRequest>,
    ) -> Result<Response<PushFeaturesResponse>, Status> {
        self.0.lock().pushes.push(request.into_inner());
        self.fail()?;
        Ok(Response::new(PushFeaturesResponse::default()))
    }

    async fn delete_features(
        &self,
        request: Request<DeleteFeaturesRequest>,
    ) -> Result<Response<DeleteFeaturesResponse>, Status> {
        self.0.lock().deletions.push(request.into_inner());
        self.fail()?;
        Ok(Response::new(DeleteFeaturesResponse::default()))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let state = self.0.lock();
        let claims = state.claims.as_ref().unwrap_or(&state.ready);
        let lanes = vec![lane_status("main", PARTITIONS, claims)];
        Ok(Response::new(GetStatusResponse { lanes, instance: "fake".into(), ..Default::default() }))
    }

    async fn describe_views(
        &self,
        _: Request<DescribeViewsRequest>,
    ) -> Result<Response<DescribeViewsResponse>, Status> {
        Ok(Response::new(definitions(&[("v", "main"), ("w", "main")])))
    }

    async fn reload_definitions(
        &self,
        _: Request<ReloadDefinitionsRequest>,
    ) -> Result<Response<ReloadDefinitionsResponse>, Status> {
        Err(Status::failed_precondition("the fake reloads nothing"))
    }
}
