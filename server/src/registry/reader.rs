//! The thread that reads the registry's topic: from its beginning to its end, then what comes. It joins no group, and
//! whatever goes wrong is said and tried again; what was read stays in force meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;

use super::{Contents, Registry};
use crate::config::KafkaConfig;
use crate::kafka::consumer::{Event, Member, Step};
use crate::kafka::consumer_config;
use crate::kafka::topics::{DescribeError, TopicAdmin};

/// How long a question to Kafka may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_millis(300);

/// How often a stop, or the return of the brokers, is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Most records between two looks.
const BATCH: usize = 1000;

struct Reader {
    registry: Arc<Registry>,
    admin: TopicAdmin,
    config: ClientConfig,
    /// The log that was read first.
    log: Option<[u8; 16]>,
}

/// Starts the thread; fails only if a setting is wrong.
pub(super) fn spawn(kafka: &KafkaConfig, registry: Arc<Registry>) -> KafkaResult<()> {
    let mut config = consumer_config(kafka);
    let admin = TopicAdmin::new(&config)?;
    // It joins no group: librdkafka wants a name for one before it lets partitions be assigned.
    config.set("group.id", format!("{}.registry", kafka.group));
    let reader = Reader { registry, admin, config, log: None };
    thread::Builder::new()
        .name("registry".into())
        .spawn(move || reader.run())
        .map(drop)
        .map_err(|error| rdkafka::error::KafkaError::ClientCreation(error.to_string()))
}

impl Reader {
    fn run(mut self) {
        while !self.stopping() {
            if let Err(reason) = self.read() {
                self.registry.set_trouble(Some(reason));
                thread::sleep(AGAIN);
            }
        }
    }

    fn stopping(&self) -> bool {
        self.registry.stopping.load(Ordering::Acquire)
    }

    /// Reads until told to stop, or until it has to begin again.
    fn read(&mut self) -> Result<(), String> {
        let from = self.look()?;
        let member = Member::new(&self.config).map_err(|error| error.to_string())?;
        let place = (self.registry.topic.as_str(), 0, from);
        member.assign([place].into_iter()).map_err(|error| error.to_string())?;
        let read = self.follow(&member);
        member.close(LOOK);
        read
    }

    /// Looks at the topic; gives its first offset.
    fn look(&mut self) -> Result<i64, String> {
        let topic = self.registry.topic.as_str();
        let facts = self.admin.describe(&[topic], PATIENCE).map_err(|error| match error {
            DescribeError::Missing(topic) => {
                format!("topic {topic} does not exist; create it with `forebay topics create`")
            }
            DescribeError::Unreachable(why) => why,
        })?;
        let facts = facts.first().ok_or("Kafka does not describe the topic")?;
        if facts.partitions != 1 {
            return Err(format!(
                "topic {topic} has {} partitions; it needs exactly one, so that changes have one order",
                facts.partitions
            ));
        }
        if self.log.is_some_and(|log| log != facts.id) {
            return Err(format!(
                "topic {topic} was deleted and created again; what it said before stays in force: restart the server \
                 to take up what it says now"
            ));
        }
        self.log = Some(facts.id);
        self.admin.bounds(topic, 0, PATIENCE).map(|(low, _)| low).map_err(|error| error.to_string())
    }

    fn follow(&self, member: &Member) -> Result<(), String> {
        let (mut contents, mut batch, mut next) = (Contents::default(), Vec::new(), 0);
        let mut away_since: Option<Instant> = None;
        while !self.stopping() {
            let event = member.fill(&mut batch, BATCH, LOOK, Duration::ZERO);
            for step in batch.drain(..) {
                away_since = None;
                match step {
                    Step::Message(message) => {
                        next = message.offset() + 1;
                        contents.take(message.offset(), message.key().unwrap_or_default(), message.payload());
                    }
                    Step::End(place) => {
                        next = next.max(place.2);
                        self.registry.publish(&contents, next);
                    }
                }
            }
            match event {
                Some(Event::Disconnected(why)) => {
                    self.registry.set_trouble(Some(format!("no broker answers: {why}")));
                    away_since = Some(Instant::now());
                }
                Some(event) => again(event)?,
                None => {}
            }
            if away_since.is_some_and(|since| since.elapsed() > AGAIN) {
                away_since = self.still_away();
            }
        }
        Ok(())
    }

    /// Asks whether brokers answer again, which nothing tells when there is nothing to read.
    fn still_away(&self) -> Option<Instant> {
        match self.admin.bounds(&self.registry.topic, 0, AGAIN) {
            Ok(_) => {
                self.registry.set_trouble(None);
                None
            }
            Err(_) => Some(Instant::now()),
        }
    }
}

/// Whether the topic has to be read again from its beginning.
fn again(event: Event) -> Result<(), String> {
    match event {
        Event::OffsetLost(place) => Err(format!("the log has no record at offset {} any more", place.2)),
        Event::TopicChanged(why) | Event::Fatal(why) => Err(why),
        Event::Warning(why) => {
            tracing::debug!(why, "registry");
            Ok(())
        }
        _ => Ok(()),
    }
}
