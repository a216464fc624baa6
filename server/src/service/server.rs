//! Puts the gRPC services on a socket: settings of HTTP/2, TLS, health, reflection, and a stop that ends in bounded time.
//! Called by `serve`; the services themselves are the modules beside it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forebay_proto::v1::admin_server::AdminServer;
use forebay_proto::v1::diagnoses_server::DiagnosesServer;
use forebay_proto::v1::registry_server::RegistryServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use tonic_health::ServingStatus;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use super::admin::AdminService;
use super::admission::Bounded;
use super::diagnoses::DiagnosesService;
use super::listen::{self, Accepted, connections};
use super::reactor::Reactor;
use super::registry::RegistryService;
use super::store::FeatureStoreService;
use super::wire::FeatureStoreWire;
use super::{Context, health};
use crate::config::{Config, TlsConfig};

/// How long a stop waits for calls and streams under way.
const STOP_BOUND: Duration = Duration::from_secs(2);

/// Serves gRPC on a bound socket until `shutdown` completes; then at most 2 s more for what is under way.
/// Errors: TLS files that cannot be read or used.
pub async fn serve(
    context: Arc<Context>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let (reporter, health) = tonic_health::server::health_reporter();
    let routes = Routes::new(store(&context, stopping.clone()))
        .add_service(AdminServer::new(AdminService::new(context.clone())))
        .add_service(RegistryServer::new(RegistryService::new(context.clone())))
        .add_service(diagnoses(&context))
        .add_service(health)
        .add_service(reflection()?);
    let server = builder(context.config.server.tls.as_ref())?;
    let services = Bounded::new(routes.prepare(), context.admission.clone());
    let mut reactors = reactors(context.tuned.read_threads.value, &server, &services, &stopping)?;
    let mut turn = 0;
    let accepting = listen::accept(listener, |connection| {
        turn = (turn + 1) % reactors.len();
        reactors[turn].give(connection);
    });
    tokio::select! {
        () = accepting => {}
        () = health::report(context.clone(), reporter.clone()) => {}
        () = shutdown => {}
    };
    health::set(&reporter, ServingStatus::NotServing).await;
    stop.send_replace(true);
    for reactor in &mut reactors {
        reactor.end().await?;
    }
    Ok(())
}

fn reactors(
    threads: usize,
    server: &Server,
    services: &Bounded<Routes>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<Reactor>> {
    let start = |number| {
        let (server, services, stopping) = (server.clone(), services.clone(), stopping.clone());
        Reactor::start(number, move |given| serve_connections(server, services, given, stopping))
    };
    (0..threads).map(start).collect::<Result<_, _>>().context("gRPC threads")
}

/// Serves the connections of one thread until told to stop; then for a bounded time what is under way.
async fn serve_connections(
    server: Server,
    services: Bounded<Routes>,
    given: UnboundedReceiver<Accepted>,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut stopped = stopping.clone();
    let served = server.serve_with_incoming_shutdown(services, connections(given), async move {
        stopped.wait_for(|stop| *stop).await.ok();
    });
    let overdue = async {
        stopping.wait_for(|stop| *stop).await.ok();
        tokio::time::sleep(STOP_BOUND).await;
    };
    tokio::select! {
        ended = served => ended.context("gRPC server"),
        () = overdue => {
            tracing::info!("gRPC: calls still under way at the stop were ended");
            Ok(())
        }
    }
}

/// Refuses what `serve` could not serve with: TLS files that cannot be read or used. To be asked before anything is
/// started.
pub fn check(config: &Config) -> anyhow::Result<()> {
    builder(config.server.tls.as_ref()).map(drop)
}

fn store(context: &Arc<Context>, stopping: watch::Receiver<bool>) -> FeatureStoreWire {
    let service = FeatureStoreService { context: context.clone(), stopping };
    FeatureStoreWire::new(service, context.config.read.max_message_bytes)
}

fn diagnoses(context: &Arc<Context>) -> DiagnosesServer<DiagnosesService> {
    DiagnosesServer::new(DiagnosesService { context: context.clone() })
        .max_decoding_message_size(context.config.read.max_message_bytes)
        .max_encoding_message_size(usize::MAX)
}

fn reflection() -> anyhow::Result<ServerReflectionServer<impl ServerReflection>> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(forebay_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("gRPC reflection")
}

fn builder(tls: Option<&TlsConfig>) -> anyhow::Result<Server> {
    let server = Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(1024)
        .http2_max_header_list_size(16 << 10);
    match tls {
        Some(files) => server.tls_config(tls_config(files)?).context("TLS certificate and key"),
        None => Ok(server),
    }
}

fn tls_config(files: &TlsConfig) -> anyhow::Result<ServerTlsConfig> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("TLS: cannot read {}", path.display()))
    };
    let identity = Identity::from_pem(read(&files.cert)?, read(&files.key)?);
    let config = ServerTlsConfig::new().identity(identity).timeout(Duration::from_secs(10));
    match &files.client_ca {
        Some(path) => Ok(config.client_ca_root(Certificate::from_pem(read(path)?))),
        None => Ok(config),
    }
}
