//! The life of a server: sockets, definitions, ingest and services come up in the order that lets a probe see each
//! state, and go down in the reverse. Called by `forebay serve` and the demo; each part's work is its own module's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use rdkafka::producer::FutureProducer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::assembly::Assembly;
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::InForce;
use crate::ingest::Ingest;
use crate::kafka::producer_config;
use crate::lane::Lane;
use crate::memory;
use crate::registry::Registry;
use crate::rest;
use crate::service::{self, Admission, ColdReads, Context};
use crate::tuning::{cores, tune};

/// A running server.
pub struct Running {
    /// gRPC address it listens on.
    pub grpc: SocketAddr,
    /// HTTP address it listens on.
    pub http: SocketAddr,
    /// Its lanes.
    pub lanes: Vec<Arc<Lane>>,
    ingest: Ingest,
    assembly: Assembly,
    registry: Option<Arc<Registry>>,
    stop: watch::Sender<bool>,
    services: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// Starts a server. Both sockets are bound when this returns; Kafka may not have been reached yet. Fails on what a person
/// must mend: a port in use, definitions with errors (`DefinitionErrors` is the cause), a storage directory in use.
///
/// With a registry it returns when that has been read to its end once: before, a data point of a view that is defined
/// there would be taken for a bad one. `bound` is told the addresses of gRPC and HTTP as soon as probes are answered.
pub async fn start(
    config: Config,
    bound: impl FnOnce(SocketAddr, SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<Running> {
    let started = Instant::now();
    let in_force = Arc::new(InForce::load(&config.server.definitions)?);
    service::check(&config)?;
    let grpc = bind(config.server.listen, "server.listen").await?;
    let mut http = bind(config.server.http_listen, "server.http_listen").await?;
    let (grpc_at, http_at) = (grpc.local_addr()?, http.local_addr()?);
    let mut bound = Some(bound);
    let registry = Registry::start(&config, in_force.clone())?;
    if let Some(registry) = &registry {
        if let Some(bound) = bound.take() {
            bound(grpc_at, http_at)?;
        }
        http = rest::waiting(registry.clone(), http).await?;
    }
    let definitions = in_force.shared.clone();
    let defined = definitions.load_full();
    let tuned = tune(&config, &defined.lanes, cores(), memory::default_limit());
    let lanes = defined.lanes.iter().cloned().zip(&tuned.lanes);
    let lanes: Vec<_> = lanes.map(|(lane, tuned)| Arc::new(Lane::new(lane, tuned.threads.value))).collect();
    let clock = Clock::system();
    let producer: FutureProducer = producer_config(&config.kafka).create().context("[kafka] settings")?;
    let ingest = {
        let (config, definitions, tuned) = (config.clone(), definitions.clone(), tuned.clone());
        let (lanes, clock) = (lanes.clone(), clock.clone());
        let start = move || Ingest::start(&config, definitions, lanes, &tuned, clock);
        tokio::task::spawn_blocking(start).await??
    };
    let limit = tuned.memory_bytes.value;
    let config = Arc::new(config);
    let context = Arc::new(Context {
        config,
        definitions,
        in_force,
        registry: registry.clone(),
        applying: Default::default(),
        lanes: lanes.clone(),
        clock,
        producer,
        started,
        cold: ColdReads::new(tuned.cold_reads.value),
        admission: Admission::new(tuned.limits()),
        tuned,
    });
    let assembly = Assembly::start(&context)?;
    let stop = watch::Sender::new(false);
    let services = vec![
        tokio::spawn(service::serve(context.clone(), grpc, told(&stop))),
        tokio::spawn(rest::serve(context, http, told(&stop))),
        tokio::spawn(share_memory(lanes.clone(), limit, told(&stop))),
    ];
    tracing::info!(grpc = %grpc_at, http = %http_at, lanes = lanes.len(), memory_bytes = limit, "listening");
    if let Some(bound) = bound {
        bound(grpc_at, http_at)?;
    }
    Ok(Running { grpc: grpc_at, http: http_at, lanes, ingest, assembly, registry, stop, services })
}

impl Running {
    /// Stops: no new requests, those under way are answered; what was taken in is committed, synced and said to Kafka;
    /// files are closed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.stop.send_replace(true);
        self.registry.iter().for_each(|registry| registry.stop());
        let ingest = tokio::task::spawn_blocking(move || {
            // It reads the shards: it goes before them.
            self.assembly.stop();
            self.ingest.stop();
        });
        let mut outcome = Ok(());
        for service in self.services {
            outcome = outcome.and(service.await?);
        }
        ingest.await?;
        tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "stopped");
        outcome
    }
}

async fn share_memory(
    lanes: Vec<Arc<Lane>>,
    limit: u64,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = memory::keep_shared(lanes, limit) => {}
        () = stopped => {}
    }
    Ok(())
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{key}: {address} cannot be listened on; free it, or name another address (port 0: any free one)"
        )
    })
}

/// Completes when the server is told to stop.
fn told(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stop = stop.subscribe();
    async move {
        // An error means that the server is gone altogether.
        stop.wait_for(|stop| *stop).await.ok();
    }
}
