//! Random JSON comes back whatever is done to it, and no damage to stored bytes or generations makes a panic.

use proptest::prelude::*;

use super::*;

#[test]
fn a_damaged_generation_is_refused() {
    let bytes = train(3, &views(50)[1]).to_bytes();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        assert!(Generation::from_bytes(&damaged).is_err());
        assert!(Generation::from_bytes(&bytes[..place]).is_err());
    }
}

fn mutate(bytes: &mut Vec<u8>, changes: &[(u16, u8, u8)]) {
    for (place, byte, how) in changes {
        let place = usize::from(*place) % (bytes.len() + 1);
        match how % 4 {
            0 => bytes.insert(place, *byte),
            1 if place < bytes.len() => bytes[place] = *byte,
            2 if place < bytes.len() => drop(bytes.remove(place)),
            _ => bytes.truncate(bytes.len().max(8) - usize::from(*how % 8).min(bytes.len())),
        }
    }
}

fn changes(most: usize) -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    prop::collection::vec(
        (any::<u16>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'0'), Just(b',')], any::<u8>()),
        0..most,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_json_comes_back(seed: u64, changes in changes(4)) {
        let mut payloads = random_payloads(seed, 30);
        let generation = train(1, &payloads[..20]);
        let mut encoder = Encoder::new();
        for payload in &mut payloads {
            round_trip(&generation, payload, &mut encoder);
            mutate(payload, &changes);
            round_trip(&generation, payload, &mut encoder);
        }
    }

    #[test]
    fn any_bytes_come_back(payload in prop::collection::vec(any::<u8>(), 0..300), seed: u64) {
        let generation = train(1, &random_payloads(seed, 3));
        round_trip(&generation, &payload, &mut Encoder::new());
    }

    #[test]
    fn paths_in_any_json_are_found(seed: u64) {
        let payloads = random_payloads(seed, 20);
        let generation = train(1, &payloads[..15]);
        let mut encoder = Encoder::new();
        let paths = paths(&["a", "b", "a/a", "a/b", "c", "c/a", "c/b/a", "a/c/b", "long.name.Record/a", "d\n"]);
        for payload in &payloads {
            check_paths(&generation, payload, &paths, &mut encoder);
        }
    }

    #[test]
    fn damaged_stored_bytes_never_panic(view in 0usize..6, coding in 0usize..3, changes in changes(6), bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        thread_local! {
            static GENERATIONS: Vec<(Generation, Vec<Vec<u8>>)> =
                views(60).into_iter().map(|payloads| (train(1, &payloads), payloads)).collect();
        }
        GENERATIONS.with(|generations| {
            let (generation, payloads) = &generations[view];
            let coding = [Coding::Shape, Coding::Zstd, Coding::Raw][coding];
            let mut damaged = stored(generation, &payloads[changes.len()], &mut Encoder::new()).1;
            mutate(&mut damaged, &changes);
            let binding = generation.bind(&paths(&["ts", "radio", "header/event_time", "note", "upstream"]), true);
            for stored in [damaged, bytes] {
                let _ = decode(generation, coding, &stored, &mut Vec::new());
                for path in 0..6 {
                    field(generation, &binding, &stored, path, &mut Vec::new());
                }
                let mut told = 0;
                fields(generation, &binding, &stored, 0..6, &mut Vec::new(), |_| told += 1);
                assert_eq!(told, 6, "every path is told something");
            }
        });
    }

    #[test]
    fn damaged_generations_with_a_right_checksum_never_panic(view in 0usize..6, changes in changes(4)) {
        thread_local! {
            static FILES: Vec<Vec<u8>> = views(40).iter().map(|payloads| train(1, payloads).to_bytes()).collect();
        }
        let payloads = &views(1)[view];
        let mut bytes = FILES.with(|files| files[view].clone());
        bytes.truncate(bytes.len() - 8);
        mutate(&mut bytes, &changes);
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        if let Ok(generation) = Generation::from_bytes(&bytes) {
            round_trip(&generation, &payloads[0], &mut Encoder::new());
        }
    }
}
