//! P4: system calls that fail. Every sync, write, allocation, rename, removal and creation of a story fails once, for the
//! reasons a call of its kind may have. The shard then waits, or stops for good: what it had published as durable is
//! there after any power loss, it serves what was committed, and reopened it goes on.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::child::Said;
use super::strace::{self, Call, Event};
use super::walk::{Counts, JUDGES, Told};
use crate::store;

const PUTS: usize = 40;

/// What a call may say instead of being done. A sync that fails is never followed by another, so there it is EIO only.
fn reasons(name: &str) -> &'static [&'static str] {
    match name {
        "fsync" | "fdatasync" => &["error=EIO"],
        "fallocate" => &["error=ENOSPC", "error=EIO"],
        "write" | "pwrite64" => &["error=EIO", "error=ENOSPC", "error=EINTR", "retval=0"],
        "openat" => &["error=ENOSPC", "error=EMFILE", "error=EIO"],
        _ => &["error=EIO", "error=ENOSPC"],
    }
}

/// What came of the failures.
#[derive(Debug, Default)]
struct Ends {
    failures: AtomicUsize,
    stopped: AtomicUsize,
    waited: AtomicUsize,
    refused: AtomicUsize,
    unharmed: AtomicUsize,
}

/// The calls of a story that touch its files, each once: name and number.
fn places(seed: u64) -> Vec<(String, u32)> {
    let root = store::temporary();
    let dir = root.path().join("shard");
    std::fs::create_dir(&dir).expect("a directory");
    let places = strace::watch(&dir, seed, PUTS).into_iter().filter_map(|event| match event {
        Event::Called { name, nth, .. } => Some((name, nth)),
        Event::Said(_) => None,
    });
    places.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn fail(seed: u64, name: &str, nth: u32, reason: &str, ends: &Ends, counts: &Counts) {
    let told = Told::failing(seed, PUTS, &format!("inject={name}:{reason}:when={nth}"));
    let what = format!("seed {seed}, {name} {nth} {reason}");
    let injected = |event: &Event| matches!(event, Event::Called { injected: true, .. });
    let Some(failed) = told.events.iter().position(injected) else {
        // It was a call on another file this time, or nothing to the one that made it.
        ends.unharmed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    ends.failures.fetch_add(1, Ordering::Relaxed);
    no_sync_is_tried_again(&told.events, failed, &what);
    let said = || {
        told.events.iter().filter_map(|event| if let Event::Said(said) = event { Some(said) } else { None })
    };
    for said in said() {
        match said {
            Said::Stopped(why) if why.starts_with("refused") => ends.refused.fetch_add(1, Ordering::Relaxed),
            Said::Stopped(_) => ends.stopped.fetch_add(1, Ordering::Relaxed),
            Said::Waits => ends.waited.fetch_add(1, Ordering::Relaxed),
            Said::Serves(Err(why)) => panic!("{what}: {why}"),
            _ => 0,
        };
    }
    assert!(
        said().any(|said| matches!(said, Said::Stopped(_) | Said::Ended)),
        "{what}: it neither ends nor says why: {:?}",
        told.events.last()
    );
    told.judge_from(failed, if super::long() { 1 } else { 5 }, counts);
    told.judge_end().unwrap_or_else(|why| panic!("{what}, opened again: {why}"));
}

/// The kernel reports a lost page once: a second sync of the file would succeed, falsely. Nor are frames synced by a
/// shard that has stopped; a MANIFEST that is being replaced meanwhile may be. An opening writes again what it does not
/// know to be on the disk; whether it wrote enough shows when the power goes.
fn no_sync_is_tried_again(events: &[Event], failed: usize, what: &str) {
    let Event::Called { call: Call::Sync(lost), .. } = &events[failed] else { return };
    let mut stopped = false;
    for event in &events[failed + 1..] {
        match event {
            Event::Said(Said::Stopped(_)) => stopped = true,
            Event::Said(Said::Opens) => return,
            Event::Called { call: Call::Sync(path), begun, name, .. } if *begun > failed => {
                let again = path == lost || stopped && name == "fdatasync";
                assert!(!again, "{what}: {} is synced afterwards", path.display());
            }
            _ => {}
        }
    }
}

#[test]
fn p04_every_syscall_that_fails_makes_the_shard_wait_or_stop_and_nothing_durable_is_lost() {
    let (first, stories) = (super::first_seed(), if super::long() { 12 } else { 2 });
    let (ends, counts) = (Ends::default(), Counts::default());
    for seed in first..first + stories {
        let mut cases = Vec::new();
        for (name, nth) in places(seed) {
            cases.extend(reasons(&name).iter().map(|reason| (name.clone(), nth, *reason)));
        }
        std::thread::scope(|scope| {
            for part in cases.chunks(cases.len().div_ceil(JUDGES)) {
                let (ends, counts) = (&ends, &counts);
                scope.spawn(move || {
                    for (name, nth, reason) in part {
                        fail(seed, name, *nth, reason, ends, counts);
                    }
                });
            }
        });
    }
    println!("{ends:?} in {stories} stories from seed {first}; judged {counts:?}");
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert!(
        count(&ends.failures) >= 40 && count(&ends.stopped) >= 10 && count(&ends.waited) >= 2,
        "{ends:?}"
    );
}
