//! StreamFeatures: the answers are a stream that reads the requests. Nothing runs beside it: a request that need not
//! wait is answered as it is taken, the others are polled with it. So a caller that reads slowly is read slowly, memory
//! is bounded by the waiting requests, and a caller that goes takes everything with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Instant;

use forebay_proto::v1::stream_features_response::Outcome;
use forebay_proto::v1::{GetFeaturesResponse, StreamFeaturesRequest, StreamFeaturesResponse};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tonic::{Status, Streaming};

use super::Context;
use super::cold::{Reach, Unread};
use super::deadline::Deadline;
use super::errors::{request_error, too_late};
use super::read::Read;
use crate::metrics::{self, Rpc};

/// Requests of one stream that may wait at the same time; further ones are not taken until one is answered.
const MAX_WAITING: usize = 256;

/// The answers of one stream.
pub(super) struct Answers<S = Streaming<StreamFeaturesRequest>> {
    context: Arc<Context>,
    requests: Option<S>,
    waiting: FuturesUnordered<BoxFuture<'static, StreamFeaturesResponse>>,
    /// Completes with what the stream ends with before its time: the server stops, or the stream's deadline passed.
    end: BoxFuture<'static, Status>,
    /// That `end` has completed: it is not to be polled again.
    ended: bool,
    /// What to end with once nothing waits any more.
    last: Option<Status>,
}

impl<S: Stream<Item = Result<StreamFeaturesRequest, Status>> + Unpin> Answers<S> {
    /// The answers to `requests`.
    pub(super) fn new(
        context: Arc<Context>,
        requests: S,
        deadline: Deadline,
        stopping: watch::Receiver<bool>,
    ) -> Answers<S> {
        let end = Box::pin(ending(deadline, stopping));
        let (requests, waiting) = (Some(requests), FuturesUnordered::new());
        Answers { context, requests, waiting, end, ended: false, last: None }
    }

    /// Answers a request, or lets it wait: for positions, or for the disk.
    fn take(&mut self, request: StreamFeaturesRequest) -> Option<StreamFeaturesResponse> {
        let started = Instant::now();
        let (id, deadline) = (request.id, Deadline::after_ms(request.timeout_ms));
        if let Err(refused) = self.context.admission.check_unsent() {
            return Some(answer(id, started, Err(refused)));
        }
        let mut read = match Read::new(&self.context, request.request.unwrap_or_default()) {
            Ok(read) => read,
            Err(status) => return Some(answer(id, started, Err(status))),
        };
        if read.decide(&self.context) {
            match read.answer_within(&self.context, Reach::Memory) {
                Err(Unread::Cold) => {}
                done => return Some(answer(id, started, done.map_err(Unread::status))),
            }
        }
        let held = match self.context.admission.enter() {
            Ok(held) => held,
            Err(refused) => return Some(answer(id, started, Err(refused))),
        };
        let context = self.context.clone();
        self.waiting.push(Box::pin(async move {
            let _held = held;
            read.wait(&context, deadline).await;
            answer(id, started, read.answer(&context, deadline).await)
        }));
        None
    }

    /// Takes requests until one is answered at once, none is there, or too many wait.
    fn poll_requests(&mut self, task: &mut Task<'_>) -> Poll<Option<StreamFeaturesResponse>> {
        while self.waiting.len() < MAX_WAITING {
            let Some(requests) = &mut self.requests else { return Poll::Ready(None) };
            match requests.poll_next_unpin(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(request))) => match self.take(request) {
                    Some(answer) => return Poll::Ready(Some(answer)),
                    None => continue,
                },
                Poll::Ready(Some(Err(status))) => self.close(Some(status)),
                Poll::Ready(None) => self.close(None),
            }
        }
        Poll::Pending
    }

    fn poll_waiting(&mut self, task: &mut Task<'_>) -> Poll<StreamFeaturesResponse> {
        match self.waiting.poll_next_unpin(task) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            _ => Poll::Pending,
        }
    }

    /// Takes no more requests; those that wait are answered still.
    fn close(&mut self, last: Option<Status>) {
        self.requests = None;
        self.last = last;
    }
}

impl<S: Stream<Item = Result<StreamFeaturesRequest, Status>> + Unpin> Stream for Answers<S> {
    type Item = Result<StreamFeaturesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.ended
            && let Poll::Ready(status) = this.end.as_mut().poll(task)
        {
            this.ended = true;
            this.close(Some(status));
            this.waiting.clear();
        }
        // Those that have waited go first.
        if let Poll::Ready(answer) = this.poll_waiting(task) {
            return Poll::Ready(Some(Ok(answer)));
        }
        let taken = this.poll_requests(task);
        if let Poll::Ready(Some(answer)) = taken {
            return Poll::Ready(Some(Ok(answer)));
        }
        // Requests that began to wait just now have not been polled yet.
        if let Poll::Ready(answer) = this.poll_waiting(task) {
            return Poll::Ready(Some(Ok(answer)));
        }
        match taken {
            Poll::Ready(None) if this.waiting.is_empty() => Poll::Ready(this.last.take().map(Err)),
            _ => Poll::Pending,
        }
    }
}

fn answer(id: u64, started: Instant, result: Result<GetFeaturesResponse, Status>) -> StreamFeaturesResponse {
    metrics::observe(Rpc::StreamFeatures, started, result.is_ok());
    let outcome = match result {
        Ok(response) => Outcome::Response(response),
        Err(status) => Outcome::Error(request_error(&status)),
    };
    StreamFeaturesResponse { id, outcome: Some(outcome) }
}

async fn ending(deadline: Deadline, mut stopping: watch::Receiver<bool>) -> Status {
    let stop = async {
        // A sender that is gone has stopped too.
        stopping.wait_for(|stop| *stop).await.ok();
    };
    let Some(end) = deadline.end() else {
        stop.await;
        return stopped();
    };
    tokio::select! {
        () = stop => stopped(),
        () = tokio::time::sleep_until(end.into()) => too_late("the stream's deadline passed"),
    }
}

fn stopped() -> Status {
    Status::unavailable("the server is stopping; connect to another")
}
