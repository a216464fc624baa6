//! The load in a process of its own (`forebay-bench mixed-generator`), so that what it costs is known: prepares the mix,
//! waits for the moment to begin, and sends what is due. An open loop: the schedule never waits, and what is sent late has
//! the Kafka timestamp it should have had. `driver` starts it; they speak by lines of JSON.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_server::mix::Random;
use serde::{Deserialize, Serialize};

use super::day::Day;
use super::pool::{self, Role, Size, Topic};
use crate::cpu;
use crate::wire::batch::{Slots, write_digits};
use crate::wire::leaders::Leaders;

/// What to send, and where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Brokers.
    pub bootstrap: String,
    /// Before every topic name.
    pub prefix: String,
    /// Of each topic.
    pub partitions: usize,
    /// Divides the mix's populations.
    pub scale: u64,
    /// Of the payloads and of who reports when.
    pub seed: u64,
    /// Different payloads.
    pub payloads: usize,
    /// When how many.
    pub day: Day,
}

/// What it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Said {
    /// Ready to begin.
    Prepared {
        /// Bytes of the prepared records.
        raw_bytes: u64,
        /// The same compressed.
        wire_bytes: u64,
        /// Different payloads.
        payloads: u64,
    },
    /// About the second that has passed.
    Second {
        /// Since the beginning.
        at_s: f64,
        /// Data points so far.
        sent: u64,
        /// The latest batch of the second, ms after its last record was due.
        behind_ms: f64,
    },
    /// Everything is sent and stored.
    Done(Sent),
}

/// What was sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Data points.
    pub messages: u64,
    /// Bytes of records before compression.
    pub raw_bytes: u64,
    /// Bytes of batches.
    pub wire_bytes: u64,
    /// The latest batch, ms after its last record was due.
    pub behind_ms: f64,
    /// Processor time from the beginning on, µs.
    pub cpu_us: u64,
}

/// Between two looks at the schedule.
const TICK: Duration = Duration::from_millis(2);
/// A batch is what comes for a partition in so many seconds of the steady rate, as with `linger.ms=10`.
const LINGER_S: f64 = 0.01;
/// Keys of a stream that late records and tombstones choose from.
const RECENT: usize = 256;
/// An entity's reports are this much younger than now at most, always the same for an entity.
const DELAY_MS: u64 = 1500;
/// Late by at most this.
const LATENESS_MS: u64 = 6 * 3_600_000;

/// The command.
pub fn run(plan: &str) -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_str(plan).context("a plan")?;
    let sender = Sender::new(&plan)?;
    sender.say_prepared()?;
    let mut line = String::new();
    // Without a beginning whoever asked for it is gone.
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(());
    }
    sender.run(line.trim().parse().context("when to begin, in ms")?)
}

fn say(said: &Said) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, said)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// One partition of one topic.
struct Stream {
    topic: usize,
    partition: usize,
    /// Of all data points.
    share: f64,
    /// Data points by which it is behind the others, so that batches do not all end at once.
    phase: f64,
    sent: u64,
    /// Number of the next batch.
    next: usize,
    entities: Arc<Vec<Vec<u32>>>,
    writer: Writer,
}

struct Sender {
    day: Day,
    topics: Vec<Topic>,
    streams: Vec<Stream>,
    leaders: Leaders,
    total: Sent,
}

impl Sender {
    fn new(plan: &Plan) -> anyhow::Result<Sender> {
        let Plan { scale, payloads, partitions, .. } = *plan;
        let size = Size { scale, payloads, partitions, linger_s: LINGER_S, rate: plan.day.rate };
        let topics = pool::prepare(size, plan.seed)?;
        let entities = pool::all_entities(&topics, partitions)?;
        let names: Vec<_> = topics.iter().map(|topic| format!("{}{}", plan.prefix, topic.name)).collect();
        let leaders = Leaders::connect(&plan.bootstrap, &names)?;
        let mut random = Random::new(plan.seed ^ 1);
        let mut streams = Vec::new();
        for (number, topic) in topics.iter().enumerate() {
            anyhow::ensure!(leaders.partitions(number) == partitions, "{} has other partitions", topic.name);
            for partition in 0..partitions {
                let part = entities[number][partition].len() as f64 / topic.population as f64;
                if part > 0.0 {
                    let records = topic.batches[0].0.len() as f64;
                    streams.push(Stream {
                        topic: number,
                        partition,
                        share: topic.share * part,
                        phase: random.unit() * records,
                        sent: 0,
                        next: random.below(topic.batches.len() as u64) as usize,
                        entities: entities[number].clone(),
                        writer: Writer::new(random.bits()),
                    });
                }
            }
        }
        Ok(Sender { day: plan.day.clone(), topics, streams, leaders, total: Sent::default() })
    }

    fn say_prepared(&self) -> anyhow::Result<()> {
        let batches = || self.topics.iter().flat_map(|topic| &topic.batches);
        say(&Said::Prepared {
            raw_bytes: batches().map(|(batch, _)| batch.raw_bytes as u64).sum(),
            wire_bytes: batches().map(|(batch, _)| batch.wire_bytes() as u64).sum(),
            payloads: batches().map(|(batch, _)| batch.len() as u64).sum(),
        })
    }

    /// Sends the day, from that moment on.
    fn run(mut self, begin_ms: i64) -> anyhow::Result<()> {
        let wait_ms = (begin_ms - forebay_tests::event_now()).max(0) as u64;
        std::thread::sleep(Duration::from_millis(wait_ms));
        let (begin, cpu_before) = (Instant::now(), cpu::of_this_process());
        let (mut second, mut behind_ms) = (1.0, 0.0_f64);
        loop {
            let at_s = begin.elapsed().as_secs_f64();
            behind_ms = behind_ms.max(self.send_due(begin, at_s, begin_ms)?);
            if at_s >= second {
                say(&Said::Second { at_s, sent: self.total.messages, behind_ms })?;
                self.total.behind_ms = self.total.behind_ms.max(behind_ms);
                (second, behind_ms) = (at_s.floor() + 1.0, 0.0);
            }
            if at_s >= self.day.end_s {
                break;
            }
            std::thread::sleep(TICK);
        }
        self.leaders.finish()?;
        self.total.behind_ms = self.total.behind_ms.max(behind_ms);
        self.total.cpu_us = cpu::of_this_process() - cpu_before;
        say(&Said::Done(self.total))
    }

    /// Sends the batches whose last record is due; gives by how many ms the latest of them was late.
    fn send_due(&mut self, begin: Instant, at_s: f64, begin_ms: i64) -> anyhow::Result<f64> {
        let (due, mut behind_ms) = (self.day.due(at_s), 0.0_f64);
        loop {
            let mut more = false;
            for stream in &mut self.streams {
                let topic = &self.topics[stream.topic];
                let (batch, roles) = &topic.batches[stream.next % topic.batches.len()];
                if due * stream.share - stream.phase < (stream.sent + batch.len() as u64) as f64 {
                    continue;
                }
                let when = |record: u64| {
                    self.day.due_at(((stream.sent + record) as f64 + stream.phase) / stream.share)
                };
                let (first_s, last_s) = (when(1), when(batch.len() as u64));
                let (first_ms, span_ms) = (begin_ms + (first_s * 1e3) as i64, (last_s - first_s) * 1e3);
                let (writer, own) = (&mut stream.writer, &stream.entities[stream.partition]);
                self.leaders.add(stream.topic, stream.partition, |out| {
                    batch.stamp(out, first_ms, span_ms as i64, |number, at_ms, slots| {
                        writer.write(roles[number], at_ms, slots, topic, own);
                    });
                });
                behind_ms = behind_ms.max((begin.elapsed().as_secs_f64() - last_s) * 1e3);
                stream.sent += batch.len() as u64;
                stream.next += 1;
                self.total.messages += batch.len() as u64;
                self.total.raw_bytes += batch.raw_bytes as u64;
                self.total.wire_bytes += batch.wire_bytes() as u64;
                more = true;
            }
            self.leaders.send()?;
            if !more {
                return Ok(behind_ms);
            }
        }
    }
}

/// Writes the keys and times of a stream.
struct Writer {
    random: Random,
    recent: Vec<u32>,
    written: usize,
    /// Of the record before.
    id: Vec<u8>,
    event_time_ms: i64,
}

impl Writer {
    fn new(seed: u64) -> Writer {
        Writer { random: Random::new(seed), recent: Vec::new(), written: 0, id: Vec::new(), event_time_ms: 0 }
    }

    fn write(&mut self, role: Role, at_ms: i64, slots: Slots<'_>, topic: &Topic, entities: &[u32]) {
        if role != Role::Again {
            let entity = self.choose(role, entities);
            topic.view.entity_id(u64::from(entity), &mut self.id);
            let delay_ms = (u64::from(entity).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % DELAY_MS;
            let reported_ms = at_ms - delay_ms as i64;
            self.event_time_ms = match role {
                Role::Future => at_ms + 600_000,
                Role::Late => reported_ms - 1000 - self.random.below(LATENESS_MS) as i64,
                _ => reported_ms,
            };
        }
        if let Some(key) = slots.key {
            key.copy_from_slice(&self.id);
        }
        if let Some(time) = slots.time {
            let per = if time.len() == 10 { 1000 } else { 1 };
            write_digits(time, (self.event_time_ms / per) as u64);
        }
    }

    fn choose(&mut self, role: Role, entities: &[u32]) -> u32 {
        if matches!(role, Role::Late | Role::Stone) && !self.recent.is_empty() {
            return self.recent[self.random.below(self.recent.len() as u64) as usize];
        }
        let entity = entities[self.random.below(entities.len() as u64) as usize];
        match self.recent.len() < RECENT {
            true => self.recent.push(entity),
            false => self.recent[self.written % RECENT] = entity,
        }
        self.written += 1;
        entity
    }
}
