//! Changing and listing what is defined, on one of the servers: the registry is the same for all of them. A change is
//! tried on another server only if nothing of it was sent.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::Error;
use crate::client::{Client, Inner};
use crate::pool::Server;
use crate::reads::retried;
use crate::v1::{
    ApplyRequest, ApplyResponse, ListDefinitionsRequest, ListDefinitionsResponse, RemoveRequest,
    RemoveResponse,
};

impl Client {
    /// Has definitions checked and, unless it is a dry run, written to the registry and taken up by one server.
    pub async fn apply(
        &self,
        request: ApplyRequest,
        deadline: Option<Duration>,
    ) -> Result<ApplyResponse, Error> {
        let deadline = self.inner.deadline(deadline);
        let call = |server| apply(&self.inner, server, request.clone(), deadline);
        retried(&self.inner, deadline, Error::nothing_was_sent, call).await
    }

    /// The definitions in force on one of the servers, each with where it is from.
    pub async fn list_definitions(
        &self,
        request: ListDefinitionsRequest,
    ) -> Result<ListDefinitionsResponse, Error> {
        let deadline = self.inner.deadline(None);
        let call = |server| list(&self.inner, server, request.clone(), deadline);
        retried(&self.inner, deadline, Error::read_may_be_retried, call).await
    }

    /// Has a definition taken out of the registry.
    pub async fn remove_definition(
        &self,
        request: RemoveRequest,
        deadline: Option<Duration>,
    ) -> Result<RemoveResponse, Error> {
        let deadline = self.inner.deadline(deadline);
        let call = |server| remove(&self.inner, server, request.clone(), deadline);
        retried(&self.inner, deadline, Error::nothing_was_sent, call).await
    }
}

async fn apply(
    inner: &Inner,
    server: usize,
    request: ApplyRequest,
    deadline: Instant,
) -> Result<ApplyResponse, Error> {
    async fn call(
        server: &Server,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        server.registry().apply(request).await
    }
    inner.call(server, deadline, request, call).await
}

async fn list(
    inner: &Inner,
    server: usize,
    request: ListDefinitionsRequest,
    deadline: Instant,
) -> Result<ListDefinitionsResponse, Error> {
    async fn call(
        server: &Server,
        request: Request<ListDefinitionsRequest>,
    ) -> Result<Response<ListDefinitionsResponse>, Status> {
        server.registry().list_definitions(request).await
    }
    inner.call(server, deadline, request, call).await
}

async fn remove(
    inner: &Inner,
    server: usize,
    request: RemoveRequest,
    deadline: Instant,
) -> Result<RemoveResponse, Error> {
    async fn call(
        server: &Server,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        server.registry().remove(request).await
    }
    inner.call(server, deadline, request, call).await
}
