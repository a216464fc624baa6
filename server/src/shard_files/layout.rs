//! Which TTL class each view of a shard is in, as the file CLASSES keeps it, and since when those are there whose records
//! are put beside others'. A view stays in the class it was first given, whatever becomes of its definition: its records
//! are there. Touches no directory of the engine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use forebay_storage::{Keep, ViewPolicy};
use serde::{Deserialize, Serialize};

/// Name of the file.
pub(super) const FILE: &str = "CLASSES";

/// Upper ends of the classes, in hours: a segment is removed when its longest-lived record may be, so that within a
/// class a record stays at most about four times as long as it must.
const BOUNDS_H: [i64; 7] = [1, 4, 16, 48, 192, 768, 3072];

/// The classes of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Names; the first is the shard's own directory, the others are directories in it.
    classes: Vec<String>,
    /// How many of them were begun for good; the others' directories hold nothing yet.
    begun: usize,
    /// View id to its place in `classes`.
    views: BTreeMap<u16, usize>,
    /// By id of a view of records put beside others that came when the shard had records already: the first offset of
    /// each topic that it was there for. None: it has just come.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    since: BTreeMap<u16, Option<Positions>>,
}

/// Offsets by topic.
type Positions = BTreeMap<String, i64>;

/// CLASSES cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It cannot be read or written now.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It does not say what it must.
    #[error("{path}: {detail}; restore it, or rebuild the shard in an empty directory")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
}

impl Layout {
    /// Of a shard that begins: the class of the lowest view id is the first.
    pub fn begin(views: &BTreeMap<u16, ViewPolicy>) -> Layout {
        let first = views.values().next().map_or_else(|| "latest-8d".into(), class_name);
        Layout { classes: vec![first], begun: 1, views: BTreeMap::new(), since: BTreeMap::new() }
    }

    /// Of a shard from before there were classes: all views are in its own directory.
    pub fn undivided(views: &BTreeMap<u16, ViewPolicy>) -> Layout {
        Layout { views: views.keys().map(|view| (*view, 0)).collect(), ..Layout::begin(views) }
    }

    /// Gives each view that has none a class, which is begun if need be.
    pub fn take_in(&mut self, views: &BTreeMap<u16, ViewPolicy>) {
        for (view, policy) in views.iter().filter(|(_, policy)| policy.beside.is_none()) {
            let name = class_name(policy);
            if !self.views.contains_key(view) && !self.classes.contains(&name) {
                self.classes.push(name);
            }
        }
        self.place(views);
    }

    /// Gives each view that has none one of the classes there are: its own, or one that keeps versions as it does, or
    /// the first. Whether anything changed.
    pub fn place(&mut self, views: &BTreeMap<u16, ViewPolicy>) -> bool {
        let before = self.views.len();
        for (view, policy) in views.iter().filter(|(_, policy)| policy.beside.is_none()) {
            let name = class_name(policy);
            let keep = |name: &str| name.split_once('-').map(|(keep, _)| keep.to_owned());
            let own = self.classes.iter().position(|class| *class == name);
            let alike = || self.classes.iter().position(|class| keep(class) == keep(&name));
            self.views.entry(*view).or_insert_with(|| own.or_else(alike).unwrap_or(0));
        }
        for (view, policy) in views {
            if let Some(of) = policy.beside {
                let class = self.class_of(of);
                self.views.entry(*view).or_insert_with(|| {
                    self.since.insert(*view, None);
                    class
                });
            }
        }
        self.views.len() != before
    }

    /// Notes where the topics stand for the views that have just come: the offsets after the last of each.
    pub(super) fn note_arrivals<'t>(&mut self, next: impl Iterator<Item = (&'t str, i64)>) {
        let positions: Positions = next
            .filter(|(_, offset)| *offset > 0)
            .map(|(topic, offset)| (topic.to_owned(), offset))
            .collect();
        self.since
            .values_mut()
            .filter(|since| since.is_none())
            .for_each(|since| *since = Some(positions.clone()));
        self.since.retain(|_, since| since.as_ref().is_some_and(|positions| !positions.is_empty()));
    }

    /// The first offset of a topic that a view of records put beside others was there for.
    pub fn since(&self, view: u16, topic: &str) -> i64 {
        match self.since.get(&view) {
            Some(Some(positions)) => positions.get(topic).copied().unwrap_or(0),
            Some(None) => i64::MAX,
            None => 0,
        }
    }

    /// Names of the classes; the first is the shard's own directory.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How many of the classes were begun for good: their directories must be there.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// Notes that all classes are begun.
    pub(super) fn note_begun(&mut self) {
        self.begun = self.classes.len();
    }

    /// The place of a view's class; that of a view nobody gave one is the first.
    #[inline]
    pub fn class_of(&self, view: u16) -> usize {
        self.views.get(&view).copied().unwrap_or(0)
    }

    /// Ids of the views of one class.
    pub fn views_of(&self, class: usize) -> Vec<u16> {
        self.views.iter().filter(|(_, of)| **of == class).map(|(view, _)| *view).collect()
    }

    /// Those of some views that are in one class.
    pub fn of_class(&self, class: usize, views: &BTreeMap<u16, ViewPolicy>) -> BTreeMap<u16, ViewPolicy> {
        let here = views.iter().filter(|(view, _)| self.class_of(**view) == class);
        here.map(|(view, policy)| (*view, policy.clone())).collect()
    }

    /// What the shard's directory says; none: it has no such file.
    pub fn load(shard: &Path) -> Result<Option<Layout>, LayoutError> {
        let path = shard.join(FILE);
        let shown = || path.display().to_string();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| LayoutError::Io { path: shown(), error })?,
        };
        let damaged = |detail: String| LayoutError::Damaged { path: shown(), detail };
        let layout: Layout = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if !(1..=layout.classes.len()).contains(&layout.begun) {
            return Err(damaged(format!("{} classes are begun of {}", layout.begun, layout.classes.len())));
        }
        if layout.views.values().any(|class| *class >= layout.classes.len()) {
            return Err(damaged("a view is in a class that is not listed".into()));
        }
        Ok(Some(layout))
    }

    /// Puts it into the shard's directory for good.
    pub fn store(&self, shard: &Path) -> Result<(), LayoutError> {
        let path = shard.join(FILE);
        self.write(shard, &path).map_err(|error| LayoutError::Io { path: path.display().to_string(), error })
    }

    fn write(&self, shard: &Path, path: &Path) -> io::Result<()> {
        let new = path.with_extension("tmp");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(shard)?.sync_all()
    }
}

/// Whether a path is that of such a file.
pub fn is_layout(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == FILE)
}

/// How its versions are kept, and the least of the bounds that its longest TTL is within.
fn class_name(policy: &ViewPolicy) -> String {
    let keep = match policy.keep {
        Keep::Latest => "latest",
        Keep::Full => "full",
    };
    let hours = policy.retention_ms / 3_600_000 + i64::from(policy.retention_ms % 3_600_000 != 0);
    match BOUNDS_H.into_iter().find(|bound| hours <= *bound) {
        Some(bound) if bound < 48 => format!("{keep}-{bound}h"),
        Some(bound) => format!("{keep}-{}d", bound / 24),
        None => format!("{keep}-long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn views(views: &[(u16, ViewPolicy)]) -> BTreeMap<u16, ViewPolicy> {
        views.iter().cloned().collect()
    }

    #[test]
    fn views_are_told_apart_by_their_longest_ttl_and_by_what_is_kept() {
        let name = |hours| class_name(&ViewPolicy::latest("", hours * HOUR));
        assert_eq!(
            [name(1), name(2), name(24), name(7 * 24)],
            ["latest-1h", "latest-4h", "latest-2d", "latest-8d"]
        );
        assert_eq!(class_name(&ViewPolicy::full("", HOUR + 1)), "full-4h");
        assert_eq!(class_name(&ViewPolicy::full("", 400 * 24 * HOUR)), "full-long");
    }

    #[test]
    fn a_view_stays_where_its_records_are() {
        let (week, day) = (ViewPolicy::latest("a", 168 * HOUR), ViewPolicy::latest("b", 24 * HOUR));
        let first = views(&[(1, week.clone()), (2, day.clone())]);
        let mut layout = Layout::begin(&first);
        layout.take_in(&first);
        assert_eq!(layout.classes(), ["latest-8d", "latest-2d"]);
        layout.take_in(&views(&[(1, day.clone()), (2, week.clone()), (3, day)]));
        assert_eq!([1, 2, 3].map(|view| layout.class_of(view)), [0, 1, 1]);
    }

    #[test]
    fn a_view_that_comes_while_the_shard_is_open_goes_to_a_class_there_is() {
        let first = views(&[(1, ViewPolicy::latest("a", HOUR)), (2, ViewPolicy::full("b", HOUR))]);
        let mut layout = Layout::begin(&first);
        layout.take_in(&first);
        assert!(
            layout
                .place(&views(&[(3, ViewPolicy::full("c", 99 * HOUR)), (4, ViewPolicy::latest("d", HOUR))]))
        );
        assert_eq!([3, 4].map(|view| layout.class_of(view)), [1, 0]);
        assert!(!layout.place(&first));
    }

    #[test]
    fn records_put_beside_others_are_in_their_class() {
        let (week, day) = (ViewPolicy::latest("a", 168 * HOUR), ViewPolicy::full("b", 24 * HOUR));
        let beside = |view| ViewPolicy { beside: Some(view), ..ViewPolicy::latest("s", 1000 * HOUR) };
        let all = views(&[(1, week), (5, day), (2, beside(5)), (9, beside(1))]);
        let mut layout = Layout::begin(&all);
        layout.take_in(&all);
        assert_eq!(layout.classes(), ["latest-8d", "full-2d"]);
        assert_eq!([1, 5, 2, 9].map(|view| layout.class_of(view)), [0, 1, 1, 0]);
    }

    #[test]
    fn what_came_to_records_that_were_there_knows_since_when() {
        let beside = |view| ViewPolicy { beside: Some(view), ..ViewPolicy::latest("s", HOUR) };
        let first = views(&[(1, ViewPolicy::latest("a", HOUR)), (2, beside(1))]);
        let mut layout = Layout::begin(&first);
        layout.take_in(&first);
        assert_eq!(layout.since(2, "points"), i64::MAX, "nothing is noted yet");
        layout.note_arrivals([("points", 0), ("more", 0)].into_iter());
        assert_eq!(layout.since(2, "points"), 0, "it was there from the beginning");
        assert!(layout.place(&views(&[(3, beside(1))])));
        layout.note_arrivals([("points", 7), ("more", 0)].into_iter());
        layout.note_arrivals([("points", 9), ("more", 9)].into_iter());
        let since = |view| ["points", "more"].map(|topic| layout.since(view, topic));
        assert_eq!([since(2), since(3)], [[0, 0], [7, 0]]);
    }

    #[test]
    fn what_is_stored_is_read_back_and_what_is_damaged_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Layout::load(dir.path()).unwrap().is_none());
        let mut layout = Layout::begin(&BTreeMap::new());
        layout.take_in(&views(&[(7, ViewPolicy::full("a", HOUR))]));
        layout.store(dir.path()).unwrap();
        assert_eq!(Layout::load(dir.path()).unwrap(), Some(layout));
        let none = r#"{"classes":[],"begun":0,"views":{}}"#;
        let unlisted = r#"{"classes":["a"],"begun":1,"views":{"1":1}}"#;
        for text in ["", none, unlisted] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Layout::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains("CLASSES") && error.contains("restore it"), "{error}");
        }
    }
}
