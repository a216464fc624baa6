//! The definitions in force in a running server: those of its files with those of the registry laid over them. The one
//! place that replaces them, for a reload of the files and for what the registry says alike. Called by `service` and
//! `registry`; knows neither where the registry is nor when it is read.
//!
//! A change that fits the rest is taken up; one that does not is held back with its reasons, and what it would have
//! replaced stays. So a definition that somebody broke keeps nobody else's from being taken up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::compatible::Found;
use super::load::{self, DefinitionErrors};
use super::pieces::{self, Key, Piece};
use super::{Definitions, SharedDefinitions};

/// Where a definition of the registry is from, in messages.
const REGISTRY: &str = "registry";

/// Texts with more pairs of lines than this are not compared line by line.
const LONG_DIFF: usize = 4_000_000;

/// The definitions in force and what they are made of.
#[derive(Debug)]
pub struct InForce {
    /// Compiled, for everyone who reads them.
    pub shared: SharedDefinitions,
    path: PathBuf,
    parts: Mutex<Parts>,
}

/// The texts the definitions in force were compiled from.
#[derive(Debug, Clone)]
struct Parts {
    files: Vec<(String, String)>,
    registry: BTreeMap<Key, Piece>,
}

/// A change that is not taken up, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it would define, change or remove.
    pub key: Key,
    /// Every reason, a line each.
    pub reasons: String,
}

/// One change of the registry: a definition, or that there is none.
type Change = (Key, Option<Piece>);

/// What a change would do, found good.
#[derive(Debug)]
pub struct Checked {
    /// Sentences for people.
    pub changes: Vec<String>,
    /// A line diff.
    pub diff: String,
    /// What must be written: what differs from what is in force.
    pub writes: Vec<Change>,
    /// It takes a restart of the servers.
    pub restart: bool,
}

/// Why a change is not made.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not right by itself.
    Wrong(String),
    /// It would break stored data, a reader, or another definition.
    Breaks(String),
}

/// A definition in force and where it is from.
#[derive(Debug)]
pub struct Source {
    /// The definition.
    pub piece: Piece,
    /// The file's name, or "registry".
    pub source: String,
}

impl InForce {
    /// The definitions of a file or directory alone.
    pub fn load(path: &Path) -> Result<InForce, DefinitionErrors> {
        let parts = Parts { files: load::texts(path)?, registry: BTreeMap::new() };
        let definitions = parts.compile()?;
        let shared = SharedDefinitions::new(arc_swap::ArcSwap::from_pointee(definitions));
        Ok(InForce { shared, path: path.to_owned(), parts: Mutex::new(parts) })
    }

    /// Reads the files again and takes them up with what the registry says, or says why not: as a whole or not at all.
    pub fn reload(&self, dry_run: bool) -> Result<Vec<String>, Vec<String>> {
        let mut parts = self.parts.lock();
        let files = load::texts(&self.path).map_err(|errors| errors.0)?;
        let next = Parts { files, registry: parts.registry.clone() };
        let definitions = next.compile().map_err(|errors| errors.0)?;
        let changes = super::compatible(&self.shared.load(), &definitions)?;
        if !dry_run {
            *parts = next;
        }
        if !dry_run && !changes.is_empty() {
            self.swap(definitions);
            tracing::info!(?changes, "definitions reloaded");
        }
        Ok(changes)
    }

    /// Takes up all that the registry says and that fits; `latest` is in the order in which it was written. While
    /// `starting` nothing runs yet, so that any definitions fit that are right.
    pub fn take_up(&self, latest: &[Piece], starting: bool) -> Vec<Held> {
        let mut parts = self.parts.lock();
        let mut pending = parts.changes_to(latest);
        if pending.is_empty() {
            return Vec::new();
        }
        if self.try_changes(&mut parts, &pending, starting).is_ok() {
            return Vec::new();
        }
        loop {
            let mut held = Vec::new();
            let count = pending.len();
            for change in std::mem::take(&mut pending) {
                if let Err(reasons) = self.try_changes(&mut parts, std::slice::from_ref(&change), starting) {
                    held.push(Held { key: change.0.clone(), reasons: reasons.join("\n") });
                    pending.push(change);
                }
            }
            if pending.len() == count || pending.is_empty() {
                return held;
            }
        }
    }

    fn try_changes(&self, parts: &mut Parts, changes: &[Change], starting: bool) -> Result<(), Vec<String>> {
        let next = parts.with(changes);
        let definitions = next.compile().map_err(|errors| errors.0)?;
        if !starting {
            super::compatible(&self.shared.load(), &definitions)?;
        }
        *parts = next;
        self.swap(definitions);
        let taken_up: Vec<String> = changes.iter().map(|(key, _)| key.path()).collect();
        tracing::info!(?taken_up, "definitions of the registry taken up");
        Ok(())
    }

    fn swap(&self, definitions: Definitions) {
        let old = self.shared.load();
        self.shared.store(Arc::new(definitions.after(&old)));
    }

    /// What these definitions would change, laid over those in force and `latest` of the registry. The first of a pair
    /// is the file's name.
    pub fn check_apply(&self, latest: &[Piece], asked: &[(String, Piece)]) -> Result<Checked, Refusal> {
        let mut keys = BTreeSet::new();
        if let Some((file, twice)) = asked.iter().find(|(_, piece)| !keys.insert(&piece.key)) {
            return Err(Refusal::Wrong(format!("{file}: {} is defined twice", twice.key)));
        }
        let changes: Vec<Change> =
            asked.iter().map(|(_, piece)| (piece.key.clone(), Some(piece.clone()))).collect();
        let files: BTreeMap<&Key, &str> =
            asked.iter().map(|(file, piece)| (&piece.key, file.as_str())).collect();
        self.check(latest, &changes, &files)
    }

    /// What it would change to take a definition out of the registry.
    pub fn check_removal(&self, latest: &[Piece], key: &Key) -> Result<Checked, Refusal> {
        let refused = self.check(latest, &[(key.clone(), None)], &BTreeMap::new());
        refused.map_err(|refusal| match refusal {
            Refusal::Wrong(why) | Refusal::Breaks(why) => Refusal::Breaks(why),
        })
    }

    fn check(
        &self,
        latest: &[Piece],
        changes: &[Change],
        files: &BTreeMap<&Key, &str>,
    ) -> Result<Checked, Refusal> {
        let parts = self.parts.lock().clone();
        let of_latest = parts.with(&parts.changes_to(latest));
        // What is held back may be mended by this change, or have nothing to do with it.
        let found = self.differences(&of_latest.with(changes), files);
        let found = found.or_else(|_| self.differences(&parts.with(changes), files))?;
        let in_force = parts.sources();
        let old = |key: &Key| in_force.iter().find(|source| source.piece.key == *key).map(|s| &s.piece);
        let is_latest = |(key, new): &Change| {
            latest.iter().find(|piece| piece.key == *key) == new.as_ref()
                || (new.is_some() && old(key) == new.as_ref())
        };
        let writes: Vec<Change> = changes.iter().filter(|change| !is_latest(change)).cloned().collect();
        let diff = writes.iter().map(|(key, new)| diff(key, old(key), new.as_ref())).collect();
        let mut sentences = found.changes;
        sentences.extend(found.restart.iter().map(|sentence| format!("not before a restart: {sentence}")));
        if sentences.is_empty() {
            sentences.extend(writes.iter().map(|(key, _)| format!("{key}: only its text changes")));
        }
        Ok(Checked { changes: sentences, diff, writes, restart: !found.restart.is_empty() })
    }

    fn differences(&self, next: &Parts, files: &BTreeMap<&Key, &str>) -> Result<Found, Refusal> {
        let definitions = next.compile_from(files).map_err(|errors| Refusal::Wrong(errors.to_string()))?;
        let found = Found::between(&self.shared.load(), &definitions);
        match found.reasons.is_empty() {
            true => Ok(found),
            false => Err(Refusal::Breaks(found.reasons.join("\n"))),
        }
    }

    /// Every definition in force: those of the files in their order, then those only the registry has.
    pub fn sources(&self) -> Vec<Source> {
        self.parts.lock().sources()
    }
}

impl Parts {
    fn compile(&self) -> Result<Definitions, DefinitionErrors> {
        self.compile_from(&BTreeMap::new())
    }

    /// `places` names where definitions are from that are not the registry's yet.
    fn compile_from(&self, places: &BTreeMap<&Key, &str>) -> Result<Definitions, DefinitionErrors> {
        let over: Vec<(&str, &Piece)> = self
            .registry
            .iter()
            .map(|(key, piece)| (places.get(key).copied().unwrap_or(REGISTRY), piece))
            .collect();
        load::compile_over(self.files.iter().map(|(file, text)| (file.as_str(), text.as_str())), &over)
    }

    fn with(&self, changes: &[Change]) -> Parts {
        let mut parts = self.clone();
        for (key, piece) in changes {
            match piece {
                Some(piece) => drop(parts.registry.insert(key.clone(), piece.clone())),
                None => drop(parts.registry.remove(key)),
            }
        }
        parts
    }

    /// What makes the registry's part what it says; removals last.
    fn changes_to(&self, latest: &[Piece]) -> Vec<Change> {
        let new = latest.iter().filter(|piece| self.registry.get(&piece.key) != Some(piece));
        let gone = self.registry.keys().filter(|key| latest.iter().all(|piece| piece.key != **key));
        new.map(|piece| (piece.key.clone(), Some(piece.clone())))
            .chain(gone.map(|key| (key.clone(), None)))
            .collect()
    }

    fn sources(&self) -> Vec<Source> {
        let mut left = self.registry.clone();
        let mut all = Vec::new();
        for (file, text) in &self.files {
            // It was compiled, so that it can be taken apart.
            for piece in pieces::split(file, text).unwrap_or_default() {
                all.push(match left.remove(&piece.key) {
                    Some(piece) => Source { piece, source: REGISTRY.into() },
                    None => Source { piece, source: file.clone() },
                });
            }
        }
        all.extend(left.into_values().map(|piece| Source { piece, source: REGISTRY.into() }));
        all
    }
}

/// The lines of two texts: those only the old has with `-`, those only the new has with `+`.
fn diff(key: &Key, old: Option<&Piece>, new: Option<&Piece>) -> String {
    let lines = |piece: Option<&Piece>| -> Vec<String> {
        piece.map(|piece| piece.toml.lines().map(str::to_owned).collect()).unwrap_or_default()
    };
    let (old, new) = (lines(old), lines(new));
    let mut text = format!("  # {}\n", key.path());
    let (mut i, mut j) = (0, 0);
    let is_long = old.len().saturating_mul(new.len()) > LONG_DIFF;
    let common = if is_long { Vec::new() } else { common_lengths(&old, &new) };
    let is_gone = |i: usize, j: usize| is_long || common[i + 1][j] >= common[i][j + 1];
    while i < old.len() || j < new.len() {
        let same = i < old.len() && j < new.len() && old[i] == new[j];
        let (sign, line) = if same {
            (i, j) = (i + 1, j + 1);
            (' ', &new[j - 1])
        } else if j >= new.len() || (i < old.len() && is_gone(i, j)) {
            i += 1;
            ('-', &old[i - 1])
        } else {
            j += 1;
            ('+', &new[j - 1])
        };
        text += &format!("{sign} {line}\n");
    }
    text
}

/// Length of the longest common subsequence of `old[i..]` and `new[j..]`.
fn common_lengths(old: &[String], new: &[String]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] = match old[i] == new[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: &str = "[[lane]]\nname = \"main\"\n[[lane.topic]]\nname = \"points\"\n";

    fn view(name: &str, id: u16, field: &str) -> String {
        format!(
            "[[view]]\nname = \"{name}\"\nid = {id}\nlane = \"main\"\nentity = \"customer\"\ntopics = [\"points\"]\n\
             field = [{{ name = \"{field}\", type = \"double\" }}]\n"
        )
    }

    fn service(name: &str, version: u32, features: &str) -> String {
        format!("[[feature_service]]\nname = \"{name}\"\nversion = {version}\nfeatures = [\"{features}\"]\n")
    }

    fn pieces_of(text: &str) -> Vec<Piece> {
        pieces::split("asked.toml", text).unwrap()
    }

    fn asked(text: &str) -> Vec<(String, Piece)> {
        pieces_of(text).into_iter().map(|piece| ("asked.toml".into(), piece)).collect()
    }

    fn in_force(text: &str) -> (tempfile::TempDir, InForce) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.toml"), text).unwrap();
        let in_force = InForce::load(dir.path()).unwrap();
        (dir, in_force)
    }

    fn names(in_force: &InForce) -> Vec<String> {
        in_force.shared.load().views.iter().map(|view| view.name.clone()).collect()
    }

    #[test]
    fn the_registry_replaces_and_adds_and_gives_back() {
        let (_dir, in_force) = in_force(&format!("{LANE}{}", view("a", 1, "x")));
        let registry = pieces_of(&(view("b", 2, "y") + &view("a", 1, "z")));
        assert_eq!(in_force.take_up(&registry, false), []);
        assert_eq!(names(&in_force), ["a", "b"]);
        assert!(in_force.shared.load().views[0].field("z").is_ok());
        let sources: Vec<_> =
            in_force.sources().iter().map(|s| (s.piece.key.path(), s.source.clone())).collect();
        assert!(sources[0].1.ends_with("a.toml") && sources[0].0 == "lane/main", "{sources:?}");
        assert_eq!(sources[1..].iter().map(|s| s.1.as_str()).collect::<Vec<_>>(), ["registry"; 2]);
        assert_eq!(in_force.take_up(&[], false), []);
        assert_eq!(names(&in_force), ["a"]);
        assert!(in_force.shared.load().views[0].field("x").is_ok(), "the file's is back");
        assert_eq!(in_force.shared.load().retired.get(&2).map(String::as_str), Some("b"));
    }

    #[test]
    fn what_does_not_fit_is_held_back_alone() {
        let (_dir, in_force) = in_force(&format!("{LANE}{}", view("a", 1, "x")));
        let wrong = view("a", 1, "x").replace("double", "string");
        let latest = pieces_of(&(wrong + &service("s", 1, "b.y") + &view("b", 2, "y") + &view("c", 2, "y")));
        let held = in_force.take_up(&latest, false);
        let said: Vec<_> = held.iter().map(|held| held.key.path()).collect();
        assert_eq!(said, ["view/a", "view/c"], "the service waited for its view");
        assert!(held[0].reasons.contains("changes its type from double to string"), "{held:?}");
        assert!(held[1].reasons.contains("registry: view \"c\": id 2 is the id of another view"), "{held:?}");
        assert_eq!(names(&in_force), ["a", "b"]);
        // Mended.
        let latest = pieces_of(&(view("a", 1, "x") + &view("b", 2, "y") + &view("c", 3, "y")));
        assert_eq!(in_force.take_up(&latest, false), []);
        assert_eq!(names(&in_force), ["a", "b", "c"]);
    }

    #[test]
    fn a_lane_waits_for_a_restart() {
        let (_dir, in_force) = in_force(&format!("{LANE}{}", view("a", 1, "x")));
        let lane = LANE.replace("main", "b_lane").replace("points", "more");
        let checked = in_force.check_apply(&[], &asked(&lane)).unwrap();
        assert!(
            checked.restart && checked.changes[0].starts_with("not before a restart: the lanes change"),
            "{checked:?}"
        );
        let latest = pieces_of(&lane);
        let held = in_force.take_up(&latest, false);
        assert!(held[0].reasons.contains("restart the server"), "{held:?}");
        // It is in nobody's way.
        let more = in_force.check_apply(&latest, &asked(&view("b", 2, "y"))).unwrap();
        assert!(more.changes.contains(&"view \"b\" is new".to_owned()), "{more:?}");
        assert_eq!(in_force.take_up(&latest, true), [], "at a start it is taken up");
        assert_eq!(in_force.shared.load().lanes.len(), 2);
    }

    #[test]
    fn bad_65_what_would_break_is_refused_and_what_is_wrong_is_said_with_its_file() {
        let (_dir, in_force) = in_force(&format!("{LANE}{}{}", view("a", 1, "x"), service("s", 1, "a.x")));
        let refused = |text: &str| in_force.check_apply(&[], &asked(text)).unwrap_err();
        assert!(
            matches!(refused(&view("a", 3, "x")), Refusal::Breaks(why) if why.contains("id from 1 to 3"))
        );
        assert!(
            matches!(refused(&service("s", 1, "a.*")), Refusal::Breaks(why) if why.contains("make version 2"))
        );
        assert!(
            matches!(refused(&service("t", 1, "b.x")), Refusal::Wrong(why) if why.starts_with("asked.toml: feature service \"t\""))
        );
        assert!(
            matches!(refused(&(view("b", 2, "x") + &view("b", 2, "x"))), Refusal::Wrong(why) if why.contains("twice"))
        );
        assert_eq!(names(&in_force), ["a"], "a check changes nothing");
    }

    #[test]
    fn a_removal_is_refused_while_something_needs_it() {
        let (_dir, in_force) = in_force(LANE);
        let latest = pieces_of(&(view("a", 1, "x") + &service("s", 1, "a.x")));
        assert_eq!(in_force.take_up(&latest, false), []);
        let removal = |key: Key| in_force.check_removal(&latest, &key);
        let refused = removal(Key::new("view", "a", 0).unwrap()).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Breaks(why) if why.contains("no view \"a\" is defined")),
            "{refused:?}"
        );
        let checked = removal(Key::new("feature_service", "s", 1).unwrap()).unwrap();
        assert_eq!(checked.changes, ["feature service \"s@1\" is removed"]);
        assert!(checked.diff.contains("- features = [\"a.x\"]"), "{}", checked.diff);
    }

    #[test]
    fn the_diff_shows_what_differs_and_nothing_is_written_twice() {
        let (_dir, in_force) = in_force(&format!("{LANE}{}", view("a", 1, "x")));
        let same = in_force.check_apply(&[], &asked(&view("a", 1, "x"))).unwrap();
        assert!(same.writes.is_empty() && same.changes.is_empty() && same.diff.is_empty(), "{same:?}");
        let changed = view("a", 1, "x").replace("[[view]]\n", "[[view]]\nttl = \"1d\"\n");
        let checked = in_force.check_apply(&[], &asked(&changed)).unwrap();
        assert!(
            checked.diff.starts_with("  # view/a\n  [[view]]\n+ ttl = \"1d\"\n  name = \"a\"\n"),
            "{}",
            checked.diff
        );
        assert_eq!(checked.writes.len(), 1);
        let comment = in_force.check_apply(&[], &asked(&format!("# why\n{}", view("a", 1, "x")))).unwrap();
        assert_eq!(comment.changes, ["view \"a\": only its text changes"]);
    }

    #[test]
    fn a_reload_keeps_what_the_registry_says() {
        let (dir, in_force) = in_force(&format!("{LANE}{}", view("a", 1, "x")));
        assert_eq!(in_force.take_up(&pieces_of(&view("b", 2, "y")), false), []);
        std::fs::write(
            dir.path().join("a.toml"),
            format!("{LANE}{}{}", view("a", 1, "x"), view("c", 3, "z")),
        )
        .unwrap();
        assert_eq!(in_force.reload(false).unwrap(), ["view \"c\" is new"]);
        assert_eq!(names(&in_force), ["a", "c", "b"]);
        std::fs::write(dir.path().join("a.toml"), format!("{LANE}{}", view("d", 2, "x"))).unwrap();
        assert!(in_force.reload(false).is_err(), "two views of one id");
        assert_eq!(names(&in_force), ["a", "c", "b"]);
    }
}
