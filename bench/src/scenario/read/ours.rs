//! The server that is read: one of the bench's own with simulated data, or one that runs already.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use forebay_tests::{Broker, Connection, Server, ServerConfig, eventually_within, run_dir};
use serde_json::{Value, json};

use super::Options;
use super::data::{self, LANES, Sent, Source, VERSIONS};
use super::shape::{SHAPES, Shape};
use crate::scenario::ingest::passed;
use crate::scenario::progress;

/// Partitions of each topic where the server is ours.
const PARTITIONS: i32 = 2;

/// A server and what can be asked of it.
pub struct Place {
    /// host:port.
    pub address: String,
    shapes: Vec<Shape>,
    facts: BTreeMap<&'static str, Value>,
    /// Where it is ours.
    running: Option<(Broker, Server)>,
}

impl Place {
    /// As the options say.
    pub async fn new(options: &Options) -> anyhow::Result<Place> {
        match &options.target {
            Some(target) => Place::there(target, options),
            None => Place::started(options).await,
        }
    }

    /// What is asked, in this order.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Process id, if it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|(_, server)| server.pid())
    }

    /// The data it has.
    pub fn facts(&self) -> BTreeMap<&'static str, Value> {
        self.facts.clone()
    }

    fn there(target: &str, options: &Options) -> anyhow::Result<Place> {
        let file = options.keys.as_ref().context("--keys FILE: one entity id a line")?;
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let lines = text.lines().filter(|line| !line.is_empty());
        let ids: Vec<Bytes> = lines.map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
        ensure!(!ids.is_empty(), "{} names no entity", file.display());
        let shape = match (&options.service, &options.views[..]) {
            (Some(service), _) => Shape::service(service, service, &ids, options.batch, false),
            (None, []) => bail!("name what to read: --view NAME or --service NAME"),
            (None, views) => Shape::views(views, &ids, options.batch, false),
        };
        let address = target.trim_start_matches("http://").to_owned();
        let facts = BTreeMap::from([("target", json!(address)), ("entities", json!(ids.len()))]);
        Ok(Place { address, shapes: vec![shape], facts, running: None })
    }

    async fn started(options: &Options) -> anyhow::Result<Place> {
        let step = progress("a server with data");
        let broker = Broker::start("bench").await;
        let bootstrap = broker.kafka().bootstrap;
        let mut source = Source::new(&bootstrap, options.entities, PARTITIONS).await?;
        let definitions = data::definitions()?;
        let config = ServerConfig::write(&run_dir().join("read"), &bootstrap, "read", &definitions, "");
        let server = config.start().await;
        server.wait_ready().await;
        let client = server.connect().await;
        for _ in 0..VERSIONS {
            source = tokio::task::spawn_blocking(move || source.send_round().map(|()| source)).await??;
            applied(&client, source.count).await;
        }
        let sent = source.sent();
        ensure!(!sent.customers.is_empty(), "no customer has all views");
        let facts = BTreeMap::from([
            ("entities", json!({"customers": sent.customers.len(), "devices": sent.devices.len()})),
            ("mean_payload_bytes", json!(sent.mean_bytes)),
        ]);
        step.finish_and_clear();
        let wanted =
            |name: &str| options.shapes.is_empty() || options.shapes.iter().any(|other| other == name);
        let shapes = SHAPES.into_iter().filter(|name| wanted(name)).map(|name| simulated(name, &sent));
        let (address, shapes) = (server.grpc.clone(), shapes.collect());
        Ok(Place { address, shapes, facts, running: Some((broker, server)) })
    }
}

fn simulated(name: &str, sent: &Sent) -> Shape {
    match name {
        "one" => Shape::views(&[data::DEVICE_VIEW.to_owned()], &sent.devices, 1, true),
        "ten" => Shape::views(&data::customer_views(), &sent.customers, 1, true),
        _ => Shape::service(data::SERVICE, "50 typed features", &sent.customers, 100, true),
    }
}

/// Waits until so many data points are readable.
async fn applied(client: &Connection, count: u64) {
    eventually_within(std::time::Duration::from_secs(120), "all data points are applied", || async {
        let status = client.status().await?;
        let lanes = status.lanes.iter().filter(|lane| LANES.contains(&lane.lane.as_str()));
        let applied: u64 = lanes.map(|lane| passed(lane).0).sum();
        ensure!(applied >= count, "{applied} of {count}");
        Ok(())
    })
    .await;
}
