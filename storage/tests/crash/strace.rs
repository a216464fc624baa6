//! Runs a child under strace and understands what it prints: which system calls changed files, with their bytes, in
//! which order, and what the child said between them.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::child::{self, Said};

/// Calls that change files or make changes last, and those that might do so behind the harness's back.
const CALLS: &str = "open,openat,creat,mkdir,mkdirat,write,writev,pwrite64,pwritev,pwritev2,fallocate,truncate,ftruncate,\
                     rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,fsync,fdatasync,\
                     sync_file_range,syncfs,sync,msync,copy_file_range,sendfile,splice,mmap,mprotect,ioctl,\
                     io_uring_setup";

/// A system call that did something to the shard's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A file that was not there before, or was cut to nothing if `truncate`.
    Open {
        path: PathBuf,
        truncate: bool,
    },
    MakeDir(PathBuf),
    Write {
        path: PathBuf,
        at: Option<u64>,
        bytes: Vec<u8>,
    },
    Allocate {
        path: PathBuf,
        end: u64,
    },
    SetLen {
        path: PathBuf,
        bytes: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink(PathBuf),
    /// Of a file or a directory.
    Sync(PathBuf),
}

/// Something that happened, in the order in which it was over.
#[derive(Debug, Clone)]
pub enum Event {
    /// `begun` is how many events were over when it began; `thread` did it; it was the `nth` of its `name` there.
    Called {
        call: Call,
        begun: usize,
        name: String,
        nth: u32,
        failed: bool,
        /// Not by the system, but because the test wanted it.
        injected: bool,
    },
    Said(Said),
}

/// Writes a story under strace to its end, and gives what happened in `dir`.
pub fn watch(dir: &Path, seed: u64, puts: usize) -> Vec<Event> {
    let events = watch_failing(dir, seed, puts, None);
    assert!(ended(&events), "seed {seed}: the story ends: {:?}", events.last());
    events
}

/// Whether the story was told to its end. Its sync thread may still do something then.
pub fn ended(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Said(Said::Ended)))
}

/// As `watch`, with a failure injected, in strace's words. The story may end early then.
pub fn watch_failing(dir: &Path, seed: u64, puts: usize, inject: Option<&str>) -> Vec<Event> {
    let log = dir.with_extension("strace");
    let log_name = log.to_str().expect("UTF-8").to_owned();
    let trace = format!("trace={}", CALLS.replace(' ', ""));
    let mut before = vec!["strace", "-f", "--seccomp-bpf", "-qq", "-a", "1", "-y", "-xx", "-s", "100000000"];
    before.extend(["-o", &log_name, "-e", &trace]);
    before.extend(inject.iter().flat_map(|inject| ["-e", inject]));
    let run = child::command(&before, dir, seed, puts).output();
    let run = run.expect("strace is installed: ops/setup does it");
    let text = std::fs::read_to_string(&log).expect("strace's output");
    std::fs::remove_file(&log).expect("a removal");
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    // A failure meant for a thread of the shard may hit the test runner's before it begins.
    let began = out.contains("crash: begins") || out.contains("crash: stopped");
    if inject.is_some() && !began {
        return Vec::new();
    }
    assert!(began, "seed {seed}: {}\n{out}{errors}", run.status);
    Parser::new(dir).parse(&text)
}

struct Parser<'d> {
    dir: &'d Path,
    events: Vec<Event>,
    /// By thread: the call that is going on, and how many events were over when it began.
    going_on: std::collections::HashMap<String, (String, usize)>,
    /// By thread and name.
    counts: std::collections::HashMap<(String, String), u32>,
}

impl Parser<'_> {
    fn new(dir: &Path) -> Parser<'_> {
        Parser { dir, events: Vec::new(), going_on: Default::default(), counts: Default::default() }
    }

    fn parse(mut self, text: &str) -> Vec<Event> {
        text.lines().for_each(|line| self.line(line));
        self.events
    }

    fn line(&mut self, line: &str) {
        let (thread, rest) = line.split_once(' ').expect("a thread's number");
        let rest = rest.trim_start();
        let over = ["+++", "---", "???"].iter().any(|mark| rest.starts_with(mark));
        if over || rest.contains("<detached ...>") {
            return;
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            self.going_on.insert(thread.to_owned(), (begun.to_owned(), self.events.len()));
            return;
        }
        let (whole, begun) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (begun, events) = self.going_on.remove(thread).expect("a call that was going on");
                let (_, end) = resumed.split_once(" resumed>").expect("the rest of a call");
                (begun + end, events)
            }
            None => (rest.to_owned(), self.events.len()),
        };
        self.call(thread, &whole, begun);
    }

    fn call(&mut self, thread: &str, whole: &str, begun: usize) {
        let (name, rest) = whole.split_once('(').unwrap_or_else(|| panic!("not a call: {whole}"));
        let nth = self.counts.entry((thread.to_owned(), name.to_owned())).or_insert(0);
        *nth += 1;
        let nth = *nth;
        // Arguments have no parentheses of their own but in `(deleted)`: names and bytes are in hex.
        let ended = rest.rsplit_once(") = ");
        let (arguments, result) = ended.unwrap_or_else(|| panic!("not a call that ended: {whole}"));
        let arguments: Vec<&str> = arguments.split(", ").collect();
        if name == "write" && arguments[0].starts_with("1<") {
            let line = String::from_utf8_lossy(&bytes(arguments[1])).into_owned();
            self.events.extend(line.lines().filter_map(child::understand).map(Event::Said));
            return;
        }
        let failed = result.starts_with('-');
        let injected = result.ends_with("(INJECTED)");
        if let Some(call) = self.understand(name, &arguments, result) {
            self.events.push(Event::Called { call, begun, name: name.to_owned(), nth, failed, injected });
        }
    }

    /// What a call did to the shard's files, if it did something.
    fn understand(&self, name: &str, arguments: &[&str], result: &str) -> Option<Call> {
        let number = |at: usize| arguments[at].parse::<u64>().expect("a number");
        let ours = |path: Option<PathBuf>| path.filter(|path| path.starts_with(self.dir));
        let at = |at: usize| ours(opened(arguments[at]));
        let named = |at: usize| ours(Some(string(arguments[at])));
        let done = || result.split(' ').next().and_then(|done| done.parse::<usize>().ok()).unwrap_or(0);
        Some(match name {
            "open" | "openat" | "creat" => {
                let from = if name == "openat" { 1 } else { 0 };
                let flags = arguments.get(from + 1).copied().unwrap_or_default();
                let path = named(from)?;
                let (makes, truncate) = (flags.contains("O_CREAT"), flags.contains("O_TRUNC"));
                assert!(!flags.contains("O_TMPFILE"), "files without names are not understood here");
                return (makes || truncate).then_some(Call::Open { path, truncate });
            }
            "mkdir" => Call::MakeDir(named(0)?),
            "mkdirat" => Call::MakeDir(named(1)?),
            "write" => Call::Write { path: at(0)?, at: None, bytes: bytes(arguments[1])[..done()].to_vec() },
            "pwrite64" => {
                let written = bytes(arguments[1])[..done()].to_vec();
                Call::Write { path: at(0)?, at: Some(number(3)), bytes: written }
            }
            "fallocate" => {
                let path = at(0)?;
                assert_eq!(arguments[1], "0", "only plain allocation is understood here");
                Call::Allocate { path, end: number(2) + number(3) }
            }
            "ftruncate" => Call::SetLen { path: at(0)?, bytes: number(1) },
            "truncate" => Call::SetLen { path: named(0)?, bytes: number(1) },
            "rename" => Call::Rename { from: named(0)?, to: named(1)? },
            "renameat" | "renameat2" => Call::Rename { from: named(1)?, to: named(3)? },
            "link" => Call::Link { from: named(0)?, to: named(1)? },
            "linkat" => Call::Link { from: named(1)?, to: named(3)? },
            "unlink" | "rmdir" => Call::Unlink(named(0)?),
            "unlinkat" => Call::Unlink(named(1)?),
            "fsync" | "fdatasync" => Call::Sync(at(0)?),
            "mmap" => {
                let writes = arguments[2].contains("PROT_WRITE") && arguments[3].contains("MAP_SHARED");
                let path = if writes { at(4) } else { None };
                assert!(path.is_none(), "stores through a mapping are not seen here: {path:?}");
                return None;
            }
            "ioctl" | "sync_file_range" => return None,
            _ => {
                let touched = (0..arguments.len()).find_map(at);
                assert!(touched.is_none(), "{name} is not understood here: {touched:?}");
                return None;
            }
        })
    }
}

/// The path of an open file, `3</a/path>`, if it still has a name.
fn opened(argument: &str) -> Option<PathBuf> {
    let (_, path) = argument.split_once('<')?;
    path.strip_suffix('>').map(|path| PathBuf::from(std::ffi::OsString::from_vec(unhex(path))))
}

fn string(argument: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes(argument)))
}

/// Bytes of a whole string, `"\x61"`.
fn bytes(argument: &str) -> Vec<u8> {
    let quoted = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    unhex(quoted.unwrap_or_else(|| panic!("not a whole string: {argument}")))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(4);
    assert!(digits.remainder().is_empty(), "hex of whole bytes");
    let digit = |digit: u8| (digit as char).to_digit(16).expect("a hex digit") as u8;
    digits.map(|one| digit(one[2]) << 4 | digit(one[3])).collect()
}
