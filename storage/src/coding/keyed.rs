//! A map that only grows, read without a lock: what is in it stays where it is as long as the map lives. Holds the
//! generations of a stream and the bindings of a plan. Knows nothing of either.

use std::sync::OnceLock;

/// Enough that a lookup passes one or two entries.
const PLACES: usize = 64;

/// Values by number.
#[derive(Debug)]
pub(super) struct Keyed<T>([Place<T>; PLACES]);

#[derive(Debug)]
struct Place<T>(OnceLock<Box<Entry<T>>>);

#[derive(Debug)]
struct Entry<T> {
    key: u64,
    value: T,
    next: Place<T>,
}

impl<T> Keyed<T> {
    /// Empty.
    pub fn new() -> Keyed<T> {
        Keyed(std::array::from_fn(|_| Place(OnceLock::new())))
    }

    fn place(&self, key: u64) -> &Place<T> {
        &self.0[key as usize % PLACES]
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: u64) -> Option<&T> {
        let mut at = self.place(key).0.get()?;
        while at.key != key {
            at = at.next.0.get()?;
        }
        Some(&at.value)
    }

    /// Gives a key a value; one that it has stays.
    pub fn add(&self, key: u64, value: T) {
        self.get_or_make(key, || value);
    }

    /// The value of a key, made now if it has none. Who comes at the same time waits for it.
    pub fn get_or_make(&self, key: u64, make: impl FnOnce() -> T) -> &T {
        let (mut place, mut make) = (self.place(key), Some(make));
        loop {
            let entry = place.0.get_or_init(|| {
                let make = make.take().expect("an entry that is made has the key, which ends the search");
                Box::new(Entry { key, value: make(), next: Place(OnceLock::new()) })
            });
            if entry.key == key {
                return &entry.value;
            }
            place = &entry.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_made_once_and_stay() {
        let map = Keyed::new();
        let kept: Vec<&u64> = (0..1000).map(|key| map.get_or_make(key, || key * 2)).collect();
        for key in 0..1000 {
            assert_eq!(map.get_or_make(key, || unreachable!()), &(key * 2));
            assert!(std::ptr::eq(map.get(key).expect("made"), kept[key as usize]));
        }
        assert_eq!(map.get(1000), None);
    }
}
