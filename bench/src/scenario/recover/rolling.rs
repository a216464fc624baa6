//! Two servers of one group are restarted one after the other while a client reads: does a read that retries ever fail, and
//! how long was the longest wait? Knows no checkpoints.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use forebay_client::{Client, ClientConfig, Query, RetryPolicy, Status};
use forebay_server::mix::Random;
use forebay_tests::v1::ShardState;
use forebay_tests::{Broker, Server, ServerConfig, run_dir};

use super::keys::{Keys, Load, Producer};
use super::{Options, create_topics};
use crate::load;

/// Longest a read may take, retries included.
const DEADLINE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a read is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// What was found.
pub struct Rolled {
    /// Reads made.
    pub reads: u64,
    /// That the client gave up on and that were asked again.
    pub again: u64,
    /// Without an answer, or with a wrong one.
    pub failed: u64,
    /// Why, the last time.
    pub reason: String,
    /// Latencies in ms.
    pub latencies: Vec<f64>,
    /// From each SIGTERM until every shard was served again, s.
    pub restarts_s: Vec<f64>,
}

/// Restarts them.
pub async fn run(options: &Options) -> anyhow::Result<Rolled> {
    let keys = Keys {
        group: "rolling",
        entities: (options.rolling_keys / options.views as u64).max(1),
        views: options.views,
        partitions: options.partitions,
    };
    let broker = Broker::start("rolling").await;
    let kafka = broker.kafka();
    create_topics(&kafka, &keys).await;
    let producer = Producer::of_all(&keys, &kafka.bootstrap).await?;
    let mut servers = [
        server(&keys, &kafka.bootstrap, "one")?.start().await,
        server(&keys, &kafka.bootstrap, "two")?.start().await,
    ];
    served(&servers, options.partitions).await?;
    let mut config = ClientConfig::new(servers.each_ref().map(|server| format!("http://{}", server.grpc)));
    config.deadline = DEADLINE;
    config.retry = RetryPolicy {
        attempts: 1000,
        first_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(200),
    };
    let client = Client::connect(config).await?;
    let load = Load::start(producer, options.rolling_rate);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let again = Arc::<AtomicU64>::default();
    let reading = tokio::spawn(read(client, keys.clone(), options.rolling_reads, again.clone(), stopped));
    let mut restarts_s = Vec::new();
    for at in 0..servers.len() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begin = Instant::now();
        let code = servers[at].terminate().await;
        ensure!(code == 0, "a server ended with {code} after SIGTERM");
        servers[at].restart().await;
        served(&servers, options.partitions).await?;
        restarts_s.push(begin.elapsed().as_secs_f64());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    let (latencies, failed, reason) = reading.await??;
    load.stop()?;
    let again = again.load(Ordering::Relaxed);
    Ok(Rolled { reads: latencies.len() as u64 + failed, again, failed, reason, latencies, restarts_s })
}

/// A server at a port that it keeps.
fn server(keys: &Keys, bootstrap: &str, instance: &str) -> anyhow::Result<ServerConfig> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let more = format!("[server]\nlisten = \"127.0.0.1:{port}\"\ninstance = \"{instance}\"\n");
    let dir = run_dir().join(format!("rolling-{instance}"));
    Ok(ServerConfig::write(&dir, bootstrap, keys.group, &keys.definitions(), &more))
}

/// Waits until each shard is ready on one of them.
async fn served(servers: &[Server], partitions: usize) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let mut ready = 0;
        for server in servers {
            let status = server.connect().await.status().await?;
            let shards = status.lanes.iter().flat_map(|lane| &lane.shards);
            ready += shards.filter(|shard| shard.state() == ShardState::Ready).count();
        }
        if ready == partitions {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{ready} of {partitions} shards are ready after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads one value at a time at a rate: latencies in ms, failures, the last reason.
async fn read(
    client: Client,
    keys: Keys,
    rate: f64,
    again: Arc<AtomicU64>,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<(Vec<f64>, u64, String)> {
    let (mut latencies, mut failed, mut reason) = (Vec::new(), 0, String::new());
    let keys = Arc::new(keys);
    let part = Duration::from_millis(500);
    // In parts, each of which waits for its last read, would be no open loop: all of them run beside each other.
    let (report, mut parts) = tokio::sync::mpsc::unbounded_channel();
    let mut running = tokio::task::JoinSet::new();
    let mut turn = tokio::time::interval(part);
    while !*stopped.borrow() {
        turn.tick().await;
        let (client, keys, report, again) = (client.clone(), keys.clone(), report.clone(), again.clone());
        let seed = forebay_tests::event_now() as u64;
        running.spawn(async move {
            let ask = move |number| ask(client.clone(), keys.clone(), seed ^ number, again.clone());
            load::open_each(rate, part, ask, |_, outcome| drop(report.send(outcome))).await
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    drop(report);
    while let Some(outcome) = parts.recv().await {
        match outcome {
            Ok(latency) => latencies.push(latency.as_secs_f64() * 1e3),
            Err(error) => {
                failed += 1;
                reason = format!("{error:#}");
            }
        }
    }
    Ok((latencies, failed, reason))
}

/// One read, asked again until it is answered or the deadline is over: the client gives up, without waiting, on a shard that
/// is being opened (the row is UNAVAILABLE), and on a server that nobody else stands in for. Counts the reads asked again.
async fn ask(client: Client, keys: Arc<Keys>, seed: u64, again: Arc<AtomicU64>) -> anyhow::Result<()> {
    let (mut random, begin) = (Random::new(seed), Instant::now());
    let entity = Keys::id(random.below(keys.entities));
    let view = format!("v{}", random.below(keys.views as u64));
    for tries in 0.. {
        let answer = client.get(Query::new([&entity]).whole_view(&view).deadline(DEADLINE)).await;
        let refused = match answer.map(|rows| (rows.row(0).status(&view), rows)) {
            Ok((Status::Present, _)) => break,
            Ok((Status::Unavailable, rows)) => format!("{:?}", rows.unavailable()),
            Ok((status, _)) => bail!("{view} of a key that is there: {}", status.as_str_name()),
            Err(error) => error.to_string(),
        };
        ensure!(begin.elapsed() < DEADLINE, "{refused}");
        again.fetch_add(u64::from(tries == 0), Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
