//! Pushes and deletions. A write is tried again only when nothing can have been sent; any server takes a push, a
//! deletion goes to the servers that know the entities' newest event times.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::Error;
use crate::client::{Client, Inner};
use crate::merge::highest;
use crate::reads::retried;
use crate::route::by_owner;
use crate::v1::{
    DataPoint, DeleteFeaturesRequest, DeleteFeaturesResponse, OffsetVector, Position, PushFeaturesRequest,
};

/// Where in the log a write went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PushReceipt {
    positions: OffsetVector,
    data_points: Vec<Position>,
}

impl PushReceipt {
    /// What a read has to wait for to see the write.
    pub fn positions(&self) -> &OffsetVector {
        &self.positions
    }

    /// The position of each data point pushed, in order; empty for a deletion.
    pub fn data_points(&self) -> &[Position] {
        &self.data_points
    }

    /// Both writes' positions, to wait for both.
    pub fn and(mut self, other: PushReceipt) -> PushReceipt {
        self.positions = highest([self.positions, other.positions]);
        self.data_points.extend(other.data_points);
        self
    }
}

impl Client {
    /// Writes data points through Kafka; all of them are in the log when this returns. After `Unavailable`, `Broken` or
    /// `DeadlineExceeded` they may be there or not: pushing the same again is harmless, the same event time and bytes
    /// count once.
    pub async fn push(&self, data_points: Vec<DataPoint>) -> Result<PushReceipt, Error> {
        self.push_within(data_points, self.inner.config.deadline).await
    }

    /// As [`Client::push`], with a deadline of its own.
    pub async fn push_within(
        &self,
        data_points: Vec<DataPoint>,
        deadline: Duration,
    ) -> Result<PushReceipt, Error> {
        let deadline = self.inner.deadline(Some(deadline));
        let inner = &*self.inner;
        let request = PushFeaturesRequest { data_points };
        let call = |server| {
            let request = request.clone();
            async move {
                inner
                    .call(server, deadline, request, |s, r| async move { s.store().push_features(r).await })
                    .await
            }
        };
        let answer = retried(inner, deadline, Error::nothing_was_sent, call).await?;
        let positions = answer.positions.unwrap_or_default();
        Ok(PushReceipt { positions, data_points: answer.data_points })
    }

    /// Deletes views of entities. Without an event time it is now, or the newest known event time if that is later.
    /// If it fails, some of the deletions may have happened; asking again is harmless.
    pub async fn delete(
        &self,
        entities: Vec<Bytes>,
        views: Vec<String>,
        event_time_ms: Option<i64>,
    ) -> Result<PushReceipt, Error> {
        let deadline = self.inner.deadline(None);
        let inner = &*self.inner;
        let mut requests = Vec::new();
        for (server, entities, views) in inner.deletions(entities, views) {
            requests.push((server, DeleteFeaturesRequest { entities, views, event_time_ms }));
        }
        let sent = requests.into_iter().map(|(server, request)| inner.delete(server, request, deadline));
        let answers = futures::future::try_join_all(sent).await?;
        let positions = highest(answers.into_iter().filter_map(|answer| answer.positions));
        Ok(PushReceipt { positions, data_points: Vec::new() })
    }
}

impl Inner {
    /// With one server the request as it is; with several, by view and owner.
    fn deletions(
        &self,
        entities: Vec<Bytes>,
        views: Vec<String>,
    ) -> Vec<(Option<usize>, Vec<Bytes>, Vec<String>)> {
        if self.servers.len() == 1 || views.is_empty() || entities.is_empty() {
            return vec![(None, entities, views)];
        }
        let (topology, any) = (self.topology(), self.turn());
        let mut deletions = Vec::new();
        for view in views {
            for (server, entities) in by_owner(&topology, &view, &entities, any) {
                deletions.push((Some(server), entities, vec![view.clone()]));
            }
        }
        deletions
    }

    /// To a given server first, then, if nothing was sent, to others.
    async fn delete(
        &self,
        first: Option<usize>,
        request: DeleteFeaturesRequest,
        deadline: Instant,
    ) -> Result<DeleteFeaturesResponse, Error> {
        let once = |server: usize| {
            let request = request.clone();
            async move {
                self.call(server, deadline, request, |s, r| async move { s.store().delete_features(r).await })
                    .await
            }
        };
        if let Some(server) = first {
            match once(server).await {
                Err(error) if error.nothing_was_sent() => {}
                outcome => return outcome,
            }
        }
        retried(self, deadline, Error::nothing_was_sent, once).await
    }
}
