//! `forebay toy-model`: the demo's model as a server of its own, for trying out and for tests.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::net::TcpListener;

use super::output;
use super::serve::Signals;
use crate::demo::model::{self, Behaviour};

const EXAMPLES: &str = "\
Examples:
  forebay toy-model --listen 127.0.0.1:8081
  forebay toy-model --delay-ms 5000
  forebay toy-model --fail-rate 0.5 --input x:FP64:2
It serves every model name: outputs `score` (FP64) and `label` (BYTES) of the mean of its inputs.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where to listen for gRPC; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Answer after this long
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u64,
    /// Fail this share of requests, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    fail_rate: f64,
    /// Answer what nobody asked for
    #[arg(long)]
    nonsense: bool,
    /// An input it says it takes: NAME:DATATYPE:COLUMNS
    #[arg(long = "input", value_name = "INPUT", value_parser = input)]
    inputs: Vec<(String, String, i64)>,
}

fn input(text: &str) -> Result<(String, String, i64), String> {
    let parts: Vec<_> = text.split(':').collect();
    match parts[..] {
        [name, datatype, columns] => {
            let columns = columns.parse().map_err(|error| format!("columns: {error}"))?;
            Ok((name.into(), datatype.into(), columns))
        }
        _ => Err("expected NAME:DATATYPE:COLUMNS, such as x:FP64:2".into()),
    }
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { listen, delay_ms, fail_rate, nonsense, inputs } = args;
    let behaviour = Behaviour { delay: Duration::from_millis(delay_ms), fail_rate, nonsense, inputs };
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    output::json_line(&json!({"event": "listening", "grpc": listener.local_addr()?.to_string()}))?;
    model::serve(listener, behaviour, async {
        signals.next().await;
    })
    .await
}
