//! Reads dead letters from a lane's dead-letter topic, up to the end it has when asked. Knows the headers ingest writes
//! and nothing of what is done with the letters.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::cli::output;
use crate::config::KafkaConfig;
use crate::definitions::LaneDefinition;
use crate::kafka;
use crate::kafka::consumer::{Event, Member, RawMessage, Step};
use crate::kafka::topics::TopicAdmin;

/// The longest Kafka may give nothing while there is something to read.
const PATIENCE: Duration = Duration::from_secs(30);
const BATCH: usize = 1_000;
/// Names of the headers that ingest adds begin so.
const OWN_HEADERS: &[u8] = b"forebay-dlq-";

/// A partition and an offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// Where a letter's record was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub topic: String,
    pub at: Place,
    /// Its Kafka timestamp, ms since the epoch.
    pub timestamp_ms: Option<i64>,
}

/// A dead letter: the original record, and why it is here.
#[derive(Debug, Clone)]
pub struct Letter {
    /// In the dead-letter topic.
    pub at: Place,
    /// When it was written, ms since the epoch.
    pub timestamp_ms: i64,
    pub reason: String,
    pub detail: String,
    /// `None` if somebody else wrote it, without saying where it comes from.
    pub origin: Option<Origin>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// The original ones.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Which letters.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Empty: all.
    pub reasons: Vec<String>,
    pub limit: u64,
    pub from_time_ms: Option<i64>,
    /// Where to begin, by partition.
    pub from: Vec<Place>,
    /// Only these; empty: all.
    pub at: Vec<Place>,
}

/// Gives the wanted letters, partition by partition in the order of their offsets.
pub struct Reader {
    member: Member,
    topic: String,
    /// The lane's topics: a dead-letter topic may be several lanes'.
    origins: Vec<String>,
    wanted: Wanted,
    /// (partition, next offset, end) still to read; the first is being read.
    rest: VecDeque<(i32, i64, i64)>,
    assigned: bool,
    steps: VecDeque<Letter>,
    given: u64,
    bar: ProgressBar,
}

impl Reader {
    /// Finds out what there is to read.
    pub fn open(kafka: &KafkaConfig, lane: &LaneDefinition, wanted: Wanted) -> anyhow::Result<Reader> {
        let mut config = kafka::consumer_config(kafka);
        let admin = TopicAdmin::new(&config).context("the Kafka settings")?;
        let topic = lane.dead_letter_topic.clone();
        let facts = admin.describe(&[&topic], PATIENCE)?;
        let mut rest = VecDeque::new();
        for partition in 0..facts.first().map_or(0, |topic| topic.partitions) {
            let (low, end) = admin.bounds(&topic, partition, PATIENCE)?;
            rest.extend(wanted.range(partition as i32, low, end));
        }
        // It joins no group: librdkafka wants a name for one before it lets partitions be assigned.
        config.set("group.id", format!("{}.dlq", kafka.group));
        let bar = output::progress(rest.iter().map(|(_, from, end)| (end - from) as u64).sum(), "read");
        Ok(Reader {
            member: Member::new(&config).context("the Kafka settings")?,
            topic,
            origins: lane.topics.iter().map(|topic| topic.name.clone()).collect(),
            wanted,
            rest,
            assigned: false,
            steps: VecDeque::new(),
            given: 0,
            bar,
        })
    }

    /// The next wanted letter; `None` after the last.
    pub fn next(&mut self) -> anyhow::Result<Option<Letter>> {
        while self.given < self.wanted.limit {
            if let Some(letter) = self.steps.pop_front() {
                if self.wanted.is(&letter) && self.is_of_lane(&letter) {
                    self.given += 1;
                    return Ok(Some(letter));
                }
            } else if self.rest.is_empty() {
                break;
            } else {
                self.fill()?;
            }
        }
        self.bar.finish_and_clear();
        Ok(None)
    }

    fn is_of_lane(&self, letter: &Letter) -> bool {
        letter.origin.as_ref().is_none_or(|origin| self.origins.contains(&origin.topic))
    }

    /// Reads on in the first partition of the rest, and leaves it at its end.
    fn fill(&mut self) -> anyhow::Result<()> {
        let (partition, next, _) = *self.rest.front().context("only called while there is a rest")?;
        if !self.assigned {
            let places = [(self.topic.as_str(), partition, next)];
            self.member.assign(places.into_iter()).with_context(|| self.topic.clone())?;
            self.assigned = true;
        }
        let patience = Instant::now() + PATIENCE;
        let mut batch = Vec::new();
        while batch.is_empty() {
            let event = self.member.fill(&mut batch, BATCH, Duration::from_millis(500), Duration::ZERO);
            event.map_or(Ok(()), |event| self.check(event))?;
            let late = batch.is_empty() && Instant::now() >= patience;
            anyhow::ensure!(!late, "{}/{partition}: Kafka gives nothing from offset {next} on", self.topic);
        }
        batch.into_iter().for_each(|step| self.take(step));
        Ok(())
    }

    fn check(&self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::OffsetLost((topic, partition, offset)) => {
                anyhow::bail!(
                    "{topic}/{partition}: offset {offset} is gone by the topic's retention; ask again"
                )
            }
            Event::TopicChanged(text) | Event::Fatal(text) => anyhow::bail!("{}: {text}", self.topic),
            // librdkafka tries again; if that takes too long, the patience ends.
            _ => Ok(()),
        }
    }

    fn take(&mut self, step: Step) {
        let Some((partition, next, end)) = self.rest.front_mut() else { return };
        let passed = match &step {
            Step::Message(message) if message.partition() == *partition => message.offset() + 1,
            Step::End((_, at, offset)) if *at == *partition => *offset,
            // A leftover of the partition read before.
            _ => return,
        };
        if let Step::Message(message) = &step
            && message.offset() < *end
        {
            self.steps.push_back(letter(message));
        }
        self.bar.inc(passed.min(*end).saturating_sub(*next).max(0) as u64);
        *next = passed;
        if passed >= *end {
            self.rest.pop_front();
            self.assigned = false;
        }
    }
}

impl Wanted {
    /// From where to where to read a partition that has these bounds, if at all.
    fn range(&self, partition: i32, low: i64, end: i64) -> Option<(i32, i64, i64)> {
        let own = |places: &[Place]| -> Vec<i64> {
            places.iter().filter(|place| place.partition == partition).map(|place| place.offset).collect()
        };
        let (mut from, mut to) = (low, end);
        from = own(&self.from).into_iter().fold(from, i64::max);
        if !self.at.is_empty() {
            let at = own(&self.at);
            from = from.max(at.iter().min().copied()?);
            to = to.min(at.iter().max().copied()? + 1);
        }
        (from < to).then_some((partition, from, to))
    }

    fn is(&self, letter: &Letter) -> bool {
        (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
            && self.from_time_ms.is_none_or(|from| letter.timestamp_ms >= from)
            && (self.at.is_empty() || self.at.contains(&letter.at))
    }
}

fn letter(message: &RawMessage) -> Letter {
    let all = message.headers();
    let own = |name: &str| {
        // Of repeated headers the last counts: ours are after the original ones.
        let found = all.iter().rev().find(|(key, _)| key.strip_prefix(OWN_HEADERS) == Some(name.as_bytes()));
        found.and_then(|(_, value)| *value).map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let number = |name: &str| own(name).and_then(|text| text.parse::<i64>().ok());
    let origin = || {
        let partition = i32::try_from(number("partition")?).ok()?;
        let at = Place { partition, offset: number("offset")? };
        Some(Origin { topic: own("topic")?, at, timestamp_ms: number("timestamp").filter(|ms| *ms >= 0) })
    };
    let original = all.iter().filter(|(key, _)| !key.starts_with(OWN_HEADERS));
    Letter {
        at: Place { partition: message.partition(), offset: message.offset() },
        timestamp_ms: message.timestamp_ms(),
        reason: own("reason").unwrap_or_else(|| "?".into()),
        detail: own("detail").unwrap_or_default(),
        origin: origin(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: original.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.at.partition, self.at.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(of: &[(i32, i64)]) -> Vec<Place> {
        of.iter().map(|(partition, offset)| Place { partition: *partition, offset: *offset }).collect()
    }

    #[test]
    fn only_what_is_wanted_is_read() {
        let all = Wanted::default();
        assert_eq!(all.range(0, 5, 9), Some((0, 5, 9)));
        assert_eq!(all.range(0, 9, 9), None);
        let from = Wanted { from: places(&[(1, 7)]), ..Wanted::default() };
        assert_eq!(from.range(0, 5, 9), Some((0, 5, 9)));
        assert_eq!(from.range(1, 5, 9), Some((1, 7, 9)));
        assert_eq!(from.range(1, 8, 9), Some((1, 8, 9)), "retention has passed it");
        let at = Wanted { at: places(&[(1, 6), (1, 7)]), ..Wanted::default() };
        assert_eq!(at.range(1, 5, 9), Some((1, 6, 8)));
        assert_eq!(at.range(0, 5, 9), None);
        assert_eq!(at.range(1, 8, 9), None, "they are gone");
    }
}
