//! Opens the directories of a shard: those that CLASSES names must all be there, those that the views want and it does
//! not name are begun. Run on the opening thread; may take as long as recovery does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use forebay_storage::{OpenError, Options, ShardIdentity, ShardReader, ShardWriter, SyncGroup, WriteError};

use super::layout::{FILE, Layout, LayoutError};
use super::readers::Readers;
use super::writers::Writers;

/// The engine's marker of a directory of its own.
const MANIFEST: &str = "MANIFEST";

/// A shard's files, to be opened.
#[derive(Debug)]
pub struct Directories<'s> {
    /// The shard's own directory.
    pub dir: PathBuf,
    /// What the shard is, with all its views.
    pub identity: ShardIdentity,
    /// Of every class.
    pub options: Options,
    /// Syncs the lane's shards.
    pub sync: &'s SyncGroup,
}

/// Why a shard's files were not opened.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The engine refused one of its directories.
    #[error(transparent)]
    Engine(#[from] OpenError),
    /// CLASSES cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A class that was begun is not there any more.
    #[error(
        "{path}: the files of class {class} are gone: {FILE} names it; restore the directory, or rebuild the shard in an \
         empty one"
    )]
    Missing {
        /// Where they were.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A class could not be begun.
    #[error("{path}: {error}")]
    Begin {
        /// Its directory.
        path: PathBuf,
        /// Why.
        error: WriteError,
    },
}

impl FilesError {
    /// Whether trying again may help: another process has the directory, or the system refuses for now.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            FilesError::Engine(OpenError::Locked { .. } | OpenError::Io { .. })
                | FilesError::Layout(LayoutError::Io { .. })
                | FilesError::Begin { .. }
        )
    }
}

/// One class's two ends.
type Opened = (ShardWriter, ShardReader);

/// Opens a shard, or begins one in an empty or missing directory.
///
/// # Errors
/// Each says what is wrong and what helps.
pub fn open(files: &Directories<'_>) -> Result<Writers, FilesError> {
    let views = &files.identity.views;
    let mut layout = match Layout::load(&files.dir)? {
        Some(stored) => stored,
        None if !is_begun(&files.dir) => Layout::begin(views),
        None => undivided(files)?,
    };
    let begun = layout.begun();
    layout.take_in(views);
    let mut opened = Vec::new();
    for (number, class) in layout.classes().iter().enumerate() {
        let dir = class_dir(&files.dir, number, class);
        if number >= begun {
            // What an opening that was cut off has left; named before it is made, so that nothing is left unnamed.
            layout.store(&files.dir)?;
            clear(&dir)?;
        } else if number > 0 && !is_begun(&dir) {
            return Err(FilesError::Missing { path: dir, class: class.clone() });
        }
        let identity = ShardIdentity { views: layout.of_class(number, views), ..files.identity.clone() };
        opened.push(forebay_storage::open(&dir, &identity, &files.options, files.sync)?);
    }
    bring_up(&mut opened, begun, files)?;
    layout.note_begun();
    let topics: Vec<&str> = files.identity.topics.iter().map(|topic| topic.name.as_str()).collect();
    let (writers, readers) = opened.into_iter().unzip();
    let readers = Readers::new(readers, &topics, layout.clone());
    let mut writers = Writers::new(files.dir.clone(), writers, &topics, layout, readers);
    writers.note_layout()?;
    Ok(writers)
}

/// The directories of the engine that a shard's directory has, itself first; of anything else, itself.
pub fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut classes: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_begun(path)).collect();
    classes.sort();
    classes.insert(0, path.to_owned());
    classes
}

fn is_begun(dir: &Path) -> bool {
    dir.join(MANIFEST).exists()
}

/// A shard that has files and no CLASSES is one from before there were classes, unless a class's directory is there.
fn undivided(files: &Directories<'_>) -> Result<Layout, FilesError> {
    let failed = |error| LayoutError::Io { path: files.dir.display().to_string(), error };
    for entry in fs::read_dir(&files.dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_begun(&path) {
            let (path, detail) =
                (files.dir.join(FILE).display().to_string(), "the file is missing".to_owned());
            return Err(LayoutError::Damaged { path, detail }.into());
        }
    }
    Ok(Layout::undivided(&files.identity.views))
}

fn class_dir(shard: &Path, number: usize, class: &str) -> PathBuf {
    if number == 0 { shard.to_owned() } else { shard.join(class) }
}

fn clear(dir: &Path) -> Result<(), LayoutError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LayoutError::Io { path: dir.display().to_string(), error })
        }
        _ => Ok(()),
    }
}

/// Brings classes that begin to where the others are, for good: they hold nothing of what came before. Only then are
/// they begun.
fn bring_up(opened: &mut [Opened], begun: usize, files: &Directories<'_>) -> Result<(), FilesError> {
    let (old, new) = opened.split_at_mut(begun);
    for (writer, _) in new {
        let failed = |error| FilesError::Begin { path: files.dir.clone(), error };
        for topic in &files.identity.topics {
            let at = |writer: &ShardWriter| {
                let index = writer.topic(&topic.name)?;
                Some((writer.position(index)?, writer.ingest_time_ms(index)))
            };
            let lowest = old.iter().map(|(writer, _)| at(writer)).min().flatten();
            if let (Some((offset, ingest_time_ms)), Some(index)) = (lowest, writer.topic(&topic.name)) {
                writer.skip(index, offset, ingest_time_ms).map_err(failed)?;
            }
        }
        writer.commit().map_err(failed)?;
        writer.sync_now().map_err(failed)?;
    }
    Ok(())
}
