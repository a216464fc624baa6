//! Whatever the files of a shard hold, opening it, reading it and showing it end in an answer or an error. Some of the
//! damage is sealed again with right checksums, so that it gets past them.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use forebay_fuzz::shard;
use libfuzzer_sys::fuzz_target;

/// A whole shard's files, made once.
fn whole() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(shard::files)
}

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, reseal], edits)) = data.split_first_chunk::<2>() else { return };
    let mut files = whole().to_vec();
    let at = usize::from(kind >> 1) % files.len();
    let bytes = &mut files[at].1;
    if kind & 1 == 0 {
        *bytes = edits.to_vec();
    } else {
        for edit in edits.chunks_exact(4) {
            let place = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize;
            let place = place % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(place) {
                *byte = edit[3];
            }
        }
    }
    if reseal & 1 == 1 {
        let name = files[at].0.clone();
        shard::reseal(&name, &mut files[at].1);
    }
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.expect("a directory");
    shard::write(dir.path(), &files);
    let _ = forebay_storage::inspect::dump(dir.path(), true, &mut std::io::sink());
    shard::read_all(dir.path());
});
