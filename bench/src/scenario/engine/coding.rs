//! Payload coding beside what it replaces: parsing the JSON to validate it, then zstd with a dictionary; on the payloads
//! of the run, in turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use forebay_bench_stores::meter::Figure;
use forebay_bench_stores::{Data, Plan};
use forebay_storage::codec::{Encoder, Generation, Limits, Ranges, Trainer, decode, encode, field};
use serde::de::IgnoredAny;
use zstd::bulk::{Compressor, Decompressor};

const SAMPLES: u64 = 1024;
const PAYLOADS: u64 = 2000;
const PASSES: usize = 9;
const DICTIONARY_BYTES: usize = 16 << 10;
const LEVEL: i32 = 1;
/// A member of both views.
const FIELD: &str = "ts";

/// Prints the figures, ours and the peer's after an `@`.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let data = Data::read(&plan.data)?;
    let mut sums = Sums::default();
    for view in [1, 2] {
        let samples: Vec<&[u8]> = (0..SAMPLES).map(|n| data.payload(view, n)).collect();
        let payloads: Vec<&[u8]> = (0..PAYLOADS).map(|n| data.payload(view, SAMPLES + n)).collect();
        measure(&samples, &payloads, &mut sums)?;
    }
    let bytes = sums.raw as f64;
    let per_kb = |ns: f64| ns / bytes;
    let rate = |name: &str, ns: f64| Figure::new(name, 1e9 / (ns / f64::from(sums.count)), 0.0);
    rate("encode", sums.encode).print();
    rate("encode@parse + zstd", sums.parse + sums.pack).print();
    Figure::new("encode_us", per_kb(sums.encode), 0.0).print();
    Figure::new("encode_us@parse + zstd", per_kb(sums.parse + sums.pack), 0.0).print();
    Figure::new("decode_us", per_kb(sums.decode), 0.0).print();
    Figure::new("decode_us@zstd", per_kb(sums.unpack), 0.0).print();
    Figure::new("field_us", sums.field / 1e3 / f64::from(sums.count), 0.0).print();
    Figure::new("field_us@unzstd + sonic", sums.get / 1e3 / f64::from(sums.count), 0.0).print();
    Figure::new("stored_per_raw", sums.stored as f64 / bytes, 0.0).print();
    Figure::new("stored_per_raw@zstd", sums.packed as f64 / bytes, 0.0).print();
    Ok(())
}

/// Times in ns and sizes in bytes over all payloads.
#[derive(Default)]
struct Sums {
    count: u32,
    raw: usize,
    stored: usize,
    packed: usize,
    encode: f64,
    decode: f64,
    field: f64,
    parse: f64,
    pack: f64,
    unpack: f64,
    get: f64,
}

/// The median pass of each kind of work; the kinds take turns.
struct Turns([Vec<Duration>; 7]);

impl Turns {
    fn time(&mut self, kind: usize, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.0[kind].push(start.elapsed());
    }

    fn ns(&mut self, kind: usize) -> f64 {
        self.0[kind].sort_unstable();
        self.0[kind][self.0[kind].len() / 2].as_nanos() as f64
    }
}

fn measure(samples: &[&[u8]], payloads: &[&[u8]], sums: &mut Sums) -> anyhow::Result<()> {
    let mut trainer = Trainer::new(Limits::default());
    samples.iter().for_each(|sample| trainer.sample(sample));
    let generation = Generation::from_bytes(&trainer.train(1).to_bytes())?;
    let binding = generation.bind(&[vec![FIELD.to_owned()]], false);
    let dictionary = zstd::dict::from_samples(samples, DICTIONARY_BYTES)?;
    let mut compressor = Compressor::with_dictionary(LEVEL, &dictionary)?;
    let mut decompressor = Decompressor::with_dictionary(&dictionary)?;
    let (mut encoder, mut ranges) = (Encoder::new(), Ranges::new());
    let mut stored = Vec::new();
    for payload in payloads {
        let mut bytes = Vec::new();
        let encoded = encode(&generation, payload, &mut encoder, &mut bytes);
        stored.push((encoded.coding, bytes));
    }
    let packed: Vec<Vec<u8>> =
        payloads.iter().map(|payload| compressor.compress(payload)).collect::<Result<_, _>>()?;
    let (mut out, mut room) = (Vec::new(), vec![0; 1 << 20]);
    let mut turns = Turns(Default::default());
    for _ in 0..PASSES {
        turns.time(0, || {
            for payload in payloads {
                out.clear();
                black_box(encode(&generation, payload, &mut encoder, &mut out));
                // Ingest asks for where its fields are.
                binding.ranges(&generation, &encoder, &mut ranges);
                black_box(&ranges);
            }
        });
        turns.time(1, || {
            for (coding, bytes) in &stored {
                out.clear();
                black_box(decode(&generation, *coding, bytes, &mut out)).expect("as encoded");
            }
        });
        turns.time(2, || {
            for (_, bytes) in &stored {
                out.clear();
                black_box(field(&generation, &binding, bytes, 0, &mut out));
            }
        });
        turns.time(3, || {
            for payload in payloads {
                black_box(sonic_rs::from_slice::<IgnoredAny>(payload).expect("JSON"));
            }
        });
        turns.time(4, || {
            for payload in payloads {
                black_box(compressor.compress_to_buffer(payload, &mut room)).expect("room enough");
            }
        });
        turns.time(5, || {
            for bytes in &packed {
                black_box(decompressor.decompress_to_buffer(bytes, &mut room)).expect("as compressed");
            }
        });
        turns.time(6, || {
            for bytes in &packed {
                let length = decompressor.decompress_to_buffer(bytes, &mut room).expect("as compressed");
                black_box(sonic_rs::get(&room[..length], [FIELD])).expect("a member");
            }
        });
    }
    stored.first().context("no payloads")?;
    sums.count += payloads.len() as u32;
    sums.raw += payloads.iter().map(|payload| payload.len()).sum::<usize>();
    sums.stored += stored.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    sums.packed += packed.iter().map(Vec::len).sum::<usize>();
    let into = [
        &mut sums.encode,
        &mut sums.decode,
        &mut sums.field,
        &mut sums.parse,
        &mut sums.pack,
        &mut sums.unpack,
        &mut sums.get,
    ];
    into.into_iter().enumerate().for_each(|(kind, sum)| *sum += turns.ns(kind));
    Ok(())
}
