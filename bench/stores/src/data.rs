//! The data of a run: entity ids and payloads, generated once, written to a file and read by every side into memory before
//! anything is measured. And the order in which keys are visited, the same for every side.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::plan::VIEWS;

/// When the first data point happened, ms since the epoch.
pub const START_MS: i64 = 1_800_000_000_000;
/// How often a key is reported, ms: 200 times a day, as devices do.
pub const INTERVAL_MS: i64 = 432_000;
/// How long a data point is kept, ms.
pub const TTL_MS: i64 = 7 * 86_400_000;

/// One data point to put.
#[derive(Debug, Clone, Copy)]
pub struct Point<'d> {
    /// Entity id.
    pub entity: &'d [u8],
    /// View, from 1.
    pub view: u16,
    /// When it happened, ms since the epoch.
    pub event_time_ms: i64,
    /// When it no longer counts.
    pub expiry_ms: i64,
    /// Its place in the log it comes from.
    pub offset: i64,
    /// JSON.
    pub payload: &'d [u8],
}

/// Entity ids and payloads.
#[derive(Debug)]
pub struct Data {
    bytes: Vec<u8>,
    entities: Vec<(u32, u32)>,
    /// Of even and of odd views.
    payloads: [Vec<(u32, u32)>; 2],
}

impl Data {
    /// Writes what `read` reads: three lists, each a count and then length and bytes of each.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(path: &Path, lists: &[Vec<Vec<u8>>; 3]) -> anyhow::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for list in lists {
            file.write_all(&u32::try_from(list.len())?.to_le_bytes())?;
            for item in list {
                file.write_all(&u32::try_from(item.len())?.to_le_bytes())?;
                file.write_all(item)?;
            }
        }
        Ok(file.flush()?)
    }

    /// # Errors
    /// If the file cannot be read or is not one that `write` wrote.
    pub fn read(path: &Path) -> anyhow::Result<Data> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut at = 0;
        let [entities, even, odd] = [0; 3].map(|_| list(&bytes, &mut at));
        let (entities, payloads) = (entities?, [even?, odd?]);
        ensure!(!entities.is_empty() && payloads.iter().all(|list| !list.is_empty()), "no data");
        Ok(Data { bytes, entities, payloads })
    }

    /// Entity by number.
    pub fn entity(&self, number: u64) -> &[u8] {
        self.bytes_of(self.entities[number as usize % self.entities.len()])
    }

    /// The `n`th payload of a view.
    pub fn payload(&self, view: u16, n: u64) -> &[u8] {
        let payloads = &self.payloads[usize::from(view & 1)];
        self.bytes_of(payloads[n as usize % payloads.len()])
    }

    /// The `n`th data point of all, about `key` of so many keys.
    pub fn point(&self, n: u64, key: u64, keys: u64) -> Point<'_> {
        let (entity, view) = split(key);
        let event_time_ms = START_MS + (n as i128 * i128::from(INTERVAL_MS) / i128::from(keys)) as i64;
        Point {
            entity: self.entity(entity),
            view,
            event_time_ms,
            expiry_ms: event_time_ms + TTL_MS,
            offset: n as i64,
            payload: self.payload(view, n),
        }
    }

    fn bytes_of(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.bytes[from as usize..to as usize]
    }
}

fn list(bytes: &[u8], at: &mut usize) -> anyhow::Result<Vec<(u32, u32)>> {
    let count = number(bytes, at)?;
    let spans = (0..count).map(|_| {
        let length = number(bytes, at)?;
        let from = u32::try_from(*at)?;
        *at += length as usize;
        ensure!(*at <= bytes.len(), "the data file is cut off");
        Ok((from, from + length))
    });
    spans.collect()
}

fn number(bytes: &[u8], at: &mut usize) -> anyhow::Result<u32> {
    let number = bytes.get(*at..*at + 4).context("the data file is cut off")?;
    *at += 4;
    Ok(u32::from_le_bytes(number.try_into()?))
}

/// Entity and view of a key.
pub fn split(key: u64) -> (u64, u16) {
    (key / VIEWS, (key % VIEWS + 1) as u16)
}

/// All numbers below `count` once, in an order that is scattered and differs from pass to pass.
#[derive(Debug, Clone)]
pub struct Order {
    count: u64,
    step: u64,
    at: u64,
}

impl Order {
    /// The order of a pass.
    pub fn new(count: u64, pass: u64) -> Order {
        let mut step = (count as f64 * 0.618_034) as u64 + 1 + 7 * pass;
        while gcd(step, count) != 1 {
            step += 1;
        }
        Order { count, step: step % count.max(1), at: pass % count.max(1) }
    }

    /// The next number; after the last one the first again.
    pub fn next_number(&mut self) -> u64 {
        let number = self.at;
        self.at = (self.at + self.step) % self.count;
        number
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Numbers that look random, from a seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_visits_every_number_once() {
        for (count, pass) in [(1, 0), (10, 3), (1000, 0), (1000, 1), (6, 4)] {
            let mut order = Order::new(count, pass);
            let seen: std::collections::BTreeSet<_> = (0..count).map(|_| order.next_number()).collect();
            assert_eq!(seen.len() as u64, count, "{count} {pass}");
        }
    }

    #[test]
    fn data_is_read_as_written() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let list = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        Data::write(file.path(), &[list("a bc"), list("even"), list("odd odder")]).expect("written");
        let data = Data::read(file.path()).expect("read");
        assert_eq!((data.entity(1), data.entity(2)), (b"bc".as_slice(), b"a".as_slice()));
        assert_eq!((data.payload(3, 1), data.payload(2, 9)), (b"odder".as_slice(), b"even".as_slice()));
        std::fs::write(file.path(), [1, 0, 0, 0, 200, 0, 0, 0]).expect("written");
        assert!(Data::read(file.path()).is_err());
    }
}
