//! The files of a directory as a sequence of system calls leaves them: as the page cache has them at once, and as a disk
//! that loses its power might have them. Of a file, 512-byte sectors written since its last sync may be there or not,
//! each for itself; of a directory, names changed since its last sync may be as they were after any of the changes.
//! That is less than what file systems with a journal keep, so it is harder to survive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;

use super::strace::Call;

const SECTOR: usize = 512;
/// A kill may come between two pages of a long write.
const PAGE: usize = 4096;

/// A change of a file's content.
#[derive(Debug, Clone)]
enum Change {
    Bytes { at: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    /// What the disk has for sure, and what came since.
    synced: Vec<u8>,
    since: Vec<Change>,
    /// Where a plain write goes on.
    end: usize,
}

/// A change of names in a directory.
#[derive(Debug, Clone)]
enum Naming {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// All files below a directory.
#[derive(Debug, Clone, Default)]
pub struct Files {
    files: Vec<File>,
    names: BTreeMap<PathBuf, Node>,
    synced_names: BTreeMap<PathBuf, Node>,
    /// By directory, oldest first.
    namings: BTreeMap<PathBuf, Vec<Naming>>,
}

/// What a sync will make last: the changes there were when it began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begun(usize);

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Bytes { at, bytes } => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Change::Len(bytes) => to.resize(*bytes, 0),
        }
    }
}

impl Naming {
    fn apply(&self, to: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Naming::Add(path, node) => drop(to.insert(path.clone(), *node)),
            Naming::Remove(path) => drop(to.remove(path)),
            Naming::Move(from, path, node) => {
                to.remove(from);
                to.insert(path.clone(), *node);
            }
        }
    }
}

impl Files {
    fn file(&mut self, path: &Path) -> Option<&mut File> {
        match self.names.get(path) {
            Some(Node::File(at)) => self.files.get_mut(*at),
            _ => None,
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        // What goes to a file without a name is lost with it.
        let Some(file) = self.file(path) else { return };
        change.apply(&mut file.now);
        file.since.push(change);
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        let path = match &naming {
            Naming::Add(path, _) | Naming::Remove(path) | Naming::Move(_, path, _) => path,
        };
        let dir = path.parent().expect("below the shard's directory").to_path_buf();
        self.namings.entry(dir).or_default().push(naming);
    }

    /// Does what a call did. A sync makes last what there was when it began.
    pub fn apply(&mut self, call: &Call, begun: Begun) {
        match call {
            Call::Open { path, truncate } => match self.names.get(path) {
                None => {
                    self.files.push(File::default());
                    self.name(Naming::Add(path.clone(), Node::File(self.files.len() - 1)));
                }
                Some(_) if *truncate => {
                    self.change(path, Change::Len(0));
                    self.file(path).expect("a file").end = 0;
                }
                Some(_) => {}
            },
            Call::MakeDir(path) => self.name(Naming::Add(path.clone(), Node::Dir)),
            Call::Write { path, at, bytes } => {
                let at = at.map(|at| at as usize);
                let Some(file) = self.file(path) else { return };
                let from = at.unwrap_or(file.end);
                if at.is_none() {
                    file.end = from + bytes.len();
                }
                self.change(path, Change::Bytes { at: from, bytes: bytes.clone() });
            }
            Call::Allocate { path, end } => {
                let long = self.file(path).is_some_and(|file| file.now.len() >= *end as usize);
                if !long {
                    self.change(path, Change::Len(*end as usize));
                }
            }
            Call::SetLen { path, bytes } => self.change(path, Change::Len(*bytes as usize)),
            Call::Rename { from, to } => {
                let node = self.names[from];
                self.name(Naming::Move(from.clone(), to.clone(), node));
            }
            Call::Link { from, to } => {
                let node = self.names[from];
                self.name(Naming::Add(to.clone(), node));
            }
            Call::Unlink(path) => self.name(Naming::Remove(path.clone())),
            Call::Sync(path) => self.sync(path, begun),
        }
    }

    /// What a sync that begins now will make last.
    pub fn begin(&mut self, call: &Call) -> Begun {
        let Call::Sync(path) = call else { return Begun::default() };
        if let Some(namings) = self.namings.get(path) {
            return Begun(namings.len());
        }
        Begun(self.file(path).map_or(0, |file| file.since.len()))
    }

    /// A sync that failed: what it should have made last is in the page cache still, but the kernel takes it for written,
    /// and no later sync brings it to the disk.
    pub fn fail(&mut self, call: &Call, Begun(begun): Begun) {
        let Call::Sync(path) = call else { return };
        if let Some(file) = self.file(path) {
            file.since.drain(..begun.min(file.since.len()));
        }
    }

    fn sync(&mut self, path: &Path, Begun(begun): Begun) {
        if let Some(namings) = self.namings.get_mut(path) {
            namings.drain(..begun.min(namings.len())).for_each(|naming| naming.apply(&mut self.synced_names));
            return;
        }
        let Some(file) = self.file(path) else { return };
        let File { synced, since, .. } = file;
        since.drain(..begun.min(since.len())).for_each(|change| change.apply(synced));
    }

    /// What is in a directory, as if all of it had been there always.
    pub fn load(root: &Path) -> Files {
        let mut files = Files::default();
        let mut dirs = vec![root.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                let node = if path.is_dir() {
                    dirs.push(path.clone());
                    Node::Dir
                } else {
                    let now = std::fs::read(&path).expect("a file");
                    files.files.push(File { synced: now.clone(), now, ..File::default() });
                    Node::File(files.files.len() - 1)
                };
                files.names.insert(path, node);
            }
        }
        files.synced_names.clone_from(&files.names);
        files
    }

    /// The files as they are, below another directory.
    pub fn store(&self, root: &Path, to: &Path) {
        for (path, node) in &self.names {
            let path = to.join(path.strip_prefix(root).expect("below the root"));
            match node {
                Node::Dir => std::fs::create_dir(&path).expect("a directory"),
                Node::File(at) => write(&path, &self.files[*at].now),
            }
        }
    }

    /// The files as a disk might have them after the power went: with nothing that was not synced, or with all but
    /// chance's part of it.
    pub fn store_after_power_loss(&self, root: &Path, to: &Path, chance: &mut SmallRng) {
        let keeps = chance.random_range(0..4_u32);
        let mut names = self.synced_names.clone();
        for namings in self.namings.values() {
            let kept = match keeps {
                0 => 0,
                1 => namings.len(),
                _ => chance.random_range(0..=namings.len()),
            };
            namings[..kept].iter().for_each(|naming| naming.apply(&mut names));
        }
        for (path, node) in &names {
            let path = to.join(path.strip_prefix(root).expect("below the root"));
            match node {
                // A name in a directory that was lost is lost with it.
                _ if !path.parent().is_some_and(Path::exists) => {}
                Node::Dir => std::fs::create_dir(&path).expect("a directory"),
                Node::File(at) => write(&path, &self.files[*at].after_power_loss(keeps, chance)),
            }
        }
    }
}

impl File {
    fn after_power_loss(&self, keeps: u32, chance: &mut SmallRng) -> Vec<u8> {
        let mut content = self.synced.clone();
        if keeps == 0 || self.since.is_empty() {
            return content;
        }
        // How likely a sector made it.
        let share = chance.random_range(0..=10);
        for change in &self.since {
            match change {
                Change::Len(bytes) if chance.random_ratio(1, 2) => content.resize(*bytes, 0),
                Change::Len(_) => {}
                Change::Bytes { at, bytes } => {
                    for (from, sector) in sectors(*at, bytes) {
                        if chance.random_ratio(share, 10) {
                            Change::Bytes { at: from, bytes: sector.to_vec() }.apply(&mut content);
                        }
                    }
                }
            }
        }
        content
    }
}

/// The parts of a write that a disk does one by one.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - at % SECTOR).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate();
    std::iter::once((at, head)).chain(rest.map(move |(n, sector)| (at + first + n * SECTOR, sector)))
}

/// The parts of a write that is cut off by a kill, shortest first: it ends between pages.
pub fn torn(call: &Call) -> Vec<Call> {
    let Call::Write { path, at: Some(at), bytes } = call else { return Vec::new() };
    let first = PAGE - *at as usize % PAGE;
    let ends = (first..bytes.len()).step_by(PAGE);
    ends.map(|end| Call::Write { path: path.clone(), at: Some(*at), bytes: bytes[..end].to_vec() }).collect()
}

/// With holes where there are only zeros, as the file was made.
fn write(path: &Path, content: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).expect("a file");
    file.set_len(content.len() as u64).expect("a length");
    for (n, page) in content.chunks(PAGE).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, (n * PAGE) as u64).expect("a page");
        }
    }
}
