//! Writes a tape, block after block. Knows nothing of where records come from.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
use zstd::bulk::Compressor;

use super::{BLOCK, BLOCK_HEAD, Description, END, MAGIC, MOST_BYTES, Record, TapeError, VERSION};

/// Bytes of records after which a block is closed: enough to compress well, little to lose by damage.
const BLOCK_BYTES: usize = 1 << 20;
const LEVEL: i32 = 3;

/// A tape being written. Without [`Writer::finish`] it is cut, which whoever reads it is told.
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    compressor: Compressor<'static>,
    /// Records of the block being filled.
    pending: Vec<u8>,
    pending_records: u32,
    blocks: u64,
    records: u64,
    bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Size of the file, bytes.
    pub bytes: u64,
}

impl Writer {
    /// Begins a tape in a new file; one that exists is not replaced.
    pub fn create(path: &Path, description: &Description) -> Result<Writer, TapeError> {
        let begin = || -> std::io::Result<_> {
            let file = BufWriter::new(File::create_new(path)?);
            Ok((file, Compressor::new(LEVEL)?, serde_json::to_vec(description)?))
        };
        let (file, compressor, description) =
            begin().map_err(|error| TapeError::File { path: path.into(), error })?;
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((description.len() as u32).to_le_bytes());
        head.extend(description);
        head.extend(xxh3_64(&head).to_le_bytes());
        let (pending, path) = (Vec::with_capacity(BLOCK_BYTES * 2), path.to_owned());
        let mut writer =
            Writer { path, file, compressor, pending, pending_records: 0, blocks: 0, records: 0, bytes: 0 };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record) -> Result<(), TapeError> {
        if record.size() as usize >= MOST_BYTES / 2 {
            return Err(self
                .failed(std::io::Error::other(format!("a record of {} bytes is too large", record.size()))));
        }
        record.encode(&mut self.pending);
        self.pending_records += 1;
        if self.pending.len() >= BLOCK_BYTES {
            self.close_block()?;
        }
        Ok(())
    }

    /// Ends the tape; it is in the file system when this returns.
    pub fn finish(mut self) -> Result<Written, TapeError> {
        if self.pending_records > 0 {
            self.close_block()?;
        }
        let mut end = END.to_vec();
        end.extend(self.records.to_le_bytes());
        end.extend(xxh3_64_with_seed(&end, self.blocks).to_le_bytes());
        self.put(&end)?;
        self.file.flush().map_err(|error| self.failed(error))?;
        Ok(Written { records: self.records, bytes: self.bytes })
    }

    fn close_block(&mut self) -> Result<(), TapeError> {
        let stored = self.compressor.compress(&self.pending).map_err(|error| self.failed(error))?;
        let mut block = Vec::with_capacity(BLOCK_HEAD + stored.len() + 8);
        block.extend(BLOCK);
        block.extend((stored.len() as u32).to_le_bytes());
        block.extend((self.pending.len() as u32).to_le_bytes());
        block.extend(self.pending_records.to_le_bytes());
        block.extend(stored);
        block.extend(xxh3_64_with_seed(&block, self.blocks).to_le_bytes());
        self.put(&block)?;
        self.blocks += 1;
        self.records += u64::from(self.pending_records);
        self.pending.clear();
        self.pending_records = 0;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TapeError> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> TapeError {
        TapeError::File { path: self.path.clone(), error }
    }
}
