//! The index under loom: a reader beside each thing its writer does, in every order that the memory model allows (with at
//! most two preemptions). No code but tests; built with `--cfg loom --cfg crossbeam_loom`, and pages are small then.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::*;

fn key(n: u64) -> Key {
    // All in one region; the highest bit of the path tells odd from even.
    Key { region: 0, extra: (n as u8 & 1) << 7, fingerprint: 7, tag: n }
}

fn slot(n: u64) -> Slot {
    Slot::new(1, n * 8, Coarse(1), false)
}

fn read(index: &Index, n: u64, view: u16) -> Slot {
    let guard = &crossbeam_epoch::pin();
    index.entity(key(n), guard).map_or(Slot::NONE, |found| found.slot(view))
}

/// Prepares an index, then lets one thread change it and another read from it.
fn beside(
    prepare: impl Fn(&Index) + Sync + Send + 'static,
    change: impl Fn(&Index) + Sync + Send + Copy + 'static,
    check: impl Fn(&Index) + Sync + Send + 'static,
) {
    let mut model = loom::model::Builder::new();
    (model.preemption_bound, model.max_branches) = (Some(2), 20_000);
    model.check(move || {
        let index = Arc::new(Index::new());
        prepare(&index);
        let changing = index.clone();
        let writer = thread::spawn(move || change(&changing));
        check(&index);
        writer.join().expect("the writer ends");
    });
}

fn put(index: &Index, n: u64, view: u16, to: Slot) -> Slot {
    let guard = &crossbeam_epoch::pin();
    let view = index.add_view(view, guard).expect("few views");
    index.publish(key(n), view, to, guard)
}

fn is_one_of(found: Slot, slots: &[Slot]) {
    assert!(slots.contains(&found), "{found:?} is none of {slots:?}");
}

#[test]
fn a_new_version_is_seen_or_the_one_before() {
    beside(
        |index| assert_eq!(put(index, 1, 0, slot(1)), Slot::NONE),
        |index| assert_eq!(put(index, 1, 0, slot(2)), slot(1)),
        |index| {
            let (first, second) = (read(index, 1, 0), read(index, 1, 0));
            is_one_of(first, &[slot(1), slot(2)]);
            // Never the one before again.
            is_one_of(second, &[first, slot(2)]);
        },
    );
}

#[test]
fn a_new_view_is_seen_whole_or_not_at_all() {
    beside(
        |index| assert_eq!(put(index, 1, 0, slot(1)), Slot::NONE),
        |index| assert_eq!(put(index, 1, 1, slot(2)), Slot::NONE),
        |index| {
            is_one_of(read(index, 1, 1), &[Slot::NONE, slot(2)]);
            assert_eq!(read(index, 1, 0), slot(1));
        },
    );
}

#[test]
fn a_view_on_a_further_line_is_seen_whole_or_not_at_all() {
    beside(
        |index| (0..6).for_each(|view| assert_eq!(put(index, 1, view, slot(1)), Slot::NONE)),
        |index| assert_eq!(put(index, 1, 6, slot(2)), Slot::NONE),
        |index| {
            is_one_of(read(index, 1, 6), &[Slot::NONE, slot(2)]);
            assert_eq!(read(index, 1, 5), slot(1));
        },
    );
}

#[test]
fn a_new_entity_is_seen_whole_or_not_at_all_and_its_page_may_grow_for_it() {
    // A page is made for one entity, and then for two.
    beside(
        |index| assert_eq!(put(index, 1, 0, slot(1)), Slot::NONE),
        |index| assert_eq!(put(index, 2, 0, slot(2)), Slot::NONE),
        |index| {
            is_one_of(read(index, 2, 0), &[Slot::NONE, slot(2)]);
            assert_eq!(read(index, 1, 0), slot(1));
        },
    );
}

#[test]
fn entities_of_a_page_that_splits_are_always_there() {
    beside(
        |index| (1..=2).for_each(|n| assert_eq!(put(index, n, 0, slot(n)), Slot::NONE)),
        |index| assert_eq!(put(index, 3, 0, slot(3)), Slot::NONE),
        |index| {
            assert_eq!(read(index, 1, 0), slot(1));
            assert_eq!(read(index, 2, 0), slot(2));
        },
    );
}

#[test]
fn a_removed_slot_is_seen_or_none_and_its_place_stays_its_views() {
    beside(
        |index| assert_eq!(put(index, 1, 0, slot(1)), Slot::NONE),
        |index| {
            let guard = &crossbeam_epoch::pin();
            let view = index.view(0, guard).expect("known");
            assert!(index.remove(key(1), view, slot(1), guard));
            assert_eq!(put(index, 1, 1, slot(2)), Slot::NONE);
        },
        |index| {
            is_one_of(read(index, 1, 0), &[Slot::NONE, slot(1)]);
            is_one_of(read(index, 1, 1), &[Slot::NONE, slot(2)]);
        },
    );
}

/// Says when it is dropped.
struct Witness {
    number: u64,
    dropped: Arc<AtomicBool>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Release);
    }
}

#[test]
fn what_a_table_held_is_freed_only_when_no_reader_can_see_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let witness = |number| Witness { number, dropped: Arc::new(AtomicBool::new(false)) };
        let table = Arc::new(EpochTable::new(0, [(1, witness(0))]));
        let changing = table.clone();
        let writer = thread::spawn(move || {
            let guard = crossbeam_epoch::pin();
            changing.split(0, [witness(1), witness(2)], &guard);
            guard.flush();
            drop(guard);
            crossbeam_epoch::pin().flush();
        });
        for (hash, numbers) in [(0, [0, 1]), (1 << 63, [0, 2])] {
            let guard = &crossbeam_epoch::pin();
            let held = table.load(hash, guard);
            let dropped = held.dropped.clone();
            thread::yield_now();
            assert!(numbers.contains(&held.number) && !dropped.load(Ordering::Acquire));
        }
        writer.join().expect("the writer ends");
    });
}
