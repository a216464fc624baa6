//! What was sent, counted by kind, for people and for programs. Used by `produce` and the demo.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::record::{Kind, MixRecord};

/// Counts of records sent.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// All of them.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    kinds: BTreeMap<Kind, u64>,
    views: BTreeMap<&'static str, Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    records: u64,
    bytes: u64,
}

impl Tally {
    /// Counts one record.
    pub fn add(&mut self, record: &MixRecord) {
        let bytes = [&record.key, &record.value].into_iter().flatten().map(Vec::len).sum::<usize>() as u64;
        self.records += 1;
        self.bytes += bytes;
        *self.kinds.entry(record.kind).or_default() += 1;
        let view = self.views.entry(record.view).or_default();
        view.records += 1;
        view.bytes += bytes;
    }

    fn by_kind_name(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        self.kinds.iter().for_each(|(kind, count)| *counts.entry(kind.name()).or_default() += count);
        counts
    }

    fn defects(&self) -> BTreeMap<String, u64> {
        let defect = |(kind, count): (&Kind, &u64)| match kind {
            Kind::Bad(defect) => Some((format!("{defect:?}"), *count)),
            _ => None,
        };
        self.kinds.iter().filter_map(defect).collect()
    }

    /// For programs: counts, bytes, rate.
    pub fn json(&self, seconds: f64) -> Value {
        let views: BTreeMap<_, _> = self.views.iter().map(|(view, count)| (view, count.records)).collect();
        json!({
            "produced": self.records,
            "bytes": self.bytes,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "rate": rate(self.records, seconds).round(),
            "kinds": self.by_kind_name(),
            "defects": self.defects(),
            "views": views,
        })
    }

    /// For people: a row per view and a row per kind.
    pub fn table(&self, seconds: f64) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["", "records", "MB", "mean bytes"]);
        for (view, Count { records, bytes }) in &self.views {
            let mean = bytes / records.max(&1);
            table.add_row([view.to_string(), records.to_string(), megabytes(*bytes), mean.to_string()]);
        }
        for (kind, count) in self.by_kind_name() {
            table.add_row([format!("of these {kind}"), count.to_string(), String::new(), String::new()]);
        }
        let mean = self.bytes / self.records.max(1);
        let all = format!("all, {:.0}/s for {seconds:.1} s", rate(self.records, seconds));
        table.add_row([all, self.records.to_string(), megabytes(self.bytes), mean.to_string()]);
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    }
}

/// Per second.
pub fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
