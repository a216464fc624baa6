//! The life of a server: sockets, definitions, ingest and services come up in the order that lets a probe see each
//! state, and go down in the reverse. Called by `forebay serve` and the demo; each part's work is its own module's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rdkafka::producer::FutureProducer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::definitions;
use crate::ingest::Ingest;
use crate::kafka::producer_config;
use crate::lane::Lane;
use crate::memory;
use crate::service::{self, Context};

/// A running server.
pub struct Running {
    /// gRPC address it listens on.
    pub grpc: SocketAddr,
    /// HTTP address it listens on.
    pub http: SocketAddr,
    /// Its lanes.
    pub lanes: Vec<Arc<Lane>>,
    ingest: Ingest,
    stop: watch::Sender<bool>,
    services: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// Starts a server. Both sockets are bound when this returns; Kafka may not have been reached yet. Fails on what a person
/// must mend: a port in use, definitions with errors (`DefinitionErrors` is the cause), a storage directory in use.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let started = Instant::now();
    let loaded = definitions::load(&config.server.definitions)?;
    service::check(&config)?;
    let grpc = bind(config.server.listen, "server.listen").await?;
    let http = bind(config.server.http_listen, "server.http_listen").await?;
    let lanes: Vec<_> = loaded.lanes.iter().cloned().map(|lane| Arc::new(Lane::new(lane))).collect();
    let definitions = Arc::new(ArcSwap::from_pointee(loaded));
    let clock = Clock::system();
    let producer: FutureProducer = producer_config(&config.kafka).create().context("[kafka] settings")?;
    let ingest = {
        let (config, definitions) = (config.clone(), definitions.clone());
        let (lanes, clock) = (lanes.clone(), clock.clone());
        tokio::task::spawn_blocking(move || Ingest::start(&config, definitions, lanes, clock)).await??
    };
    let (grpc_at, http_at) = (grpc.local_addr()?, http.local_addr()?);
    let limit = config.storage.memory_limit();
    let config = Arc::new(config);
    let context = Arc::new(Context {
        config,
        definitions,
        lanes: lanes.clone(),
        clock,
        producer,
        started,
        cold: Default::default(),
    });
    let stop = watch::Sender::new(false);
    let services = vec![
        tokio::spawn(service::serve(context.clone(), grpc, told(&stop))),
        tokio::spawn(crate::http::serve(context, http, told(&stop))),
        tokio::spawn(share_memory(lanes.clone(), limit, told(&stop))),
    ];
    tracing::info!(grpc = %grpc_at, http = %http_at, lanes = lanes.len(), memory_bytes = limit, "listening");
    Ok(Running { grpc: grpc_at, http: http_at, lanes, ingest, stop, services })
}

impl Running {
    /// Stops: no new requests, those under way are answered; what was taken in is committed, synced and said to Kafka;
    /// files are closed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.stop.send_replace(true);
        let ingest = tokio::task::spawn_blocking(move || self.ingest.stop());
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
