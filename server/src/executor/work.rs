//! What is done with the records of one source: a model's, or those that are no model's. Called by `run`, which starts and
//! stops it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::counts::Counts;
use super::edge::Edge;
use super::job::Job;
use super::letters::DeadLetters;
use super::model::Asked;
use super::request::{Request, Wanted};
use super::source::{Record, Source};
use super::store::Store;
use super::window::{Ticket, Windows};
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::{Definitions, InForce, Model, Trigger};
use crate::kafka::{AT_LEISURE_MS, SOON_MS};

/// How long a stop waits for jobs under way; what is not done by then is done by the next run.
const GRACE: Duration = Duration::from_secs(5);

/// Title of the worker for what is no model's.
pub(super) const KEEPER: &str = "keeper";

/// What all sources work with.
pub(super) struct Tools {
    pub config: Config,
    pub in_force: Arc<InForce>,
    pub store: Store,
    pub letters: DeadLetters,
    pub clock: Clock,
}

/// One source and what it did.
pub(super) struct Worker {
    /// Whose records it takes; none: those that are no model's.
    pub model: Option<Arc<Asked>>,
    /// What its source reads.
    pub topics: Vec<String>,
    pub counts: Counts,
    pub windows: Windows,
}

impl Worker {
    /// The model's, or the keeper's.
    pub(super) fn title(&self) -> String {
        self.model.as_ref().map_or(KEEPER.into(), |model| model.definition.title())
    }

    /// The topics a source reads: its model's triggers' (or all triggers') and that of requests.
    pub(super) fn topics(model: Option<&Model>, definitions: &Definitions, config: &Config) -> Vec<String> {
        let is_watched = |trigger: &&Arc<Trigger>| model.is_none_or(|model| model.watches(&trigger.name));
        let edges = definitions.triggers.iter().filter(is_watched).map(|trigger| trigger.edges_topic.clone());
        let topics: BTreeSet<_> = edges.chain([config.execute.requests_topic.clone()]).collect();
        topics.into_iter().collect()
    }

    /// Its source: a consumer group of its own.
    pub(super) fn source(
        model: Option<&Asked>,
        topics: &[String],
        config: &Config,
    ) -> anyhow::Result<Source> {
        let name = match model {
            Some(model) => format!("execute.{}.{}", model.definition.name, model.definition.version),
            None => "execute".into(),
        };
        let instance = format!("{}.{name}", config.server.instance);
        let group = format!("{}.{name}", config.kafka.group);
        let gather_ms = if model.is_some() { SOON_MS } else { AT_LEISURE_MS };
        Source::join(&config.kafka, &group, &instance, topics, gather_ms)
    }

    /// Works until `stop`. The error says why it cannot go on.
    pub(super) async fn work(
        self: Arc<Self>,
        source: Source,
        tools: Arc<Tools>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let most = tools.config.execute.max_under_way;
        let slots = Arc::new(Semaphore::new(most));
        let outcome =
            source.consume(&slots, stop, |record, ticket, slot| self.take(record, ticket, slot, &tools));
        let outcome = outcome.await;
        let all = slots.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::info!(
                of = self.title(),
                left = self.windows.unfinished(),
                "stopped before all jobs were done"
            );
        }
        // Waits for brokers.
        let close = move || source.commit(CommitMode::Sync);
        tokio::task::spawn_blocking(close).await.map_err(|error| error.to_string())?;
        outcome
    }

    fn take(
        self: &Arc<Self>,
        record: Record,
        ticket: Ticket,
        slot: OwnedSemaphorePermit,
        tools: &Arc<Tools>,
    ) {
        let (worker, tools) = (self.clone(), tools.clone());
        let is_request = record.topic == tools.config.execute.requests_topic;
        match self.model.clone() {
            Some(model) => {
                let Some(job) = job(&record, is_request, &model, &tools) else { return ticket.finish() };
                tokio::spawn(async move {
                    worker.run(&record, &job, &model, &tools).await;
                    ticket.finish();
                    drop(slot);
                });
            }
            None => drop(tokio::spawn(async move {
                if let Err((reason, detail)) = keep(&record, is_request, &tools).await {
                    worker.put_aside(&record, reason, &detail, &tools).await;
                }
                ticket.finish();
                drop(slot);
            })),
        }
    }

    async fn run(&self, record: &Record, job: &Job, model: &Arc<Asked>, tools: &Tools) {
        match job.run(&tools.store, model, &self.counts).await {
            Ok(()) => self.counts.stored(tools.clock.now_ms() - record.timestamp_ms),
            Err(detail) => self.put_aside(record, "refused", &detail, tools).await,
        }
    }

    async fn put_aside(&self, record: &Record, reason: &str, detail: &str, tools: &Tools) {
        self.counts.dead_letter();
        tools.letters.put(record, reason, detail).await;
    }
}

/// What a record asks of this model. What cannot be read is the keeper's matter.
fn job(record: &Record, is_request: bool, model: &Asked, tools: &Tools) -> Option<Job> {
    let title = model.definition.title();
    let definitions = tools.in_force.shared.load();
    if !is_request {
        let edge = Edge::read(record).ok()?;
        let judges = model.definition.judges(&edge.cause.trigger, &edge.cause.to_state);
        return judges.then(|| Job::of_edge(edge, &title, &definitions));
    }
    let request = Request::read(record).ok()?;
    let Wanted::Model(wanted) = &request.wanted else { return None };
    let is_meant = definitions.model(wanted).is_ok_and(|meant| meant.title() == title);
    is_meant.then(|| Job::of_request(request))
}

/// What a record asks of no model: nothing, a snapshot, or to be put aside for a reason.
async fn keep(record: &Record, is_request: bool, tools: &Tools) -> Result<(), (&'static str, String)> {
    if !is_request {
        return Edge::read(record).map(drop).map_err(|detail| ("bad_edge", detail));
    }
    let request = Request::read(record).map_err(|detail| ("bad_request", detail))?;
    let definitions = tools.in_force.shared.load_full();
    match request.wanted.clone() {
        Wanted::Model(model) => {
            definitions.model(&model).map(drop).map_err(|unknown| ("unknown_model", unknown.0))
        }
        Wanted::Snapshot(service) => {
            definitions.service(&service).map_err(|unknown| ("unknown_feature_service", unknown.0))?;
            let job = Job::of_request(request);
            job.freeze(&tools.store, &service).await.map_err(|detail| ("refused", detail))
        }
    }
}
