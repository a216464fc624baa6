//! Processes beside the server: executors and model servers. Each says on its first line where it is, or is asked until it
//! answers. Knows the command line, and nothing of how they work.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::ensure;
use parking_lot::Mutex;

use crate::process::{forebay, guard};
use crate::server::{Server, collect, http_get, tail};
use crate::wait::eventually;

/// A running process; killed when dropped.
pub struct Program {
    child: Child,
    name: String,
    /// What its first line said.
    pub said: serde_json::Value,
    log: Arc<Mutex<String>>,
}

impl Program {
    /// Starts a command and reads its first line, which is JSON.
    pub async fn start(mut command: Command) -> Program {
        let start = move || {
            let mut program = Program::begin(&mut command);
            let mut out = BufReader::new(program.child.stdout.take().expect("piped"));
            let mut line = String::new();
            out.read_line(&mut line).expect("readable");
            let said = serde_json::from_str(&line);
            program.said = said.unwrap_or_else(|error| {
                program.child.wait().expect("it ends");
                panic!("{}: {error}: {line}{}", program.name, program.log.lock())
            });
            program
        };
        tokio::task::spawn_blocking(start).await.expect("it starts")
    }

    /// Starts a command that says nothing of the kind; its output is its log.
    pub fn spawn(command: &mut Command) -> Program {
        let mut program = Program::begin(command);
        collect(program.child.stdout.take().expect("piped"), program.log.clone());
        program
    }

    fn begin(command: &mut Command) -> Program {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = guard(command).spawn().expect("the program runs");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("piped"), log.clone());
        let name = Path::new(command.get_program()).display().to_string();
        Program { child, name, said: serde_json::Value::Null, log }
    }

    /// An executor for the bed of this server; more environment than that of the server's address.
    pub async fn executor(server: &Server, env: &[(&str, &str)]) -> Program {
        let mut command = Command::new(forebay_async().await);
        command.arg("execute").arg("--config").arg(server.config.file());
        command.env("RUST_LOG", "info").env("RUST_BACKTRACE", "1");
        command.env("FOREBAY_EXECUTE_SERVERS", format!("http://{}", server.grpc));
        command.env("FOREBAY_EXECUTE_HTTP_LISTEN", "127.0.0.1:0");
        command.envs(env.iter().copied());
        Program::start(command).await
    }

    /// A toy model that behaves as these arguments say.
    pub async fn toy_model(arguments: &[&str]) -> Program {
        let mut command = Command::new(forebay_async().await);
        command.arg("toy-model").args(arguments);
        Program::start(command).await
    }

    /// `http://host:port` of what it said it listens on for gRPC.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.said["grpc"].as_str().expect("an address"))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// `kill -9`, at once.
    pub fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM; waits for the end and gives the exit code.
    pub async fn terminate(&mut self) -> i32 {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
        let child = Mutex::new(&mut self.child);
        let ended = eventually("the program ends after SIGTERM", || async {
            let ended = child.lock().try_wait().expect("a child");
            ended.ok_or_else(|| anyhow::anyhow!("still running"))
        });
        ended.await.code().unwrap_or(-1)
    }

    /// GET of a path on the HTTP port it said: code and body.
    pub async fn http_get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        http_get(self.said["http"].as_str().expect("an address"), path).await
    }

    /// A sample of `/metrics`: the first line with this prefix (name and labels), as a number.
    pub async fn metric(&self, prefix: &str) -> anyhow::Result<f64> {
        let (code, text) = self.http_get("/metrics").await?;
        ensure!(code == 200, "/metrics {code}");
        let line = text.lines().find(|line| line.starts_with(prefix));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.and_then(|value| value.parse().ok()).ok_or_else(|| anyhow::anyhow!("no {prefix} in {text}"))
    }
}

async fn forebay_async() -> PathBuf {
    tokio::task::spawn_blocking(forebay).await.expect("build")
}

impl Drop for Program {
    /// Kills it; a test that fails shows the end of what it logged.
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, tail(&self.log()));
        }
    }
}
