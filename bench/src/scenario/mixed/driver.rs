//! The generator's process, from outside: started, told to begin, listened to, ended with whoever started it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::Mutex;

use super::generator::{Plan, Said, Sent};

/// A generator; killed when dropped.
pub struct Driver {
    child: Child,
    begin: ChildStdin,
    heard: Arc<Mutex<Heard>>,
    listener: Option<std::thread::JoinHandle<()>>,
    /// Bytes of the prepared records over bytes compressed.
    pub compression: f64,
    /// Different payloads.
    pub payloads: u64,
}

/// What it has said so far.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Seconds since the beginning, data points so far, latest batch in ms.
    pub seconds: Vec<(f64, u64, f64)>,
    /// At the end.
    pub sent: Option<Sent>,
}

impl Driver {
    /// Starts it and waits until it is prepared.
    pub async fn start(plan: Plan) -> anyhow::Result<Driver> {
        tokio::task::spawn_blocking(move || start(&plan)).await?
    }

    /// Has it begin at this moment, ms since the epoch.
    pub fn begin(&mut self, at_ms: i64) -> anyhow::Result<()> {
        writeln!(self.begin, "{at_ms}").context("the generator is gone")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has sent everything, or has ended.
    pub fn is_done(&self) -> bool {
        self.listener.as_ref().is_none_or(|listener| listener.is_finished())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// What it said; an error if it did not come to the end.
    pub fn leave(mut self) -> anyhow::Result<Heard> {
        if let Some(listener) = self.listener.take() {
            listener.join().ok().context("the generator's words are no JSON")?;
        }
        let status = self.child.wait()?;
        let heard = self.heard.lock().clone();
        match &heard.sent {
            Some(_) => Ok(heard),
            None => bail!("the generator ended early: {status}"),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(plan: &Plan) -> anyhow::Result<Driver> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("mixed-generator").arg(serde_json::to_string(plan)?);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let begin = child.stdin.take().context("piped")?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let first = lines.next().context("the generator ended before it was prepared")??;
    let Said::Prepared { raw_bytes, wire_bytes, payloads } = serde_json::from_str(&first)? else {
        bail!("the generator began with {first}")
    };
    let heard = Arc::new(Mutex::new(Heard::default()));
    let into = heard.clone();
    let listener = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            match serde_json::from_str(&line).expect("the generator speaks JSON") {
                Said::Second { at_s, sent, behind_ms } => {
                    into.lock().seconds.push((at_s, sent, behind_ms));
                }
                Said::Done(sent) => into.lock().sent = Some(sent),
                Said::Prepared { .. } => {}
            }
        }
    });
    let compression = raw_bytes as f64 / wire_bytes as f64;
    Ok(Driver { child, begin, heard, listener: Some(listener), compression, payloads })
}
