//! Connections to the brokers that lead the partitions of some topics, and produce requests over them (version 7 of
//! Produce, `acks=1`). A request holds what is due for all partitions of a broker, as the Java producer's do; many may
//! be under way. What brokers say is read by a thread per connection. Knows nothing of what is in a batch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Produce.
const API_KEY: i16 = 0;
const API_VERSION: i16 = 7;
/// Largest answer that is believed.
const MOST_ANSWER: usize = 16 << 20;

/// What brokers have said so far.
#[derive(Debug, Default)]
pub struct Answers {
    /// Batches that are stored.
    pub stored: AtomicU64,
    /// Batches that were refused.
    pub refused: AtomicU64,
    /// Code of the last refusal.
    pub last_code: AtomicU64,
    /// Connections that ended.
    pub lost: AtomicU64,
}

/// Batches due for the partitions of one topic at one leader.
#[derive(Debug, Default)]
struct Due {
    partitions: u32,
    bytes: Vec<u8>,
}

/// One broker.
struct Leader {
    stream: TcpStream,
    /// By the topic's number.
    due: Vec<Due>,
    request: Vec<u8>,
    batches: u64,
}

/// The leaders of some topics' partitions.
pub struct Leaders {
    topics: Vec<String>,
    leaders: Vec<Leader>,
    /// Leader's number by the topic's number and partition.
    led: Vec<Vec<usize>>,
    answers: Arc<Answers>,
    sent: u64,
}

impl Leaders {
    /// Connects to the leaders of all partitions of the topics.
    pub fn connect(bootstrap: &str, topics: &[String]) -> anyhow::Result<Leaders> {
        let client: BaseProducer<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        let answers = Arc::new(Answers::default());
        let (mut leaders, mut numbers, mut led) = (Vec::new(), HashMap::new(), Vec::new());
        for topic in topics {
            let (hosts, partitions) = leaders_of(&client, topic)?;
            let mut of_topic = Vec::new();
            for leader in partitions {
                let number = match numbers.entry(leader) {
                    Entry::Occupied(number) => *number.get(),
                    Entry::Vacant(number) => {
                        let address = hosts.get(&leader).with_context(|| format!("{topic} has no leader"))?;
                        leaders.push(Leader::connect(address, topics.len(), answers.clone())?);
                        *number.insert(leaders.len() - 1)
                    }
                };
                of_topic.push(number);
            }
            led.push(of_topic);
        }
        Ok(Leaders { topics: topics.to_vec(), leaders, led, answers, sent: 0 })
    }

    /// Partitions of a topic, by its number.
    pub fn partitions(&self, topic: usize) -> usize {
        self.led[topic].len()
    }

    /// Adds a batch for a partition to the next request; `write` appends it. One batch of a partition in a request.
    pub fn add(&mut self, topic: usize, partition: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let leader = &mut self.leaders[self.led[topic][partition]];
        let due = &mut leader.due[topic];
        due.partitions += 1;
        due.bytes.extend_from_slice(&(partition as i32).to_be_bytes());
        let at = due.bytes.len();
        due.bytes.extend_from_slice(&[0; 4]);
        write(&mut due.bytes);
        let size = (due.bytes.len() - at - 4) as i32;
        due.bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
        leader.batches += 1;
    }

    /// Sends what was added. Blocks while brokers take nothing.
    pub fn send(&mut self) -> anyhow::Result<()> {
        for leader in &mut self.leaders {
            if leader.batches > 0 {
                leader.send(&self.topics)?;
                self.sent += std::mem::take(&mut leader.batches);
            }
        }
        Ok(())
    }

    /// Waits until brokers have answered for all that was sent; fails if they do not, or refused any of it.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + TIMEOUT;
        let answered = || {
            let Answers { stored, refused, .. } = &*self.answers;
            stored.load(Ordering::Acquire) + refused.load(Ordering::Acquire)
        };
        while answered() < self.sent {
            ensure!(std::time::Instant::now() < end, "{} of {} batches answered", answered(), self.sent);
            ensure!(self.answers.lost.load(Ordering::Acquire) == 0, "a broker hung up");
            std::thread::sleep(Duration::from_millis(1));
        }
        let refused = self.answers.refused.load(Ordering::Acquire);
        let code = self.answers.last_code.load(Ordering::Acquire);
        ensure!(refused == 0, "{refused} batches were refused, the last with Kafka's error {code}");
        Ok(())
    }
}

/// Addresses by broker id, and the leader of each partition.
fn leaders_of(
    client: &BaseProducer<rdkafka::producer::DefaultProducerContext>,
    topic: &str,
) -> anyhow::Result<(HashMap<i32, String>, Vec<i32>)> {
    let metadata = client.client().fetch_metadata(Some(topic), TIMEOUT)?;
    let brokers = metadata.brokers().iter();
    let hosts = brokers.map(|broker| (broker.id(), format!("{}:{}", broker.host(), broker.port()))).collect();
    let found = metadata.topics().first().context("no such topic")?;
    ensure!(found.error().is_none() && !found.partitions().is_empty(), "topic {topic} does not exist");
    let mut partitions: Vec<_> =
        found.partitions().iter().map(|found| (found.id(), found.leader())).collect();
    partitions.sort_unstable();
    Ok((hosts, partitions.into_iter().map(|(_, leader)| leader).collect()))
}

impl Leader {
    fn connect(address: &str, topics: usize, answers: Arc<Answers>) -> anyhow::Result<Leader> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let reader = stream.try_clone()?;
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            if read_answers(reader, &answers).is_err() {
                answers.lost.fetch_add(1, Ordering::Release);
            }
        })?;
        let due = (0..topics).map(|_| Due::default()).collect();
        Ok(Leader { stream, due, request: Vec::new(), batches: 0 })
    }

    fn send(&mut self, topics: &[String]) -> anyhow::Result<()> {
        let out = &mut self.request;
        out.clear();
        out.extend_from_slice(&[0; 4]); // size
        out.extend_from_slice(&API_KEY.to_be_bytes());
        out.extend_from_slice(&API_VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]); // correlation: answers come in order
        push_text(out, "forebay-bench");
        out.extend_from_slice(&(-1_i16).to_be_bytes()); // no transaction
        out.extend_from_slice(&1_i16.to_be_bytes()); // acks
        out.extend_from_slice(&(TIMEOUT.as_millis() as i32).to_be_bytes());
        let wanted = self.due.iter().filter(|due| due.partitions > 0).count();
        out.extend_from_slice(&(wanted as i32).to_be_bytes());
        for (due, topic) in self.due.iter_mut().zip(topics).filter(|(due, _)| due.partitions > 0) {
            push_text(out, topic);
            out.extend_from_slice(&due.partitions.to_be_bytes());
            out.extend_from_slice(&due.bytes);
            due.partitions = 0;
            due.bytes.clear();
        }
        let size = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(out).context("a broker hung up")
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads answers until the connection ends.
fn read_answers(mut stream: TcpStream, answers: &Answers) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        ensure!(size <= MOST_ANSWER, "an answer of {size} bytes");
        answer.resize(size, 0);
        stream.read_exact(&mut answer)?;
        count(&mut Fields(answer.get(4..).unwrap_or_default()), answers)?;
    }
}

/// Counts the batches of one answer: per topic its name and per partition number, error, offset, two times.
fn count(fields: &mut Fields<'_>, answers: &Answers) -> anyhow::Result<()> {
    for _ in 0..i32::from_be_bytes(fields.take()?) {
        let name = i16::from_be_bytes(fields.take()?);
        fields.skip(name.max(0) as usize)?;
        for _ in 0..i32::from_be_bytes(fields.take()?) {
            fields.skip(4)?;
            let code = i16::from_be_bytes(fields.take()?);
            fields.skip(24)?;
            match code {
                0 => answers.stored.fetch_add(1, Ordering::Release),
                _ => {
                    answers.last_code.store(code as u64, Ordering::Release);
                    answers.refused.fetch_add(1, Ordering::Release)
                }
            };
        }
    }
    Ok(())
}

/// What is left of an answer.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let Some((head, rest)) = self.0.split_first_chunk() else { bail!("an answer ends early") };
        self.0 = rest;
        Ok(*head)
    }

    fn skip(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.0 = self.0.get(bytes..).context("an answer ends early")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_what_they_say() {
        let mut answer = 1_i32.to_be_bytes().to_vec();
        push_text(&mut answer, "topic");
        answer.extend_from_slice(&2_i32.to_be_bytes());
        for code in [0_i16, 7] {
            answer.extend_from_slice(&[0; 4]);
            answer.extend_from_slice(&code.to_be_bytes());
            answer.extend_from_slice(&[0; 24]);
        }
        let answers = Answers::default();
        count(&mut Fields(&answer), &answers).expect("an answer");
        let said = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        assert_eq!((said(&answers.stored), said(&answers.refused), said(&answers.last_code)), (1, 1, 7));
        assert!(count(&mut Fields(&answer[..30]), &answers).is_err());
    }
}
