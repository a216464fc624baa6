//! The life of an executor: a worker for each model that is defined and one for what is no model's, started and stopped as
//! the definitions change. Called by `forebay execute` and the demo.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
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
use super::work::{KEEPER, Tools, Worker};
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::{Definitions, InForce, Model};
use crate::registry::Registry;

/// How often the definitions in force are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the files are read again.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The workers by title, for those who show them.
pub(super) type Workers = Arc<Mutex<BTreeMap<String, Arc<Worker>>>>;

/// A running executor.
pub struct Running {
    /// HTTP address it listens on.
    pub http: SocketAddr,
    stop: watch::Sender<bool>,
    registry: Option<Arc<Registry>>,
    supervisor: JoinHandle<anyhow::Result<()>>,
    served: JoinHandle<anyhow::Result<()>>,
}

/// Starts an executor. Kafka, servers and models may not have been reached yet. Fails on what a person must mend: a port in
/// use, definitions with errors (`DefinitionErrors` is the cause), settings that cannot be.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let in_force = Arc::new(InForce::load(&config.server.definitions)?);
    let registry = Registry::start(&config, in_force.clone())?;
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
        in_force,
        config,
    });
    let stop = watch::Sender::new(false);
    let workers = Workers::default();
    let served = tokio::spawn(status::serve(workers.clone(), tools.clone(), listener, stop.subscribe()));
    let staff = Staff { tools, workers, tasks: JoinSet::new(), stops: BTreeMap::new() };
    let supervisor = tokio::spawn(staff.supervise(stop.subscribe()));
    tracing::info!(%http, "executing");
    Ok(Running { http, stop, registry, supervisor, served })
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
        self.registry.inspect(|registry| registry.stop());
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
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut read = tokio::time::interval(READ_EVERY);
        let mut complaint = Vec::new();
        let outcome = loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break Ok(()),
                _ = look.tick() => self.follow_definitions()?,
                _ = read.tick() => read_files(&self.tools.in_force, &mut complaint),
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

    /// Starts workers that are missing, and stops those whose model is gone or another one now: it starts again when its
    /// worker has ended.
    fn follow_definitions(&mut self) -> anyhow::Result<()> {
        let definitions = self.tools.in_force.shared.load_full();
        let models = definitions.models.iter().map(|model| (model.title(), Some(model)));
        let wanted: BTreeMap<_, _> = models.chain([(KEEPER.to_owned(), None)]).collect();
        for (title, worker) in &*self.workers.lock() {
            let is_same = wanted.get(title).is_some_and(|model| {
                let model = model.map(|model| model.as_ref());
                let has = worker.model.as_ref().map(|asked| &asked.definition);
                model == has && worker.topics == Worker::topics(model, &definitions, &self.tools.config)
            });
            if !is_same && let Some(stop) = self.stops.get(title) {
                stop.send_replace(true);
            }
        }
        for (title, model) in wanted {
            if !self.stops.contains_key(&title) {
                self.employ(model, &definitions)?;
            }
        }
        Ok(())
    }

    fn employ(&mut self, model: Option<&Arc<Model>>, definitions: &Definitions) -> anyhow::Result<()> {
        let topics = Worker::topics(model.map(Arc::as_ref), definitions, &self.tools.config);
        let model = match model {
            Some(model) => {
                let asked = Asked::new(Model::clone(model), self.tools.clock.clone());
                Some(Arc::new(asked.with_context(|| format!("model \"{}\": endpoint", model.title()))?))
            }
            None => None,
        };
        let source: Source = Worker::source(model.as_deref(), &topics, &self.tools.config)?;
        let worker = Arc::new(Worker { model, topics, counts: Counts::default(), windows: source.windows() });
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

/// Takes up what changed in the files, as servers do when they are told to; says once what is wrong with it.
fn read_files(in_force: &InForce, complaint: &mut Vec<String>) {
    let reasons = in_force.reload(false).err().unwrap_or_default();
    if reasons != *complaint && !reasons.is_empty() {
        tracing::error!(?reasons, "the definitions' files have changed, and cannot be taken up");
    }
    *complaint = reasons;
}
