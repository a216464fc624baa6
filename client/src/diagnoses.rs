//! Diagnoses: snapshots, predictions, outcomes. A call goes to a server that has the shards it is about, as far as is
//! known, and to others when that fails. Whatever is written once under an id may be written again, so those calls are
//! tried again as reads are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::client::Inner;
use crate::pool::Server;
use crate::reads::retried;
use crate::topology::{LaneMap, Topology};
use crate::v1::{
    CreateSnapshotRequest, CreateSnapshotResponse, Diagnosis, EraseEntityRequest, EraseEntityResponse,
    EvaluateRequest, GetDiagnosisRequest, GetSnapshotRequest, ListDiagnosesRequest, ListDiagnosesResponse,
    Outcome, Prediction, RecordOutcomeRequest, RecordOutcomeResponse, RecordPredictionRequest,
    RecordPredictionResponse, Snapshot,
};
use crate::{Client, Error};

/// Keyed by diagnosis ids; everything of a diagnosis is in the same shard.
const SNAPSHOTS: &str = "forebay.snapshots";
/// Keyed by entities.
const BY_ENTITY: &str = "forebay.by_entity";

/// The diagnoses of an Evaluate call, oldest first.
#[derive(Debug)]
pub struct Evaluation {
    parts: Vec<Part>,
}

/// What one server has of an evaluation.
#[derive(Debug)]
struct Part {
    server: String,
    stream: Streaming<Diagnosis>,
    /// The next that it gives.
    next: Option<Diagnosis>,
    ended: bool,
}

impl Evaluation {
    /// The next one; none at the end.
    pub async fn next(&mut self) -> Result<Option<Diagnosis>, Error> {
        for part in &mut self.parts {
            part.look().await?;
        }
        let asked_ms = |part: &Part| {
            let prediction = part.next.as_ref()?.prediction.as_ref();
            Some(prediction.map_or(i64::MIN, |prediction| prediction.predicted_at_ms))
        };
        let ready = self.parts.iter_mut().filter(|part| part.next.is_some());
        Ok(ready.min_by_key(|part| asked_ms(part)).and_then(|part| part.next.take()))
    }
}

impl Part {
    async fn look(&mut self) -> Result<(), Error> {
        if self.next.is_none() && !self.ended {
            let next = self.stream.message().await;
            self.next = next.map_err(|status| Error::from_status(&self.server, &status))?;
            self.ended = self.next.is_none();
        }
        Ok(())
    }
}

impl Client {
    /// Reads the features of a moment and keeps them under the diagnosis id. The same again gives what was kept;
    /// `AlreadyExists` says how that differs from what is asked for. `deadline` instead of the configured one, here and
    /// below.
    pub async fn create_snapshot(
        &self,
        request: CreateSnapshotRequest,
        deadline: Option<Duration>,
    ) -> Result<CreateSnapshotResponse, Error> {
        let (readers, keepers) = self.inner.readers_and_keepers(&request);
        let both: Vec<usize> = keepers.iter().copied().filter(|server| readers.contains(server)).collect();
        let call = async |s: &Server, r| s.diagnoses().create_snapshot(r).await;
        if !both.is_empty() || readers.is_empty() || keepers.is_empty() || request.assembled.is_some() {
            let first = if both.is_empty() { keepers } else { both };
            return self.inner.routed(first, request, deadline, Error::read_may_be_retried, call).await;
        }
        // The features are with one server and the diagnosis with another.
        let read = async |s: &Server, r| s.diagnoses().assemble_snapshot(r).await;
        let asked = request.clone();
        let assembled =
            self.inner.routed(readers, asked, deadline, Error::another_server_may_help, read).await?;
        let request = CreateSnapshotRequest { assembled: Some(assembled), ..request };
        self.inner.routed(keepers, request, deadline, Error::read_may_be_retried, call).await
    }

    /// The snapshot of a diagnosis: the same bytes for ever. `NotFound` if there is none.
    pub async fn get_snapshot(
        &self,
        request: GetSnapshotRequest,
        deadline: Option<Duration>,
    ) -> Result<Snapshot, Error> {
        let first = self.inner.owners(SNAPSHOTS, request.diagnosis_id.as_bytes());
        let call = async |s: &Server, r| s.diagnoses().get_snapshot(r).await;
        self.inner.routed(first, request, deadline, Error::another_server_may_help, call).await
    }

    /// Keeps what a model said. The same again succeeds.
    pub async fn record_prediction(
        &self,
        prediction: Prediction,
        deadline: Option<Duration>,
    ) -> Result<RecordPredictionResponse, Error> {
        let first = self.inner.owners(SNAPSHOTS, prediction.diagnosis_id.as_bytes());
        let request = RecordPredictionRequest { prediction: Some(prediction) };
        let call = async |s: &Server, r| s.diagnoses().record_prediction(r).await;
        self.inner.routed(first, request, deadline, Error::read_may_be_retried, call).await
    }

    /// Keeps what turned out to be true. Without an event time it is tried again only if nothing was sent, for the
    /// second would be another.
    pub async fn record_outcome(
        &self,
        outcome: Outcome,
        deadline: Option<Duration>,
    ) -> Result<RecordOutcomeResponse, Error> {
        let may_retry = match outcome.event_time_ms {
            Some(_) => Error::read_may_be_retried,
            None => Error::nothing_was_sent,
        };
        let first = self.inner.owners(SNAPSHOTS, outcome.diagnosis_id.as_bytes());
        let request = RecordOutcomeRequest { outcome: Some(outcome) };
        let call = async |s: &Server, r| s.diagnoses().record_outcome(r).await;
        self.inner.routed(first, request, deadline, may_retry, call).await
    }

    /// All that is kept of a diagnosis. `NotFound` if there is nothing.
    pub async fn get_diagnosis(
        &self,
        request: GetDiagnosisRequest,
        deadline: Option<Duration>,
    ) -> Result<Diagnosis, Error> {
        let first = self.inner.owners(SNAPSHOTS, request.diagnosis_id.as_bytes());
        let call = async |s: &Server, r| s.diagnoses().get_diagnosis(r).await;
        self.inner.routed(first, request, deadline, Error::another_server_may_help, call).await
    }

    /// A page of the diagnoses of an entity, newest first.
    pub async fn list_diagnoses(
        &self,
        request: ListDiagnosesRequest,
        deadline: Option<Duration>,
    ) -> Result<ListDiagnosesResponse, Error> {
        let first = self.inner.owners(BY_ENTITY, &request.entity);
        let call = async |s: &Server, r| s.diagnoses().list_diagnoses(r).await;
        self.inner.routed(first, request, deadline, Error::another_server_may_help, call).await
    }

    /// Every diagnosis of a model, oldest first. The stream takes as long as it takes; only its beginning has a deadline.
    pub async fn evaluate(&self, request: EvaluateRequest) -> Result<Evaluation, Error> {
        let inner = &*self.inner;
        let deadline = inner.deadline(None);
        let begin = |turn: usize| {
            let request = request.clone();
            async move {
                let shares = match inner.servers.len() {
                    1 => Vec::new(),
                    _ => shares(&*inner.refreshed(deadline).await),
                };
                if shares.len() < 2 || !request.partitions.is_empty() {
                    let server = shares.first().map_or(turn, |(server, _)| *server);
                    return Ok(Evaluation { parts: vec![inner.part(server, request, deadline).await?] });
                }
                // The lane is shared out: each server gives what it has.
                let mut parts = Vec::new();
                for (server, partitions) in shares {
                    let request = EvaluateRequest { partitions, ..request.clone() };
                    parts.push(inner.part(server, request, deadline).await?);
                }
                Ok(Evaluation { parts })
            }
        };
        retried(inner, deadline, Error::another_server_may_help, begin).await
    }

    /// Erases an entity: its features and its diagnoses. After a failure, asking again does what is left.
    pub async fn erase_entity(
        &self,
        request: EraseEntityRequest,
        deadline: Option<Duration>,
    ) -> Result<EraseEntityResponse, Error> {
        let first = self.inner.owners(BY_ENTITY, &request.entity);
        let call = async |s: &Server, r| s.diagnoses().erase_entity(r).await;
        self.inner.routed(first, request, deadline, Error::read_may_be_retried, call).await
    }
}

/// Which server is to give which partitions of the diagnoses; nothing while that is not known of all.
fn shares(topology: &Topology) -> Vec<(usize, Vec<u32>)> {
    let lane = topology.lane_of_view(SNAPSHOTS).map(|lane| topology.lane(lane));
    lane.and_then(LaneMap::shares).into_iter().flatten().collect()
}

impl Inner {
    /// Begins one server's part of an evaluation.
    async fn part(&self, server: usize, request: EvaluateRequest, deadline: Instant) -> Result<Part, Error> {
        let server = &self.servers[server];
        let answer = tokio::time::timeout_at(deadline, server.diagnoses().evaluate(request)).await;
        let late = || format!("{} did not begin to answer in time", server.uri);
        let answer = answer.map_err(|_| Error::DeadlineExceeded { message: late() })?;
        let answer = answer.map_err(|status| Error::from_status(&server.uri, &status))?;
        Ok(Part { server: server.uri.clone(), stream: answer.into_inner(), next: None, ended: false })
    }

    /// The servers that can read all of the features, and those that can keep the snapshot, as far as is known.
    fn readers_and_keepers(&self, request: &CreateSnapshotRequest) -> (Vec<usize>, Vec<usize>) {
        let topology = self.topology();
        let views = topology.service(&request.feature_service).unwrap_or_default();
        let mut readers: Option<Vec<usize>> = None;
        for view in views {
            let of_view = self.owners(&view.view, &request.entity);
            readers = Some(match readers {
                None => of_view,
                Some(all) => all.into_iter().filter(|server| of_view.contains(server)).collect(),
            });
        }
        (readers.unwrap_or_default(), self.owners(SNAPSHOTS, request.diagnosis_id.as_bytes()))
    }

    /// Asks one of `first`, then the others in turn, with pauses, while the error allows it.
    async fn routed<Q: Clone, A>(
        &self,
        first: Vec<usize>,
        request: Q,
        deadline: Option<Duration>,
        may_retry: impl Fn(&Error) -> bool,
        call: impl AsyncFn(&Server, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let (deadline, tried) = (self.deadline(deadline), AtomicBool::new(false));
        let ask = |turn: usize| {
            let is_first = !tried.swap(true, Ordering::Relaxed);
            let server = match first.len() {
                count @ 1.. if is_first => first[turn % count],
                _ => turn,
            };
            self.ask_and_learn(server, deadline, request.clone(), &call)
        };
        retried(self, deadline, may_retry, ask).await
    }

    /// What failed may have moved: then who has what is asked again.
    async fn ask_and_learn<Q, A>(
        &self,
        server: usize,
        deadline: Instant,
        request: Q,
        call: &impl AsyncFn(&Server, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let outcome = self.call(server, deadline, request, |s, r| call(s, r)).await;
        if self.servers.len() > 1 && outcome.as_ref().is_err_and(Error::may_have_moved) {
            self.refreshed(deadline).await;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls are made from spawned tasks.
    #[test]
    fn calls_may_move_between_threads() {
        fn moves<T: Send>(_: impl FnOnce(Client) -> T) {}
        moves(|client| async move { client.create_snapshot(Default::default(), None).await });
        moves(|client| async move { client.record_prediction(Default::default(), None).await });
        moves(|client| async move { client.get_diagnosis(Default::default(), None).await });
        moves(|client| async move { client.evaluate(Default::default()).await?.next().await });
    }
}
