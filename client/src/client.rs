//! The client itself: its servers, what it knows of their shards, and the calls. Reads run in `reads`, writes in
//! `writes`, streams in `stream`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::RwLock;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::pool::Server;
use crate::reads::{self, Via, remaining, retried};
use crate::topology::Topology;
use crate::v1::feature_store_client::FeatureStoreClient;
use crate::v1::{
    DescribeViewsRequest, DescribeViewsResponse, GetFeaturesRequest, GetFeaturesResponse, GetHistoryRequest,
    GetHistoryResponse, GetStatusRequest, GetStatusResponse, ReloadDefinitionsRequest,
    ReloadDefinitionsResponse,
};
use crate::{ClientConfig, Error, Query, Rows, StreamHandle};

/// Knowledge younger than this is not fetched again because of one more failed read: while a server is down, reads of
/// what the others have must not wait for it again and again.
const FRESH: Duration = Duration::from_millis(500);
/// The longest a read waits for fresh knowledge.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(250);
/// The longest wait for one server's status otherwise.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to all servers of a Forebay. Cheap to clone; clones share channels and knowledge.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What one server said of itself.
#[derive(Debug)]
pub struct ServerStatus {
    /// Its address.
    pub server: String,
    /// Its answer.
    pub status: Result<GetStatusResponse, Error>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pub(crate) servers: Vec<Server>,
    turn: AtomicUsize,
    topology: RwLock<Arc<Topology>>,
    /// When it was fetched; held while it is being fetched, so that many failed reads fetch once.
    fetched: tokio::sync::Mutex<Option<Instant>>,
}

impl Client {
    /// Opens the pool. With several servers, asks all of them who has which shard and fails if none answers; with one,
    /// connects when first used. Errors name what is wrong with an address or the TLS material.
    pub async fn connect(config: ClientConfig) -> Result<Client, Error> {
        if config.servers.is_empty() {
            return Err(Error::invalid("no servers are configured"));
        }
        let servers: Result<Vec<_>, _> = config.servers.iter().map(|uri| Server::new(uri, &config)).collect();
        let inner = Arc::new(Inner {
            servers: servers?,
            turn: AtomicUsize::new(0),
            topology: RwLock::default(),
            fetched: tokio::sync::Mutex::new(None),
            config,
        });
        if inner.servers.len() > 1 {
            inner.fetch(Instant::now() + inner.config.deadline).await?;
            tokio::spawn(keep_fresh(Arc::downgrade(&inner)));
        }
        Ok(Client { inner })
    }

    /// Reads features.
    pub async fn get(&self, query: Query) -> Result<Rows, Error> {
        let answer = self.get_features(query.request, query.deadline).await?;
        Ok(Rows::new(answer))
    }

    /// Reads features, in the contract's own words; `deadline` instead of the configured one.
    pub async fn get_features(
        &self,
        request: GetFeaturesRequest,
        deadline: Option<Duration>,
    ) -> Result<GetFeaturesResponse, Error> {
        reads::get(&self.inner, &*self.inner, request, self.inner.deadline(deadline)).await
    }

    /// A page of the versions of one key, from a server that has its shard.
    pub async fn history(
        &self,
        request: GetHistoryRequest,
        deadline: Option<Duration>,
    ) -> Result<GetHistoryResponse, Error> {
        let deadline = self.inner.deadline(deadline);
        let call = |server: usize| self.inner.history(server, request.clone(), deadline);
        retried(&self.inner, deadline, Error::read_may_be_retried, call).await
    }

    /// A stream over which many reads can be in flight, at most `in_flight` of them; more wait their turn.
    pub fn stream(&self, in_flight: usize) -> StreamHandle {
        StreamHandle::new(self.inner.clone(), in_flight)
    }

    /// What every server says of its shards, in the order of the configuration. `lane`: only this one; empty: all.
    pub async fn status(&self, lane: &str) -> Vec<ServerStatus> {
        self.ask_all(GetStatusRequest { lane: lane.to_owned(), explain: false }).await
    }

    /// As [`Client::status`], with every setting in force and why it is what it is.
    pub async fn explain(&self, lane: &str) -> Vec<ServerStatus> {
        self.ask_all(GetStatusRequest { lane: lane.to_owned(), explain: true }).await
    }

    async fn ask_all(&self, request: GetStatusRequest) -> Vec<ServerStatus> {
        let (deadline, request) = (self.inner.deadline(None), &request);
        let ask = |server: usize| async move {
            let request = request.clone();
            let status = self.inner.get_status(server, request, deadline).await;
            ServerStatus { server: self.inner.servers[server].uri.clone(), status }
        };
        join_all((0..self.inner.servers.len()).map(ask)).await
    }

    /// The definitions in force on one of the servers. No views named: all.
    pub async fn describe_views(&self, views: Vec<String>) -> Result<DescribeViewsResponse, Error> {
        let deadline = self.inner.deadline(None);
        let call = |server| self.inner.describe(server, views.clone(), deadline);
        retried(&self.inner, deadline, Error::read_may_be_retried, call).await
    }

    /// Has every server read its definitions again; the first refusal ends it.
    pub async fn reload_definitions(&self, dry_run: bool) -> Result<Vec<ReloadDefinitionsResponse>, Error> {
        let deadline = self.inner.deadline(None);
        let mut answers = Vec::new();
        for server in 0..self.inner.servers.len() {
            let request = ReloadDefinitionsRequest { dry_run };
            let call = |s, r| reload(s, r);
            answers.push(self.inner.call(server, deadline, request, call).await?);
        }
        Ok(answers)
    }

    /// Asks all servers again who has which shard.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.inner.fetch(self.inner.deadline(None)).await
    }
}

async fn history_of(
    mut store: FeatureStoreClient<Channel>,
    request: Request<GetHistoryRequest>,
) -> Result<Response<GetHistoryResponse>, Status> {
    store.get_history(request).await
}

async fn reload(
    server: &Server,
    request: Request<ReloadDefinitionsRequest>,
) -> Result<Response<ReloadDefinitionsResponse>, Status> {
    server.admin().reload_definitions(request).await
}

impl Inner {
    pub(crate) fn deadline(&self, given: Option<Duration>) -> Instant {
        Instant::now() + given.unwrap_or(self.config.deadline)
    }

    /// The server whose turn it is.
    pub(crate) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len()
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.read().clone()
    }

    /// The topology, fetched again unless somebody just did; the old one if that takes too long or nobody answers.
    pub(crate) async fn refreshed(&self, deadline: Instant) -> Arc<Topology> {
        let deadline = deadline.min(Instant::now() + REFRESH_TIMEOUT);
        // Each server's answer has this deadline; the wait for somebody else's fetch has a little more.
        let _ = timeout_at(deadline + REFRESH_TIMEOUT, self.fetch_if_stale(deadline)).await;
        self.topology()
    }

    /// Makes a call of one server under the deadline.
    pub(crate) async fn call<'s, Q, A, F>(
        &'s self,
        server: usize,
        deadline: Instant,
        message: Q,
        call: impl FnOnce(&'s Server, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let server = &self.servers[server];
        let _in_flight = server.begin();
        let mut request = Request::new(message);
        request.set_timeout(remaining(deadline));
        match timeout_at(deadline, call(server, request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Error::from_status(&server.uri, &status)),
            Err(_) => {
                Err(Error::DeadlineExceeded { message: format!("{} did not answer in time", server.uri) })
            }
        }
    }

    /// Asks an owner of the key's shard; `turn` says which of several. What failed may have moved: others are asked.
    async fn history(
        &self,
        turn: usize,
        request: GetHistoryRequest,
        deadline: Instant,
    ) -> Result<GetHistoryResponse, Error> {
        let owners = self.owners(&request.view, &request.entity);
        let server = match owners.len() {
            0 => turn,
            count => owners[turn % count],
        };
        let outcome = self.call(server, deadline, request, |s, r| history_of(s.store(), r)).await;
        if self.servers.len() > 1 && outcome.as_ref().is_err_and(Error::may_have_moved) {
            self.refreshed(deadline).await;
        }
        outcome
    }

    async fn get_status(
        &self,
        server: usize,
        request: GetStatusRequest,
        deadline: Instant,
    ) -> Result<GetStatusResponse, Error> {
        self.call(server, deadline, request, |s, r| async move { s.admin().get_status(r).await }).await
    }

    async fn describe(
        &self,
        server: usize,
        views: Vec<String>,
        deadline: Instant,
    ) -> Result<DescribeViewsResponse, Error> {
        let request = DescribeViewsRequest { views };
        self.call(server, deadline, request, |s, r| async move { s.admin().describe_views(r).await }).await
    }

    /// The servers that have an entity's shard of a view, as far as is known.
    pub(crate) fn owners(&self, view: &str, entity: &[u8]) -> Vec<usize> {
        let topology = self.topology();
        let Some(lane) = topology.lane_of_view(view) else { return Vec::new() };
        let lane = topology.lane(lane);
        lane.partition(entity).map(|partition| lane.owners(partition).to_vec()).unwrap_or_default()
    }

    async fn fetch_if_stale(&self, deadline: Instant) -> Result<(), Error> {
        let fetched = self.fetched.lock().await;
        match *fetched {
            Some(at) if at.elapsed() < FRESH => Ok(()),
            _ => self.fetch_into(fetched, deadline).await,
        }
    }

    async fn fetch(&self, deadline: Instant) -> Result<(), Error> {
        self.fetch_into(self.fetched.lock().await, deadline).await
    }

    /// Asks every server. Fails only if none answers; then the old knowledge stays. A server that has not answered by
    /// the deadline has no shards until the next time.
    async fn fetch_into(
        &self,
        mut fetched: tokio::sync::MutexGuard<'_, Option<Instant>>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let deadline = deadline.min(Instant::now() + STATUS_TIMEOUT);
        let ask = |server: usize| async move {
            let status = self.get_status(server, GetStatusRequest::default(), deadline);
            let (status, views) = tokio::try_join!(status, self.describe(server, Vec::new(), deadline))?;
            Ok((server, status, views))
        };
        let answers = join_all((0..self.servers.len()).map(ask)).await;
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(answer) => said.push(answer),
                Err(error) => errors.push(error),
            }
        }
        if let (true, Some(error)) = (said.is_empty(), errors.into_iter().next()) {
            return Err(error);
        }
        let topology = Topology::new(&self.topology(), &said);
        *self.topology.write() = Arc::new(topology);
        *fetched = Some(Instant::now());
        Ok(())
    }
}

impl Via for Inner {
    async fn ask(
        &self,
        server: usize,
        request: GetFeaturesRequest,
        deadline: Instant,
    ) -> Result<GetFeaturesResponse, Error> {
        self.call(server, deadline, request, |s, r| async move { s.store().get_features(r).await }).await
    }
}

/// Fetches from time to time for as long as there is a client.
async fn keep_fresh(inner: Weak<Inner>) {
    loop {
        let Some(pause) = inner.upgrade().map(|inner| inner.config.refresh_interval) else { return };
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        let _ = inner.fetch(inner.deadline(None)).await;
    }
}
