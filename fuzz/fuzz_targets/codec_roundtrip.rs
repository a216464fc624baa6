//! Any bytes, and any bytes put over a payload that fits: what is encoded comes back, and what is called valid is a JSON
//! object for serde_json too, each of its scalars a scalar.
#![no_main]

use forebay_storage::codec::{Encoder, Generation, decode, encode};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    let Some((learned, rest)) = forebay_fuzz::pick(input) else { return };
    check(&learned.generation, rest);
    if let [high, low, patch @ ..] = rest {
        let mut changed = learned.payload.clone();
        let at = usize::from(u16::from_le_bytes([*low, *high])) % changed.len();
        let end = changed.len().min(at + patch.len() / 2);
        changed.splice(at..end, patch.iter().copied());
        check(&learned.generation, &changed);
    }
});

fn check(generation: &Generation, payload: &[u8]) {
    let (mut encoder, mut stored, mut back) = (Encoder::new(), Vec::new(), Vec::new());
    let encoded = encode(generation, payload, &mut encoder, &mut stored);
    decode(generation, encoded.coding, &stored, &mut back).expect("what was encoded decodes");
    assert!(back == payload && stored.len() <= payload.len());
    if encoded.valid {
        let object: &RawValue = serde_json::from_slice(payload).expect("valid JSON");
        assert!(object.get().starts_with('{'));
        for (start, end) in encoder.scalars() {
            let _: &RawValue =
                serde_json::from_slice(&payload[*start as usize..*end as usize]).expect("a scalar");
        }
    }
}
