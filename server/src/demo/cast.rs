//! Who plays in the demo: a producer thread that sends the mix, a prober who times how soon a data point is readable, and
//! a reader who times reads. Each stops when told; what they saw is in `Measures`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay_client::{Client, OffsetVector, Query, Status, v1::TopicOffsets};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Args;
use super::measures::Measures;
use super::stage::Stage;
use crate::clock::Clock;
use crate::mix::produce::send_paced;
use crate::mix::sender::Sender;
use crate::mix::{Kind, Mix, MixRecord, Random, STANDARD, Shares, VIEWS, Zipf};

/// The view the prober writes and people are told to read.
pub(super) const PROBED_VIEW: &str = "modem_signal";
/// More of everything that is not plain than real life has, so that a few seconds show it.
const SHARES: Shares = Shares { late: 0.01, duplicate: 0.002, bad: 0.001, future: 0.001, tombstone: 0.002 };
const PLAIN: Shares = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Between two reads.
const READ_EVERY: Duration = Duration::from_millis(5);
/// How many recently sent keys the reader chooses from.
const KNOWN_KEYS: usize = 1000;

/// What they share.
struct Shared {
    stop: AtomicBool,
    measures: Mutex<Measures>,
    /// Keys that were sent, for the reader: (entity, view).
    keys: Mutex<Vec<(Vec<u8>, &'static str)>>,
    /// Records handed to Kafka, probes included.
    produced: AtomicU64,
}

/// The players, at work.
pub(super) struct Cast {
    shared: Arc<Shared>,
    producer: JoinHandle<anyhow::Result<u64>>,
    prober: JoinHandle<anyhow::Result<u64>>,
    reader: JoinHandle<()>,
    sample_entity: watch::Receiver<Option<String>>,
}

/// What they leave behind.
pub(super) struct Produced {
    /// Records that Kafka has.
    pub records: u64,
    /// All they measured.
    pub measures: Measures,
}

impl Cast {
    /// Sets everyone to work.
    pub fn start(stage: &Stage, args: &Args) -> anyhow::Result<Cast> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            measures: Mutex::default(),
            keys: Mutex::default(),
            produced: AtomicU64::new(0),
        });
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &stage.bootstrap);
        let sender = Sender::connect(&settings, "", None)?;
        let (announce, sample) = watch::channel(None);
        let prober = Prober::new(&settings, stage.client.clone(), args)?;
        let (for_producer, for_prober, for_reader) = (shared.clone(), shared.clone(), shared.clone());
        let (mix, rate) = (Mix::new(args.seed, args.scale, SHARES), args.rate);
        let client = stage.client.clone();
        Ok(Cast {
            producer: tokio::task::spawn_blocking(move || produce(mix, rate, &sender, &for_producer)),
            prober: tokio::spawn(async move { prober.probe(&for_prober, announce).await }),
            reader: tokio::spawn(async move { read(client, &for_reader).await }),
            shared,
            sample_entity: sample,
        })
    }

    /// A customer of whom every view can be read.
    pub async fn sample_entity(&self) -> anyhow::Result<String> {
        let mut seen = self.sample_entity.clone();
        let found = timeout(Duration::from_secs(30), seen.wait_for(Option::is_some)).await;
        let found = found.ok().and_then(Result::ok).and_then(|entity| entity.clone());
        found.with_context(|| {
            format!("no data point became readable: {}", self.shared.measures.lock().last_failure)
        })
    }

    /// Records produced so far.
    pub fn produced(&self) -> u64 {
        self.shared.produced.load(Ordering::Relaxed)
    }

    /// What was measured so far.
    pub fn measures(&self) -> Measures {
        self.shared.measures.lock().clone()
    }

    /// Stops everyone; Kafka has all records when this returns.
    pub async fn leave(self) -> anyhow::Result<Produced> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let records = self.producer.await?? + self.prober.await??;
        self.reader.await?;
        let measures = self.shared.measures.lock().clone();
        Ok(Produced { records, measures })
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sent(&self, record: &MixRecord) {
        let count = self.produced.fetch_add(1, Ordering::Relaxed);
        if let (Kind::OnTime, Some(key)) = (record.kind, &record.key) {
            let mut keys = self.keys.lock();
            if keys.len() < KNOWN_KEYS {
                keys.push((key.clone(), record.view));
            } else if count.is_multiple_of(16) {
                let at = (count / 16) as usize % KNOWN_KEYS;
                keys[at] = (key.clone(), record.view);
            }
        }
    }
}

/// Sends the mix until told to stop; gives how many records Kafka has.
fn produce(mut mix: Mix, rate: u64, sender: &Sender, shared: &Shared) -> anyhow::Result<u64> {
    let left = |_: &_| if shared.stopped() { 0 } else { u64::MAX };
    let tally = send_paced(rate, &mut mix, sender, left, |record| shared.sent(record))?;
    sender.flush()?;
    let failed = sender.deliveries().failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} records did not reach Kafka: {}", sender.deliveries().last_error());
    Ok(tally.records)
}

/// Writes a data point, reads it back as soon as it can be read, and notes how long that took.
struct Prober {
    producer: FutureProducer,
    client: Client,
    /// Of any customer.
    mix: Mix,
    /// One per customer view, all of them of the same customer: whom people are told to look at.
    sample: Vec<Mix>,
}

impl Prober {
    fn new(settings: &ClientConfig, client: Client, args: &Args) -> anyhow::Result<Prober> {
        let mut settings = settings.clone();
        // A probe times the way through Kafka and the server, not the wait for company in a batch.
        settings.set("partitioner", "murmur2_random").set("linger.ms", "0").set("enable.idempotence", "true");
        let producer = settings.create().context("a Kafka producer")?;
        let mix = Mix::new(!args.seed, args.scale, PLAIN).only(|view| view.name == PROBED_VIEW);
        // A population divided by so much is one customer.
        let of_one = |view: &str| Mix::new(!args.seed, u64::MAX, PLAIN).only(|other| other.name == view);
        let views = VIEWS.iter().filter(|view| view.lane == STANDARD);
        let sample = views.map(|view| of_one(view.name)).collect();
        Ok(Prober { producer, client, mix, sample })
    }

    /// Probes until told to stop, the sample customer's views first and now and then again; gives how often it wrote.
    async fn probe(
        mut self,
        shared: &Shared,
        announce: watch::Sender<Option<String>>,
    ) -> anyhow::Result<u64> {
        let mut turn = interval(PROBE_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let views = self.sample.len() as u64;
        for count in 0.. {
            if shared.stopped() {
                return Ok(count);
            }
            if count > views {
                turn.tick().await;
            }
            let record = self.next(count);
            self.time(&record, shared).await?;
            if count + 1 == views {
                announce.send_replace(record.key.map(|key| String::from_utf8_lossy(&key).into_owned()));
            }
        }
        Ok(0)
    }

    fn next(&mut self, count: u64) -> MixRecord {
        let (now_ms, views) = (Clock::system().now_ms(), self.sample.len() as u64);
        match count {
            _ if count < views => self.sample[count as usize].next(now_ms).clone(),
            _ if count.is_multiple_of(4) => self.sample[(count / 4 % views) as usize].next(now_ms).clone(),
            _ => self.mix.next(now_ms).clone(),
        }
    }

    async fn time(&self, record: &MixRecord, shared: &Shared) -> anyhow::Result<()> {
        let started = Instant::now();
        let position = self.send(record).await?;
        shared.produced.fetch_add(1, Ordering::Relaxed);
        let key = record.key.as_deref().unwrap_or_default();
        let answer = look(&self.client, key, record.view, Some(position)).await;
        let mut measures = shared.measures.lock();
        match answer {
            Ok(()) => measures.readable.saturating_record(started.elapsed().as_micros() as u64),
            Err(error) => measures.fail(error),
        }
        Ok(())
    }

    async fn send(&self, record: &MixRecord) -> anyhow::Result<OffsetVector> {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let mut future = FutureRecord::<[u8], [u8]>::to(record.topic).headers(headers);
        (future.key, future.payload) = (record.key.as_deref(), record.value.as_deref());
        let sent = self.producer.send(future, Duration::from_secs(10)).await;
        let at = sent.map_err(|(error, _)| error).context("Kafka did not take a probe")?;
        let (partitions, offsets) = (vec![at.partition as u32], vec![at.offset]);
        Ok(OffsetVector { topics: vec![TopicOffsets { topic: record.topic.into(), partitions, offsets }] })
    }
}

/// Reads keys that were sent, the popular ones more often, and notes how long each read took.
async fn read(client: Client, shared: &Shared) {
    let (mut turn, mut random) = (interval(READ_EVERY), Random::new(7));
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let popular = Zipf::new(KNOWN_KEYS as u64, 0.99);
    while !shared.stopped() {
        turn.tick().await;
        let at = popular.sample(&mut random) as usize;
        let Some((key, view)) = shared.keys.lock().get(at).cloned() else { continue };
        let started = Instant::now();
        let answer = look(&client, &key, view, None).await;
        let took = started.elapsed();
        match answer {
            Ok(()) => shared.measures.lock().reads.saturating_record(took.as_micros() as u64),
            Err(error) => shared.measures.lock().fail(error),
        }
    }
}

/// One read of one value. Without positions to wait for the value may not be there yet; it may be deleted in any case.
async fn look(client: &Client, key: &[u8], view: &str, wait_for: Option<OffsetVector>) -> anyhow::Result<()> {
    let written = wait_for.is_some();
    let mut query = Query::new([key]).whole_view(view);
    if let Some(positions) = wait_for {
        query = query.wait_for(positions);
    }
    let rows = client.get(query).await?;
    let status = rows.row(0).status(view);
    let fine = match status {
        Status::Present | Status::Deleted => true,
        Status::NotFound => !written,
        _ => false,
    };
    let name = String::from_utf8_lossy(key);
    ensure!(fine, "{view} of {name} is {}: {:?}", status.as_str_name(), rows.unavailable());
    Ok(())
}
