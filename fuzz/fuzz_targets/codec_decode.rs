//! Any bytes as a stored payload: decoding and reading fields never panic, and never give more than a payload may have.
#![no_main]

use forebay_fuzz::PATHS;
use forebay_storage::codec::{Coding, decode, field};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((learned, stored)) = forebay_fuzz::pick(input) else { return };
    for coding in [Coding::Raw, Coding::Zstd, Coding::Shape] {
        let mut out = b"before".to_vec();
        let done = decode(&learned.generation, coding, stored, &mut out);
        assert!(out.starts_with(b"before"));
        assert!(done.is_ok() || out.len() == 6);
    }
    for binding in &learned.bindings {
        for path in 0..=PATHS.len() {
            let mut out = b"before".to_vec();
            let found = field(&learned.generation, binding, stored, path, &mut out).map(<[u8]>::len);
            assert!(out.starts_with(b"before"));
            assert_eq!(out.len() - 6, found.unwrap_or(0));
        }
    }
});
