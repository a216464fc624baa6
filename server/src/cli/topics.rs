//! `forebay topics`: creates the Kafka topics the definitions and the configuration name: feature topics, dead-letter
//! topics, the registry, edges.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;

use super::{output, sources};
use crate::config::Config;
use crate::definitions::{Definitions, diagnoses};

const TIMEOUT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  forebay topics create --config forebay.toml
  forebay topics create --config forebay.toml --partitions 64 --replication 3
Topics that exist stay as they are. All topics of a lane must have the same number of partitions;
choose it for the years to come: to change it takes a new lane.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Create those that do not exist
    Create(Create),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Partitions of each feature topic
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,
    /// Replicas of each partition
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=32_767))]
    replication: i32,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let Action::Create(args) = args.action;
    let (config, definitions) = sources::both(&args.config)?;
    let admin: AdminClient<DefaultClientContext> =
        crate::kafka::producer_config(&config.kafka).create().context("the Kafka settings")?;
    let wanted = wanted(&config, &definitions, args.partitions);
    let topics: Vec<_> = wanted.iter().map(|wanted| wanted.new_topic(args.replication)).collect();
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let created = admin.create_topics(&topics, &options).await;
    let created = created.with_context(|| format!("Kafka at {}", config.kafka.bootstrap))?;
    let mut outcomes = Vec::new();
    for outcome in created {
        match outcome {
            Ok(topic) => outcomes.push((topic, "created")),
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => outcomes.push((topic, "exists")),
            Err((topic, code)) => anyhow::bail!("topic {topic}: {code}"),
        }
    }
    print(&outcomes, args.json)
}

/// A topic to be created.
struct Wanted {
    name: String,
    partitions: i32,
    /// Settings of its own.
    settings: Vec<(&'static str, String)>,
}

/// For records with a record, or many values, in them.
fn large() -> (&'static str, String) {
    ("max.message.bytes", crate::kafka::DEAD_LETTER_MAX_BYTES.into())
}

impl Wanted {
    fn new_topic(&self, replication: i32) -> NewTopic<'_> {
        let topic = NewTopic::new(&self.name, self.partitions, TopicReplication::Fixed(replication));
        self.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
    }
}

/// Every topic once; a dead-letter topic and the registry need one partition.
fn wanted(config: &Config, definitions: &Definitions, partitions: i32) -> Vec<Wanted> {
    let registry = config.registry.topic.iter();
    let compacted = || vec![("cleanup.policy", "compact".to_owned())];
    let registry = registry.map(|topic| Wanted { name: topic.clone(), partitions: 1, settings: compacted() });
    let mut wanted: Vec<Wanted> = registry.collect();
    if let Some(topic) = &config.assembly.requests_topic {
        let letters = config.assembly.dead_letter_topic(topic);
        wanted.push(Wanted { name: topic.clone(), partitions, settings: Vec::new() });
        wanted.push(Wanted { name: letters, partitions: 1, settings: vec![large()] });
    }
    for lane in &definitions.lanes {
        let diagnoses = definitions.diagnoses.as_ref().filter(|_| lane.name == diagnoses::LANE);
        let kept = diagnoses.map_or_else(Vec::new, |diagnoses| {
            vec![("retention.ms", diagnoses.retention_ms().to_string()), large()]
        });
        let sources = lane.topics.iter();
        let sources =
            sources.map(|topic| Wanted { name: topic.name.clone(), partitions, settings: kept.clone() });
        let dead = Wanted { name: lane.dead_letter_topic.clone(), partitions: 1, settings: vec![large()] };
        wanted.extend(sources.chain([dead]));
    }
    wanted.extend(executor(config, definitions, partitions));
    let mut named = HashSet::new();
    wanted.retain(|topic| named.insert(topic.name.clone()));
    wanted
}

/// Where triggers tell edges; and if there are models, where diagnoses are asked for.
fn executor(config: &Config, definitions: &Definitions, partitions: i32) -> Vec<Wanted> {
    let plain = |name: &str| Wanted { name: name.to_owned(), partitions, settings: Vec::new() };
    let mut topics: Vec<_> = definitions.triggers.iter().map(|trigger| plain(&trigger.edges_topic)).collect();
    if !definitions.models.is_empty() {
        let name = config.execute.dead_letter_topic.clone();
        topics.push(plain(&config.execute.requests_topic));
        topics.push(Wanted { name, partitions: 1, settings: vec![large()] });
    }
    topics
}

fn print(outcomes: &[(String, &str)], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let outcomes = outcomes.iter().map(|(topic, outcome)| json!({"topic": topic, "outcome": outcome}));
        output::json_line(&json!({"topics": outcomes.collect::<Vec<_>>()}))?;
        return Ok(());
    }
    let mut table = output::table(&["topic", "outcome"]);
    for (topic, outcome) in outcomes {
        table.add_row([topic, *outcome]);
    }
    output::line(output::rendered(&table))?;
    Ok(())
}
