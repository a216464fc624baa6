//! What reads feel of something the store does beside them: their p99 during it over their p99 when it is quiet, in
//! stretches that alternate.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::data::{Data, Random};
use crate::meter::Latencies;
use crate::plan::Plan;
use crate::store::Store;
use crate::work::get;

/// Stretches of each kind.
pub const STRETCHES: u32 = 8;
/// Reads a second, on a schedule.
const RATE: f64 = 20_000.0;

const QUIET: u8 = 0;
const BUSY: u8 = 1;
const STOP: u8 = 2;

/// p99 in stretches in which `act` is busy over p99 in those in which it is not. `act` is told the number of the pair of
/// stretches and whether it is to be busy, and says whether there is more to do in this one; `key` chooses what is read.
///
/// # Errors
/// If the store fails.
pub fn beside<S: Store>(
    plan: &Plan,
    data: &Data,
    store: &mut S,
    key: impl Fn(&mut Random) -> u64 + Send,
    mut act: impl FnMut(&mut S, u32, bool) -> anyhow::Result<bool>,
) -> anyhow::Result<f64> {
    let (reads, now) = (store.reads(), AtomicU8::new(QUIET));
    let mode = &now;
    let stretch = Duration::from_secs_f64(plan.seconds / f64::from(2 * STRETCHES));
    let latencies = std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(data, reads, mode, key));
        let done = (0..2 * STRETCHES).try_for_each(|n| {
            let busy = n % 2 == 1;
            mode.store(if busy { BUSY } else { QUIET }, Ordering::Relaxed);
            let start = Instant::now();
            let mut more = true;
            while more && start.elapsed() < stretch {
                more = act(store, n / 2 + 1, busy)?;
            }
            std::thread::sleep(stretch.saturating_sub(start.elapsed()));
            anyhow::Ok(())
        });
        mode.store(STOP, Ordering::Relaxed);
        let latencies = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        done.and(latencies)
    })?;
    Ok(latencies[1].us(0.99) / latencies[0].us(0.99))
}

/// Reads keys on a schedule until told to stop; a latency counts from when the read was due.
fn read<R: crate::store::Reads>(
    data: &Data,
    mut reads: R,
    mode: &AtomicU8,
    key: impl Fn(&mut Random) -> u64,
) -> anyhow::Result<[Latencies; 2]> {
    let (mut latencies, mut random) = (<[Latencies; 2]>::default(), Random::new(4));
    let start = Instant::now();
    for n in 0.. {
        let due = Duration::from_secs_f64(f64::from(n) / RATE);
        while start.elapsed() < due {
            std::hint::spin_loop();
        }
        let now = match mode.load(Ordering::Relaxed) {
            STOP => break,
            now => usize::from(now),
        };
        get(&mut reads, data, key(&mut random))?;
        latencies[now].add(start.elapsed() - due);
    }
    Ok(latencies)
}
