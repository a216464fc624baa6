//! Broker, server, executor and toy model in processes of their own, for scenarios in which edges become predictions.
//! Knows the command line, and nothing of what is produced.

use anyhow::{Context, ensure};
use forebay_tests::{Broker, Kafka, Program, Server, ServerConfig, run, run_dir};

use super::page::Page;

/// Everything that works together; ended when dropped.
pub struct Plant {
    /// Clients of the broker.
    pub kafka: Kafka,
    /// The server.
    pub server: Server,
    /// Asks the model.
    pub executor: Program,
    model: Program,
    group: &'static str,
    broker: u32,
    // Stopped after those that use it.
    _broker: Broker,
}

impl Plant {
    /// Starts it. `definitions` are given the model's endpoint; edges go to `<group>.edges`, diagnoses have the group as
    /// the prefix of their topics; `storage` are more keys of `[storage]`.
    pub async fn start(
        group: &'static str,
        definitions: impl FnOnce(&str) -> String,
        storage: &str,
        model: &[&str],
        partitions: usize,
    ) -> anyhow::Result<Plant> {
        let broker = Broker::start(group).await;
        let (kafka, pid) = (broker.kafka(), broker.pid().await.context("the broker has no pid")?);
        let model = Program::toy_model(&[&["--input", "x:FP64:1"], model].concat()).await;
        let definitions = definitions(&model.endpoint());
        // Where tests are hasty, a server's own defaults.
        let more = format!(
            "[kafka]\ntopics_check_interval = \"30s\"\n[execute]\nrequests_topic = \"{group}.requests\"\n\
             dead_letter_topic = \"{group}.execute-dlq\"\n[storage]\nsync_interval = \"50ms\"\n{storage}"
        );
        let config =
            ServerConfig::write(&run_dir().join(group), &kafka.bootstrap, group, &definitions, &more);
        let (file, partitions) = (config.file(), partitions.to_string());
        let file = file.to_str().context("a path that is text")?;
        let made = run(["topics", "create", "--config", file, "--partitions", &partitions]).await;
        ensure!(made.code == 0, "forebay topics create failed: {}", made.said());
        let server = config.start().await;
        server.wait_ready().await;
        let executor = Program::executor(&server, &[]).await;
        Ok(Plant { kafka, server, executor, model, group, broker: pid, _broker: broker })
    }

    /// Process ids besides the server's.
    pub fn pids(&self) -> [(&'static str, u32); 3] {
        [("broker", self.broker), ("executor", self.executor.pid()), ("model", self.model.pid())]
    }

    /// A topic of the group.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.group)
    }

    /// Edges that the executor is done with.
    pub async fn judged(&self) -> anyhow::Result<f64> {
        let http = self.executor.said["http"].as_str().context("the executor says where it is")?;
        let page = Page::get(http).await?;
        let counted =
            ["predictions", "repeated"].map(|name| page.sum(&format!("forebay_execute_{name}_total")));
        Ok(counted.iter().sum())
    }
}
