//! Load on a request function: closed (a number in flight, for the rate) and open (a fixed arrival schedule, for the
//! latency). Knows nothing of what is asked.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

/// Most requests under way in open load; past it arrivals wait, and the wait counts as latency.
const OPEN_LIMIT: usize = 4096;

/// Completed requests per second with `in_flight` loops asking one request after another.
pub async fn closed<F, Fut>(in_flight: usize, time: Duration, ask: F) -> anyhow::Result<f64>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let loops: Vec<_> = (0..in_flight)
        .map(|_| {
            let (ask, next) = (ask.clone(), next.clone());
            tokio::spawn(async move {
                let mut done = 0u64;
                while begin.elapsed() < time {
                    ask(next.fetch_add(1, Ordering::Relaxed)).await?;
                    done += 1;
                }
                anyhow::Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for task in loops {
        done += task.await??;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// Latencies in ns of requests that arrive at `rate` per second, each counted from when it should have been sent, so
/// that a stall counts against every request it delays (no coordinated omission).
pub async fn open<F, Fut>(rate: f64, time: Duration, ask: F) -> anyhow::Result<Histogram<u64>>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut failure = None;
    open_each(rate, time, ask, |_, outcome| match outcome {
        Ok(latency) => histogram.saturating_record(latency.as_nanos() as u64),
        Err(error) => failure = Some(error),
    })
    .await?;
    failure.map_or(Ok(histogram), Err)
}

/// The same, with every request given to `each`: how long after the beginning it was due, and its latency or why it
/// failed.
pub async fn open_each<F, Fut>(
    rate: f64,
    time: Duration,
    ask: F,
    mut each: impl FnMut(Duration, anyhow::Result<Duration>),
) -> anyhow::Result<()>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(OPEN_LIMIT));
    let (report, mut latencies) = tokio::sync::mpsc::unbounded_channel();
    let begin = Instant::now();
    let mut arrivals = arrivals(begin, rate, (rate * time.as_secs_f64()) as u64);
    while let Some((arrival, after)) = arrivals.recv().await {
        while let Ok((due, outcome)) = latencies.try_recv() {
            each(due, outcome);
        }
        let slot = slots.clone().acquire_owned().await?;
        let (ask, report) = (ask.clone(), report.clone());
        tokio::spawn(async move {
            let outcome = ask(arrival).await;
            report.send((after, outcome.map(|()| begin.elapsed().saturating_sub(after)))).ok();
            drop(slot);
        });
    }
    drop(report);
    while let Some((due, outcome)) = latencies.recv().await {
        each(due, outcome);
    }
    Ok(())
}

/// Arrivals with their times after `begin`, given when they are due by a thread: the runtime's timer is too coarse, its
/// millisecond would be most of a latency.
fn arrivals(begin: Instant, rate: f64, total: u64) -> UnboundedReceiver<(u64, Duration)> {
    let (send, arrivals) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for arrival in 0..total {
            let after = Duration::from_secs_f64(arrival as f64 / rate);
            if let Some(early) = after.checked_sub(begin.elapsed()) {
                std::thread::sleep(early);
            }
            if send.send((arrival, after)).is_err() {
                return;
            }
        }
    });
    arrivals
}
