//! Which figures of the rounds become which rows, and what is to be reached.

use super::{Round, Run};
use crate::report::{Row, Sample};

const RAW: &str = "raw consume";
const REDIS: &str = "Kafka to Redis";

/// The rows; `bytes` are those of all `count` data points of a lane.
pub fn rows(rounds: &[Round], bytes: u64, count: u64, lane: &str) -> Vec<Row> {
    let mean = bytes as f64 / count.max(1) as f64;
    let high_volume = lane == "high_volume";
    let beside = |name: &'static str, unit, peer: &'static str, goal: &str, of: &dyn Fn(&Run) -> Sample| {
        let theirs = |round: &Round| if peer == RAW { round.raw } else { round.redis };
        let pairs: Vec<_> =
            rounds.iter().filter_map(|round| Some((of(&round.ours), of(&theirs(round)?)))).collect();
        (!pairs.is_empty()).then(|| Row::new(name, unit, peer, &pairs).goal(goal))
    };
    let rate = |run: &Run| Sample { value: run.rate, cpu_us: run.cpu_us };
    let json = |run: &Run| Sample { value: run.rate * mean / 1e6, cpu_us: run.cpu_us };
    let cpu = |run: &Run| Sample { value: run.cpu_us, cpu_us: run.cpu_us };
    let broker = |run: &Run| Sample { value: run.broker_us, cpu_us: f64::NAN };
    let (raw_goal, json_goal) =
        if high_volume { ("≥ 700 k/s, ≥ 0.33x", "") } else { ("", "≥ 500 MB/s") };
    let mut rows = Vec::new();
    rows.extend(beside("applied and durable", "data points/s", RAW, raw_goal, &rate));
    rows.extend(beside("applied and durable", "data points/s", REDIS, "≥ 2.3x", &rate));
    rows.extend(beside("JSON applied and durable", "MB/s", RAW, json_goal, &json));
    rows.extend(beside("CPU per data point", "µs", RAW, "", &cpu));
    rows.extend(beside("CPU per data point", "µs", REDIS, "≤ 0.5x", &cpu));
    rows.extend(beside("broker's CPU per data point", "µs", RAW, "", &broker));
    rows.extend(beside("broker's CPU per data point", "µs", REDIS, "", &broker));
    let alone = Sample { value: f64::NAN, cpu_us: f64::NAN };
    let written = |round: &Round| Sample { value: round.written as f64 / bytes as f64, cpu_us: f64::NAN };
    let written: Vec<_> = rounds.iter().map(|round| (written(round), alone)).collect();
    rows.push(Row::new("written per raw byte", "B/B", "", &written));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_were_not_measured_have_no_rows() {
        let run = |rate| Run { rate, cpu_us: 2.0, broker_us: 1.0 };
        let round = Round { ours: run(10.0), raw: Some(run(20.0)), redis: None, written: 50 };
        let rows = rows(&[round], 100, 10, "standard");
        assert!(rows.iter().all(|row| row.peer_name != REDIS));
        let json = rows.iter().find(|row| row.unit == "MB/s").unwrap();
        assert_eq!((json.ours * 1e6, json.ratio, json.goal.as_str()), (100.0, 0.5, "≥ 500 MB/s"));
        let written = rows.last().unwrap();
        assert_eq!(written.ours, 0.5);
    }
}
