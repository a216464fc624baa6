//! The mix's records, made before the clock starts: batches per topic whose payloads are those of `forebay produce`, and
//! the entities of each partition. What is written at sending is the key and the event time. Used by `generator` only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use anyhow::{Context, ensure};
use forebay_client::Partitioner;
use forebay_server::mix::{Kind, Mix, MixRecord, MixView, Random, Shares, VIEWS, topics};

use crate::wire::batch::{Batch, Draft, MOST_BYTES, MOST_RECORDS, TimePlace};

/// What a record is at sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The newest of its key.
    Fresh,
    /// Of a key that was sent, hours or seconds older.
    Late,
    /// Deletes a key that was sent.
    Stone,
    /// Ahead of its time.
    Future,
    /// The record before it once more.
    Again,
    /// Sent as it was made.
    Bad,
}

/// A topic of the mix.
pub struct Topic {
    /// Without prefix.
    pub name: &'static str,
    /// Of all data points.
    pub share: f64,
    /// Sent in turn, with the role of each record.
    pub batches: Vec<(Batch, Vec<Role>)>,
    /// Whose ids its keys are.
    pub view: &'static MixView,
    /// How many of them there are.
    pub population: u64,
}

/// How much is prepared.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Divides the mix's populations.
    pub scale: u64,
    /// Different payloads, over all topics.
    pub payloads: usize,
    /// Partitions of each topic.
    pub partitions: usize,
    /// A batch is what comes for a partition in so many seconds ...
    pub linger_s: f64,
    /// ... at so many data points per second.
    pub rate: f64,
}

/// Every topic with its batches.
pub fn prepare(size: Size, seed: u64) -> anyhow::Result<Vec<Topic>> {
    let all: f64 = VIEWS.iter().map(MixView::daily).sum();
    let mut random = Random::new(seed);
    topics(None).into_iter().map(|name| topic(name, all, size, seed, &mut random)).collect()
}

fn topic(name: &'static str, all: f64, size: Size, seed: u64, random: &mut Random) -> anyhow::Result<Topic> {
    let views = || VIEWS.iter().filter(|view| view.topic == name);
    let share = views().map(MixView::daily).sum::<f64>() / all;
    let view = views().next().context("a topic has a view")?;
    // A repetition is made here, of the record before it in its batch.
    let shares = Shares { duplicate: 0.0, ..Shares::default() };
    let mut mix = Mix::new(seed, size.scale, shares).only(|view| view.topic == name);
    let wanted = (size.rate * share / size.partitions as f64 * size.linger_s) as usize;
    let records = wanted.clamp(1, MOST_RECORDS);
    let count = ((size.payloads as f64 * share) as usize / records).max(8);
    let again = Shares::default().duplicate;
    let batches = (0..count).map(|_| batch(&mut mix, records, again, random)).collect::<Result<_, _>>()?;
    Ok(Topic { name, share, batches, view, population: view.population(size.scale) })
}

fn batch(
    mix: &mut Mix,
    records: usize,
    again: f64,
    random: &mut Random,
) -> anyhow::Result<(Batch, Vec<Role>)> {
    let now_ms = forebay_tests::event_now();
    let (mut drafts, mut roles, mut bytes) = (Vec::<Draft>::new(), Vec::new(), 0);
    while drafts.len() < records {
        let (draft, role) = match drafts.last() {
            Some(last) if roles.last() == Some(&Role::Fresh) && random.unit() < again => {
                (last.clone(), Role::Again)
            }
            _ => draft(mix.next(now_ms)),
        };
        // Room for the headers of records and their lengths.
        bytes += draft.value.as_ref().map_or(0, Vec::len) + 400;
        if bytes > MOST_BYTES {
            break;
        }
        drafts.push(draft);
        roles.push(role);
    }
    Ok((Batch::prepare(&drafts, random)?, roles))
}

fn draft(record: &MixRecord) -> (Draft, Role) {
    let role = match record.kind {
        Kind::OnTime | Kind::Duplicate => Role::Fresh,
        Kind::Late => Role::Late,
        Kind::Tombstone => Role::Stone,
        Kind::Future => Role::Future,
        Kind::Bad(_) => Role::Bad,
    };
    let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let mut draft = Draft {
        key: record.key.clone(),
        key_varies: role != Role::Bad,
        value: record.value.clone(),
        headers,
        time: None,
    };
    if role != Role::Bad {
        draft.time = time_place(&draft, record.event_time_ms);
    }
    (draft, role)
}

/// Where the digits of the event time are: of ms, or of s.
fn time_place(draft: &Draft, event_time_ms: i64) -> Option<TimePlace> {
    let texts = [event_time_ms.to_string(), (event_time_ms / 1000).to_string()];
    for text in texts.iter().map(String::as_bytes) {
        if let Some(at) = draft.headers.iter().position(|(_, value)| value == text) {
            return Some(TimePlace::Header(at));
        }
        let value = draft.value.as_deref().unwrap_or_default();
        if let Some(at) = value.windows(text.len()).position(|bytes| bytes == text) {
            return Some(TimePlace::Value(at..at + text.len()));
        }
    }
    None
}

/// The entities of each partition, by number.
pub fn entities(view: &MixView, population: u64, partitions: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    ensure!(population <= u64::from(u32::MAX), "{population} entities");
    let (mut found, mut id) = (vec![Vec::new(); partitions], Vec::new());
    for number in 0..population {
        view.entity_id(number, &mut id);
        found[Partitioner::Murmur2.partition(&id, partitions as u32) as usize].push(number as u32);
    }
    Ok(found)
}

/// [`entities`] of all topics, each population once.
pub fn all_entities(topics: &[Topic], partitions: usize) -> anyhow::Result<Vec<Arc<Vec<Vec<u32>>>>> {
    let mut known = HashMap::new();
    let mut all = Vec::new();
    for topic in topics {
        let place = match known.entry((topic.view.lane, topic.population)) {
            Entry::Occupied(place) => place,
            Entry::Vacant(place) => {
                place.insert_entry(Arc::new(entities(topic.view, topic.population, partitions)?))
            }
        };
        all.push(place.get().clone());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_its_share_and_its_times_are_found() {
        let size = Size { scale: 1000, payloads: 4000, partitions: 2, linger_s: 0.01, rate: 20_000.0 };
        let topics = prepare(size, 1).expect("prepared");
        assert!((topics.iter().map(|topic| topic.share).sum::<f64>() - 1.0).abs() < 1e-9);
        let mut mix = Mix::new(3, 1000, Shares::default());
        for _ in 0..5000 {
            let record = mix.next(1_800_000_000_000);
            let (draft, role) = draft(record);
            assert_eq!(draft.time.is_none(), role == Role::Bad, "{record:?}");
        }
        for topic in &topics {
            assert!(topic.batches.iter().all(|(batch, roles)| batch.len() == roles.len()));
        }
        let radio = topics.iter().find(|topic| topic.name == "high_volume.radio").expect("radio");
        let (raw, wire) = radio
            .batches
            .iter()
            .fold((0, 0), |(raw, wire), (batch, _)| (raw + batch.raw_bytes, wire + batch.wire_bytes()));
        assert!(wire * 3 < raw * 2, "{wire} of {raw} bytes after compression");
    }

    #[test]
    fn entities_are_shared_out_as_producers_do() {
        let view = VIEWS.iter().find(|view| view.name == "device_radio").expect("a view");
        let all = entities(view, 1000, 4).expect("entities");
        assert_eq!(all.iter().map(Vec::len).sum::<usize>(), 1000);
        assert!(all.iter().all(|of_one| of_one.len() > 150), "evenly");
    }
}
