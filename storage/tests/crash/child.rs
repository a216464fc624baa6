//! The child process: this very program, asked by its environment to write a story to a directory. It says on stdout
//! what it is about to do and what was acknowledged, a line at a time.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use forebay_storage::{ShardReader, ShardWriter, SyncGroup, SyncPolicy, WriteError};

use super::fate::Fate;
use super::judge;
use super::story::{Step, Story, feed, identity};
use crate::store::{self, TOPICS, durable};

const STORY: &str = "FOREBAY_CRASH_STORY";
const DIR: &str = "FOREBAY_CRASH_DIR";

/// More than the test runner makes of any kind.
const CALLS_OF_THE_RUNNER: usize = 30;

/// What a child said, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is about to do a step.
    Begins(usize),
    /// So many commits are acknowledged.
    Committed(usize),
    /// These offsets were published as durable, -1 for none.
    Durable(Vec<i64>),
    /// It opens the shard, perhaps once more.
    Opens,
    /// There is no room; it tries again.
    Waits,
    /// The shard stopped, or was refused: why.
    Stopped(String),
    /// After that, reads gave what was committed; or what they gave.
    Serves(Result<(), String>),
    /// The story is over.
    Ended,
}

/// The command line of a child; `before` is what it runs under, with its own arguments.
pub fn command(before: &[&str], dir: &Path, seed: u64, puts: usize) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut words = before.iter().map(|word| (*word).into()).collect::<Vec<std::ffi::OsString>>();
    words.push(program.into());
    words.extend(["--exact", "child::a_child_tells_its_story", "--nocapture"].map(Into::into));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(STORY, format!("{seed} {puts}")).env(DIR, dir);
    command
}

/// Understands a line of its output; nothing for what others say there.
pub fn understand(line: &str) -> Option<Said> {
    // The test runner begins the line.
    let (_, line) = line.split_once("crash: ")?;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "begins" => rest.parse().ok().map(Said::Begins),
        "committed" => rest.parse().ok().map(Said::Committed),
        "durable" => {
            let offsets: Result<Vec<i64>, _> = rest.split(' ').map(str::parse).collect();
            offsets.ok().filter(|offsets| offsets.len() == TOPICS.len()).map(Said::Durable)
        }
        "opens" => Some(Said::Opens),
        "waits" => Some(Said::Waits),
        "stopped" => Some(Said::Stopped(rest.to_owned())),
        "serves" => Some(Said::Serves(Ok(()))),
        "misleads" => Some(Said::Serves(Err(rest.to_owned()))),
        "ended" => Some(Said::Ended),
        _ => None,
    }
}

fn say(words: std::fmt::Arguments<'_>) {
    let line = format!("crash: {words}\n");
    let mut out = std::io::stdout().lock();
    let mut told = || out.write_all(line.as_bytes()).and_then(|()| out.flush());
    // The call that is made to fail may be this one.
    told().or_else(|_| told()).expect("somebody listens");
}

/// Says what is durable when that has changed.
fn say_durable(reader: &ShardReader, before: &mut Vec<i64>) {
    let now: Vec<i64> = (0..TOPICS.len() as u16).map(|topic| durable(reader, topic).unwrap_or(-1)).collect();
    if now != *before {
        say(format_args!("durable {}", now.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")));
        *before = now;
    }
}

/// Not a test of its own: does nothing unless it is the child of one.
#[test]
fn a_child_tells_its_story() {
    let (Ok(story), Ok(dir)) = (std::env::var(STORY), std::env::var(DIR)) else { return };
    let (seed, puts) = story.split_once(' ').expect("seed and length");
    let story = Story::new(seed.parse().expect("a number"), puts.parse().expect("a number"));
    // Calls are counted by thread: no Kth call of this one shall be the Kth of the test runner's.
    for _ in 0..CALLS_OF_THE_RUNNER {
        say(format_args!("listens"));
        // This one may be the one that is made to fail.
        let _ = std::fs::File::open("/dev/null");
    }
    // A shard that stopped is opened again, and all is told once more.
    for time in 0..3 {
        match tell(&story, Path::new(&dir), time > 0) {
            Ok(true) => return say(format_args!("ended")),
            Ok(false) => {}
            Err(why) => say(format_args!("stopped {why}")),
        }
    }
}

/// Whether the story was told to its end; an error if the shard was refused.
fn tell(story: &Story, dir: &Path, again: bool) -> Result<bool, String> {
    let interval_ms = if story.grouped() { 1 } else { u64::MAX >> 1 };
    let policy = SyncPolicy { interval_ms, bytes: u64::MAX };
    let group = SyncGroup::spawn("crash sync", policy).map_err(|error| error.to_string())?;
    let open = || {
        say(format_args!("opens"));
        let opened = forebay_storage::open(dir, &identity(), &store::options(), &group);
        opened.map_err(|error| format!("refused: {error}"))
    };
    let mut shard = open()?;
    let (mut committed, mut durable) = (0, Vec::new());
    for (at, step) in story.steps.iter().enumerate() {
        say(format_args!("begins {at}"));
        if let Step::Reopen { close } = step {
            let (writer, reader) = shard;
            match close {
                true => writer.close().map_err(|error| error.to_string())?,
                false => drop(writer),
            }
            drop(reader);
            shard = open()?;
            durable.clear();
        }
        let fed = feed_patiently(&mut shard.0, step);
        // Also after a failure: what is published then must be true.
        say_durable(&shard.1, &mut durable);
        if let Err(error) = fed {
            let most = if again { story.states.len() - 1 } else { committed };
            stopped(shard, &error, &Fate { least: committed, most, ..story.fate_at(at) }, story);
            return Ok(false);
        }
        if matches!(step, Step::Commit) {
            committed += 1;
            say(format_args!("committed {committed}"));
        }
    }
    shard.0.close().map_err(|error| error.to_string())?;
    say_durable(&shard.1, &mut durable);
    Ok(true)
}

/// What has no room is done again.
fn feed_patiently(writer: &mut ShardWriter, step: &Step) -> Result<(), WriteError> {
    for _ in 0..3 {
        match feed(writer, step) {
            Err(WriteError::NoSpace { .. }) => say(format_args!("waits")),
            done => return done,
        }
    }
    feed(writer, step)
}

/// A shard that stopped does nothing any more, whatever is asked, and serves what was committed.
fn stopped((mut writer, reader): (ShardWriter, ShardReader), why: &WriteError, fate: &Fate, story: &Story) {
    say(format_args!("stopped {why}"));
    let mut durable = Vec::new();
    say_durable(&reader, &mut durable);
    let refused = writer.sync_now().is_err() && writer.commit().is_err() && writer.expire(i64::MAX).is_err();
    let told = judge::reads(&reader, story, fate).map(drop);
    let told = told.and(if refused { Ok(()) } else { Err("it takes writes again".to_owned()) });
    let closed = writer.close();
    say_durable(&reader, &mut durable);
    match told.and(if closed.is_err() { Ok(()) } else { Err("it closes as if nothing had been".to_owned()) })
    {
        Ok(()) => say(format_args!("serves")),
        Err(why) => say(format_args!("misleads {why}")),
    }
}
