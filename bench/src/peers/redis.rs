//! A Redis server of the bench's own, set up for speed: nothing is ever saved or synced, which is in its favour. And its
//! protocol as far as the peers speak it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use forebay_tests::Program;
use tempfile::TempDir;

/// What to do where there is none.
pub const HELP: &str = "redis-server is not installed: ops/setup does it (Debian: apt-get install redis-server); \
    `--peer` chooses other peers";

/// How long it may take to answer the first time.
const START: Duration = Duration::from_secs(10);

/// A running server; killed when dropped.
pub struct Redis {
    program: Program,
    _dir: TempDir,
    /// host:port.
    pub address: String,
    /// Process id.
    pub pid: u32,
    /// As it says itself.
    pub version: String,
}

/// Whether there is a `redis-server` to start.
pub fn installed() -> bool {
    Command::new("redis-server").arg("--version").output().is_ok_and(|output| output.status.success())
}

impl Redis {
    /// Starts one on a free port, empty, with its files in a directory of its own.
    pub fn start() -> anyhow::Result<Redis> {
        ensure!(installed(), HELP);
        let dir = tempfile::tempdir()?;
        // It cannot choose a port itself: another process may have taken the one that was free.
        let mut outcome = Err(anyhow::anyhow!("redis-server was not tried"));
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut command = Command::new("redis-server");
            command.arg("--dir").arg(dir.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            command.args(["--save", "", "--appendonly", "no"]);
            let program = Program::spawn(&mut command);
            outcome = info(&format!("127.0.0.1:{port}"), &program).map(|info| (program, port, info));
            if outcome.is_ok() {
                break;
            }
        }
        let (program, port, info) = outcome?;
        let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let pid = of("process_id:").and_then(|pid| pid.parse().ok()).context("Redis says no process id")?;
        let version = of("redis_version:").unwrap_or_default().to_owned();
        Ok(Redis { program, _dir: dir, address: format!("127.0.0.1:{port}"), pid, version })
    }

    /// Sends commands that are answered by one line each, and waits for the answers.
    pub fn load(&self, commands: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<()> {
        let mut pipeline = Pipeline::connect(&self.address)?;
        for command in commands {
            pipeline.add(|out| out.extend_from_slice(&command))?;
        }
        pipeline.finish().with_context(|| self.program.log())
    }
}

/// What it says of itself, once it answers.
fn info(address: &str, program: &Program) -> anyhow::Result<String> {
    let begin = Instant::now();
    loop {
        match ask_info(address) {
            Ok(info) => return Ok(info),
            Err(error) if begin.elapsed() > START => {
                bail!("redis-server does not answer: {error:#}\n{}", program.log())
            }
            Err(_) if program.log().contains("Address already in use") => bail!("its port was taken"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn ask_info(address: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(START))?;
    // It closes the connection after the answer to the second.
    socket.write_all(b"INFO server\r\nQUIT\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    ensure!(answer.starts_with('$'), "INFO: {answer}");
    Ok(answer)
}

/// Appends a command of these words.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    push_head(out, b'*', words.len());
    for word in words {
        push_head(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_head(out: &mut Vec<u8>, kind: u8, number: usize) {
    let (mut digits, mut at, mut left) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Commands in one pipeline.
const PIPELINE: usize = 512;

/// Commands over one connection, so many at a time. Each is answered by one line, of which nothing is wanted but that it
/// is no error. A pipeline is written while the answers to the one before are still outstanding.
pub struct Pipeline {
    socket: TcpStream,
    out: Vec<u8>,
    /// Commands in `out`.
    queued: usize,
    /// Answers to what was written before.
    outstanding: usize,
    /// Answers read that belong to what was written last.
    ahead: usize,
    answers: Box<[u8]>,
}

impl Pipeline {
    /// Over a connection of its own.
    pub fn connect(address: &str) -> anyhow::Result<Pipeline> {
        let socket = TcpStream::connect(address).context("connecting to Redis")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let answers = vec![0; 64 << 10].into();
        Ok(Pipeline { socket, out: Vec::new(), queued: 0, outstanding: 0, ahead: 0, answers })
    }

    /// Adds a command, which `write` appends to what it is given; sends the pipeline if it is full.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        write(&mut self.out);
        self.queued += 1;
        if self.queued == PIPELINE { self.send() } else { Ok(()) }
    }

    /// Sends what is left and waits for all answers.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.send()?;
        self.send()
    }

    fn send(&mut self) -> anyhow::Result<()> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        let wanted = std::mem::replace(&mut self.outstanding, std::mem::take(&mut self.queued));
        while self.ahead < wanted {
            let read = self.socket.read(&mut self.answers).context("waiting for Redis' answers")?;
            let answers = &self.answers[..read];
            ensure!(read > 0, "Redis closed the connection");
            // `+OK` or `:1`; an error begins with a minus, which neither of them has.
            ensure!(!answers.contains(&b'-'), "Redis: {}", String::from_utf8_lossy(answers));
            self.ahead += answers.iter().filter(|byte| **byte == b'\n').count();
        }
        self.ahead -= wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_counted_words() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", b"a key", &[b'x'; 120], b""]);
        let expected = format!("*4\r\n$3\r\nSET\r\n$5\r\na key\r\n$120\r\n{}\r\n$0\r\n\r\n", "x".repeat(120));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn pipelines_are_written_ahead_and_every_answer_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut seen = vec![0; 2 * PIPELINE];
            // Nothing is answered before the second pipeline is there.
            socket.read_exact(&mut seen).unwrap();
            socket.write_all("+OK\r\n".repeat(2 * PIPELINE).as_bytes()).unwrap();
            socket.read_exact(&mut seen[..3]).unwrap();
            socket.write_all(b"+OK\r\n:1\r\n:0\r\n").unwrap();
            socket
        });
        let mut pipeline = Pipeline::connect(&address).unwrap();
        for _ in 0..2 * PIPELINE + 3 {
            pipeline.add(|out| out.push(b'c')).unwrap();
        }
        pipeline.finish().unwrap();
        assert_eq!((pipeline.outstanding, pipeline.ahead, pipeline.queued), (0, 0, 0));
        let mut socket = server.join().unwrap();
        pipeline.add(|out| out.push(b'c')).unwrap();
        socket.write_all(b"-ERR no\r\n").unwrap();
        assert!(pipeline.finish().unwrap_err().to_string().contains("ERR no"));
    }
}
