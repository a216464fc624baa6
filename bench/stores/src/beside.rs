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

/// p99 during `act` over p99 without it; `None` if the store has no such thing. `act` is told the number of the stretch, 0
/// before the first, and says whether there is more to do in it; `key` chooses what is read.
///
/// # Errors
/// If the store fails.
pub fn beside<S: Store>(
    plan: &Plan,
    data: &Data,
    store: &mut S,
    key: impl Fn(&mut Random) -> u64 + Send,
    mut act: impl FnMut(&mut S, u32) -> anyhow::Result<bool>,
) -> anyhow::Result<Option<f64>> {
    if !act(store, 0)? {
        return Ok(None);
    }
    let (reads, now) = (store.reads(), AtomicU8::new(QUIET));
    let mode = &now;
    let stretch = Duration::from_secs_f64(plan.seconds / f64::from(2 * STRETCHES));
    let latencies = std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(data, reads, mode, key));
        let done = (1..=STRETCHES).try_for_each(|stretch_number| {
            mode.store(QUIET, Ordering::Relaxed);
            std::thread::sleep(stretch);
            mode.store(BUSY, Ordering::Relaxed);
            let start = Instant::now();
            while start.elapsed() < stretch {
                if !act(store, stretch_number)? {
                    break;
                }
            }
            anyhow::Ok(())
        });
        mode.store(STOP, Ordering::Relaxed);
        let latencies = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        done.and(latencies)
    })?;
    Ok(Some(latencies[1].us(0.99) / latencies[0].us(0.99)))
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
