//! The FeatureStore service: from tonic's calls to the module of each, with its deadline and its measure of time.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use forebay_proto::v1::feature_store_server::FeatureStore;
use forebay_proto::v1::{
    DeleteFeaturesRequest, DeleteFeaturesResponse, GetFeaturesRequest, GetFeaturesResponse,
    GetHistoryRequest, GetHistoryResponse, PushFeaturesRequest, PushFeaturesResponse, StreamFeaturesRequest,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::deadline::Deadline;
use super::stream::Answers;
use super::{Context, delete, history, push, read};
use crate::metrics::{self, Rpc};

/// Answers FeatureStore calls.
pub(super) struct FeatureStoreService {
    pub(super) context: Arc<Context>,
    /// Becomes true when the server stops: streams end then.
    pub(super) stopping: watch::Receiver<bool>,
}

/// Runs one unary call and measures it.
pub(super) async fn call<Q, A, F: Future<Output = Result<A, Status>>>(
    rpc: Rpc,
    request: Request<Q>,
    handle: impl FnOnce(Q, Deadline) -> F,
) -> Result<Response<A>, Status> {
    let started = Instant::now();
    let deadline = Deadline::of(request.metadata());
    let result = handle(request.into_inner(), deadline).await;
    metrics::observe(rpc, started, result.is_ok());
    result.map(Response::new)
}

impl FeatureStoreService {
    /// Answers GetFeatures.
    pub(super) async fn read(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        let handle = |request, deadline| read::features(&self.context, request, deadline);
        call(Rpc::GetFeatures, request, handle).await
    }
}

#[tonic::async_trait]
impl FeatureStore for FeatureStoreService {
    async fn get_features(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        self.read(request).await
    }

    type StreamFeaturesStream = Answers;

    async fn stream_features(
        &self,
        request: Request<Streaming<StreamFeaturesRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let deadline = Deadline::of(request.metadata());
        deadline.check()?;
        let (context, stopping) = (self.context.clone(), self.stopping.clone());
        Ok(Response::new(Answers::new(context, request.into_inner(), deadline, stopping)))
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        let handle = |request, deadline| history::history(&self.context, request, deadline);
        call(Rpc::GetHistory, request, handle).await
    }

    async fn push_features(
        &self,
        request: Request<PushFeaturesRequest>,
    ) -> Result<Response<PushFeaturesResponse>, Status> {
        let handle = |request, deadline| push::push(&self.context, request, deadline);
        call(Rpc::PushFeatures, request, handle).await
    }

    async fn delete_features(
        &self,
        request: Request<DeleteFeaturesRequest>,
    ) -> Result<Response<DeleteFeaturesResponse>, Status> {
        let handle = |request, deadline| delete::delete(&self.context, request, deadline);
        call(Rpc::DeleteFeatures, request, handle).await
    }
}
