//! System calls on the files of a shard, and the one place where tests make them fail. Knows nothing of formats.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, FlockOperation, RenameFlags, SeekFrom};

use crate::planted;

/// Creates a file of zeros of a given size that cannot run out of disk later. One that is there is unlinked, not cut
/// short: somebody may have it mapped.
pub(crate) fn create(path: &Path, bytes: u64) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    allocate(&file, bytes)?;
    Ok(file)
}

/// Gives a file all its disk space now, zeros where it had nothing.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => zero(file, file.metadata()?.len(), bytes),
        Err(error) => Err(error.into()),
    }
}

/// Writes zeros to a range.
pub(crate) fn zero(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    while from < to {
        let bytes = zeros.len().min((to - from) as usize);
        file.write_all_at(&zeros[..bytes], from)?;
        from += bytes as u64;
    }
    Ok(())
}

/// The parts of a range that were written to. Where the file system cannot say, the whole range.
pub(crate) fn written_ranges(file: &File, from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = from;
    while at < to {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(to).min(to);
        if start >= end {
            break;
        }
        ranges.push((start, end));
        at = end;
    }
    ranges
}

/// Puts a whole file in the place of the one with its name, so that a crash leaves the old one or the new one. If it
/// fails for something that was used up, the old one is there; after any other failure it may be either.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Opened first, so that nothing can be used up once the new file has the name.
    let handle = File::open(dir)?;
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    if !planted::skips_manifest_sync() {
        file.sync_all()?;
    }
    fs::rename(&temporary, dir.join(name))?;
    if planted::skips_dir_sync() {
        return Ok(());
    }
    handle.sync_all().map_err(|error| io::Error::other(format!("sync of the directory: {error}")))
}

/// How names of files end that are not complete yet.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Puts a whole new file under a name that nothing has yet, so that a crash leaves all of it or nothing. Whoever else
/// tries the same name at the same time fails.
pub(crate) fn create_whole(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}-{}{TEMPORARY}", uuid::Uuid::new_v4().simple()));
    let written = write_new(&temporary, bytes).and_then(|()| {
        let to = dir.join(name);
        rustix::fs::renameat_with(CWD, &temporary, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
    });
    if written.is_err() {
        // It may not have come to be; if it stays, the next opening removes it.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_dir(dir))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes creations, renames and removals in a directory last.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Name of a file that has a number: at least six digits, then the suffix of its kind.
pub(crate) fn numbered(number: u32, suffix: &str) -> String {
    format!("{number:06}{suffix}")
}

/// The number a file name stands for, if it is one of the suffix's kind; no file has the number 0.
pub(crate) fn number_of(name: &str, suffix: &str) -> Option<u32> {
    let number = name.strip_suffix(suffix)?.parse().ok().filter(|number| *number > 0)?;
    (name == numbered(number, suffix)).then_some(number)
}

/// Numbers of the files of a directory that have one, of the suffix's kind, ascending.
pub(crate) fn numbers(dir: &Path, suffix: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(number_of(&entry?.file_name().to_string_lossy(), suffix));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What names a file or directory wherever it is moved to: device and inode.
pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Takes a lock that ends with the file's last handle; `false` if somebody else has it.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error says that something is used up that may come back: the disk or one's share of it, descriptors,
/// mappings, memory.
pub(crate) fn is_used_up(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    matches!(error.kind(), StorageFull | QuotaExceeded)
        || error.raw_os_error().is_some_and(|code| short.iter().any(|errno| errno.raw_os_error() == code))
}

/// Failures that tests of this crate order for one shard. Outside of them it is empty and costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    orders: std::sync::atomic::AtomicU8,
    #[cfg(test)]
    syncs: std::sync::atomic::AtomicU64,
}

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Write = 1,
    Sync = 2,
    Allocate = 4,
}

impl Faults {
    /// The failure ordered for an operation, if any.
    #[cfg(test)]
    pub fn check(&self, operation: Operation) -> io::Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        if matches!(operation, Operation::Sync) {
            self.syncs.fetch_add(1, SeqCst);
        }
        match (self.orders.load(SeqCst) & operation as u8 != 0, operation) {
            (false, _) => Ok(()),
            (true, Operation::Allocate) => Err(rustix::io::Errno::NOSPC.into()),
            (true, _) => Err(rustix::io::Errno::IO.into()),
        }
    }

    /// No failure is ordered outside of tests.
    #[cfg(not(test))]
    #[inline]
    pub fn check(&self, _operation: Operation) -> io::Result<()> {
        Ok(())
    }

    /// Orders an operation to fail from now on, or to work again.
    #[cfg(test)]
    pub fn order(&self, operation: Operation, fail: bool) {
        use std::sync::atomic::Ordering::SeqCst;
        match fail {
            true => self.orders.fetch_or(operation as u8, SeqCst),
            false => self.orders.fetch_and(!(operation as u8), SeqCst),
        };
    }

    /// How often a sync was tried.
    #[cfg(test)]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(std::sync::atomic::Ordering::SeqCst)
    }
}
