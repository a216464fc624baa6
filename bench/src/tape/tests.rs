//! Tapes written and read back, whole, cut and damaged.

use std::path::Path;

use super::*;

fn description() -> Description {
    let topic = |name: &str, partitions| Topic { name: name.into(), partitions };
    Description { recorded_ms: 1_800_000_000_000, topics: vec![topic("a", 2), topic("b", 1)] }
}

/// Every kind of null and empty, and payloads that do not compress to nothing.
fn records(count: usize) -> Vec<Record> {
    let noise =
        |n: usize| -> Vec<u8> { (0..n % 900).map(|i| ((i * i * 31 + n * 7919) >> 3) as u8).collect() };
    let record = |n: usize| Record {
        topic: n % 2,
        partition: (n % 4 / 2 * (1 - n % 2)) as u32,
        offset: n as i64 * 3,
        timestamp_ms: if n.is_multiple_of(13) { -1 } else { 1_800_000_000_000 + n as i64 },
        key: [None, Some(Bytes::new()), Some(Bytes::from(format!("entity-{n}")))][n % 3].clone(),
        headers: match n % 5 {
            0 => vec![("trace".into(), Some(Bytes::from_static(b"\x00\xff"))), ("none".into(), None)],
            1 => vec![(String::new(), Some(Bytes::new())), ("trace".into(), None), ("trace".into(), None)],
            _ => Vec::new(),
        },
        payload: (!n.is_multiple_of(7)).then(|| Bytes::from(noise(n))),
    };
    (0..count).map(record).collect()
}

fn write(path: &Path, records: &[Record]) -> write::Written {
    let mut writer = Writer::create(path, &description()).expect("created");
    records.iter().for_each(|record| writer.push(record).expect("written"));
    writer.finish().expect("finished")
}

/// Every record up to the end or the first error, and that.
fn read(path: &Path) -> (Vec<Record>, Option<TapeError>) {
    let mut tape = match Tape::open(path) {
        Ok(tape) => tape,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut found = Vec::new();
    let error = loop {
        match tape.next() {
            Some(Ok(record)) => found.push(record),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(tape.next().is_none(), "nothing follows the end or an error");
    (found, error)
}

#[test]
fn a_tape_gives_back_what_was_recorded() {
    let room = tempfile::tempdir().expect("a folder");
    for count in [0, 1, 20_000] {
        let path = room.path().join(format!("{count}.tape"));
        let records = records(count);
        let written = write(&path, &records);
        assert_eq!(written.records, count as u64);
        assert_eq!(written.bytes, std::fs::metadata(&path).expect("there").len());
        let tape = Tape::open(&path).expect("opened");
        assert_eq!(tape.topics(), description().topics);
        let (found, error) = read(&path);
        assert!(error.is_none(), "{error:?}");
        assert!(found == records, "{count} records come back as they were");
    }
}

#[test]
fn a_tape_is_never_written_over() {
    let room = tempfile::tempdir().expect("a folder");
    let path = room.path().join("day.tape");
    write(&path, &records(3));
    let error = Writer::create(&path, &description()).err().expect("refused").to_string();
    assert!(error.contains("day.tape"), "{error}");
    assert_eq!(read(&path).0.len(), 3);
}

#[test]
fn a_cut_tape_says_where_and_gives_what_is_before() {
    let room = tempfile::tempdir().expect("a folder");
    let (whole, cut) = (room.path().join("whole.tape"), room.path().join("cut.tape"));
    let records = records(8000);
    write(&whole, &records);
    let bytes = std::fs::read(&whole).expect("readable");
    let second = place_of(&bytes, BLOCK, 1);
    let end = place_of(&bytes, END, 0);
    for (length, block) in
        [(second, 1), (second + 9, 1), (second + 5000, 1), (end + 3, u64::MAX), (bytes.len() - 1, u64::MAX)]
    {
        std::fs::write(&cut, &bytes[..length]).expect("written");
        let (found, error) = read(&cut);
        let Some(TapeError::Cut { at, .. }) = &error else { panic!("at {length}: {error:?}") };
        assert!(block == u64::MAX || at.block == block, "at {length}: {error:?}");
        assert_eq!(at.records, found.len() as u64, "all records before it are given");
        assert!(found == records[..found.len()] && !found.is_empty());
        let said = error.expect("an error").to_string();
        assert!(said.contains("cut.tape is cut in block"), "{said}");
    }
    std::fs::write(&cut, &bytes[..20]).expect("written");
    assert!(matches!(read(&cut).1, Some(TapeError::NoTape { .. })));
}

#[test]
fn every_damaged_byte_is_noticed() {
    let room = tempfile::tempdir().expect("a folder");
    let (whole, damaged) = (room.path().join("whole.tape"), room.path().join("damaged.tape"));
    let records = records(40);
    write(&whole, &records);
    let bytes = std::fs::read(&whole).expect("readable");
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        std::fs::write(&damaged, &other).expect("written");
        let (found, error) = read(&damaged);
        assert!(error.is_some(), "byte {at}");
        assert!(found.is_empty() || found == records, "byte {at}: no record is another one");
    }
}

#[test]
fn damage_names_the_block_and_a_missing_block_is_noticed() {
    let room = tempfile::tempdir().expect("a folder");
    let (whole, other) = (room.path().join("whole.tape"), room.path().join("other.tape"));
    write(&whole, &records(8000));
    let bytes = std::fs::read(&whole).expect("readable");
    let (second, third) = (place_of(&bytes, BLOCK, 1), place_of(&bytes, BLOCK, 2));
    let mut damaged = bytes.clone();
    damaged[second + 100] ^= 1;
    std::fs::write(&other, &damaged).expect("written");
    let Some(TapeError::Damaged { at, .. }) = read(&other).1 else { panic!("damaged") };
    assert_eq!((at.block, at.byte), (1, second as u64));
    let missing = [&bytes[..second], &bytes[third..]].concat();
    std::fs::write(&other, missing).expect("written");
    assert!(matches!(read(&other).1, Some(TapeError::Damaged { at, .. }) if at.block == 1));
}

#[test]
fn other_files_are_no_tapes() {
    let room = tempfile::tempdir().expect("a folder");
    let path = room.path().join("x");
    for text in ["", "{\"scenario\": \"ingest\"}", "FBAYTAPE\x09\0\0\0\0\0\0\0 and so on"] {
        std::fs::write(&path, text).expect("written");
        assert!(matches!(read(&path).1, Some(TapeError::NoTape { .. })), "{text}");
    }
    let missing = Tape::open(&room.path().join("missing")).err().expect("an error");
    assert!(matches!(missing, TapeError::File { .. }));
}

/// Where the mark is for the n-th time.
fn place_of(bytes: &[u8], mark: &[u8], n: usize) -> usize {
    let places = bytes.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark);
    places.map(|(at, _)| at).nth(n).expect("the mark is there")
}
