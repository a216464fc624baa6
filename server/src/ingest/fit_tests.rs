//! What encoding finds out about a payload and what a scan finds out are the same: the same decision about every record of
//! the mix, whole or damaged, and the same cells of every field, before and after storing. Tests only.

use std::collections::HashMap;

use forebay_storage::codec::{Binding, Coding, Encoder, Generation, Limits, Ranges, Trainer, encode, field};

use super::*;
use crate::definitions::{Definitions, parse};
use crate::json::typed::cell;
use crate::mix::{self, Mix, MixRecord, Random, Shares};

const NOW_MS: i64 = 1_800_000_000_000;
const SAMPLES: usize = 200;
const PAYLOADS: usize = 300;

/// A view's payloads, and its generation.
struct Learned {
    view: Arc<View>,
    generation: Generation,
    binding: Binding,
    records: Vec<MixRecord>,
}

fn learn(definitions: &Definitions, shares: Shares) -> Vec<Learned> {
    let one = |view: &Arc<View>| {
        let mut good = Mix::new(5, 1000, Shares { bad: 0.0, ..shares }).only(|other| other.name == view.name);
        let mut trainer = Trainer::new(Limits::default());
        for _ in 0..SAMPLES {
            trainer.sample(good.next(NOW_MS).value.as_deref().unwrap_or_default());
        }
        let generation = trainer.train(1);
        let binding = generation.bind(view.stored.paths(), view.stored.looks_through_wrappers());
        let mut mix = Mix::new(6, 1000, shares).only(|other| other.name == view.name);
        let records = (0..PAYLOADS).map(|_| mix.next(NOW_MS).clone()).collect();
        Learned { view: view.clone(), generation, binding, records }
    };
    definitions.views.iter().map(one).collect()
}

/// Damages a payload somewhere: bytes lost, changed, doubled, or taken from another payload.
fn damage(payload: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(payload.len() as u64) as usize;
    let end = (at + random.below(12) as usize).min(payload.len());
    match random.below(6) {
        0 => drop(payload.drain(at..end)),
        1 => payload[at] = b"\"{}[],:0e-\\ntx\x00\xff"[random.below(16) as usize],
        2 => {
            let piece = payload[at..end].to_vec();
            drop(payload.splice(at..at, piece));
        }
        3 => payload.truncate(at),
        4 => payload.splice(at.., other[at.min(other.len())..].iter().copied()).for_each(drop),
        _ => payload.extend_from_slice(&other[..end.min(other.len())]),
    }
}

/// Decides with and without knowledge; both must be the same. Gives whether there was any.
fn assert_same_decision(
    learned: &Learned,
    definitions: &Definitions,
    record: &Record<'_>,
    encoder: &mut Encoder,
) -> bool {
    let views = [learned.view.clone()];
    let rules = Rules {
        lane: &definitions.lanes[learned.view.lane],
        views: &views,
        partitions: 8,
        ingest_time_ms: NOW_MS,
    };
    let mut slots = Slots::new();
    let scanned = decode(record, &rules, &mut slots, |_, _| Known::Nothing);
    let mut known = false;
    let decided = decode(record, &rules, &mut slots, |_, payload| {
        let encoded = encode(&learned.generation, payload, encoder, &mut Vec::new());
        known = encoded.valid;
        if !known {
            return Known::Nothing;
        }
        let mut ranges = Ranges::new();
        learned.binding.ranges(&learned.generation, encoder, &mut ranges);
        Known::Object { first: ranges.get(0).map(|(start, end)| &payload[start as usize..end as usize]) }
    });
    assert_eq!(decided, scanned, "{}", String::from_utf8_lossy(record.payload.unwrap_or_default()));
    known
}

#[test]
fn decisions_are_the_same_with_and_without_knowledge_of_the_payload() {
    let definitions = parse(&mix::definitions("")).expect("good definitions");
    let shares = Shares { bad: 0.2, ..Shares::default() };
    let (mut encoder, mut random) = (Encoder::new(), Random::new(3));
    let mut known: HashMap<(bool, bool), u32> = HashMap::new();
    for learned in learn(&definitions, shares) {
        for (index, mixed) in learned.records.iter().enumerate() {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                mixed.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value))).collect();
            let other = learned.records[index * 7 % PAYLOADS].value.clone().unwrap_or_default();
            let mut payload = mixed.value.clone();
            for round in 0..8 {
                let record = Record {
                    key: mixed.key.as_deref(),
                    payload: payload.as_deref(),
                    headers: &headers,
                    timestamp_ms: NOW_MS,
                    partition: 0,
                };
                let knew = assert_same_decision(&learned, &definitions, &record, &mut encoder);
                *known.entry((round > 0, knew)).or_default() += 1;
                match &mut payload {
                    Some(payload) if !payload.is_empty() => damage(payload, &other, &mut random),
                    _ => break,
                }
            }
        }
    }
    // Of the whole ones most fit, of the damaged ones both kinds are there.
    assert!(known[&(false, true)] > 2 * known[&(false, false)], "{known:?}");
    assert!(known[&(true, true)] > 500 && known[&(true, false)] > 500, "{known:?}");
}

#[test]
fn cells_are_the_same_from_a_scan_and_from_what_is_stored() {
    let definitions = parse(&mix::definitions("")).expect("good definitions");
    let none = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };
    let (mut encoder, mut slots, mut shaped) = (Encoder::new(), Slots::new(), 0);
    for Learned { view, generation, binding, records } in learn(&definitions, none) {
        for payload in records.iter().map(|record| record.value.as_deref().expect("a value")) {
            let mut stored = Vec::new();
            if encode(&generation, payload, &mut encoder, &mut stored).coding != Coding::Shape {
                continue;
            }
            shaped += 1;
            view.plan.scan(payload, &mut slots).expect("JSON");
            for declared in &view.fields {
                let mut out = Vec::new();
                let found = field(&generation, &binding, &stored, declared.slot, &mut out);
                let expected = slots.get(declared.slot, payload);
                assert_eq!(found, expected, "{}.{}", view.name, declared.name);
                let cells = [found, expected].map(|raw| cell(declared, view.avro_json, raw));
                assert_eq!(cells[0], cells[1]);
            }
        }
    }
    assert!(shaped * 10 > PAYLOADS * mix::VIEWS.len() * 9, "{shaped} stored by shape");
}
