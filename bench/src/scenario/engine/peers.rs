//! Builds the peers' binary when it is wanted, with the RocksDB that the system has. Building RocksDB itself would take
//! longer than the whole measurement.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

const BINARY: &str = "forebay-bench-peers";
const HELP: &str = "The peers need RocksDB's library and headers and libclang: ops/setup bench installs them \
    (Debian: librocksdb-dev, libclang-dev, pkg-config). Without them: --peer none";

/// The binary, up to date.
pub fn build() -> anyhow::Result<PathBuf> {
    let [libraries, headers] = ["libdir", "includedir"].map(pkg_config);
    let (libraries, headers) = (libraries.context(HELP)?, headers.context(HELP)?);
    eprintln!("building the peers (about a minute the first time) ...");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--release",
        "-p",
        "forebay-bench-stores",
        "--features",
        "peers",
        "--bin",
        BINARY,
    ]);
    command.args(["--message-format", "json-render-diagnostics", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/stores/Cargo.toml"));
    command.env("ROCKSDB_LIB_DIR", libraries).env("ROCKSDB_INCLUDE_DIR", headers);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo")?;
    ensure!(output.status.success(), "the peers cannot be built. {HELP}");
    executable(&output.stdout).context("cargo named no binary of the peers")
}

/// The binary that cargo's messages name.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    let messages = messages.split(|byte| *byte == b'\n');
    let mut messages = messages.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    messages.find_map(|message| {
        let named = message["target"]["name"] == BINARY;
        named.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    })
}

fn pkg_config(variable: &str) -> anyhow::Result<String> {
    let output =
        Command::new("pkg-config").args([format!("--variable={variable}").as_str(), "rocksdb"]).output()?;
    ensure!(output.status.success(), "pkg-config knows no rocksdb");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Versions of the peers measured.
pub fn versions(peers: &[String]) -> Vec<(&'static str, String)> {
    let wanted = |name: &str| peers.is_empty() || peers.iter().any(|peer| peer == name);
    let mut versions = Vec::new();
    if wanted("rocksdb") {
        let output = Command::new("pkg-config").args(["--modversion", "rocksdb"]).output();
        let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        versions.push(("rocksdb_version", version.unwrap_or_default()));
    }
    if wanted("fjall") {
        let lock = include_str!("../../../../Cargo.lock");
        let version =
            lock.split_once("name = \"fjall\"\nversion = \"").map(|(_, rest)| rest.split('"').next());
        versions.push(("fjall_version", version.flatten().unwrap_or_default().to_owned()));
    }
    versions
}
