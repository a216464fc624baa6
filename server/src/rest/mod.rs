//! The HTTP port: probes and metrics for machines, and the services as JSON for people and programs without gRPC. Every
//! route is a line of `route::ROUTES` and makes the call that gRPC makes. Started by `serve`; while the server cannot serve
//! yet, `waiting` answers its probes. Knows the contract and `service::calls`, never a shard or a consumer.
//!
//! ```text
//!  request ─► route (table) ─► body, query ─► contract's message ─► service::calls ─► values ─► JSON
//!                                                                        └─ Status ─► failure ─► code, JSON
//! ```

mod admin;
pub(crate) mod ask;
mod call;
mod diagnoses;
pub(crate) mod failure;
mod probes;
mod route;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::registry::Registry;
use crate::service::Context;

/// How long a stop waits for answers under way.
const STOP_BOUND: Duration = Duration::from_secs(1);

/// Serves HTTP on a bound socket until `shutdown` completes; then at most 1 s more for answers under way.
pub async fn serve(
    context: Arc<Context>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    serve_router(route::router(context.clone()).merge(probes::router(context)), listener, shutdown).await
}

/// Answers probes on a bound socket until the registry has been read once; gives the socket back.
pub async fn waiting(registry: Arc<Registry>, listener: TcpListener) -> anyhow::Result<TcpListener> {
    let listener = listener.into_std()?;
    let later = listener.try_clone()?;
    let read = registry.read();
    serve_router(probes::waiting(registry), TcpListener::from_std(listener)?, read).await?;
    Ok(TcpListener::from_std(later)?)
}

async fn serve_router(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    let served = axum::serve(listener, router).with_graceful_shutdown(async {
        stopped.await.ok();
    });
    let mut served = tokio::spawn(served.into_future());
    tokio::select! {
        ended = &mut served => return ended?.context("HTTP server"),
        () = shutdown => drop(stop),
    }
    if tokio::time::timeout(STOP_BOUND, &mut served).await.is_err() {
        served.abort();
    }
    Ok(())
}
