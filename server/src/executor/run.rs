//! The life of an executor: a worker for each model that is defined and one for what is no model's, started and stopped as
//! the definitions change. Called by `forebay execute` and the demo.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::counts::Counts;
use super::letters::DeadLetters;
use super::model::Asked;
use super::source::Source;
use super::status;
use super::store::Store;
use super::work::{Tools, Worker};
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::{self, Model};

/// How often the definitions in force are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The workers by title, for those who show them.
pub(super) type Workers = Arc<Mutex<BTreeMap<String, Arc<Worker>>>>;

/// A running executor.
pub struct Running {
    /// HTTP address it listens on.
    pub http: SocketAddr,
    stop: watch::Sender<bool>,
    supervisor: JoinHandle<anyhow::Result<()>>,
    served: JoinHandle<anyhow::Result<()>>,
}

/// Starts an executor. Kafka, servers and models may not have been reached yet. Fails on what a person must mend: a port in
/// use, definitions with errors (`DefinitionErrors` is the cause), settings that cannot be.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let definitions = Arc::new(ArcSwap::from_pointee(definitions::load(&config.server.definitions)?));
    let address = config.execute.http_listen;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "execute.http_listen: {address} cannot be listened on; free it, or name another (port 0: any)"
        )
    })?;
    let http = listener.local_addr()?;
    let tools = Arc::new(Tools {
        store: Store::new(&config.execute)?,
        letters: DeadLetters::new(&config.kafka, &config.execute.dead_letter_topic)?,
        clock: Clock::system(),
        definitions,
        config,
    });
    let stop = watch::Sender::new(false);
    let workers = Workers::default();
    let served = tokio::spawn(status::serve(workers.clone(), tools.clone(), listener, stop.subscribe()));
    let staff = Staff { tools, workers, tasks: JoinSet::new(), stops: BTreeMap::new() };
    let supervisor = tokio::spawn(staff.supervise(stop.subscribe()));
    tracing::info!(%http, "executing");
    Ok(Running { http, stop, supervisor, served })
}

impl Running {
    /// Waits until it ends by itself, which it does only if it cannot go on: the error says why.
    pub async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.supervisor).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => anyhow!("it was stopped"),
            Err(error) => error.into(),
        }
    }

    /// Stops: jobs under way get a moment to end, offsets are committed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.supervisor.await??;
        self.served.await?
    }
}

/// The workers and their tasks.
struct Staff {
    tools: Arc<Tools>,
    workers: Workers,
    tasks: JoinSet<(String, Result<(), String>)>,
    stops: BTreeMap<String, watch::Sender<bool>>,
}

impl Staff {
    async fn supervise(mut self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        self.employ(None)?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let outcome = loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break Ok(()),
                _ = look.tick() => self.follow_definitions()?,
                Some(ended) = self.tasks.join_next() => {
                    let (title, outcome) = ended?;
                    self.workers.lock().remove(&title);
                    self.stops.remove(&title);
                    if let Err(reason) = outcome {
                        break Err(anyhow!("{title} cannot go on: {reason}"));
                    }
                }
            }
        };
        for stop in self.stops.values() {
            stop.send_replace(true);
        }
        while self.tasks.join_next().await.is_some() {}
        outcome
    }

    /// Starts workers for models that have none, and stops those whose model is gone or another one now: it starts again
    /// when its worker has ended.
    fn follow_definitions(&mut self) -> anyhow::Result<()> {
        let definitions = self.tools.definitions.load_full();
        let wanted: BTreeMap<_, _> = definitions.models.iter().map(|model| (model.title(), model)).collect();
        for (title, worker) in &*self.workers.lock() {
            let Some(has) = &worker.model else { continue };
            let is_same = wanted.get(title).is_some_and(|model| ***model == has.definition);
            if !is_same && let Some(stop) = self.stops.get(title) {
                stop.send_replace(true);
            }
        }
        for (title, model) in wanted {
            if !self.stops.contains_key(&title) {
                self.employ(Some(model))?;
            }
        }
        Ok(())
    }

    fn employ(&mut self, model: Option<&Arc<Model>>) -> anyhow::Result<()> {
        let model = match model {
            Some(model) => {
                let asked = Asked::new(Model::clone(model), self.tools.clock.clone());
                Some(Arc::new(asked.with_context(|| format!("model \"{}\": endpoint", model.title()))?))
            }
            None => None,
        };
        let source: Source = Worker::source(model.as_deref(), &self.tools.config)?;
        let worker = Arc::new(Worker { model, counts: Counts::default(), windows: source.windows() });
        let (title, stop) = (worker.title(), watch::Sender::new(false));
        let working = worker.clone().work(source, self.tools.clone(), stop.subscribe());
        let name = title.clone();
        self.tasks.spawn(async move { (name, working.await) });
        tracing::info!(worker = title, "started");
        self.workers.lock().insert(title.clone(), worker);
        self.stops.insert(title, stop);
        Ok(())
    }
}
