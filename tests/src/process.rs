//! Processes of a test run: where the binaries are, running a command to its end, and the watchdog that ends what is
//! left when the test process is gone, however it went. Knows nothing of Kafka's or the server's arguments.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON; panics with everything it said if it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Standard output as JSON lines.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        self.stdout.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
    }

    /// Everything it said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Itself, if it ended with 0; panics otherwise.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}

/// The directory this executable's profile builds binaries into: `target/<profile>`, one above a test's own.
fn binary_dir() -> PathBuf {
    let own = std::env::current_exe().expect("this executable has a path");
    let dir = own.parent().expect("an executable is in a directory");
    dir.parent().filter(|_| dir.ends_with("deps")).unwrap_or(dir).to_owned()
}

/// A binary of the server crate, built (once per run, with these features, "package/feature") if it is missing or
/// outdated. With FOREBAY_TEST_PREBUILT set, the ones that are there are taken as they are.
pub fn build_binary(name: &str, features: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock();
    built.entry(name.to_owned()).or_insert_with(|| cargo_build(name, features)).clone()
}

fn cargo_build(name: &str, features: &str) -> PathBuf {
    let binary = binary_dir().join(name);
    if std::env::var_os("FOREBAY_TEST_PREBUILT").is_some() && binary.exists() {
        return binary;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With the features of the whole workspace, as it is built elsewhere: otherwise half of it would be built anew.
    cargo.current_dir(root()).args(["build", "--quiet", "--workspace", "--bin", name]);
    cargo.arg("--target-dir").arg(binary_dir().parent().expect("target/<profile>"));
    if binary_dir().ends_with("release") {
        cargo.arg("--release");
    }
    if !features.is_empty() {
        cargo.args(["--features", features]);
    }
    let done = cargo.output().expect("cargo runs");
    assert!(done.status.success(), "building {name}: {}", String::from_utf8_lossy(&done.stderr));
    binary
}

/// The server's binary.
pub fn forebay() -> PathBuf {
    build_binary("forebay", "")
}

/// Runs `forebay` with these arguments to its end.
pub async fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    run_with(arguments, "").await
}

/// The same with this on its standard input.
pub async fn run_with<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, input: &str) -> Output {
    let binary = tokio::task::spawn_blocking(forebay).await.expect("build");
    let mut command = tokio::process::Command::new(binary);
    command.args(arguments).env_remove("FOREBAY_SERVER").env("NO_COLOR", "1").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that does not read its input may have ended: not an error of ours.
    let write = async { drop((stdin.write_all(input.as_bytes()).await, stdin.shutdown().await, stdin)) };
    let done = async { tokio::join!(write, child.wait_with_output()).1 };
    let done = tokio::time::timeout(std::time::Duration::from_secs(120), done);
    let done = done.await.expect("the command ends").expect("its output is readable");
    Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// A directory for this run's files; removed by the watchdog.
pub fn run_dir() -> &'static Path {
    &watchdog().dir
}

/// Puts a child into the group the watchdog kills at the end.
pub(crate) fn guard(command: &mut Command) -> &mut Command {
    command.process_group(watchdog().child.id() as i32)
}

struct Watchdog {
    dir: PathBuf,
    child: Child,
}

/// A shell that waits for the end of its standard input, which is the end of this process, then stops the brokers,
/// removes the run's directory and kills its own process group, where the servers are.
fn watchdog() -> &'static Watchdog {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    const SCRIPT: &str = r#"
        cat >/dev/null
        for broker in "$1"/kafka-*; do
            [ -d "$broker" ] && "$0" stop --data "$broker" >/dev/null 2>&1
        done
        rm -rf "$1"
        kill -9 0"#;
    WATCHDOG.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("forebay-it-").tempdir().expect("a temporary directory");
        let dir = dir.keep();
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT]).arg(root().join("ops/kafka")).arg(&dir);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = shell.spawn().expect("sh runs");
        Watchdog { dir, child }
    })
}
