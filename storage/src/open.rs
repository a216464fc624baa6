//! Opens a shard directory: is it one, is it ours, is it the one asked for, and what does its log say. Looks first and
//! changes after: a directory that is refused is left as it was.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::budget::DiskUse;
use crate::coding::{self, Codecs, Coder, Owner};
use crate::disk;
use crate::error::OpenError;
use crate::log::segment;
use crate::manifest::{self, Manifest};
use crate::read::ShardReader;
use crate::record::Location;
use crate::recover;
use crate::residency::Residency;
use crate::shard::Shard;
use crate::sync::SyncGroup;
use crate::types::{Options, ShardIdentity};
use crate::write::ShardWriter;

const LOCK: &str = "LOCK";

/// Opens the shard of a directory, or begins one in an empty or missing directory. Reads the log's tail, and all of it
/// where footers are missing; nothing is visible before it is done.
///
/// # Errors
/// Each says what is wrong and what helps; the directory is left as it was.
pub fn open(
    dir: &Path,
    identity: &ShardIdentity,
    options: &Options,
    sync: &SyncGroup,
) -> Result<(ShardWriter, ShardReader), OpenError> {
    fs::create_dir_all(dir).map_err(OpenError::io(dir))?;
    let new = is_new(dir)?;
    let locks = lock(dir)?;
    let stored = if new && is_new(dir)? { None } else { Some(Manifest::load(dir)?) };
    let mut manifest = stored.clone().unwrap_or_else(|| Manifest::new(identity));
    manifest.adopt(dir, identity)?;
    let stored_topics = stored.as_ref().map_or(0, |stored| stored.topics.len());
    let recovered = recover::read(dir, &manifest, stored_topics)?;
    let recovered = recovered.repair(dir, &mut manifest)?;
    if stored.as_ref() != Some(&manifest) {
        manifest.store(dir).map_err(OpenError::io(&dir.join(manifest::NAME)))?;
    }
    coding::clear(dir);
    let loaded = Codecs::load(dir, Owner { shard: manifest.shard.into_bytes(), stream: 0 }, sync.library())?;
    let coder = Coder::new(&loaded, manifest.last_codec, options.codec_samples);
    let recover::Repaired { index, segments, active, last, report } = recovered;
    let end =
        active.as_ref().map_or(Location::NONE, |active| Location::new(active.segment.number, active.tail));
    let residency = Residency::new(options.resident_bytes, end);
    residency.settle(&segments);
    let disk = DiskUse::new(options.disk.clone(), &segments, coding::bytes(dir));
    let (path, codecs) = (dir.to_path_buf(), loaded.codecs);
    let shard = Shard::new(path, manifest, index, codecs, segments, &last, report, residency, disk);
    let shard = Arc::new(shard);
    let reader = ShardReader { shard: shard.clone() };
    let (options, sync) = (options.clone(), sync.clone());
    let views = &identity.views;
    let writer = ShardWriter::new(shard, options, active, last, coder, sync, locks, stored_topics, views);
    Ok((writer, reader))
}

/// Whether a directory has nothing yet. Something without a MANIFEST is not ours to touch.
fn is_new(dir: &Path) -> Result<bool, OpenError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io(dir))? {
        let name = entry.map_err(OpenError::io(dir))?.file_name();
        found.push(name.to_string_lossy().into_owned());
    }
    if found.iter().any(|name| name == manifest::NAME) {
        return Ok(false);
    }
    // What an opening that was cut off leaves, and what a new file system has.
    let nothing = [LOCK, "MANIFEST.tmp", "lost+found"];
    found.retain(|name| !nothing.contains(&name.as_str()));
    found.sort_by_cached_key(|name| (segment::number_of(name).is_none(), name.clone()));
    match found.into_iter().next() {
        None => Ok(true),
        Some(found) => Err(OpenError::Foreign { dir: dir.to_path_buf(), found }),
    }
}

/// Locks the file LOCK, for people and tools to see, and the directory itself, whose lock survives a cleaner that
/// removes old files.
fn lock(dir: &Path) -> Result<[File; 2], OpenError> {
    let path = dir.join(LOCK);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let locks = [file.map_err(OpenError::io(&path))?, File::open(dir).map_err(OpenError::io(dir))?];
    for lock in &locks {
        if !disk::lock(lock).map_err(OpenError::io(&path))? {
            return Err(OpenError::Locked { dir: dir.to_path_buf() });
        }
    }
    let same =
        fs::metadata(&path).is_ok_and(|now| locks[0].metadata().is_ok_and(|own| own.ino() == now.ino()));
    if same { Ok(locks) } else { Err(OpenError::Locked { dir: dir.to_path_buf() }) }
}
