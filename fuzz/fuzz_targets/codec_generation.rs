//! Any bytes as a generation file, also with a checksum that fits and in the middle of one that is whole: loading never
//! panics; what loads is written as it was read, and codes payloads so that they come back.
#![no_main]

use forebay_storage::codec::{Encoder, Generation, decode, encode};
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|input: &[u8]| {
    let Some((learned, rest)) = forebay_fuzz::pick(input) else { return };
    let payload = &learned.payload;
    let _ = Generation::from_bytes(rest);
    let mut header = b"FBCODEC\0".to_vec();
    header.extend_from_slice(&[1, 0, 0, 0, 7, 0, 0, 0]);
    check(&[&header, rest].concat(), payload);
    if let [high, low, patch @ ..] = rest {
        let mut changed = learned.generation.to_bytes();
        changed.truncate(changed.len() - 8);
        let at = 16 + usize::from(u16::from_le_bytes([*low, *high])) % (changed.len() - 16);
        let end = changed.len().min(at + patch.len() / 2);
        changed.splice(at..end, patch.iter().copied());
        check(&changed, payload);
    }
});

fn check(content: &[u8], payload: &[u8]) {
    let bytes = [content, &xxh3_64(content).to_le_bytes()].concat();
    let Ok(generation) = Generation::from_bytes(&bytes) else { return };
    let again = Generation::from_bytes(&generation.to_bytes()).expect("what was written loads");
    assert_eq!(again.to_bytes(), generation.to_bytes());
    let (mut encoder, mut stored, mut back) = (Encoder::new(), Vec::new(), Vec::new());
    let encoded = encode(&generation, payload, &mut encoder, &mut stored);
    decode(&generation, encoded.coding, &stored, &mut back).expect("what was encoded decodes");
    assert!(back == payload);
}
