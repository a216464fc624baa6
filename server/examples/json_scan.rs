//! How fast the JSON scan is: ns per payload and GB/s for telemetry-like payloads with twelve captured paths, beside
//! serde_json building a value. `cargo run --release -p forebay-server --example json_scan`. For people; no test runs it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use forebay_server::json::{Plan, Slots};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

fn main() {
    println!("{:>16} {:>8} {:>12} {:>8} {:>18}", "payload", "bytes", "ns/payload", "GB/s", "serde_json ns");
    for (name, bytes, avro, long) in [
        ("1 KB plain", 1000, false, false),
        ("1 KB avro", 1000, true, false),
        ("2.5 KB plain", 2500, false, false),
        ("15 KB plain", 15_000, false, false),
        ("15 KB text", 15_000, false, true),
    ] {
        measure(name, bytes, avro, long);
    }
}

fn measure(name: &str, bytes: usize, avro: bool, long: bool) {
    let mut random = SmallRng::seed_from_u64(7);
    let payloads: Vec<String> = (0..200).map(|_| payload(&mut random, bytes, avro, long)).collect();
    let plan = plan(avro);
    let mut slots = Slots::new();
    let scan = time(&payloads, |text| {
        plan.scan(text.as_bytes(), &mut slots).expect("JSON");
        black_box(slots.get(0, text.as_bytes()));
    });
    let serde = time(&payloads, |text| {
        black_box(serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
    });
    let mean = payloads.iter().map(String::len).sum::<usize>() as f64 / payloads.len() as f64;
    println!("{name:>16} {mean:>8.0} {scan:>12.0} {:>8.2} {serde:>18.0}", mean / scan);
}

/// The best of several rounds, in ns per payload.
fn time(payloads: &[String], mut work: impl FnMut(&str)) -> f64 {
    let mut round = || {
        let start = Instant::now();
        payloads.iter().for_each(|text| work(text));
        start.elapsed()
    };
    let best = (0..30).map(|_| round()).min().unwrap_or(Duration::ZERO);
    best.as_nanos() as f64 / payloads.len() as f64
}

fn plan(avro: bool) -> Plan {
    let mut paths: Vec<Vec<String>> = ["ts", "device.mac", "device.firmware", "id"]
        .iter()
        .map(|path| path.split('.').map(str::to_owned).collect())
        .collect();
    paths.extend((0..8).map(|n| vec!["signal".to_owned(), format!("metric_{n}")]));
    Plan::compile(&paths, avro)
}

fn payload(random: &mut SmallRng, bytes: usize, avro: bool, long: bool) -> String {
    let double = |value: f64| if avro { format!("{{\"double\":{value:.4}}}") } else { format!("{value:.4}") };
    let string =
        |value: String| if avro { format!("{{\"string\":\"{value}\"}}") } else { format!("\"{value}\"") };
    let id = string(format!("{:032x}", random.random::<u128>()));
    let mac = string(format!("{:012x}", random.random::<u64>() >> 16));
    let mut text = format!(
        "{{\"ts\":{},\"id\":{id},\"device\":{{\"mac\":{mac},\"firmware\":{}}},\"signal\":{{",
        1_700_000_000_000u64 + random.random_range(0..1_000_000_000),
        string("XB7-4.2.17p3s1_PROD_sey".into()),
    );
    let fill = if long { 700 } else { bytes };
    let mut metric = 0;
    while text.len() + 40 < fill {
        text.push_str(&format!("\"metric_{metric}\":{},", double(random.random_range(-60.0..60.0))));
        metric += 1;
    }
    text.pop();
    let note = "the customer says that it is slow in the evening, ".repeat(bytes.saturating_sub(fill) / 50);
    text + &format!("}},\"note\":\"{note}\"}}")
}
