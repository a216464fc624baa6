//! The data of the `engine` scenario: telemetry of the mix's two device views, about 1 KB each, and the ids of their
//! entities.

use std::collections::BTreeMap;

use anyhow::Context;
use forebay_bench_stores::{Data, Plan};
use forebay_server::mix::{HIGH_VOLUME, Mix, MixView, Shares, VIEWS};
use serde_json::{Value, json};

/// Different payloads of each view; far more than fit into any compressor's window.
const PAYLOADS: usize = 40_000;
const NOW_MS: i64 = 1_800_000_000_000;

/// Writes the file of the plan; says what is in it.
pub fn write(plan: &Plan) -> anyhow::Result<BTreeMap<&'static str, Value>> {
    let views: Vec<&MixView> = VIEWS.iter().filter(|view| view.lane == HIGH_VOLUME).collect();
    let [even, odd] = [0, 1].map(|at| payloads(views[at].name));
    let (even, odd) = (even?, odd?);
    let entities = (0..plan.entities() * 3 / 2 + 10).map(|number| {
        let mut id = Vec::new();
        views[0].entity_id(number, &mut id);
        id
    });
    let lists = [entities.collect::<Vec<_>>(), even, odd];
    Data::write(&plan.data, &lists)?;
    let payloads = || lists[1..].iter().flatten();
    let bytes: usize = payloads().map(Vec::len).sum();
    let mut facts = BTreeMap::new();
    facts.insert("mean_payload_bytes", json!(bytes / payloads().count()));
    facts.insert("mean_entity_bytes", json!(lists[0].iter().map(Vec::len).sum::<usize>() / lists[0].len()));
    let sample: Vec<u8> = payloads().step_by(100).flatten().copied().collect();
    let packed = zstd::bulk::compress(&sample, 3).context("zstd")?.len();
    facts.insert("zstd_3_ratio_of_1000_together", json!(packed as f64 / sample.len() as f64));
    Ok(facts)
}

fn payloads(view: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let none = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };
    let mut mix = Mix::new(1, 1, none).only(|other| other.name == view);
    let next = |n: usize| mix.next(NOW_MS + n as i64).value.clone().context("a value");
    (0..PAYLOADS).map(next).collect()
}
