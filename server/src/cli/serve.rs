//! `forebay serve`: checks the CPU and the configuration, starts the server, says where it listens, and stops it on
//! SIGTERM or SIGINT.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{output, sources};

const EXAMPLES: &str = "\
Examples:
  forebay serve --config forebay.toml
  forebay serve --config /etc/forebay/forebay.toml --log-json
The first line of standard output says where it listens, as JSON; logs go to standard error
(RUST_LOG=debug for more). Every key of the configuration can be given as FOREBAY_<SECTION>_<KEY>,
for example FOREBAY_SERVER_LISTEN.
SIGTERM or Ctrl-C stops it gracefully, a second one at once.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Listen on other addresses than loopback without TLS, as server.insecure = true does
    #[arg(long)]
    insecure: bool,
    /// Logs as JSON lines
    #[arg(long)]
    log_json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    check_cpu()?;
    let config = sources::config_with(&args.config, &overrides(args.insecure))?;
    start_log(args.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let listening = |grpc: SocketAddr, http: SocketAddr| {
            let line = json!({"event": "listening", "grpc": grpc.to_string(), "http": http.to_string()});
            Ok(output::json_line(&line)?)
        };
        let running = tokio::select! {
            running = crate::serve::start(config, listening) => running?,
            name = signals.next() => {
                tracing::info!("{name} before the server has started: stopped");
                std::process::exit(0)
            }
        };
        let name = signals.next().await;
        tracing::info!("{name}: stopping; once more to stop at once");
        tokio::select! {
            outcome = running.stop() => outcome,
            name = signals.next() => {
                tracing::warn!("{name} again: stopped at once; the next start recovers from the files");
                // What is still being stopped holds threads that would be waited for.
                std::process::exit(1)
            }
        }
    })
}

fn overrides(insecure: bool) -> Vec<(&'static str, &'static str)> {
    insecure.then_some(("FOREBAY_SERVER_INSECURE", "true")).into_iter().collect()
}

/// The binary is built for x86-64-v3; on an older CPU it would die of an illegal instruction some time later.
fn check_cpu() -> anyhow::Result<()> {
    let missing = missing_features();
    anyhow::ensure!(
        missing.is_empty(),
        "this CPU lacks {} (x86-64-v3), which this binary was built for; build with RUSTFLAGS=\"-C target-cpu=native\"",
        missing.join(", ")
    );
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn missing_features() -> Vec<&'static str> {
    let features = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("BMI1", is_x86_feature_detected!("bmi1")),
        ("BMI2", is_x86_feature_detected!("bmi2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("LZCNT", is_x86_feature_detected!("lzcnt")),
        ("MOVBE", is_x86_feature_detected!("movbe")),
    ];
    features.into_iter().filter(|(_, found)| !found).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn missing_features() -> Vec<&'static str> {
    Vec::new()
}

/// Logs to standard error, as lines for people or as JSON.
pub(super) fn start_log(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rdkafka=off"));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match json {
        true => log.json().init(),
        false => log.init(),
    }
}

/// The signals that end a program.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Signals { terminate, interrupt })
    }

    /// Waits for the next, and gives its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
