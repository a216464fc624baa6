//! A real Apache Kafka, started through `ops/kafka`: one shared by all tests of a run, and brokers of their own for
//! tests that take theirs down. What is still up at the end of the process is stopped by the watchdog.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::sync::OnceCell;

use crate::kafka::Kafka;
use crate::process::{root, run_dir};

/// A broker in a process of its own.
#[derive(Debug)]
pub struct Broker {
    data: PathBuf,
    port: u16,
    bootstrap: String,
}

impl Broker {
    /// The broker all tests share; started by the first to ask.
    pub async fn shared() -> Kafka {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Broker::start("shared").await.kafka() }).await.clone()
    }

    /// A broker for one test, on a free port. `stop` and `start_again` keep its port and its data.
    pub async fn start(name: &str) -> Broker {
        let data = run_dir().join(format!("kafka-{name}"));
        std::fs::create_dir_all(&data).expect("a directory for the broker");
        let mut broker = Broker { data, port: 0, bootstrap: String::new() };
        broker.start_again().await;
        broker
    }

    /// Where clients connect, with helpers.
    pub fn kafka(&self) -> Kafka {
        Kafka::new(&self.bootstrap)
    }

    /// Its process id, while it runs.
    pub async fn pid(&self) -> Option<u32> {
        let said = self.ops("status", &["--json"]).await;
        let json: serde_json::Value = serde_json::from_str(said.trim()).ok()?;
        json["pid"].as_u64().map(|pid| pid as u32)
    }

    /// Starts it on the port and data it had.
    pub async fn start_again(&mut self) {
        let said = self.ops("start", &["--port", &self.port.to_string(), "--json"]).await;
        let line = said.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(line).expect("ops/kafka start --json");
        let bootstrap = json["bootstrap"].as_str().expect("bootstrap").to_owned();
        self.port = bootstrap.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
        self.bootstrap = bootstrap;
    }

    /// Stops it; its data stays.
    pub async fn stop(&self) {
        self.ops("stop", &[]).await;
    }

    async fn ops(&self, verb: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(root().join("ops/kafka"));
        command.arg(verb).arg("--data").arg(&self.data).args(arguments);
        // The broker outlives the script, so it must not hold our pipe: output goes through a file.
        let path = self.data.with_extension(format!("{verb}.out"));
        let out = std::fs::File::create(&path).expect("a file for the output");
        let errors = out.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        let status = tokio::task::spawn_blocking(move || command.status()).await.expect("no panic");
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(status.expect("ops/kafka runs").success(), "ops/kafka {verb}: {said}");
        said
    }
}
