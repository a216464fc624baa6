//! Runs a read: split, ask the servers in parallel under one deadline, ask elsewhere what failed, merge. It is given a
//! `Via` (unary calls or streams) and knows neither's insides.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::Error;
use crate::client::Inner;
use crate::merge::Assembly;
use crate::route::{Part, Shard, Split, choose};
use crate::topology::Topology;
use crate::v1::{Format, GetFeaturesRequest, GetFeaturesResponse};

/// How a request reaches a server.
pub(crate) trait Via: Sync {
    /// Asks one server once.
    fn ask(
        &self,
        server: usize,
        request: GetFeaturesRequest,
        deadline: Instant,
    ) -> impl Future<Output = Result<GetFeaturesResponse, Error>> + Send;
}

/// Reads features, from as many servers as it takes.
pub(crate) async fn get(
    inner: &Inner,
    via: &impl Via,
    request: GetFeaturesRequest,
    deadline: Instant,
) -> Result<GetFeaturesResponse, Error> {
    if inner.servers.len() == 1 {
        return from_any(inner, via, request, deadline).await;
    }
    let mut topology = inner.topology();
    let mut split = Split::new(&topology, &request);
    if split.is_none() {
        topology = inner.refreshed(deadline).await;
        split = Split::new(&topology, &request);
    }
    match split {
        Some(split) => Reading::new(inner, via, topology, &split, &request, deadline).run().await,
        None => from_any(inner, via, request, deadline).await,
    }
}

/// Asks the servers in turn, with pauses, until one answers.
async fn from_any(
    inner: &Inner,
    via: &impl Via,
    request: GetFeaturesRequest,
    deadline: Instant,
) -> Result<GetFeaturesResponse, Error> {
    retried(inner, deadline, Error::read_may_be_retried, |server| via.ask(server, request.clone(), deadline))
        .await
}

/// Calls with one server after the other, with backoff, while the error allows it and the deadline is ahead.
pub(crate) async fn retried<T, F: Future<Output = Result<T, Error>>>(
    inner: &Inner,
    deadline: Instant,
    may_retry: impl Fn(&Error) -> bool,
    call: impl Fn(usize) -> F,
) -> Result<T, Error> {
    let first = inner.turn();
    let mut failures = 0;
    loop {
        let error = match call((first + failures as usize) % inner.servers.len()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        failures += 1;
        let again = Instant::now() + inner.config.retry.pause(failures, error.retry_after());
        if !may_retry(&error) || failures >= inner.config.retry.attempts || again >= deadline {
            return Err(error);
        }
        sleep_until(again).await;
    }
}

/// A read in progress.
struct Reading<'a, V> {
    inner: &'a Inner,
    via: &'a V,
    topology: Arc<Topology>,
    split: &'a Split,
    request: &'a GetFeaturesRequest,
    deadline: Instant,
    assembly: Assembly,
    /// Shards without an answer.
    pending: HashSet<Shard>,
    tried: HashSet<(Shard, usize)>,
    /// Why each pending shard is pending, if it was tried.
    reasons: HashMap<Shard, String>,
    first_error: Option<Error>,
    /// How long the servers asked last want to be left alone.
    asked_for: Option<Duration>,
    answered: bool,
}

impl<'a, V: Via> Reading<'a, V> {
    fn new(
        inner: &'a Inner,
        via: &'a V,
        topology: Arc<Topology>,
        split: &'a Split,
        request: &'a GetFeaturesRequest,
        deadline: Instant,
    ) -> Self {
        let json = request.format() == Format::Json;
        Reading {
            inner,
            via,
            topology,
            split,
            request,
            deadline,
            assembly: Assembly::new(&split.views, request.entities.len(), json),
            pending: split.entities_of.keys().copied().collect(),
            tried: HashSet::new(),
            reasons: HashMap::new(),
            first_error: None,
            asked_for: None,
            answered: false,
        }
    }

    async fn run(mut self) -> Result<GetFeaturesResponse, Error> {
        let mut failures = 0;
        loop {
            let parts = self.split.parts(&self.choices());
            match parts.as_slice() {
                [part] if self.split.is_whole(part) => {
                    if let Some(whole) = self.ask_whole(part).await? {
                        return Ok(whole);
                    }
                }
                parts => self.ask(parts).await?,
            }
            if self.pending.is_empty() {
                break;
            }
            failures += 1;
            if !self.prepare_retry(failures, parts.is_empty()).await {
                break;
            }
        }
        self.finish()
    }

    /// A server for each pending shard that has one not yet tried.
    fn choices(&self) -> HashMap<Shard, usize> {
        let mut used = HashSet::new();
        let mut chosen = HashMap::new();
        for shard in self.split.entities_of.keys().filter(|shard| self.pending.contains(shard)) {
            let untried = self.untried(*shard);
            let load = |server: usize| self.inner.servers[server].load();
            if let Some(server) = choose(&untried, |server| used.contains(&server), load) {
                used.insert(server);
                chosen.insert(*shard, server);
            }
        }
        chosen
    }

    fn untried(&self, shard: Shard) -> Vec<usize> {
        let owners = self.topology.lane(shard.lane).owners(shard.partition);
        owners.iter().copied().filter(|server| !self.tried.contains(&(shard, *server))).collect()
    }

    /// The fast path: the request as it is, its answer as it is, unless a shard of it should be asked elsewhere.
    async fn ask_whole(&mut self, part: &Part) -> Result<Option<GetFeaturesResponse>, Error> {
        match self.via.ask(part.server, self.request.clone(), self.deadline).await {
            Ok(answer) if answer.unavailable.is_empty() => Ok(Some(answer)),
            other => self.take(part, other).map(|()| None),
        }
    }

    async fn ask(&mut self, parts: &[Part]) -> Result<(), Error> {
        let asked = parts.iter().map(|part| {
            let request = self.split.request(&self.topology, self.request, part);
            self.via.ask(part.server, request, self.deadline)
        });
        for (part, outcome) in parts.iter().zip(join_all(asked).await) {
            self.take(part, outcome)?;
        }
        Ok(())
    }

    /// Takes a server's answer to a part; an error that no other server would mend ends the read.
    fn take(&mut self, part: &Part, outcome: Result<GetFeaturesResponse, Error>) -> Result<(), Error> {
        self.tried.extend(part.shards.iter().map(|shard| (*shard, part.server)));
        match outcome {
            Ok(answer) => self.place(part, answer),
            Err(error) if is_about_the_request(&error) => Err(error),
            Err(error) => {
                let elsewhere = error.another_server_may_help();
                self.asked_for = self.asked_for.max(error.retry_after());
                for shard in &part.shards {
                    self.reasons.insert(*shard, error.to_string());
                    if !elsewhere {
                        self.give_up(*shard);
                    }
                }
                self.first_error.get_or_insert(error);
                Ok(())
            }
        }
    }

    fn place(&mut self, part: &Part, answer: GetFeaturesResponse) -> Result<(), Error> {
        let refused: Vec<(Shard, String)> = answer
            .unavailable
            .iter()
            .filter_map(|shard| {
                let named = |own: &&Shard| {
                    own.partition == shard.partition && self.topology.lane(own.lane).name == shard.lane
                };
                Some((*part.shards.iter().find(named)?, shard.reason.clone()))
            })
            .collect();
        self.assembly.place(&self.inner.servers[part.server].uri, &part.views, &part.entities, answer)?;
        self.answered = true;
        for shard in &part.shards {
            self.pending.remove(shard);
        }
        for (shard, reason) in refused {
            self.assembly.ask_again(&self.topology.lane(shard.lane).name, shard.partition);
            self.pending.insert(shard);
            self.reasons.insert(shard, reason);
        }
        Ok(())
    }

    /// Whether to ask again: at once where a shard has another server, else with fresh knowledge after a pause.
    async fn prepare_retry(&mut self, failures: u32, nobody_to_ask: bool) -> bool {
        if failures >= self.inner.config.retry.attempts || Instant::now() >= self.deadline {
            return false;
        }
        if self.pending.iter().any(|shard| !self.untried(*shard).is_empty()) {
            return true;
        }
        if nobody_to_ask {
            return self.knows_more().await;
        }
        let asked_for = self.asked_for.take();
        if failures > 1 || asked_for.is_some() {
            let pause = self.inner.config.retry.pause(failures, asked_for);
            if Instant::now() + pause >= self.deadline {
                return false;
            }
            tokio::time::sleep(pause).await;
        }
        // Nothing has moved because somebody is busy, and a question more would make it busier.
        if asked_for.is_none() {
            self.topology = self.inner.refreshed(self.deadline).await;
        }
        // A server that broke, was unreachable or busy may be back; one that answered "not this shard" was asked enough.
        if self.first_error.is_some() {
            self.tried.clear();
        }
        self.pending.iter().any(|shard| !self.untried(*shard).is_empty())
    }

    /// Shards that no server has are not waited for, but asked for once more if somebody has them now.
    async fn knows_more(&mut self) -> bool {
        self.topology = self.inner.refreshed(self.deadline).await;
        self.pending.iter().any(|shard| !self.untried(*shard).is_empty())
    }

    fn give_up(&mut self, shard: Shard) {
        self.pending.remove(&shard);
        let lane = self.topology.lane(shard.lane);
        let reason = self.reasons.remove(&shard).unwrap_or_else(|| lane.reason(shard.partition));
        self.assembly.unavailable(&lane.name, shard.partition, reason);
    }

    /// Rows without an answer are UNAVAILABLE; if no server answered at all, that is the call's error.
    fn finish(mut self) -> Result<GetFeaturesResponse, Error> {
        if !self.answered
            && let Some(error) = self.first_error
        {
            return Err(error);
        }
        for shard in std::mem::take(&mut self.pending) {
            self.give_up(shard);
        }
        Ok(self.assembly.finish())
    }
}

/// Every server would say the same.
fn is_about_the_request(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid { .. } | Error::Denied { .. } | Error::Refused { .. } | Error::TooMuch { .. }
    )
}

/// Time left, at least 1 ms so that a header can say it; past deadlines are the caller's to check.
pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
