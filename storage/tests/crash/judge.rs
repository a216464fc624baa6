//! Opens what is left of a story and says whether it is what it may be: exactly the state after some commit, not older
//! than what was acknowledged, and every read agrees. Then lets the story go on to its end.

use std::path::Path;

use forebay_storage::{HistoryRange, ShardReader, ShardWriter};

use super::fate::Fate;
use super::story::{self, Story, feed};
use crate::model::Model;
use crate::store::{self, Point, TOPICS, applied, owned};

/// What may be missing of a right state.
#[derive(Debug, Clone, Copy)]
struct Gone {
    /// Older versions may be missing.
    older: bool,
    /// What need not be kept at or after this.
    ms: i64,
}

/// The commits that are left, or what is wrong.
pub fn judge(dir: &Path, story: &Story, fate: &Fate) -> Result<usize, String> {
    let (_writer, reader) = story::open(dir, story).map_err(|error| format!("refused: {error}"))?;
    state(&reader, story, fate)
}

/// As `judge`, and the story is told from its beginning to its end: what is there already is not taken twice. The end is
/// right, and still is when it is opened once more.
pub fn judge_to_the_end(dir: &Path, story: &Story, fate: &Fate) -> Result<usize, String> {
    let (mut writer, reader) = story::open(dir, story).map_err(|error| format!("refused: {error}"))?;
    let commits = state(&reader, story, fate)?;
    let after = |why: String| format!("after {commits} commits and the rest: {why}");
    go_on(&mut writer, story).map_err(after)?;
    let all = story.states.len() - 1;
    let end = Fate { least: all, most: all, ..story.fate_at(story.steps.len() - 1) };
    state(&reader, story, &end).map_err(after)?;
    drop((writer, reader));
    judge(dir, story, &end).map_err(|why| after(format!("opened once more: {why}")))?;
    Ok(commits)
}

fn go_on(writer: &mut ShardWriter, story: &Story) -> Result<(), String> {
    for (at, step) in story.steps.iter().enumerate() {
        feed(writer, step).map_err(|error| format!("going on at step {at}: {error}"))?;
    }
    Ok(())
}

/// The commits that a reader shows, or what is wrong with them. Nothing more is there than should be.
pub fn state(reader: &ShardReader, story: &Story, fate: &Fate) -> Result<usize, String> {
    let commits = reads(reader, story, fate)?;
    whole(reader, story, commits, Gone { ms: fate.gone_ms, older: story.thinned() })?;
    Ok(commits)
}

/// The commits that a reader shows, or what is wrong with them.
pub fn reads(reader: &ShardReader, story: &Story, fate: &Fate) -> Result<usize, String> {
    let positions: Vec<i64> =
        (0..TOPICS.len() as u16).map(|topic| applied(reader, topic).unwrap_or(-1)).collect();
    let same = |model: &Model| {
        let of = |topic| model.positions.get(&topic).copied().unwrap_or(-1);
        (0..TOPICS.len()).all(|topic| of(topic as u16) == positions[topic])
    };
    let commits = story.states.iter().position(same);
    let commits = commits.ok_or_else(|| format!("positions {positions:?} are those of no commit"))?;
    if !(fate.least..=fate.most).contains(&commits) {
        return Err(format!("{commits} commits are left, of {} to {}", fate.least, fate.most));
    }
    if positions.iter().zip(&fate.durable).any(|(left, durable)| left < durable) {
        return Err(format!("positions {positions:?} are left, {:?} were durable", fate.durable));
    }
    let (model, gone) = (&story.states[commits], Gone { ms: fate.gone_ms, older: story.thinned() });
    for (entity, view) in model.versions.keys() {
        key(reader, model, entity, *view, gone).map_err(|why| {
            format!("{commits} commits, {} view {view}: {why}", String::from_utf8_lossy(entity))
        })?;
    }
    Ok(commits)
}

/// Where nothing may be missing, nothing may be too much: no other keys, and the digest of a shard that took the same.
fn whole(reader: &ShardReader, story: &Story, commits: usize, gone: Gone) -> Result<(), String> {
    let model = &story.states[commits];
    let keys = reader.stats().keys;
    let forgettable = model.versions.iter().filter(|((entity, view), _)| {
        model
            .history(entity, *view, &HistoryRange::default())
            .first()
            .is_some_and(|head| gone.may_go(&head.point))
    });
    let (all, fewer) = (model.versions.len() as u64, forgettable.count() as u64);
    if !(all - fewer..=all).contains(&keys) {
        return Err(format!("{keys} keys after {commits} commits, {} to {all} are right", all - fewer));
    }
    if keys == all && reader.digest() != story.digest(commits) {
        return Err(format!("another digest than that of a fresh shard with the same {commits} commits"));
    }
    Ok(())
}

impl Gone {
    fn may_go(self, point: &Point) -> bool {
        point.expiry_ms <= self.ms
    }
}

fn shown(what: Option<&Point>) -> String {
    what.map_or("nothing".to_owned(), |point| {
        format!("{:?} of {} from {}@{}", point.kind, point.event_time_ms, point.topic, point.offset)
    })
}

fn key(reader: &ShardReader, model: &Model, entity: &[u8], view: u16, gone: Gone) -> Result<(), String> {
    let right: Vec<&Point> = model
        .history(entity, view, &HistoryRange::default())
        .into_iter()
        .map(|version| &version.point)
        .collect();
    let pinned = reader.pin();
    let latest = store::latest(reader, entity, view).map_err(|error| error.to_string())?;
    let head = right[0];
    let forgotten = latest.is_none() && gone.may_go(head);
    if !forgotten && latest.as_ref() != Some(head) {
        return Err(format!("the latest is {}, not {}", shown(latest.as_ref()), shown(Some(head))));
    }
    let left =
        store::history(reader, entity, view, &HistoryRange::default()).map_err(|error| error.to_string())?;
    let missing = missing(&left, &right)?;
    let may_lack = |point: &Point| forgotten || gone.may_go(point) || (gone.older && point != head);
    if let Some(lost) = missing.iter().find(|point| !may_lack(point)) {
        return Err(format!("its history lacks {}", shown(Some(lost))));
    }
    for at in right.iter().step_by(1 + right.len() / 4) {
        let expected = model
            .as_of(entity, view, at.event_time_ms, Some(at.ingest_time_ms))
            .map(|version| &version.point);
        let got = pinned.as_of(entity, view, at.event_time_ms, Some(at.ingest_time_ms));
        let got = got.map_err(|error| error.to_string())?;
        let got = got
            .map(|version| owned(entity, view, &version))
            .transpose()
            .map_err(|error| error.to_string())?;
        let vague = missing.iter().any(|point| Some(*point) == expected);
        if !vague && got.as_ref() != expected {
            let time = at.event_time_ms;
            return Err(format!("as of {time} it is {}, not {}", shown(got.as_ref()), shown(expected)));
        }
    }
    Ok(())
}

/// What is right and not there; nothing else may be there, and all of it in order.
fn missing<'p>(left: &[Point], right: &[&'p Point]) -> Result<Vec<&'p Point>, String> {
    let mut left = left.iter().peekable();
    let missing = right.iter().filter(|point| left.next_if_eq(*point).is_none()).copied().collect();
    match left.next() {
        None => Ok(missing),
        Some(wrong) => Err(format!("its history has {} where that should not be", shown(Some(wrong)))),
    }
}
