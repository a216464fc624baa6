//! Any bytes as a stored payload: decoding and reading fields never panic, and never give more than a payload may have.
#![no_main]

use forebay_storage::codec::{Coding, decode, field};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((generation, _, stored)) = forebay_fuzz::pick(input) else { return };
    for coding in [Coding::Raw, Coding::Zstd, Coding::Shape] {
        let mut out = b"before".to_vec();
        let done = decode(generation, coding, stored, &mut out);
        assert!(out.starts_with(b"before"));
        assert!(done.is_ok() || out.len() == 6);
    }
    let paths =
        [["ts"].as_slice(), &["radio", "band"], &["probes"], &["top"], &["header", "event_time"], &["note"]];
    let paths: Vec<Vec<String>> =
        paths.iter().map(|path| path.iter().map(|name| (*name).to_owned()).collect()).collect();
    for avro in [false, true] {
        let binding = generation.bind(&paths, avro);
        for path in 0..=paths.len() {
            let mut out = b"before".to_vec();
            let found = field(generation, &binding, stored, path, &mut out).map(<[u8]>::len);
            assert!(out.starts_with(b"before"));
            assert_eq!(out.len() - 6, found.unwrap_or(0));
        }
    }
});
