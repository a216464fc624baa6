//! Which figures of the rounds become which rows, and what is to be reached.

use super::shape::Shape;
use super::{BesideRedis, Both, Round};
use crate::report::Row;

/// The rows of one shape.
pub fn rows(shape: &Shape, rounds: &[Round]) -> Vec<Row> {
    let name = &shape.name;
    let row = |figure: &str, unit, peer, goal: &str, pairs: Vec<Both>| {
        Row::new(format!("{name}: {figure}"), unit, peer, &pairs).goal(goal)
    };
    let of = |figure: fn(&Round) -> Both| -> Vec<Both> { rounds.iter().map(figure).collect() };
    let mut rows = vec![
        row("unary", "requests/s", "tonic echo", "≥ 0.9x", of(|round| round.unary)),
        row("unary p50", "µs", "tonic echo", "", of(|round| round.p50)),
        row("unary p99", "µs", "tonic echo", "≤ 1.1x", of(|round| round.p99)),
        row("stream", "requests/s", "tonic stream echo", "≥ 0.5x", of(|round| round.stream)),
        row("stream over unary", "requests/s", "our unary", "", of(|round| (round.stream.0, round.unary.0))),
    ];
    let (Some(redis), true) = (shape.redis, rounds.iter().all(|round| round.redis.is_some())) else {
        return rows;
    };
    let of = |figure: fn(&BesideRedis) -> Both| -> Vec<Both> {
        rounds.iter().filter_map(|round| round.redis.as_ref().map(figure)).collect()
    };
    let goal = if redis == "Redis MGET" { "≥ 1x" } else { "" };
    rows.extend([
        row("unary", "requests/s", redis, goal, of(|beside| beside.unary)),
        row("unary p50, closed loop", "µs", redis, "", of(|beside| beside.p50)),
        row("unary p99, closed loop", "µs", redis, "", of(|beside| beside.p99)),
        row("stream", "requests/s", redis, "", of(|beside| beside.stream)),
    ]);
    rows
}
