//! The accounts at the end of a demo: what was produced against what the server says became of it. Nothing may be missing.

use std::time::Duration;

use anyhow::bail;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::judges::{Judged, Judges};
use super::measures::Measures;
use super::stage::{Counts, Stage};

/// How long the server may take to catch up once nothing more is produced.
const SETTLE: Duration = Duration::from_secs(20);

/// What came of it all.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Records that Kafka took.
    pub produced: u64,
    /// What the server says became of them.
    pub counts: Counts,
    /// What was measured.
    pub measures: Measures,
    /// What became of edges.
    pub judged: Judged,
}

/// Waits until the accounts balance and every edge is told and judged, or the time for it is up.
pub(super) async fn settle(
    stage: &Stage,
    produced: u64,
    measures: Measures,
    judges: Judges,
) -> anyhow::Result<Outcome> {
    let deadline = tokio::time::Instant::now() + SETTLE;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    let mut outcome = Outcome { produced, counts: Counts::default(), measures, judged: Judged::default() };
    loop {
        pause.tick().await;
        outcome.counts = stage.counts().await?;
        let is_settled = outcome.missing() == 0 && stage.edges_waiting() == 0;
        if is_settled || tokio::time::Instant::now() > deadline {
            break;
        }
    }
    outcome.judged = judges.leave(stage.edges()).await?;
    Ok(outcome)
}

impl Outcome {
    /// Produced and not accounted for; negative when there is more than was produced.
    fn missing(&self) -> i64 {
        let Counts { applied, late, duplicates, dead_lettered, expired, .. } = self.counts;
        self.produced as i64 - (applied + late + duplicates + dead_lettered + expired) as i64
    }

    /// An error that says what differs, unless every data point is accounted for and every read was answered.
    pub fn check(&self) -> anyhow::Result<()> {
        let Measures { failed, last_failure, reads, readable } = &self.measures;
        match self.missing() {
            0 => {}
            missing => bail!(
                "the accounts do not balance: produced {}, {} of them not accounted for (lag {} records, replayed {})",
                self.produced,
                missing,
                self.counts.lag,
                self.counts.replayed
            ),
        }
        if *failed > 0 {
            bail!("{failed} reads failed, the last one: {last_failure}");
        }
        let Judged { diagnoses, snapshots, .. } = self.judged;
        if snapshots != diagnoses {
            bail!("{diagnoses} predictions are stored, and {snapshots} snapshots");
        }
        if reads.is_empty() || readable.is_empty() {
            bail!("nothing was read: give it more time");
        }
        Ok(())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Counts { applied, late, duplicates, dead_lettered, expired, .. } = self.counts;
        json!({
            "produced": self.produced,
            "applied": applied,
            "late": late,
            "dead_lettered": dead_lettered,
            "duplicates": duplicates,
            "expired": expired,
            "readable_p50_ms": self.measures.readable_ms(0.5),
            "readable_p99_ms": self.measures.readable_ms(0.99),
            "read_p50_us": self.measures.read_us(0.5),
            "read_p99_us": self.measures.read_us(0.99),
            "edges": self.judged.edges,
            "diagnoses": self.judged.diagnoses,
            "snapshots": self.judged.snapshots,
            "edge_to_prediction_p99_ms": self.judged.edge_to_prediction_ms(0.99),
        })
    }

    /// For people.
    pub fn table(&self) -> Table {
        let Counts { applied, late, duplicates, dead_lettered, expired, keys, .. } = self.counts;
        let (measures, judged) = (&self.measures, &self.judged);
        let rows = [
            ("data points produced", self.produced.to_string()),
            ("  applied: became the latest of their key", applied.to_string()),
            ("  late: kept as history", late.to_string()),
            ("  duplicates: the same again", duplicates.to_string()),
            ("  dead-lettered: not data points, or from the future", dead_lettered.to_string()),
            ("  expired on arrival", expired.to_string()),
            ("  not accounted for", self.missing().to_string()),
            ("keys (entity, view)", keys.to_string()),
            ("produced to readable, p50 ms", measures.readable_ms(0.5).to_string()),
            ("produced to readable, p99 ms", measures.readable_ms(0.99).to_string()),
            ("reads", measures.reads.len().to_string()),
            ("read, p50 us", measures.read_us(0.5).to_string()),
            ("read, p99 us", measures.read_us(0.99).to_string()),
            ("edges: changes of a trigger's state", judged.edges.to_string()),
            ("  to RED, which the model judges", judged.wanted.to_string()),
            ("diagnoses: predictions stored", judged.diagnoses.to_string()),
            ("  with their snapshot", judged.snapshots.to_string()),
            ("edge to prediction, p50 ms", judged.edge_to_prediction_ms(0.5).to_string()),
            ("edge to prediction, p99 ms", judged.edge_to_prediction_ms(0.99).to_string()),
        ];
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.add_rows(rows.map(|(name, value)| [name.to_owned(), value]));
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(produced: u64) -> Outcome {
        let counts =
            Counts { applied: 90, late: 5, duplicates: 2, dead_lettered: 2, expired: 1, ..Counts::default() };
        let mut measures = Measures::default();
        measures.reads.saturating_record(150);
        measures.readable.saturating_record(6_240);
        Outcome { produced, counts, measures, judged: Judged::default() }
    }

    #[test]
    fn accounts_that_balance_pass() {
        outcome(100).check().expect("balanced");
        assert_eq!(outcome(100).json()["readable_p50_ms"], 6.24);
    }

    #[test]
    fn a_missing_data_point_is_named() {
        let error = outcome(101).check().expect_err("one is missing").to_string();
        assert!(error.contains("produced 101, 1 of them not accounted for"), "{error}");
    }

    #[test]
    fn a_failed_read_is_named() {
        let mut outcome = outcome(100);
        outcome.measures.fail("UNAVAILABLE");
        let error = outcome.check().expect_err("a read failed").to_string();
        assert!(error.contains("1 reads failed") && error.contains("UNAVAILABLE"), "{error}");
    }
}
