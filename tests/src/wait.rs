//! Waiting for conditions, never for time. Used by the whole harness and by tests; knows nothing of servers.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long a condition may take before the test fails: generous, for two busy cores.
pub const DEADLINE: Duration = Duration::from_secs(45);

/// At most two heavy tests at a time; the rest run beside them.
static HEAVY: Semaphore = Semaphore::const_new(2);

/// Asks until the answer is `Ok`, and gives its value; panics with the last reason after [`DEADLINE`].
pub async fn eventually<T, F, Fut>(what: &str, ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    eventually_within(DEADLINE, what, ask).await
}

/// [`eventually`] with a deadline of its own.
pub async fn eventually_within<T, F, Fut>(deadline: Duration, what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut tick = interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match ask().await {
            Ok(value) => return value,
            Err(reason) if Instant::now() > end => panic!("{what}: not within {deadline:?}: {reason:#}"),
            Err(_) => {}
        }
    }
}

/// Taken by tests that use a core or more for seconds, so that they do not starve each other.
pub async fn heavy() -> SemaphorePermit<'static> {
    HEAVY.acquire().await.expect("never closed")
}
