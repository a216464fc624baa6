//! What came of edges, by the topics: each edge told once, with a snapshot and a prediction of its id, and how long the
//! prediction took. Knows topics, and nothing of who fills them.

use std::collections::{BTreeMap, BTreeSet};

use forebay_tests::{Consumed, Kafka};
use hdrhistogram::Histogram;

use crate::scenario::plant::Plant;

/// What was found.
#[derive(Debug)]
pub struct Diagnoses {
    /// Edges told.
    pub edges: u64,
    /// Told more than once.
    pub repeated: u64,
    /// Edges without a snapshot, and snapshots of no edge.
    pub snapshots_off: u64,
    /// Edges without a prediction, and predictions of no edge.
    pub predictions_off: u64,
    /// From the edge's Kafka timestamp to its snapshot's, ms.
    pub frozen_ms: Histogram<u64>,
    /// From the edge's Kafka timestamp to the prediction's, ms.
    pub took_ms: Histogram<u64>,
    /// From the Kafka timestamp of the data point to the prediction's, ms.
    pub from_data_point_ms: Histogram<u64>,
}

/// Ids with their Kafka timestamps.
type Ids = BTreeMap<String, i64>;

/// Reads the topics of edges, snapshots and predictions; times are of edges that were told since a moment, ms.
pub async fn find(plant: &Plant, since_ms: i64) -> anyhow::Result<Diagnoses> {
    let kafka = &plant.kafka;
    let told = kafka.read_topic(&plant.topic("edges")).await;
    let mut edges = BTreeMap::new();
    for edge in &told {
        edges.insert(edge.header("forebay-edge-id").unwrap_or_default(), edge);
    }
    let snapshots = ids(kafka, &plant.topic("snapshots")).await;
    let predictions = ids(kafka, &plant.topic("predictions")).await;
    let off = |others: &Ids| {
        let own: BTreeSet<&String> = edges.keys().collect();
        own.symmetric_difference(&others.keys().collect()).count() as u64
    };
    let mut found = Diagnoses {
        edges: edges.len() as u64,
        repeated: (told.len() - edges.len()) as u64,
        snapshots_off: off(&snapshots),
        predictions_off: off(&predictions),
        frozen_ms: histogram()?,
        took_ms: histogram()?,
        from_data_point_ms: histogram()?,
    };
    for (id, edge) in edges {
        let Some(at_ms) = predictions.get(&id).filter(|_| edge.timestamp_ms >= since_ms) else { continue };
        let since = |from_ms: i64| (at_ms - from_ms).max(0) as u64;
        found.took_ms.saturating_record(since(edge.timestamp_ms));
        if let Some(frozen_ms) = snapshots.get(&id) {
            found.frozen_ms.saturating_record((frozen_ms - edge.timestamp_ms).max(0) as u64);
        }
        let value: serde_json::Value = serde_json::from_slice(edge.value.as_deref().unwrap_or_default())?;
        if let Some(ingest_ms) = value["ingest_time_ms"].as_i64() {
            found.from_data_point_ms.saturating_record(since(ingest_ms));
        }
    }
    Ok(found)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000, 3)?)
}

/// The first record of each id.
async fn ids(kafka: &Kafka, topic: &str) -> Ids {
    let mut ids = Ids::new();
    for Consumed { key, timestamp_ms, .. } in kafka.read_topic(topic).await {
        let id = String::from_utf8_lossy(&key.unwrap_or_default()).into_owned();
        ids.entry(id).or_insert(timestamp_ms);
    }
    ids
}
