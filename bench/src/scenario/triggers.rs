//! What triggers cost ingest: the same data points applied and durable with triggers on every view, against the same
//! server without any. Edges are told to the same broker.

use anyhow::Context as _;
use serde_json::json;

use super::ingest::{Ours, served};
use super::{Stage, progress};
use crate::report::{Report, Row};

/// What `forebay-bench triggers` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Data points to consume in each measurement.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Consumer threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Divides the number of entities.
    #[arg(long, default_value_t = 20)]
    scale: u64,
}

const LANE: &str = "high_volume";

/// Two on each view, whose states change at one data point in a hundred or so.
const FAST: [(&str, &str); 4] = [
    ("device_radio", "snr_db < 4.3"),
    ("device_radio", "utilization > 0.994 || rssi_dbm < -95 && online"),
    ("device_traffic", "rtt_ms < 3.9"),
    ("device_traffic", "loss > 0.0597 && score >= 0.5"),
];
/// The same for the customers' views.
const STANDARD: [(&str, &str); 20] = [
    ("account_profile", "experience_index < 20.8"),
    ("account_profile", "churn_risk > 0.99 || payment_risk > 0.995 && autopay"),
    ("equipment_inventory", "memory_free_mb < 43.7"),
    ("equipment_inventory", "cpu_load > 0.995 || temperature_c > 73.8 && reboots_30d > 0"),
    ("care_contacts", "sentiment < -0.98"),
    ("care_contacts", "anger > 0.99 && contacts_7d >= 1"),
    ("usage_daily", "peak_down_mbps < 23.0"),
    ("usage_daily", "down_gb > 188.1 || share_gaming > 0.995 && complete"),
    ("neighborhood_plant", "mer_p05_db < 24.16"),
    ("neighborhood_plant", "upstream_utilization > 0.96 || ingress_db > -20.4 && modems_online > 20"),
    ("modem_signal", "snr_db < 24.2"),
    ("modem_signal", "uncorrected_rate > 0.0198 || t3_timeouts >= 90 && online"),
    ("wifi_environment", "coverage_score < 1.0"),
    ("wifi_environment", "utilization_2g > 0.97 || retry_rate_2g > 0.597 && weak_clients > 0"),
    ("speed_test", "download_mbps < 40.8"),
    ("speed_test", "loaded_latency_up_ms > 896.0 || loss > 0.0398"),
    ("service_latency", "p95_ms > 198.1"),
    ("service_latency", "loss > 0.0497 || queue_delay_ms > 59.7 && dns_failures > 0"),
    ("wifi_experience", "score < 1.0"),
    ("wifi_experience", "retry_rate > 0.497 || coverage < 0.5 && clients > 0"),
];
/// The first of each view, for the interpreter.
const INTERPRETED: [(&str, &str); 2] =
    [("device_radio", "snr_db * 1.0 < 4.3"), ("device_traffic", "rtt_ms + 0.0 < 3.9")];

/// Runs the pairs.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let stage = Stage::new(LANE, options.count, options.partitions, options.scale).await?;
    let plain = stage.definitions(options.threads);
    let sides = [
        ("two fast triggers a view", "fast", with(&plain, &FAST, "fast")),
        ("one interpreted rule a view", "interpreted", with(&plain, &INTERPRETED, "interpreted")),
    ];
    let mut report = Report::new("triggers");
    report.data.insert("data_points", json!(stage.count));
    report.data.insert("threads", json!(options.threads));
    for (name, short, definitions) in sides {
        stage.kafka.create_topics(&[&edges_topic(short)], options.partitions as i32).await;
        let mut samples = Vec::new();
        for pair in 0..=pairs {
            let step = progress(format!("{name}: pair {pair} of {pairs} (0 is a warm-up)"));
            let server = format!("{short}-{pair}");
            // In turns first, so that neither always has a broker and a disk that are busy with the other's end.
            let bare = format!("{server}-without");
            let (with, without) = if pair % 2 == 0 {
                let without = served(&stage, LANE, &bare, &plain).await?;
                (served(&stage, LANE, &server, &definitions).await?, without)
            } else {
                let with = served(&stage, LANE, &server, &definitions).await?;
                (with, served(&stage, LANE, &bare, &plain).await?)
            };
            if pair > 0 {
                samples.push((with.sample, without.sample));
            }
            note(&mut report, short, &with)?;
            step.finish_and_clear();
        }
        report.rows.push(Row::new(name, "data points/s", "no triggers", &samples));
    }
    Ok(report)
}

fn note(report: &mut Report, short: &str, ours: &Ours) -> anyhow::Result<()> {
    let key = match short {
        "fast" => "edges_fast",
        _ => "edges_interpreted",
    };
    let edges = ours.metrics.find("forebay_edges_total").context("the server counts edges")?;
    let waiting = ours.metrics.find("forebay_edges_waiting").context("the server counts edges")?;
    report.data.insert(key, json!(edges + waiting));
    Ok(())
}

/// Two rules for each view of a lane.
pub(super) fn two_a_view(lane: &str) -> &'static [(&'static str, &'static str)] {
    if lane == LANE { &FAST } else { &STANDARD }
}

/// Where the edges of one set of triggers are told.
pub(super) fn edges_topic(short: &str) -> String {
    format!("bench.edges.{short}")
}

/// Definitions with a trigger for each rule.
pub(super) fn with(definitions: &str, rules: &[(&str, &str)], short: &str) -> String {
    let mut text = definitions.to_owned();
    for (number, (view, when)) in rules.iter().enumerate() {
        text.push_str(&format!(
            "\n[[trigger]]\nname = \"t{number}\"\nid = {}\nversion = 1\nview = \"{view}\"\nedges_topic = \"{}\"\n\
             rules = [{{ state = \"RED\", when = \"{when}\" }}]\n",
            900 + number,
            edges_topic(short)
        ));
    }
    text
}
