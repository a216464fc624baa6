//! The pace of payload coding beside JSON parsing and zstd with a dictionary, on synthetic telemetry, in one run:
//! `cargo run --release -p forebay-storage --example codec_pace [TEMPLATE FILE...]`.

use std::hint::black_box;
use std::time::Instant;

use forebay_storage::codec::{Coding, Encoder, Generation, Limits, Ranges, Trainer, decode, encode, field};
use zstd::bulk::{Compressor, Decompressor};

mod telemetry;
use telemetry::{Telemetry, VIEWS};

const SAMPLES: usize = 1024;
const PAYLOADS: usize = 1000;

/// Times per payload in ns, and sizes.
#[derive(Default)]
struct Row {
    raw: usize,
    stored: usize,
    by_shape: usize,
    train_ms: f64,
    file: usize,
    encode: f64,
    decode: f64,
    field: f64,
    serde: f64,
    sonic: f64,
    zstd: usize,
    zstd_encode: f64,
    zstd_decode: f64,
}

fn main() {
    println!(
        "{:<22}{:>7}{:>7}{:>7} |{:>8}{:>8}{:>7} |{:>8}{:>8}{:>7}{:>8}{:>8} |{:>7} |{:>7}{:>7}",
        "view",
        "raw",
        "ratio",
        "shape",
        "encode",
        "decode",
        "field",
        "serde",
        "sonic",
        "ratio",
        "zstd",
        "unzstd",
        "gain",
        "train",
        "file"
    );
    println!(
        "{:<22}{:>7}{:>7}{:>7} |{:>23} |{:>39} |{:>7} |{:>7}{:>7}",
        "", "bytes", "", "%", "ns/1000 B, ns a field", "ns/1000 B", "encode", "ms", "KiB"
    );
    let files: Vec<String> = std::env::args().skip(1).collect();
    let read =
        |path: &String| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut views: Vec<(String, String)> =
        VIEWS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    views.extend(files.iter().map(|path| (path.rsplit('/').next().unwrap_or(path).to_owned(), read(path))));
    let mut rows = Vec::new();
    for (index, (name, template)) in views.iter().enumerate() {
        for short in [false, true] {
            let row = measure(&mut Telemetry::new(template, short, 1000 + index as u64));
            print(&format!("{name}{}", if short { ", short" } else { "" }), &row);
            rows.push(row);
        }
    }
    let bytes = rows.iter().map(|row| row.raw as f64).sum::<f64>();
    let sum = |part: fn(&Row) -> f64| rows.iter().map(|row| part(row) * row.raw as f64).sum::<f64>() / bytes;
    let size = |part: fn(&Row) -> usize| rows.iter().map(part).sum::<usize>();
    print(
        "all, by bytes",
        &Row {
            raw: size(|row| row.raw),
            stored: size(|row| row.stored),
            by_shape: size(|row| row.by_shape) / rows.len(),
            train_ms: sum(|row| row.train_ms),
            file: size(|row| row.file) / rows.len(),
            encode: sum(|row| row.encode),
            decode: sum(|row| row.decode),
            field: sum(|row| row.field),
            serde: sum(|row| row.serde),
            sonic: sum(|row| row.sonic),
            zstd: size(|row| row.zstd),
            zstd_encode: sum(|row| row.zstd_encode),
            zstd_decode: sum(|row| row.zstd_decode),
        },
    );
}

fn print(name: &str, row: &Row) {
    let theirs = row.serde.min(row.sonic) + row.zstd_encode;
    println!(
        "{:<22}{:>7}{:>7.3}{:>7} |{:>8.0}{:>8.0}{:>7.0} |{:>8.0}{:>8.0}{:>7.3}{:>8.0}{:>8.0} |{:>6.1}x |{:>7.0}{:>7}",
        name,
        row.raw / PAYLOADS,
        row.stored as f64 / row.raw as f64,
        row.by_shape * 100 / PAYLOADS,
        row.encode,
        row.decode,
        row.field,
        row.serde,
        row.sonic,
        row.zstd as f64 / row.raw as f64,
        row.zstd_encode,
        row.zstd_decode,
        theirs / row.encode,
        row.train_ms,
        row.file / 1024
    );
}

/// The best of several passes over `items`, in ns per 1000 bytes of `bytes`.
fn pace<T>(items: &[T], bytes: usize, mut work: impl FnMut(&T)) -> f64 {
    let pass = |_| {
        let start = Instant::now();
        items.iter().for_each(&mut work);
        start.elapsed().as_nanos() as f64
    };
    (0..15).map(pass).fold(f64::INFINITY, f64::min) / bytes as f64 * 1000.0
}

fn measure(telemetry: &mut Telemetry) -> Row {
    let mut trainer = Trainer::new(Limits::default());
    let samples: Vec<String> = (0..SAMPLES).map(|_| telemetry.payload()).collect();
    samples.iter().for_each(|sample| trainer.sample(sample.as_bytes()));
    let start = Instant::now();
    let file = trainer.train(1).to_bytes();
    let train_ms = start.elapsed().as_secs_f64() * 1000.0;
    let generation = Generation::from_bytes(&file).expect("just written");
    let payloads: Vec<String> = (0..PAYLOADS).map(|_| telemetry.payload()).collect();
    let mut row =
        Row { raw: payloads.iter().map(String::len).sum(), train_ms, file: file.len(), ..Row::default() };
    ours(&generation, &payloads, &mut row);
    theirs(&samples, &payloads, &mut row);
    row
}

fn ours(generation: &Generation, payloads: &[String], row: &mut Row) {
    let mut encoder = Encoder::new();
    let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<String>>();
    let paths: Vec<Vec<String>> =
        ["ts", "header.event_time", "radio.rssi_dbm", "signal.snr_db", "quality.score"].map(path).to_vec();
    let binding = generation.bind(&paths, true);
    let mut stored = Vec::new();
    for payload in payloads {
        let mut out = Vec::new();
        let encoded = encode(generation, payload.as_bytes(), &mut encoder, &mut out);
        let mut back = Vec::new();
        decode(generation, encoded.coding, &out, &mut back).expect("decodes");
        assert_eq!(back, payload.as_bytes());
        row.by_shape += usize::from(encoded.coding == Coding::Shape);
        stored.push((encoded.coding, out));
    }
    row.stored = stored.iter().map(|(_, stored)| stored.len()).sum();
    let (mut out, mut ranges) = (Vec::new(), Ranges::new());
    row.encode = pace(payloads, row.raw, |payload| {
        out.clear();
        black_box(encode(generation, payload.as_bytes(), &mut encoder, &mut out));
        binding.ranges(generation, &encoder, &mut ranges);
        black_box(&ranges);
    });
    row.decode = pace(&stored, row.raw, |(coding, stored)| {
        out.clear();
        black_box(decode(generation, *coding, stored, &mut out)).expect("decodes");
    });
    let shaped: Vec<(usize, &[u8])> = stored
        .iter()
        .filter(|(coding, _)| *coding == Coding::Shape)
        .flat_map(|(_, stored)| (0..paths.len()).map(|path| (path, stored.as_slice())))
        .filter(|(path, stored)| field(generation, &binding, stored, *path, &mut Vec::new()).is_some())
        .collect();
    row.field = pace(&shaped, shaped.len().max(1) * 1000, |(path, stored)| {
        out.clear();
        black_box(field(generation, &binding, stored, *path, &mut out));
    });
}

fn theirs(samples: &[String], payloads: &[String], row: &mut Row) {
    let dictionary = zstd::dict::from_samples(samples, 16 << 10).expect("enough samples");
    let mut compressor = Compressor::with_dictionary(1, &dictionary).expect("a dictionary");
    let mut decompressor = Decompressor::with_dictionary(&dictionary).expect("a dictionary");
    let packed: Vec<Vec<u8>> =
        payloads.iter().map(|payload| compressor.compress(payload.as_bytes()).expect("compresses")).collect();
    row.zstd = packed.iter().map(Vec::len).sum();
    row.serde = pace(payloads, row.raw, |payload| {
        black_box(serde_json::from_slice::<serde::de::IgnoredAny>(payload.as_bytes()).expect("valid"));
    });
    row.sonic = pace(payloads, row.raw, |payload| {
        black_box(sonic_rs::from_slice::<serde::de::IgnoredAny>(payload.as_bytes()).expect("valid"));
    });
    let mut room = vec![0; 1 << 20];
    row.zstd_encode = pace(payloads, row.raw, |payload| {
        black_box(compressor.compress_to_buffer(payload.as_bytes(), &mut room)).expect("compresses");
    });
    row.zstd_decode = pace(&packed, row.raw, |packed| {
        black_box(decompressor.decompress_to_buffer(packed, &mut room)).expect("decompresses");
    });
}
