//! scratch
use forebay_storage::codec::*;
use std::hint::black_box;
#[path = "codec_pace/telemetry.rs"]
mod telemetry;
use telemetry::{Telemetry, VIEWS};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let view: usize = a[1].parse().unwrap();
    let mut t = Telemetry::new(VIEWS[view].1, false, 7);
    let mut trainer = Trainer::new(Limits::default());
    for _ in 0..1000 {
        trainer.sample(t.payload().as_bytes());
    }
    let g = trainer.train(1);
    let ps: Vec<String> = (0..1000).map(|_| t.payload()).collect();
    let n: usize = ps.iter().map(String::len).sum();
    let mut e = Encoder::new();
    let mut out = Vec::new();
    let st: Vec<_> = ps
        .iter()
        .map(|p| {
            let mut o = Vec::new();
            let c = encode(&g, p.as_bytes(), &mut e, &mut o);
            (c.coding, o)
        })
        .collect();
    let path = |s: &str| s.split('.').map(str::to_owned).collect::<Vec<_>>();
    let b = g.bind(
        &[
            path("ts"),
            path("header.event_time"),
            path("radio.rssi"),
            path("signal.snr_db"),
            path("quality.score"),
        ],
        true,
    );
    let mut r = Ranges::new();
    let reps = 1000;
    let mut best = f64::MAX;
    for _ in 0..reps {
        let t0 = std::time::Instant::now();
        match a[2].as_str() {
            "encode" => {
                for p in &ps {
                    out.clear();
                    black_box(encode(&g, p.as_bytes(), &mut e, &mut out));
                }
            }
            "ranges" => {
                for p in &ps {
                    out.clear();
                    black_box(encode(&g, p.as_bytes(), &mut e, &mut out));
                    b.ranges(&g, &e, &mut r);
                }
            }
            "decode" => {
                for (c, s) in &st {
                    out.clear();
                    decode(&g, *c, s, &mut out).unwrap();
                }
            }
            "field" => {
                for (_, s) in &st {
                    for i in 0..5 {
                        out.clear();
                        black_box(field(&g, &b, s, i, &mut out));
                    }
                }
            }
            _ => (),
        }
        best = best.min(t0.elapsed().as_nanos() as f64);
    }
    println!(
        "{} {}: {:.0} ns per 1000 B, {:.0} each, raw {}",
        VIEWS[view].0,
        a[2],
        best / n as f64 * 1000.0,
        best / 1000.0,
        n / 1000
    );
}
