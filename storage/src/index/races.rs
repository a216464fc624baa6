//! The index under loom: a reader beside each thing its writer does, in every order that the memory model allows (with at
//! most two preemptions). No code but tests; built with `--cfg loom --cfg crossbeam_loom`, and pages are small then.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::*;

fn key(n: u64) -> Key {
    // All in one region; the highest bit of the path tells odd from even.
    Key { region: 0, extra: (n as u8 & 1) << 7, fingerprint: 7, tag: n }
}

fn slot(n: u64) -> Slot {
    Slot::new(1, n * 8, Coarse(1), false)
}

/// An index, and the number of the last record: what a slot leads to must be there for whoever sees the slot.
struct World {
    index: Index,
    written: AtomicU64,
}

impl World {
    /// Gives a key a slot to a record with a number, which must be higher than the ones before. Returns the slot it had.
    fn put(&self, n: u64, view: u16, number: u64) -> Slot {
        let guard = &crossbeam_epoch::pin();
        let view = self.index.add_view(view, guard).expect("few views");
        self.written.store(number, Ordering::Relaxed);
        self.index.publish(key(n), view, slot(number), guard)
    }

    /// The number of the record that a key's slot leads to; 0: none.
    fn read(&self, n: u64, view: u16) -> u64 {
        let guard = &crossbeam_epoch::pin();
        let found = self.index.slot(key(n), view, guard);
        let number = found.byte() / 8;
        assert!(found == Slot::NONE || found == slot(number));
        assert!(self.written.load(Ordering::Relaxed) >= number, "a slot whose record is not there yet");
        number
    }
}

/// Prepares an index, then lets one thread change it and another read from it.
fn beside(
    prepare: impl Fn(&World) + Sync + Send + 'static,
    change: impl Fn(&World) + Sync + Send + Copy + 'static,
    check: impl Fn(&World) + Sync + Send + 'static,
) {
    let mut model = loom::model::Builder::new();
    (model.preemption_bound, model.max_branches) = (Some(2), 20_000);
    model.check(move || {
        let world = Arc::new(World { index: Index::new(), written: AtomicU64::new(0) });
        prepare(&world);
        let changing = world.clone();
        let writer = thread::spawn(move || change(&changing));
        check(&world);
        writer.join().expect("the writer ends");
    });
}

#[test]
fn a_new_version_is_seen_or_the_one_before() {
    beside(
        |world| assert_eq!(world.put(1, 0, 1), Slot::NONE),
        |world| assert_eq!(world.put(1, 0, 2), slot(1)),
        |world| {
            let (first, second) = (world.read(1, 0), world.read(1, 0));
            assert!(first >= 1 && second >= first, "never the one before again");
        },
    );
}

#[test]
fn a_new_view_is_seen_whole_or_not_at_all() {
    beside(
        |world| assert_eq!(world.put(1, 0, 1), Slot::NONE),
        |world| assert_eq!(world.put(1, 1, 2), Slot::NONE),
        |world| {
            assert!([0, 2].contains(&world.read(1, 1)));
            assert_eq!(world.read(1, 0), 1);
        },
    );
}

#[test]
fn a_view_on_a_further_line_is_seen_whole_or_not_at_all() {
    beside(
        |world| {
            (0..6).for_each(|view| assert_eq!(world.put(1, view, 1), Slot::NONE));
            world.index.grow(key(1), Lines { mains: 0, mores: 1 }, &crossbeam_epoch::pin());
        },
        |world| assert_eq!(world.put(1, 6, 2), Slot::NONE),
        |world| {
            assert!([0, 2].contains(&world.read(1, 6)));
            assert_eq!(world.read(1, 5), 1);
        },
    );
}

#[test]
fn a_new_entity_is_seen_whole_or_not_at_all_and_its_page_may_grow_for_it() {
    // A page is made for one entity, and then for two.
    beside(
        |world| assert_eq!(world.put(1, 0, 1), Slot::NONE),
        |world| assert_eq!(world.put(2, 0, 2), Slot::NONE),
        |world| {
            assert!([0, 2].contains(&world.read(2, 0)));
            assert_eq!(world.read(1, 0), 1);
        },
    );
}

#[test]
fn a_new_entity_on_a_line_that_is_there_is_seen_whole_or_not_at_all() {
    beside(
        |world| {
            assert_eq!(world.put(1, 0, 1), Slot::NONE);
            world.index.grow(key(1), Lines { mains: 1, mores: 0 }, &crossbeam_epoch::pin());
        },
        |world| assert_eq!(world.put(2, 0, 2), Slot::NONE),
        |world| assert!([0, 2].contains(&world.read(2, 0)) && world.read(1, 0) == 1),
    );
}

#[test]
fn entities_of_a_page_that_splits_are_always_there() {
    beside(
        |world| (1..=2).for_each(|n| assert_eq!(world.put(n, 0, n), Slot::NONE)),
        |world| assert_eq!(world.put(3, 0, 3), Slot::NONE),
        |world| assert_eq!((world.read(1, 0), world.read(2, 0)), (1, 2)),
    );
}

#[test]
fn a_removed_slot_is_seen_or_none_and_its_place_stays_its_views() {
    beside(
        |world| assert_eq!(world.put(1, 0, 1), Slot::NONE),
        |world| {
            let guard = &crossbeam_epoch::pin();
            let view = world.index.view(0, guard).expect("known");
            assert!(world.index.remove(key(1), view, slot(1), guard));
            assert_eq!(world.put(1, 1, 2), Slot::NONE);
        },
        |world| {
            assert!([0, 1].contains(&world.read(1, 0)));
            assert!([0, 2].contains(&world.read(1, 1)));
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
