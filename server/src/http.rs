//! The HTTP port: `/healthz` (alive), `/readyz` (caught up, or why not) and `/metrics`. Started by `serve`; for
//! probes and Prometheus, never for data.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::metrics;
use crate::service::{Context, not_ready};

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

fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(context)
}

/// 200 when everything, or the lane of `?lane=`, is ready; else 503 with one reason a line; 404 if there is no such lane.
async fn ready(State(context): State<Arc<Context>>, uri: Uri) -> (StatusCode, String) {
    match not_ready(&context, lane_parameter(&uri)) {
        None => (StatusCode::NOT_FOUND, "no such lane\n".into()),
        Some(reasons) if reasons.is_empty() => (StatusCode::OK, "ready\n".into()),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

/// Lane names need no escaping, so none is undone.
fn lane_parameter(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("lane="))
}

async fn scrape(State(context): State<Arc<Context>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_parameter_is_found_among_others() {
        let lane = |uri: &'static str| lane_parameter(&Uri::from_static(uri)).map(str::to_owned);
        assert_eq!(lane("/readyz?x=1&lane=main"), Some("main".into()));
        assert_eq!(lane("/readyz?lane=main&x"), Some("main".into()));
        assert_eq!(lane("/readyz"), None);
    }
}
