//! Reads over bidirectional streams: many requests in flight without a round trip each. One stream per server, opened
//! when first needed; a broken stream fails what is pending on it with a clear error, and the next request opens another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};

use crate::client::Inner;
use crate::pool::Server;
use crate::reads::{self, Via, remaining};
use crate::v1::stream_features_response::Outcome;
use crate::v1::{
    GetFeaturesRequest, GetFeaturesResponse, RequestError, StreamFeaturesRequest, StreamFeaturesResponse,
};
use crate::{Error, Query, Rows};

type Answer = Result<GetFeaturesResponse, Error>;

/// Many reads in flight at once. Share it by reference; dropping it ends the streams.
#[derive(Debug)]
pub struct StreamHandle {
    inner: Arc<Inner>,
    permits: Semaphore,
    pipes: Vec<Mutex<Option<Arc<Pipe>>>>,
}

/// The stream to one server. The other end of `requests` is sent by tonic, `pending` is completed by `receive`.
#[derive(Debug)]
struct Pipe {
    requests: mpsc::UnboundedSender<StreamFeaturesRequest>,
    pending: Arc<Pending>,
    next_id: AtomicU64,
}

/// Who waits for which id. Closed once the stream has ended, with the error that ended it.
#[derive(Debug, Default)]
struct Pending(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<u64, oneshot::Sender<Answer>>,
    ended: Option<Error>,
}

/// Forgets an id whose caller has gone, so that a late answer finds nobody.
struct Forget<'p>(&'p Pending, u64);

impl StreamHandle {
    pub(crate) fn new(inner: Arc<Inner>, in_flight: usize) -> Self {
        let pipes = inner.servers.iter().map(|_| Mutex::new(None)).collect();
        StreamHandle { inner, permits: Semaphore::new(in_flight.clamp(1, Semaphore::MAX_PERMITS)), pipes }
    }

    /// Reads features; waits its turn if too many are in flight. The deadline includes that wait.
    pub async fn get(&self, query: Query) -> Result<Rows, Error> {
        self.get_features(query).await.map(Rows::new)
    }

    /// As [`StreamHandle::get`], in the contract's own words.
    pub async fn get_features(&self, query: Query) -> Answer {
        let deadline = self.inner.deadline(query.deadline);
        let Ok(permit) = timeout_at(deadline, self.permits.acquire()).await else {
            return Err(Error::DeadlineExceeded { message: "too many requests in flight before it".into() });
        };
        let _permit = permit.expect("the semaphore is never closed");
        reads::get(&self.inner, self, query.request, deadline).await
    }

    fn pipe(&self, server: usize) -> Arc<Pipe> {
        let mut pipe = self.pipes[server].lock();
        match &*pipe {
            Some(open) if !open.pending.has_ended() => open.clone(),
            _ => pipe.insert(Pipe::open(self.inner.clone(), server)).clone(),
        }
    }
}

impl Via for StreamHandle {
    async fn ask(&self, server: usize, request: GetFeaturesRequest, deadline: Instant) -> Answer {
        let target = &self.inner.servers[server];
        let _in_flight = target.begin();
        let pipe = self.pipe(server);
        let id = pipe.next_id.fetch_add(1, Ordering::Relaxed);
        let answer = pipe.pending.expect(id)?;
        let _forget = Forget(&pipe.pending, id);
        let timeout_ms = u32::try_from(remaining(deadline).as_millis()).unwrap_or(u32::MAX);
        // Fails only when the stream has ended; then the answer says why.
        let _ = pipe.requests.send(StreamFeaturesRequest { id, request: Some(request), timeout_ms });
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(broken(target, "the stream ended")),
            Err(_) => {
                Err(Error::DeadlineExceeded { message: format!("{} did not answer in time", target.uri) })
            }
        }
    }
}

impl Pipe {
    fn open(inner: Arc<Inner>, server: usize) -> Arc<Pipe> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        tokio::spawn(run(inner, server, outgoing, pending.clone()));
        Arc::new(Pipe { requests, pending, next_id: AtomicU64::new(1) })
    }
}

/// Opens the stream and completes answers until it ends.
async fn run(
    inner: Arc<Inner>,
    server: usize,
    outgoing: mpsc::UnboundedReceiver<StreamFeaturesRequest>,
    pending: Arc<Pending>,
) {
    let server = &inner.servers[server];
    let outgoing = UnboundedReceiverStream::new(outgoing);
    let ended = match server.store().stream_features(outgoing).await {
        Ok(incoming) => receive(server, incoming.into_inner(), &pending).await,
        Err(status) => Error::from_status(&server.uri, &status),
    };
    pending.end(ended);
}

async fn receive(
    server: &Server,
    mut incoming: Streaming<StreamFeaturesResponse>,
    pending: &Pending,
) -> Error {
    loop {
        match incoming.message().await {
            Ok(Some(message)) => pending.complete(message.id, outcome(server, message.outcome)),
            Ok(None) => return broken(server, "the server ended the stream; open a new one"),
            Err(status) => return Error::from_status(&server.uri, &status),
        }
    }
}

fn outcome(server: &Server, outcome: Option<Outcome>) -> Answer {
    match outcome {
        Some(Outcome::Response(response)) => Ok(response),
        Some(Outcome::Error(error)) => Err(request_error(server, error)),
        None => Err(Error::from_code(server.uri.clone(), Code::Internal, "an answer without outcome".into())),
    }
}

fn request_error(server: &Server, error: RequestError) -> Error {
    let (server, message) = (server.uri.clone(), error.message);
    match (Code::from(error.code), error.retry_after_ms) {
        (Code::ResourceExhausted, after_ms @ 1..) => {
            Error::Overloaded { server, message, retry_after: Duration::from_millis(after_ms.into()) }
        }
        (code, _) => Error::from_code(server, code, message),
    }
}

fn broken(server: &Server, message: &str) -> Error {
    Error::Broken { server: server.uri.clone(), message: message.into() }
}

impl Pending {
    fn expect(&self, id: u64) -> Result<oneshot::Receiver<Answer>, Error> {
        let mut waiting = self.0.lock();
        if let Some(error) = &waiting.ended {
            return Err(error.clone());
        }
        let (complete, answer) = oneshot::channel();
        waiting.by_id.insert(id, complete);
        Ok(answer)
    }

    fn has_ended(&self) -> bool {
        self.0.lock().ended.is_some()
    }

    fn complete(&self, id: u64, answer: Answer) {
        if let Some(complete) = self.0.lock().by_id.remove(&id) {
            // The caller may have gone meanwhile.
            let _ = complete.send(answer);
        }
    }

    fn end(&self, error: Error) {
        let mut waiting = self.0.lock();
        for (_, complete) in waiting.by_id.drain() {
            let _ = complete.send(Err(error.clone()));
        }
        waiting.ended = Some(error);
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.0.lock().by_id.remove(&self.1);
    }
}
