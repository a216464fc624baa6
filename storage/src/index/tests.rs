//! The index against a map, and how much RAM it takes. No code but tests.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use super::*;

fn key(n: u64) -> Key {
    Key::new(xxh3_128(&n.to_le_bytes()))
}

fn slot(n: u64) -> Slot {
    Slot::new((n >> 20) as u32, (n & 0xFF_FFFF) * 8 + 8, Coarse(1), n.is_multiple_of(7))
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn many_steps_agree_with_a_map() {
    let (index, guard) = (Index::new(), &crossbeam_epoch::pin());
    let views: Vec<u16> = (0..40).map(|view| view * 1601).collect();
    let mut map = HashMap::new();
    let trimmed_at = 300_000;
    let mut state = 88_172_645_463_325_252_u64;
    for step in 1..600_000 {
        let dice = random(&mut state);
        if step == trimmed_at {
            index.trim();
        }
        // Most entities have few views, some have many.
        let (n, view) =
            (dice % 6000, views[(dice >> 20) as usize % if dice.is_multiple_of(60) { 40 } else { 3 }]);
        let number = index.add_view(view, guard).expect("few views");
        let old = map.get(&(n, view)).copied().unwrap_or(Slot::NONE);
        if dice >> 32 & 3 == 0 && old != Slot::NONE {
            assert!(!index.remove(key(n), number, slot(0), guard));
            assert!(index.remove(key(n), number, old, guard));
            map.remove(&(n, view));
        } else {
            assert_eq!(index.publish(key(n), number, slot(step), guard), old);
            map.insert((n, view), slot(step));
        }
    }
    for n in 0..6000 {
        let entity = index.entity(key(n), guard);
        for view in &views {
            let found = entity.map_or(Slot::NONE, |found| found.slot(*view));
            assert_eq!(found, map.get(&(n, *view)).copied().unwrap_or(Slot::NONE));
        }
        assert_eq!(entity.map_or(Slot::NONE, |found| found.slot(9)), Slot::NONE);
    }
    assert_eq!(index.keys(), map.len() as u64);
    let mut sum = 0_u64;
    index.for_each(guard, |slot| sum = sum.wrapping_add(slot.0));
    assert_eq!(sum, map.values().fold(0_u64, |sum, slot| sum.wrapping_add(slot.0)));
}

#[test]
fn an_entity_may_have_all_254_views_and_no_view_more() {
    let (index, guard) = (Index::new(), &crossbeam_epoch::pin());
    let numbers: Vec<_> = (0..254).map(|view| index.add_view(view * 3, guard).expect("room")).collect();
    assert_eq!(index.add_view(1, guard), None);
    assert_eq!(index.add_view(3, guard), Some(numbers[1]));
    for n in 0..300 {
        for (at, view) in numbers.iter().enumerate() {
            index.publish(key(n), *view, slot(n * 254 + at as u64 + 1), guard);
        }
    }
    for n in 0..300 {
        let entity = index.entity(key(n), guard).expect("there");
        assert!((0..254).all(|at| entity.slot(at as u16 * 3) == slot(n * 254 + at + 1)));
    }
}

#[test]
fn a_slot_keeps_what_it_is_made_of() {
    let slot = Slot::new(Slot::SEGMENTS + 5, (2 << 30) - 8, Coarse(77), true);
    assert_eq!((slot.segment(), slot.byte(), slot.coarse()), (5, (2 << 30) - 8, Coarse(77)));
    assert!(slot.is_late() && !Slot::new(1, 128, Coarse(77), false).is_late());
}

#[test]
fn coarse_times_are_in_order_and_say_so_only_when_they_know() {
    let base = 1_700_000_000_000;
    let coarse = |ms: i64| Coarse::new(base + ms, base);
    assert!(coarse(0).is_surely_before(coarse(40_000)));
    assert!(!coarse(0).is_surely_before(coarse(0)) && !coarse(40_000).is_surely_before(coarse(0)));
    let week = 7 * 86_400_000;
    assert!(!coarse(-week).is_surely_before(coarse(0)), "too long ago to say");
    assert!(!coarse(week).is_surely_before(coarse(2 * week)), "too far ahead to say");
    assert!(coarse(0).is_surely_before(coarse(week)));
    assert_eq!(Coarse::new(i64::MAX, i64::MIN), Coarse::LAST);
    assert_eq!(Coarse::new(i64::MIN, i64::MAX), Coarse(0));
}

/// Bytes per key at many numbers of entities with so many views each: average and worst.
fn bytes_per_key(views: u16) -> (f64, f64) {
    let (index, mut guard) = (Index::new(), crossbeam_epoch::pin());
    index.trim();
    let numbers: Vec<_> = (0..views).map(|view| index.add_view(view, &guard).expect("room")).collect();
    let (mut wanted, mut sum, mut count, mut worst) = (1000, 0.0, 0.0, 0.0_f64);
    for n in 0..300_000 {
        for (at, view) in numbers.iter().enumerate() {
            index.publish(key(n), *view, slot(n * 16 + at as u64 + 1), &guard);
        }
        if n + 1 == wanted {
            let each = index.bytes() as f64 / index.keys() as f64;
            (sum, count, worst) = (sum + each, count + 1.0, worst.max(each));
            wanted = wanted * 107 / 100;
            guard.repin();
        }
    }
    (sum / count, worst)
}

#[test]
fn at_any_size_a_key_takes_at_most_16_bytes_with_ten_views_an_entity_and_80_with_one() {
    for (views, most) in [(10, 16.0), (1, 80.0)] {
        let (average, worst) = bytes_per_key(views);
        println!("{views} views an entity: {average:.2} B per key on average, {worst:.2} at worst");
        assert!(worst <= most, "{worst} B");
    }
}
