//! Reads: GetFeatures and StreamFeatures beside a tonic echo of the same bytes in a process of its own, and beside Redis
//! holding the same values. Rates are closed-loop, latencies open-loop at half the slower side's rate.

mod data;
mod ours;
mod redis_side;
mod rows;
mod shape;
mod side;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use forebay_proto::v1::{GetFeaturesResponse, Status};
use prost::Message;
use serde_json::json;

use self::ours::Place;
use self::redis_side::RedisSide;
use self::shape::{SHAPES, Shape};
use self::side::Side;
use super::progress;
use crate::peers::{echo, redis};
use crate::report::{Report, Sample};

/// What `forebay-bench read` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Unary requests in flight.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Stream requests in flight.
    #[arg(long, default_value_t = 512)]
    window: usize,
    /// Channels (connections) of the load generator, to every side.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    channels: u64,
    /// Entities that are there to be read, ten views of each.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(10..))]
    entities: u64,
    /// What is asked, again for another: one view of an entity, ten views of an entity, 50 typed features of 100
    /// entities. All of them if not given.
    #[arg(long = "shape", value_name = "SHAPE", value_parser = SHAPES)]
    shapes: Vec<String>,
    /// What to measure beside ours, again for another; all that are installed if not given.
    #[arg(long = "peer", value_name = "NAME", value_parser = ["echo", "redis"])]
    peers: Vec<String>,
    /// Read from a server that runs, instead of one with simulated data: its gRPC address, host:port.
    #[arg(long, value_name = "HOST:PORT", requires = "keys")]
    target: Option<String>,
    /// With --target: entity ids to ask for in turn, one a line.
    #[arg(long, value_name = "FILE", requires = "target")]
    keys: Option<PathBuf>,
    /// With --target: a view to read as JSON, again for another.
    #[arg(long = "view", value_name = "NAME", requires = "target", conflicts_with = "service")]
    views: Vec<String>,
    /// With --target: a feature service to read as typed columns.
    #[arg(long, value_name = "NAME", requires = "target")]
    service: Option<String>,
    /// With --target: entities of one request.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "target")]
    batch: usize,
}

/// All measurements of one round: ours, and a peer's where it was measured.
#[derive(Debug, Default)]
struct Round {
    unary: Both,
    p50: Both,
    p99: Both,
    stream: Both,
    redis: Option<BesideRedis>,
}

/// Ours and the peer's.
type Both = (Sample, Sample);

/// What was measured with as many requests in flight on both sides.
#[derive(Debug)]
struct BesideRedis {
    unary: Both,
    p50: Both,
    p99: Both,
    stream: Both,
}

/// Runs the pairs.
pub async fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let peers = peers(&options.peers)?;
    let place = Place::new(options).await?;
    let (echo_process, echo_address) = start_echo()?;
    let mut report = Report::new("read");
    report.data.insert("in_flight", json!({"unary": options.in_flight, "stream": options.window}));
    report.data.insert("connections", json!(options.channels));
    report.data.extend(place.facts());
    let (mut answers, mut rates) = (serde_json::Map::new(), serde_json::Map::new());
    for shape in place.shapes() {
        let ours = Side::ours(&place.address, shape.requests.clone(), place.pid(), options).await?;
        let peer = Side::echo(&echo_address, shape.requests.clone(), echo_process.0.id(), options).await?;
        let canned = prepare(&ours, &peer, shape).await?;
        let redis = match shape.redis.filter(|_| peers.redis) {
            Some(_) => Some(RedisSide::new(&ours, shape, options).await?),
            None => None,
        };
        if let Some(redis) = &redis {
            report.data.insert("redis_version", json!(redis.version()));
        }
        let sides = Sides { ours, peer, redis, options };
        let (rounds, target) = sides.rounds(shape, pairs).await?;
        report.rows.extend(rows::rows(shape, &rounds));
        answers.insert(shape.name.clone(), json!(canned));
        rates.insert(shape.name.clone(), json!(target as u64));
    }
    report.data.insert("answer_bytes", answers.into());
    report.data.insert("open_loop_rate_per_s", rates.into());
    Ok(report)
}

/// Which peers there are beside the echo.
struct Peers {
    redis: bool,
}

/// The echo is always there.
fn peers(wanted: &[String]) -> anyhow::Result<Peers> {
    let named = wanted.iter().any(|peer| peer == "redis");
    let redis = redis::installed();
    ensure!(redis || !named, redis::HELP);
    if !redis && wanted.is_empty() {
        eprintln!("Measured without Redis. {}", redis::HELP);
    }
    Ok(Peers { redis: redis && (named || wanted.is_empty()) })
}

/// Who is asked.
struct Sides<'o> {
    ours: Side,
    peer: Side,
    redis: Option<RedisSide>,
    options: &'o Options,
}

impl Sides<'_> {
    /// The rounds after the warm-up, and the rate at which latencies were measured.
    async fn rounds(&self, shape: &Shape, pairs: usize) -> anyhow::Result<(Vec<Round>, f64)> {
        let (mut rounds, mut target) = (Vec::new(), 0.0);
        for pair in 0..=pairs {
            let name = &shape.name;
            let step = progress(format!("{name}: pair {pair} of {pairs} (0 is a warm-up)"));
            let round = self.round(&mut target).await?;
            if pair > 0 {
                rounds.push(round);
            }
            step.finish_and_clear();
        }
        Ok((rounds, target))
    }

    /// `target` is set where it is not yet.
    async fn round(&self, target: &mut f64) -> anyhow::Result<Round> {
        let Options { in_flight, window, .. } = *self.options;
        let time = Duration::from_secs_f64(self.options.seconds);
        let ours = self.ours.unary(in_flight, time).await?;
        let peer = self.peer.unary(in_flight, time).await?;
        if *target == 0.0 {
            *target = ours.rate.value.min(peer.rate.value) / 2.0;
        }
        let mut round = Round { unary: (ours.rate, peer.rate), ..Round::default() };
        let (mine, theirs) =
            (self.ours.latency(*target, time).await?, self.peer.latency(*target, time).await?);
        (round.p50, round.p99) = ((mine.0, theirs.0), (mine.1, theirs.1));
        round.stream = (self.ours.stream(window, time).await?, self.peer.stream(window, time).await?);
        if let Some(redis) = &self.redis {
            let few = redis.ask_all(in_flight, time).await?;
            let many = redis.ask_all(window, time).await?;
            round.redis = Some(BesideRedis {
                unary: (ours.rate, few.rate),
                p50: (ours.p50, few.p50),
                p99: (ours.p99, few.p99),
                stream: (round.stream.0, many.rate),
            });
        }
        Ok(round)
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start_echo() -> anyhow::Result<(Killed, String)> {
    let child = Command::new(std::env::current_exe()?).arg("echo-server").stdout(Stdio::piped()).spawn()?;
    let mut child = Killed(child);
    let mut address = String::new();
    BufReader::new(child.0.stdout.take().context("piped")?).read_line(&mut address)?;
    Ok((child, address.trim().to_owned()))
}

/// Has the echo answer with the bytes of one of our answers, one of middling size; gives their number.
async fn prepare(ours: &Side, peer: &Side, shape: &Shape) -> anyhow::Result<usize> {
    let mut answers = Vec::new();
    for request in shape.requests.iter().take(200) {
        let answer = ours.answer(request).await?;
        let mut statuses = answer.views.iter().flat_map(|view| &view.status);
        let whole = statuses.all(|status| *status == Status::Present as i32);
        ensure!(whole || !shape.whole, "not all values are PRESENT: {answer:?}");
        answers.push(answer);
    }
    let sizes = || answers.iter().map(Message::encoded_len);
    let mean = sizes().sum::<usize>() / answers.len().max(1);
    let middling = answers.iter().min_by_key(|answer| answer.encoded_len().abs_diff(mean));
    let bytes = Bytes::from(middling.map(GetFeaturesResponse::encode_to_vec).unwrap_or_default());
    let length = bytes.len();
    echo::call(peer.channel(0), echo::PREPARE, bytes).await?;
    Ok(length)
}
