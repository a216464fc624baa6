//! The simulated mix: customers' and devices' telemetry as a cable operator has it, from a seed. `Mix` makes the records,
//! `produce` sends them to Kafka (`forebay produce`), the demo and the benchmarks use both. The payloads are the
//! templates in `payloads/`, the server's side of it is `definitions.toml`. Nothing else in the server depends on it.

mod generate;
mod notes;
pub mod produce;
mod random;
mod record;
pub mod report;
pub mod sender;
mod spoil;
mod template;
mod views;

pub use generate::{Mix, Shares};
pub use random::{Random, Zipf};
pub use record::{Defect, Kind, MixHeaders, MixRecord};
pub use views::{HIGH_VOLUME, MixView, STANDARD, VIEWS};

/// Definitions of the mix, TOML, with this before every topic name.
pub fn definitions(topic_prefix: &str) -> String {
    include_str!("definitions.toml").replace("{prefix}", topic_prefix)
}

/// Every source topic of the mix, without prefix, each once; with `lane` only that lane's.
pub fn topics(lane: Option<&str>) -> Vec<&'static str> {
    let mut topics: Vec<_> = VIEWS
        .iter()
        .filter(|view| lane.is_none_or(|lane| view.lane == lane))
        .map(|view| view.topic)
        .collect();
    topics.dedup();
    topics
}

/// The dead-letter topic of a lane, without prefix.
pub fn dead_letter_topic(lane: &str) -> String {
    format!("{lane}.dlq")
}

#[cfg(test)]
mod tests;
