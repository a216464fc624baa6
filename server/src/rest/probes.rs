//! Probes and metrics: `/healthz` (alive), `/readyz` (caught up, or why not) and `/metrics`. For probes and Prometheus,
//! never for data.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics;
use crate::registry::Registry;
use crate::service::{Context, not_ready};

/// Of a server that serves.
pub(super) fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(context)
}

/// Of a server that has not read its registry yet: it does not know all its definitions, so it has no shard.
pub(super) fn waiting(registry: Arc<Registry>) -> Router {
    let reason = move || {
        let reason = registry.trouble().unwrap_or_else(|| "read".into());
        async move { (StatusCode::SERVICE_UNAVAILABLE, format!("registry: {reason}\n")) }
    };
    Router::new().route("/healthz", get(async || "alive\n")).fallback(get(reason))
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
