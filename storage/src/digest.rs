//! One number for the state of a shard, to compare replicas and replays: a sum of hashes, so that order, batches and
//! files do not matter, only what the current version of each key is.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::chain::Chain;
use crate::error::ReadError;
use crate::index::Slot;
use crate::log::segment::Record;
use crate::read::Pinned;
use crate::residency::Reach;

/// Sum over all keys. What is damaged counts by the error's place, so it agrees with nothing whole.
pub(crate) fn digest(pinned: &Pinned<'_>) -> u128 {
    let mut sum = 0u128;
    pinned.shard.index.for_each(&pinned.guard, |slot| {
        let one = match current(pinned, slot) {
            Ok(None) => 0,
            Ok(Some(record)) => of_record(pinned, &record).unwrap_or_else(|error| of_error(&error)),
            Err(error) => of_error(&error),
        };
        sum = sum.wrapping_add(one);
    });
    sum
}

fn current<'g>(pinned: &'g Pinned<'_>, slot: Slot) -> Result<Option<Record<'g>>, ReadError> {
    let reach = Reach::new(pinned.shard, pinned.cold.as_ref(), &pinned.guard);
    let Some(newest) = reach.record_of(slot)? else { return Ok(None) };
    Ok(Chain::from(reach, newest)?.map(|chain| chain.current))
}

fn of_record(pinned: &Pinned<'_>, record: &Record<'_>) -> Result<u128, ReadError> {
    let header = &record.header;
    let topic = pinned.shard.topics.get(usize::from(header.topic)).map_or("", |topic| &topic.name);
    let mut hash = Xxh3::new();
    hash.update(&header.view.to_le_bytes());
    hash.update(&[header.entity_len]);
    hash.update(record.entity);
    hash.update(&[header.kind]);
    for number in [header.event_time_ms, header.ingest_time_ms, header.expiry_ms, header.offset] {
        hash.update(&number.to_le_bytes());
    }
    hash.update(topic.as_bytes());
    hash.update(&[0]);
    hash.update(&pinned.shard.codecs.payload(record)?);
    Ok(hash.digest128())
}

fn of_error(error: &ReadError) -> u128 {
    xxh3_128(format!("{error}").as_bytes())
}
