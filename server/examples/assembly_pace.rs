//! How many requests by Kafka a running server answers a second, and how long an answer takes at half that: produces
//! requests to its topic and reads the answers. For measuring by hand; knows the records' form and nothing of the server.
//!
//! `cargo run --release --example assembly_pace -- BOOTSTRAP POINTS_TOPIC REQUESTS_TOPIC REPLIES_TOPIC COUNT`
//!
//! The server has a view `points` with its event time in `ts`, fed by POINTS_TOPIC; 1,000 entities are written first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const ENTITIES: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

type Sender = ThreadedProducer<DefaultProducerContext>;

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_micros() as u64
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, points, requests, replies, count] = arguments.as_slice() else {
        panic!("BOOTSTRAP POINTS_TOPIC REQUESTS_TOPIC REPLIES_TOPIC COUNT");
    };
    let count: u64 = count.parse().expect("a number");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "pace").set("fetch.wait.max.ms", "5");
    let mut producing = config.clone();
    producing.set("linger.ms", "2").set("partitioner", "murmur2_random");
    producing.set("queue.buffering.max.messages", "2000000").set("compression.type", "lz4");
    let producer: Sender = producing.create().expect("a producer");
    write_points(&producer, points);
    let consumer: BaseConsumer = config.create().expect("a consumer");
    follow(&consumer, replies);
    let body = |entity: u64| format!(r#"{{"entity":"e{entity}","views":["points"]}}"#);
    let ask = |id: u64| send(&producer, requests, replies, id, &body(id % ENTITIES));
    // Once to warm up what connects on first use.
    run(&consumer, 1_000, f64::INFINITY, &ask);
    let (seconds, _) = run(&consumer, count, f64::INFINITY, &ask);
    let rate = count as f64 / seconds;
    println!("{count} requests produced ahead: {rate:.0} answers/s");
    let (_, latency) = run(&consumer, count, rate / 2.0, &ask);
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    println!("at {:.0}/s: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", rate / 2.0, ms(0.5), ms(0.99), ms(1.0));
}

fn write_points(producer: &Sender, topic: &str) {
    for entity in 0..ENTITIES {
        let value =
            format!(r#"{{"ts":{},"i":{entity},"s":"{}","d":1.25}}"#, now_us() / 1000, "x".repeat(200));
        let key = format!("e{entity}");
        let record = BaseRecord::to(topic).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("written");
    std::thread::sleep(Duration::from_secs(2));
}

/// Reads what comes from now on, on every partition.
fn follow(consumer: &BaseConsumer, topic: &str) {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the topic");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).expect("its end");
        list.add_partition_offset(topic, partition.id(), Offset::Offset(end)).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
}

fn send(producer: &Sender, requests: &str, replies: &str, id: u64, body: &str) {
    let (sent, key) = (now_us().to_string(), format!("e{}", id % ENTITIES));
    let headers = OwnedHeaders::new_with_capacity(2)
        .insert(Header { key: "correlation-id", value: Some(&sent) })
        .insert(Header { key: "reply-topic", value: Some(replies) });
    let record = BaseRecord::to(requests).key(&key).payload(body).headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
}

/// Sends at a rate and reads the answers; gives the seconds it took, and the time of each answer in us.
fn run(consumer: &BaseConsumer, count: u64, rate: f64, ask: &(impl Fn(u64) + Sync)) -> (f64, Histogram<u64>) {
    let mut latency = Histogram::new(3).expect("valid bounds");
    let begun = Instant::now();
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..count {
                while id as f64 > begun.elapsed().as_secs_f64() * rate {
                    std::thread::sleep(Duration::from_micros(500));
                }
                ask(id);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        for got in 0..count {
            let answer = consumer.poll(PATIENCE).unwrap_or_else(|| panic!("{got} of {count} answers"));
            let answer = answer.expect("an answer");
            let headers = answer.headers().expect("headers");
            let of =
                |name: &str| headers.iter().find(|header| header.key == name).and_then(|header| header.value);
            assert_eq!(of("forebay-status"), Some(b"OK".as_slice()));
            let asked = std::str::from_utf8(of("correlation-id").expect("ours")).expect("ours");
            let asked: u64 = asked.parse().expect("ours");
            latency.saturating_record(now_us().saturating_sub(asked));
        }
    });
    (begun.elapsed().as_secs_f64(), latency)
}
