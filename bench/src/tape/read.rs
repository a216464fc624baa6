//! Reads a tape: every record up to the end, or up to the first block that is cut or damaged. Knows nothing of Kafka.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
use zstd::bulk::Decompressor;

use super::{
    BLOCK, BLOCK_HEAD, Description, END, MAGIC, MOST_BYTES, Place, Record, TapeError, Topic, VERSION,
};

/// A tape that is open, and an iterator over its records. After an error there is nothing more.
pub struct Tape {
    path: PathBuf,
    file: BufReader<File>,
    decompressor: Decompressor<'static>,
    description: Description,
    /// Bytes of the file.
    size: u64,
    /// Bytes of it that were read.
    read: u64,
    /// Number and first byte of the block being read.
    block: u64,
    block_at: u64,
    /// How many records it has, once it is unpacked.
    block_records: Option<u32>,
    /// Records in the blocks before it.
    records: u64,
    /// Records of the block that were not given yet, and how many.
    pending: Bytes,
    pending_records: u32,
    ended: bool,
}

impl Tape {
    /// Opens a tape and reads its description.
    pub fn open(path: &Path) -> Result<Tape, TapeError> {
        let open = || -> std::io::Result<_> {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok((BufReader::with_capacity(1 << 20, file), size, Decompressor::new()?))
        };
        let (file, size, decompressor) =
            open().map_err(|error| TapeError::File { path: path.into(), error })?;
        let description = Description { recorded_ms: 0, topics: Vec::new() };
        let mut tape = Tape {
            path: path.into(),
            file,
            decompressor,
            description,
            size,
            read: 0,
            block: 0,
            block_at: 0,
            block_records: None,
            records: 0,
            pending: Bytes::new(),
            pending_records: 0,
            ended: false,
        };
        tape.description = tape.head()?;
        Ok(tape)
    }

    /// The topics, by the numbers in the records.
    pub fn topics(&self) -> &[Topic] {
        &self.description.topics
    }

    fn head(&mut self) -> Result<Description, TapeError> {
        let no_tape =
            |tape: &Tape, what: &str| TapeError::NoTape { path: tape.path.clone(), what: what.into() };
        let short = |tape: &Tape| no_tape(tape, "it ends before its description does");
        let mut head = vec![0; MAGIC.len() + 8];
        if self.size < head.len() as u64 {
            return Err(no_tape(self, &format!("it has {} bytes", self.size)));
        }
        self.fill(&mut head)?;
        if &head[..MAGIC.len()] != MAGIC {
            return Err(no_tape(
                self,
                "it does not begin as a tape does, which `forebay-bench record` writes",
            ));
        }
        let (version, length) = (number(&head, 8), number(&head, 12) as usize);
        if version != VERSION {
            let what =
                format!("version {version} is not known here, only {VERSION}; it is another release's");
            return Err(no_tape(self, &what));
        }
        if (length + 8) as u64 > self.size - self.read {
            return Err(short(self));
        }
        let mut rest = vec![0; length + 8];
        self.fill(&mut rest)?;
        head.extend(rest);
        let (said, sum) = split_sum(&head);
        if xxh3_64(said) != sum {
            return Err(no_tape(self, "its description is damaged: the checksum is another"));
        }
        serde_json::from_slice(&said[16..])
            .map_err(|error| no_tape(self, &format!("its description: {error}")))
    }

    /// Reads the next block or the end.
    fn advance(&mut self) -> Result<(), TapeError> {
        if let Some(records) = self.block_records.take() {
            self.block += 1;
            self.records += u64::from(records);
        }
        self.block_at = self.read;
        let mut block = self.take(END.len())?;
        match <&[u8; 4]>::try_from(block.as_slice()) {
            Ok(BLOCK) => {}
            Ok(END) => return self.end(block),
            _ => return Err(self.damaged("neither a block nor the end begins here")),
        }
        block.extend(self.take(BLOCK_HEAD - END.len())?);
        let (stored, raw, records) =
            (number(&block, 4) as usize, number(&block, 8) as usize, number(&block, 12));
        if stored.max(raw) > MOST_BYTES {
            return Err(self.damaged("it claims to be larger than a block can be"));
        }
        block.extend(self.take(stored + 8)?);
        let (said, sum) = split_sum(&block);
        if xxh3_64_with_seed(said, self.block) != sum {
            return Err(self.damaged("the checksum is another"));
        }
        let unpacked = self.decompressor.decompress(&said[BLOCK_HEAD..], raw);
        let unpacked = unpacked.ok().filter(|bytes| bytes.len() == raw);
        self.pending = unpacked.ok_or_else(|| self.damaged("its records cannot be unpacked"))?.into();
        (self.pending_records, self.block_records) = (records, Some(records));
        Ok(())
    }

    fn end(&mut self, mut end: Vec<u8>) -> Result<(), TapeError> {
        end.extend(self.take(16)?);
        let (said, sum) = split_sum(&end);
        if xxh3_64_with_seed(said, self.block) != sum || said[4..] != self.records.to_le_bytes() {
            return Err(self.damaged("the end says that there were other blocks and records"));
        }
        if self.read < self.size {
            return Err(self.damaged(&format!("{} bytes follow the end", self.size - self.read)));
        }
        self.ended = true;
        Ok(())
    }

    /// The next record of the block; there is one.
    fn record(&mut self) -> Result<Record, TapeError> {
        let record = Record::decode(&mut self.pending);
        let record = record.filter(|record| record.topic < self.description.topics.len());
        let record = record.ok_or_else(|| self.damaged("a record in it cannot be read"))?;
        self.pending_records -= 1;
        Ok(record)
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>, TapeError> {
        let left = self.size - self.read;
        if left < bytes as u64 {
            return Err(TapeError::Cut { at: self.place(), needed: bytes as u64, left });
        }
        let mut taken = vec![0; bytes];
        self.fill(&mut taken)?;
        Ok(taken)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), TapeError> {
        self.file.read_exact(into).map_err(|error| TapeError::File { path: self.path.clone(), error })?;
        self.read += into.len() as u64;
        Ok(())
    }

    fn damaged(&self, what: &str) -> TapeError {
        TapeError::Damaged { at: self.place(), what: what.into() }
    }

    fn place(&self) -> Place {
        Place { path: self.path.clone(), block: self.block, byte: self.block_at, records: self.records }
    }

    fn step(&mut self) -> Result<Option<Record>, TapeError> {
        while self.pending_records == 0 && !self.ended {
            self.advance()?;
        }
        if self.ended { Ok(None) } else { self.record().map(Some) }
    }
}

impl Iterator for Tape {
    type Item = Result<Record, TapeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            (self.ended, self.pending_records) = (true, 0);
        }
        step.transpose()
    }
}

/// The number at a place; the bytes are there.
fn number(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// Bytes and the checksum behind them.
fn split_sum(bytes: &[u8]) -> (&[u8], u64) {
    let (said, sum) = bytes.split_at(bytes.len() - 8);
    let mut number = [0; 8];
    number.copy_from_slice(sum);
    (said, u64::from_le_bytes(number))
}
