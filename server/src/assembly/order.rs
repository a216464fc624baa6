//! One request of a key at a time, in the order they came; those of other keys pass one that waits. A request that need
//! not wait is answered where it is taken, which is nearly always. Kept by one thread.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::GetFeaturesResponse;
use forebay_proto::v1::feature_store_server::FeatureStore;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tonic::{Request, Status};

use super::request::Job;

/// A request with its answer.
pub(super) type Answered = (Job, Result<GetFeaturesResponse, Status>);

type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// The requests that wait.
pub(super) struct Order<S> {
    store: Arc<S>,
    running: FuturesUnordered<Answering>,
    /// Those behind the running one, by key.
    behind: HashMap<Bytes, VecDeque<Job>>,
}

impl<S: FeatureStore> Order<S> {
    pub(super) fn new(store: S) -> Order<S> {
        Order { store: Arc::new(store), running: FuturesUnordered::new(), behind: HashMap::new() }
    }

    /// Takes a request; gives its answer if it need not wait.
    pub(super) fn take(&mut self, job: Job) -> Option<Answered> {
        if let Some(key) = &job.record.key
            && let Some(queue) = self.behind.get_mut(key)
        {
            queue.push_back(job);
            return None;
        }
        let key = job.record.key.clone();
        let mut answering = answer(self.store.clone(), job);
        if let Some(done) = answering.as_mut().now_or_never() {
            return Some(done);
        }
        self.behind.extend(key.map(|key| (key, VecDeque::new())));
        self.running.push(answering);
        None
    }

    /// Waits for the next answer; for ever if nothing waits.
    pub(super) async fn next(&mut self) -> Answered {
        let Some(done) = self.running.next().await else { return std::future::pending().await };
        if let Some(key) = &done.0.record.key {
            match self.behind.get_mut(key).and_then(VecDeque::pop_front) {
                Some(job) => self.running.push(answer(self.store.clone(), job)),
                None => drop(self.behind.remove(key)),
            }
        }
        done
    }
}

fn answer<S: FeatureStore>(store: Arc<S>, job: Job) -> Answering {
    Box::pin(async move {
        let answer = match job.asked.clone() {
            Err(status) => Err(status),
            Ok(asked) => {
                let mut request = Request::new(asked);
                job.timeout.iter().for_each(|timeout| request.set_timeout(*timeout));
                store.get_features(request).await.map(tonic::Response::into_inner)
            }
        };
        (job, answer)
    })
}
