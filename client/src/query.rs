//! A read as its caller words it; becomes a `GetFeaturesRequest` and a deadline. Knows nothing of servers.

use std::time::Duration;

use crate::v1::get_features_request::Selection;
use crate::v1::{Format, GetFeaturesRequest, OffsetVector, ViewSelection, ViewSelections};
use crate::writes::PushReceipt;

/// What to read: entities, and views or a feature service. The latest as JSON unless it says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub(crate) request: GetFeaturesRequest,
    pub(crate) deadline: Option<Duration>,
}

impl Query {
    /// Of these entities (1 to 10,000, each 1 to 255 bytes).
    pub fn new(entities: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let entities =
            entities.into_iter().map(|entity| bytes::Bytes::copy_from_slice(entity.as_ref())).collect();
        Query { request: GetFeaturesRequest { entities, ..Default::default() }, deadline: None }
    }

    /// One more view, with the fields wanted of it; none means all. Fields need [`Query::typed`].
    pub fn view(
        mut self,
        view: impl Into<String>,
        fields: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let selection =
            ViewSelection { view: view.into(), fields: fields.into_iter().map(Into::into).collect() };
        match &mut self.request.selection {
            Some(Selection::Views(selections)) => selections.views.push(selection),
            other => *other = Some(Selection::Views(ViewSelections { views: vec![selection] })),
        }
        self
    }

    /// One more view, whole.
    pub fn whole_view(self, view: impl Into<String>) -> Self {
        self.view(view, [""; 0])
    }

    /// What a feature service names, instead of views: "name" or "name@3".
    pub fn feature_service(mut self, service: impl Into<String>) -> Self {
        self.request.selection = Some(Selection::FeatureService(service.into()));
        self
    }

    /// Typed columns instead of JSON.
    pub fn typed(mut self) -> Self {
        self.request.format = Format::Typed.into();
        self
    }

    /// The versions that were current at this event time (ms since the epoch).
    pub fn as_of_ms(mut self, event_time_ms: i64) -> Self {
        self.request.as_of_ms = Some(event_time_ms);
        self
    }

    /// With `as_of_ms`: only what had arrived by this ingest time (ms since the epoch).
    pub fn known_at_ms(mut self, ingest_time_ms: i64) -> Self {
        self.request.known_at_ms = Some(ingest_time_ms);
        self
    }

    /// Answer only when these positions are applied.
    pub fn wait_for(mut self, positions: OffsetVector) -> Self {
        self.request.wait_for = Some(positions);
        self
    }

    /// Answer only when this write is applied.
    pub fn read_your_writes(self, receipt: &PushReceipt) -> Self {
        self.wait_for(receipt.positions().clone())
    }

    /// Values of shards further behind than this are UNAVAILABLE (ms).
    pub fn max_staleness_ms(mut self, staleness_ms: u64) -> Self {
        self.request.max_staleness_ms = Some(staleness_ms);
        self
    }

    /// Give values of EXPIRED data points too.
    pub fn include_expired(mut self) -> Self {
        self.request.include_expired = true;
        self
    }

    /// Instead of the client's deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl From<GetFeaturesRequest> for Query {
    fn from(request: GetFeaturesRequest) -> Self {
        Query { request, deadline: None }
    }
}
