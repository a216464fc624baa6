//! The executor's HTTP port: `/healthz` (alive), `/readyz` (every model can be asked, or why not) and `/metrics`. Started by
//! `run`; for probes and Prometheus, never for data.
//!
//! | Name | Labels | Unit, meaning |
//! |---|---|---|
//! | `forebay_execute_predictions_total` | model, status | judgements by what came of them |
//! | `forebay_execute_attempts_total` | model | requests made to the model |
//! | `forebay_execute_snapshots_total` | model | snapshots created or found |
//! | `forebay_execute_repeated_total` | model | jobs that an earlier run had done |
//! | `forebay_execute_dead_letters_total` | model | records put aside |
//! | `forebay_execute_under_way` | model | records taken from Kafka and not done |
//! | `forebay_execute_circuit_open` | model | 1 while the model is left alone |
//! | `forebay_execute_model_fits` | model | 0 while its server is not as defined |
//! | `forebay_execute_edge_to_prediction_seconds` | model | histogram: edge told to prediction stored |
//! | `forebay_execute_edge_to_prediction_p50_seconds`, `_p99_seconds` | model | the same since the start |
//! | `forebay_execute_model_seconds` | model | histogram: the model's last attempt |
//! | `forebay_execute_store_retries_total` | | calls of the store that were repeated |

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hdrhistogram::Histogram;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::counts::{Counts, STATUSES};
use super::run::Workers;
use super::work::{Tools, Worker};
use crate::metrics::text::{Kind, Page};

/// Histograms are in microseconds.
const PER_SECOND: f64 = 1e6;

#[derive(Clone)]
struct Shown {
    workers: Workers,
    tools: Arc<Tools>,
}

/// Serves HTTP until `stop`.
pub(super) async fn serve(
    workers: Workers,
    tools: Arc<Tools>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Shown { workers, tools });
    tokio::select! {
        ended = axum::serve(listener, router).into_future() => ended.context("HTTP server"),
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}

/// 200 when every model can be asked as far as is known; else 503 with one reason a line.
async fn ready(State(shown): State<Shown>) -> (StatusCode, String) {
    let workers: Vec<_> = shown.workers.lock().values().cloned().collect();
    let reasons: Vec<_> = workers.iter().filter_map(|worker| not_ready(worker)).collect();
    match reasons.is_empty() {
        true => (StatusCode::OK, "ready\n".into()),
        false => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

fn not_ready(worker: &Worker) -> Option<String> {
    let model = worker.model.as_ref()?;
    let open = || model.is_open().then(|| "its circuit is open".to_owned());
    model.misfit().or_else(open).map(|reason| format!("{}: {reason}", worker.title()))
}

async fn scrape(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render(&shown))
}

/// Name, meaning and value of a counter of a worker.
type WorkerCounter = (&'static str, &'static str, fn(&Counts) -> u64);

const COUNTERS: [WorkerCounter; 4] = [
    ("forebay_execute_attempts_total", "Requests made to the model.", Counts::attempts),
    ("forebay_execute_snapshots_total", "Snapshots created or found.", Counts::snapshots),
    ("forebay_execute_repeated_total", "Jobs that an earlier run had done.", Counts::repetitions),
    ("forebay_execute_dead_letters_total", "Records put aside.", Counts::dead_letters),
];

fn render(shown: &Shown) -> String {
    let workers: Vec<_> =
        shown.workers.lock().iter().map(|(title, worker)| (title.clone(), worker.clone())).collect();
    let mut page = Page::new();
    predictions(&mut page, &workers);
    for (name, help, value) in COUNTERS {
        page.family(name, Kind::Counter, help);
        for (title, worker) in &workers {
            page.sample(name, &[("model", title)], value(&worker.counts));
        }
    }
    gauges(&mut page, &workers);
    latencies(&mut page, &workers);
    page.family(
        "forebay_execute_store_retries_total",
        Kind::Counter,
        "Calls of the store that were repeated.",
    );
    let retries = shown.tools.store.retries();
    page.sample("forebay_execute_store_retries_total", &[], retries);
    page.finish()
}

fn predictions(page: &mut Page, workers: &[(String, Arc<Worker>)]) {
    page.family("forebay_execute_predictions_total", Kind::Counter, "Judgements by what came of them.");
    for (title, worker) in workers.iter().filter(|(_, worker)| worker.model.is_some()) {
        for (at, status) in STATUSES.iter().enumerate() {
            let labels = [("model", title.as_str()), ("status", status.as_str_name())];
            page.sample("forebay_execute_predictions_total", &labels, worker.counts.status(at));
        }
    }
}

fn gauges(page: &mut Page, workers: &[(String, Arc<Worker>)]) {
    let mut gauge = |name, help, value: &dyn Fn(&Worker) -> usize| {
        page.family(name, Kind::Gauge, help);
        for (title, worker) in workers {
            page.sample(name, &[("model", title)], value(worker));
        }
    };
    gauge("forebay_execute_under_way", "Records taken from Kafka and not done.", &|worker| {
        worker.windows.unfinished()
    });
    gauge("forebay_execute_circuit_open", "1 while the model is left alone.", &|worker| {
        worker.model.as_ref().is_some_and(|model| model.is_open()).into()
    });
    gauge("forebay_execute_model_fits", "0 while its server is not as defined.", &|worker| {
        worker.model.as_ref().is_none_or(|model| model.misfit().is_none()).into()
    });
}

fn latencies(page: &mut Page, workers: &[(String, Arc<Worker>)]) {
    const EDGE: &str = "forebay_execute_edge_to_prediction_seconds";
    let models: Vec<_> = workers.iter().filter(|(_, worker)| worker.model.is_some()).collect();
    let whole: Vec<_> = models.iter().map(|(_, worker)| worker.counts.edge_to_prediction_us()).collect();
    page.family(EDGE, Kind::Histogram, "Edge told to prediction stored.");
    for ((title, _), histogram) in models.iter().zip(&whole) {
        page.histogram(EDGE, &[("model", title)], histogram, PER_SECOND);
    }
    let quantiles = [
        ("forebay_execute_edge_to_prediction_p50_seconds", "The median of it.", 0.5),
        ("forebay_execute_edge_to_prediction_p99_seconds", "Ninety-nine of a hundred are within this.", 0.99),
    ];
    for (name, help, quantile) in quantiles {
        page.family(name, Kind::Gauge, help);
        for ((title, _), histogram) in models.iter().zip(&whole) {
            page.sample(name, &[("model", title)], seconds(histogram, quantile));
        }
    }
    page.family("forebay_execute_model_seconds", Kind::Histogram, "The model's last attempt.");
    for (title, worker) in models {
        page.histogram(
            "forebay_execute_model_seconds",
            &[("model", title)],
            &worker.counts.model_us(),
            PER_SECOND,
        );
    }
}

fn seconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / PER_SECOND
}
