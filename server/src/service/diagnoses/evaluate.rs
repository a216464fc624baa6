//! Evaluate: every diagnosis of a model with its prediction, newest outcome and snapshot, oldest first. The model's index
//! has a key on every partition, and each gives its newest entries first: so the time is walked in spans from the oldest
//! on, and the entries of a span, which are few, are sorted. What is held is a span's entries and one diagnosis.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use forebay_proto::v1::{Diagnosis, EvaluateRequest};
use forebay_storage::HistoryRange;
use futures::Stream;
use futures::stream::try_unfold;
use tonic::Status;

use super::super::Context;
use super::super::cold;
use super::super::deadline::Deadline;
use super::super::errors::{invalid, too_late};
use super::super::read::reader_of;
use super::super::request;
use super::super::wait::Terms;
use super::home::Home;
use super::index::{self, Listed};
use crate::definitions::diagnoses::{BY_MODEL, FUTURE_MS};

/// The stream of an Evaluate call.
pub(super) type Diagnoses = Pin<Box<dyn Stream<Item = Result<Diagnosis, Status>> + Send>>;

/// Entries wanted of a span at most; a span of one millisecond has as many as it has.
const SPAN_ENTRIES: usize = 1024;

/// The first span, ms.
const FIRST_SPAN_MS: i64 = 3_600_000;

/// Checks the request; the stream does the rest.
pub(super) fn evaluate(
    context: &Arc<Context>,
    request: &EvaluateRequest,
    deadline: Deadline,
) -> Result<Diagnoses, Status> {
    deadline.check()?;
    let home = Home::of(context)?;
    request::check_name("model", &request.model)?;
    request::check_time("from_ms", request.from_ms)?;
    request::check_time("to_ms", request.to_ms)?;
    let walk = Walk::new(home, request, deadline)?;
    Ok(Box::pin(try_unfold(walk, Walk::next)))
}

/// Where the walk is.
struct Walk {
    home: Home,
    terms: Terms,
    deadline: Deadline,
    only_with_outcome: bool,
    models: Vec<String>,
    /// Where their entries are.
    keys: Vec<String>,
    /// Begin of the next span, ms.
    next_ms: i64,
    end_ms: i64,
    span_ms: i64,
    /// Diagnoses of the span before, oldest first, with the moment the model was asked.
    ready: VecDeque<(i64, String)>,
}

impl Walk {
    fn new(home: Home, request: &EvaluateRequest, deadline: Deadline) -> Result<Walk, Status> {
        let now_ms = home.context.clock.now_ms();
        // Nothing older is kept, and nothing newer is taken.
        let oldest_ms = now_ms.saturating_sub(home.settings().ttl_ms.saturating_mul(2));
        let newest_ms = now_ms.saturating_add(FUTURE_MS);
        let models = models(&home, &request.model)?;
        Ok(Walk {
            terms: home.terms(None)?,
            keys: keys(&home, &models, &request.partitions)?,
            models,
            home,
            deadline,
            only_with_outcome: request.only_with_outcome,
            next_ms: request.from_ms.unwrap_or(oldest_ms).max(oldest_ms),
            end_ms: request.to_ms.unwrap_or(newest_ms).min(newest_ms),
            span_ms: FIRST_SPAN_MS,
            ready: VecDeque::new(),
        })
    }

    async fn next(mut self) -> Result<Option<(Diagnosis, Walk)>, Status> {
        loop {
            if self.deadline.end().is_some_and(|end| end <= Instant::now()) {
                return Err(too_late("the deadline passed before all diagnoses were given"));
            }
            if let Some((asked_ms, id)) = self.ready.pop_front() {
                let diagnosis = self.home.diagnosis(&id, &self.terms, self.deadline).await?;
                match diagnosis.filter(|diagnosis| self.wants(diagnosis, asked_ms)) {
                    Some(diagnosis) => return Ok(Some((diagnosis, self))),
                    None => continue,
                }
            }
            if self.next_ms >= self.end_ms {
                return Ok(None);
            }
            self.span().await?;
        }
    }

    /// An entry may be of a prediction that is no more, or of one that came after it under the same id.
    fn wants(&self, diagnosis: &Diagnosis, asked_ms: i64) -> bool {
        let said = diagnosis.prediction.as_ref();
        said.is_some_and(|said| said.predicted_at_ms == asked_ms && self.models.contains(&said.model))
            && (diagnosis.outcome.is_some() || !self.only_with_outcome)
    }

    /// Takes the entries of the next span, or makes it shorter if they are many.
    async fn span(&mut self) -> Result<(), Status> {
        let to_ms = self.next_ms.saturating_add(self.span_ms).min(self.end_ms);
        let limit = if self.span_ms > 1 { SPAN_ENTRIES } else { usize::MAX };
        let mut found: Vec<(i64, String)> = Vec::new();
        for key in &self.keys {
            let entries = self.entries(key.clone(), to_ms, limit - found.len()).await?;
            found.extend(entries.into_iter().map(|listed| (listed.moment_ms, listed.entry.diagnosis_id)));
            if found.len() >= limit {
                self.span_ms = (self.span_ms / 4).max(1);
                return Ok(());
            }
        }
        if found.len() < SPAN_ENTRIES / 4 {
            self.span_ms = self.span_ms.saturating_mul(2);
        }
        found.sort();
        found.dedup();
        (self.ready, self.next_ms) = (found.into(), to_ms);
        Ok(())
    }

    async fn entries(&self, key: String, to_ms: i64, limit: usize) -> Result<Vec<Listed>, Status> {
        let shard = self.home.shard(key.as_bytes(), &self.terms, self.deadline).await?;
        let view = self.home.view(BY_MODEL).id;
        let range = HistoryRange { from_ms: Some(self.next_ms), to_ms: Some(to_ms), ..Default::default() };
        let read = move |context: &Context, reach: cold::Reach| {
            let (pin, now_ms) = (reach.pin(reader_of(&shard).of(view)), context.clock.now_ms());
            let (mut range, mut listed) = (range, Vec::new());
            loop {
                let page = index::page(&pin, key.as_bytes(), view, &range, limit - listed.len(), now_ms)?;
                listed.extend(page.listed);
                range.after = page.last;
                if range.after.is_none() || listed.len() >= limit {
                    break;
                }
            }
            pin.check()?;
            Ok(listed)
        };
        cold::read(&self.home.context, self.deadline, read).await
    }
}

/// The keys of models on the partitions that are asked for; none: on all.
fn keys(home: &Home, models: &[String], asked: &[u32]) -> Result<Vec<String>, Status> {
    let count = home.partitions()?;
    if let Some(unknown) = asked.iter().find(|partition| **partition >= count) {
        return Err(invalid(format!("partitions: {unknown}, but lane diagnoses has 0 to {}", count - 1)));
    }
    let all: Vec<u32> = (0..count).collect();
    let partitions = if asked.is_empty() { &all } else { asked };
    let places = partitions.iter().flat_map(|partition| models.iter().map(|model| (*partition, model)));
    places.map(|(partition, model)| home.model_key(model, partition)).collect()
}

/// The versions of a model that are asked for.
fn models(home: &Home, asked: &str) -> Result<Vec<String>, Status> {
    if asked.contains('@') {
        return Ok(vec![asked.to_owned()]);
    }
    let of_name = home.definitions.models.iter().filter(|model| model.name == asked);
    let models: Vec<String> = of_name.map(|model| model.title()).collect();
    match models.is_empty() {
        true => {
            Err(invalid(format!("model: no version of {asked:?} is defined; name one, as \"{asked}@1\"")))
        }
        false => Ok(models),
    }
}
