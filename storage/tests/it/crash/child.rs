//! The child process: this very program, asked by its environment to write a story to a directory. It says on stdout
//! what it is about to do and what was acknowledged, a line at a time.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use forebay_storage::{ShardReader, SyncGroup, SyncPolicy};

use super::story::{Step, Story, feed, identity};
use crate::store::{self, TOPICS, durable};

const STORY: &str = "FOREBAY_CRASH_STORY";
const DIR: &str = "FOREBAY_CRASH_DIR";

/// What a child said, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is about to do a step.
    Begins(usize),
    /// So many commits are acknowledged.
    Committed(usize),
    /// These offsets were published as durable, -1 for none.
    Durable(Vec<i64>),
    /// The shard stopped, or refused a write: why.
    Stopped(String),
    /// The story is over.
    Ended,
}

/// The command line of a child; `before` is what it runs under, with its own arguments.
pub fn command(before: &[&str], dir: &Path, seed: u64, puts: usize) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut words = before.iter().map(|word| (*word).into()).collect::<Vec<std::ffi::OsString>>();
    words.push(program.into());
    words.extend(["--exact", "crash::child::a_child_tells_its_story", "--nocapture"].map(Into::into));
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
        "stopped" => Some(Said::Stopped(rest.to_owned())),
        "ended" => Some(Said::Ended),
        _ => None,
    }
}

fn say(words: std::fmt::Arguments<'_>) {
    let line = format!("crash: {words}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
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
    match tell(&story, Path::new(&dir)) {
        Ok(()) => say(format_args!("ended")),
        Err(why) => say(format_args!("stopped {why}")),
    }
}

fn tell(story: &Story, dir: &Path) -> Result<(), String> {
    let interval_ms = if story.grouped() { 1 } else { u64::MAX >> 1 };
    let policy = SyncPolicy { interval_ms, bytes: u64::MAX };
    let group = SyncGroup::spawn("crash sync", policy).map_err(|error| error.to_string())?;
    let open = || {
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
        let fed = feed(&mut shard.0, step);
        // Also after a failure: what is published then must be true.
        say_durable(&shard.1, &mut durable);
        fed.map_err(|error| error.to_string())?;
        if matches!(step, Step::Commit) {
            committed += 1;
            say(format_args!("committed {committed}"));
        }
    }
    shard.0.close().map_err(|error| error.to_string())?;
    say_durable(&shard.1, &mut durable);
    Ok(())
}
