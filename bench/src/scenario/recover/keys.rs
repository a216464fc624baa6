//! Many small keys: entities with a value in each of some views, a topic per view, and the producer that writes them, all
//! once or at a rate without end. Knows nothing of servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_client::Partitioner;
use forebay_server::mix::Random;
use forebay_tests::event_now;

use crate::wire::batch::{Batch, Draft, MOST_RECORDS, TimePlace, write_digits};
use crate::wire::leaders::Leaders;

/// Records of a batch.
const RECORDS: usize = MOST_RECORDS;
/// Different batches of each topic.
const BATCHES: usize = 64;
/// Length of an entity id: a letter and digits.
const ID: usize = 16;

/// Who has what.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Before topic names; the consumer group too.
    pub group: &'static str,
    /// How many entities.
    pub entities: u64,
    /// Views of each.
    pub views: usize,
    /// Of each topic.
    pub partitions: usize,
}

impl Keys {
    /// The topic of a view.
    pub fn topic(&self, view: usize) -> String {
        format!("{}.v{view}", self.group)
    }

    /// Topics of all views.
    pub fn topics(&self) -> Vec<String> {
        (0..self.views).map(|view| self.topic(view)).collect()
    }

    /// Id of an entity.
    pub fn id(number: u64) -> Vec<u8> {
        format!("e{number:015}").into_bytes()
    }

    /// Definitions of one lane that has them.
    pub fn definitions(&self) -> String {
        let group = self.group;
        let mut toml = format!("[[lane]]\nname = \"main\"\ndead_letter_topic = \"{group}.dlq\"\n");
        self.topics().iter().for_each(|topic| toml += &format!("[[lane.topic]]\nname = \"{topic}\"\n"));
        for view in 0..self.views {
            toml += &format!(
                "[[view]]\nid = {}\nname = \"v{view}\"\nlane = \"main\"\nentity = \"entity\"\ntopics = [\"{}\"]\n\
                 event_time = {{ path = \"ts\" }}\nhistory = \"latest\"\n\
                 [[view.field]]\nname = \"level\"\ntype = \"double\"\n[[view.field]]\nname = \"state\"\ntype = \"string\"\n",
                view + 1,
                self.topic(view)
            );
        }
        toml
    }
}

/// Writes keys.
pub struct Producer {
    leaders: Leaders,
    batches: Vec<Vec<Batch>>,
    /// Numbers of the entities of each partition.
    entities: Vec<Vec<u32>>,
    /// Where in its entities each partition is.
    next: Vec<usize>,
    round: usize,
}

impl Producer {
    /// Prepares it.
    pub fn new(keys: &Keys, bootstrap: &str) -> anyhow::Result<Producer> {
        let leaders = Leaders::connect(bootstrap, &keys.topics())?;
        let mut random = Random::new(17);
        let records = RECORDS.min((keys.entities as usize / keys.partitions / 4).max(1));
        let mut batches = Vec::new();
        for _ in 0..keys.views {
            let own = (0..BATCHES).map(|_| batch(records, &mut random));
            batches.push(own.collect::<Result<_, _>>()?);
        }
        let mut entities = vec![Vec::new(); keys.partitions];
        for number in 0..keys.entities {
            let partition = Partitioner::Murmur2.partition(&Keys::id(number), keys.partitions as u32);
            entities[partition as usize].push(number as u32);
        }
        let next = vec![0; keys.partitions];
        Ok(Producer { leaders, batches, entities, next, round: 0 })
    }

    /// Writes every key once, and gives what writes them again.
    pub async fn of_all(keys: &Keys, bootstrap: &str) -> anyhow::Result<Producer> {
        let (keys, bootstrap) = (keys.clone(), bootstrap.to_owned());
        let write = move || {
            let mut producer = Producer::new(&keys, &bootstrap)?;
            producer.all()?;
            Ok(producer)
        };
        tokio::task::spawn_blocking(write).await?
    }

    /// Writes every key once, as fast as the brokers take it; some of the first twice. Gives how many data points it wrote.
    pub fn all(&mut self) -> anyhow::Result<u64> {
        let (mut sent, longest) = (0, self.entities.iter().map(Vec::len).max().unwrap_or(0));
        let steps = longest.div_ceil(self.batches[0][0].len());
        for _ in 0..steps {
            sent += self.step()?;
        }
        self.leaders.finish()?;
        Ok(sent)
    }

    /// Writes keys again in turn at a rate until told to stop.
    pub fn again(&mut self, rate: f64, stop: &AtomicBool) -> anyhow::Result<()> {
        let (begin, mut total) = (Instant::now(), 0_u64);
        while !stop.load(Ordering::Relaxed) {
            let due = Duration::from_secs_f64(total as f64 / rate);
            if let Some(early) = due.checked_sub(begin.elapsed()) {
                std::thread::sleep(early.min(Duration::from_millis(100)));
                continue;
            }
            total += self.step()?;
        }
        self.leaders.finish()
    }

    /// A batch for each partition of each topic: the same entities in all views.
    fn step(&mut self) -> anyhow::Result<u64> {
        let (now_ms, mut sent) = (event_now(), 0);
        for (partition, entities) in self.entities.iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            let mut records = 0;
            for (view, batches) in self.batches.iter().enumerate() {
                let batch = &batches[self.round % BATCHES];
                records = batch.len();
                let first = self.next[partition];
                self.leaders.add(view, partition, |out| {
                    batch.stamp(out, now_ms, 0, |number, at_ms, slots| {
                        let entity = entities[(first + number) % entities.len()];
                        if let Some(key) = slots.key {
                            write_digits(&mut key[1..], entity.into());
                        }
                        if let Some(time) = slots.time {
                            write_digits(time, at_ms as u64);
                        }
                    });
                });
                sent += records as u64;
            }
            self.next[partition] = (self.next[partition] + records) % entities.len();
        }
        self.round += 1;
        self.leaders.send()?;
        Ok(sent)
    }
}

/// Values of about 100 bytes.
fn batch(records: usize, random: &mut Random) -> anyhow::Result<Batch> {
    let drafts: Vec<Draft> = (0..records)
        .map(|_| {
            let (level, word) = (random.unit() * 100.0, random.bits() as u32);
            let state = ["idle", "busy", "lost"][random.below(3) as usize];
            let value = format!(
                r#"{{"ts":1700000000000,"level":{level:.3},"state":"{state}","firmware":"4.2.1","word":"{word:08x}","ok":true}}"#
            );
            Draft {
                key: Some(vec![b'e'; ID]),
                key_varies: true,
                value: Some(value.into_bytes()),
                time: Some(TimePlace::Value(6..19)),
                ..Draft::default()
            }
        })
        .collect();
    Batch::prepare(&drafts, random)
}

/// A producer that writes in a thread of its own until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<Producer>>,
}

impl Load {
    /// Begins.
    pub fn start(mut producer: Producer, rate: f64) -> Load {
        let stop = Arc::<AtomicBool>::default();
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            producer.again(rate, &told)?;
            Ok(producer)
        });
        Load { stop, thread }
    }

    /// Ends; Kafka has all of it.
    pub fn stop(self) -> anyhow::Result<Producer> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?
    }
}
