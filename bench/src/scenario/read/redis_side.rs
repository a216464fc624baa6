//! The Redis side of a read comparison: it holds the payloads that our server answers with, and is asked for those of one
//! request at a time, by as many who ask over as many connections as ours.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{GetFeaturesRequest, GetFeaturesResponse};

use super::Options;
use super::shape::Shape;
use super::side::{Closed, Side, closed};
use crate::cpu;
use crate::peers::redis::{self, Redis};
use crate::peers::redis_reads::Connection;

/// A Redis with the values, and the commands that read them.
pub struct RedisSide {
    redis: Redis,
    connections: Arc<Vec<Connection>>,
    commands: Arc<Vec<(Bytes, usize)>>,
    whole: bool,
}

impl RedisSide {
    /// Starts one and fills it with what our server answers.
    pub async fn new(ours: &Side, shape: &Shape, options: &Options) -> anyhow::Result<RedisSide> {
        let redis = Redis::start()?;
        let mut sets = Vec::new();
        for request in shape.requests.iter() {
            sets.extend(sets_of(request, &ours.answer(request).await?));
        }
        tokio::task::block_in_place(|| redis.load(sets.into_iter()))?;
        let mut connections = Vec::new();
        for _ in 0..options.channels {
            connections.push(Connection::open(&redis.address).await?);
        }
        let commands = shape.requests.iter().map(read_of).collect();
        let (connections, commands) = (Arc::new(connections), Arc::new(commands));
        Ok(RedisSide { redis, connections, commands, whole: shape.whole })
    }

    /// As it says itself.
    pub fn version(&self) -> &str {
        &self.redis.version
    }

    /// With so many in flight for some time.
    pub async fn ask_all(&self, in_flight: usize, time: Duration) -> anyhow::Result<Closed> {
        let before = cpu::of_process(self.redis.pid);
        let (connections, commands, whole) = (self.connections.clone(), self.commands.clone(), self.whole);
        let ask = move |number: u64| {
            let connection = connections[number as usize % connections.len()].clone();
            let (command, values) = commands[number as usize % commands.len()].clone();
            async move {
                let found = connection.ask(command).await?;
                ensure!(found.len() == values, "{} of {values} values", found.len());
                ensure!(!whole || found.iter().all(|value| !value.is_empty()), "a value is missing");
                Ok(())
            }
        };
        let mut closed = closed(in_flight, time, ask).await?;
        closed.rate.cpu_us = (cpu::of_process(self.redis.pid) - before) as f64 / closed.count;
        Ok(closed)
    }
}

fn views_of(request: &GetFeaturesRequest) -> Vec<&str> {
    match &request.selection {
        Some(Selection::Views(selected)) => selected.views.iter().map(|view| view.view.as_str()).collect(),
        _ => Vec::new(),
    }
}

fn key(view: &str, entity: &[u8]) -> Vec<u8> {
    [view.as_bytes(), b":", entity].concat()
}

/// Commands that put the payloads of an answer where the request's command looks for them.
fn sets_of(request: &GetFeaturesRequest, answer: &GetFeaturesResponse) -> Vec<Vec<u8>> {
    let mut commands = Vec::new();
    for columns in &answer.views {
        for (entity, payload) in request.entities.iter().zip(&columns.json) {
            if !payload.is_empty() {
                let mut command = Vec::new();
                redis::command(&mut command, &[b"SET", &key(&columns.view, entity), payload]);
                commands.push(command);
            }
        }
    }
    commands
}

/// The command that reads what a request asks for, and how many values that is.
fn read_of(request: &GetFeaturesRequest) -> (Bytes, usize) {
    let views = views_of(request);
    let keys: Vec<Vec<u8>> =
        request.entities.iter().flat_map(|entity| views.iter().map(move |view| key(view, entity))).collect();
    let name: &[u8] = if keys.len() == 1 { b"GET" } else { b"MGET" };
    let words: Vec<&[u8]> = std::iter::once(name).chain(keys.iter().map(Vec::as_slice)).collect();
    let mut command = Vec::new();
    redis::command(&mut command, &words);
    (command.into(), keys.len())
}
