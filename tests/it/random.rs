//! P24: random bytes at every door. The server lives, answers everyone else, and keeps what it was given.

use forebay_tests::{Bed, Record, Status, call, event_now, heavy, request, throw};
use prost::Message;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

const METHODS: [&str; 16] = [
    "FeatureStore/GetFeatures",
    "FeatureStore/StreamFeatures",
    "FeatureStore/GetHistory",
    "FeatureStore/PushFeatures",
    "FeatureStore/DeleteFeatures",
    "Admin/GetStatus",
    "Admin/DescribeViews",
    "Admin/ReloadDefinitions",
    "Diagnoses/CreateSnapshot",
    "Diagnoses/GetSnapshot",
    "Diagnoses/RecordPrediction",
    "Diagnoses/RecordOutcome",
    "Diagnoses/GetDiagnosis",
    "Diagnoses/ListDiagnoses",
    "Diagnoses/Evaluate",
    "Diagnoses/EraseEntity",
];

fn bytes(random: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..most)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// Some bytes of a good text changed, removed or doubled: gets further than noise.
fn spoilt(random: &mut StdRng, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match random.random_range(0..4) {
            0 if !bytes.is_empty() => bytes[at] = random.random(),
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, random.random()),
        }
    }
    bytes
}

async fn lives(bed: &mut Bed, seed: u64) {
    assert!(bed.server.alive(), "seed {seed}: the server ended\n{}", bed.server.log());
    let ts = event_now();
    bed.put(Record::new("points", b"after", format!(r#"{{"ts":{ts}}}"#))).await;
    let row = bed.get("points", b"after").await;
    assert_eq!((row.status, row.event_time_ms), (Status::Present, ts), "seed {seed}");
}

async fn prepared(name: &str) -> (Bed, StdRng, u64) {
    let seed = rand::random();
    println!("seed {seed}");
    (Bed::new(name).start().await, StdRng::seed_from_u64(seed), seed)
}

#[tokio::test]
async fn p24_random_records() {
    let _permit = heavy().await;
    let (mut bed, mut random, seed) = prepared("p24_records").await;
    let good =
        format!(r#"{{"ts":{},"d":1.5e3,"s":"\u00e9","inner":{{"deep":[1,{{"a":null}}]}}}}"#, event_now());
    let names = ["forebay-view", "forebay-event-time", "forebay-ttl-ms", "x"];
    let record = |random: &mut StdRng| {
        let payload = match random.random_range(0..3) {
            0 => bytes(random, 2000),
            _ => spoilt(random, good.as_bytes()),
        };
        let mut record = Record::new("points", &bytes(random, 300), payload).on(random.random_range(0..2));
        if random.random_bool(0.1) {
            record = record.keyless();
        }
        if random.random_bool(0.1) {
            record.value = None;
        }
        if random.random_bool(0.2) {
            let value = if random.random_bool(0.5) {
                bytes(random, 20)
            } else {
                random.random::<i64>().to_string().into()
            };
            record = record.header(names[random.random_range(0..names.len())], value);
        }
        record
    };
    let records: Vec<_> = (0..3000).map(|_| record(&mut random)).collect();
    bed.send_all(records).await;
    bed.settled().await;
    let model = bed.model().await;
    bed.dead_letters_agree(&model).await;
    // Keys are on partitions of their own choosing here: compare what the partitioner would find.
    let here = |key: &[u8], place: u32| forebay_client_partition(key) == place;
    let mut found = 0;
    for ((key, view), _) in model.versions.iter() {
        let latest = model.latest(key, view).expect("a version");
        if model.versions[&(key.clone(), view.clone())]
            .iter()
            .all(|version| here(key, version.place.partition))
        {
            let row = bed.get(view, key).await;
            assert_eq!(row.place.as_ref(), Some(&latest.place), "seed {seed}");
            found += 1;
        }
    }
    assert!(found > 0, "seed {seed}: no record was good");
    println!("{} of {} keys readable, {} letters", found, model.versions.len(), model.dead());
    lives(&mut bed, seed).await;
}

fn forebay_client_partition(key: &[u8]) -> u32 {
    forebay_client::Partitioner::Murmur2.partition(key, 2)
}

#[tokio::test]
async fn p24_random_calls() {
    let _permit = heavy().await;
    let (mut bed, mut random, seed) = prepared("p24_calls").await;
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{}", bed.server.grpc)).expect("a URL");
    let channel = channel.connect().await.expect("connects");
    let good = request("points", &[b"after", b"k"]).encode_to_vec();
    for round in 0..2000 {
        let message = match random.random_range(0..3) {
            0 => bytes(&mut random, 200),
            _ => spoilt(&mut random, &good),
        };
        let method = METHODS[round % METHODS.len()];
        // Any answer will do; none would be a hang, and `call` says so.
        let _ = call(&channel, &format!("/forebay.v1.{method}"), message).await;
    }
    lives(&mut bed, seed).await;
    let (code, body) = bed.server.http_get("/readyz").await.expect("it answers");
    assert_eq!(code, 200, "{body}");
}

#[tokio::test]
async fn p24_random_bytes_on_the_sockets() {
    let _permit = heavy().await;
    let (mut bed, mut random, seed) = prepared("p24_sockets").await;
    for _ in 0..300 {
        let noise = bytes(&mut random, 5000);
        let get = spoilt(&mut random, b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde");
        throw(&bed.server.grpc, noise.clone()).await;
        throw(&bed.server.http, noise).await;
        throw(&bed.server.http, get.clone()).await;
        throw(&bed.server.grpc, get).await;
    }
    lives(&mut bed, seed).await;
    assert_eq!(bed.server.http_get("/metrics").await.expect("it answers").0, 200);
}
