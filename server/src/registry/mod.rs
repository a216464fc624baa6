//! The registry: definitions that are kept in a compacted Kafka topic, on top of every server's files. A thread of its
//! own reads the topic from its beginning and hands what it says to `definitions::InForce`; `record` is how a definition
//! stands in the topic. Started by `serve`; written to by `service::registry`. Knows nothing of gRPC, lanes or shards.
//!
//! ```text
//!  forebay apply ─► service::registry ─ checked ─► topic (kind/name[@version] → TOML)
//!                                                    │ reader thread, every server
//!                       definition files ──► InForce ◄┘ ──► SharedDefinitions
//! ```

mod reader;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::Config;
use crate::definitions::pieces::Piece;
use crate::definitions::{Held, InForce};

pub use record::encode;

/// What a server knows of the registry; shared by the thread that reads it and those who ask.
#[derive(Debug)]
pub struct Registry {
    /// The topic.
    pub topic: String,
    in_force: Arc<InForce>,
    state: Mutex<State>,
    /// The offset after the last one taken up; -1 before the topic was read to its end once.
    taken_up: watch::Sender<i64>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// By record key.
    contents: Contents,
    held: Vec<Held>,
    trouble: Option<String>,
}

/// What the topic says.
#[derive(Debug, Clone, Default)]
struct Contents {
    /// The definitions by record key, with the offset of each.
    pieces: BTreeMap<String, (i64, Piece)>,
    /// Records that are none, by record key: why.
    unreadable: BTreeMap<String, String>,
}

impl Registry {
    /// Starts reading, if a registry is configured. Fails only if a setting is wrong; that Kafka or the topic is not
    /// there is waited for.
    pub fn start(config: &Config, in_force: Arc<InForce>) -> anyhow::Result<Option<Arc<Registry>>> {
        let Some(topic) = config.registry.topic.clone() else { return Ok(None) };
        let registry = Arc::new(Registry {
            topic,
            in_force,
            state: Mutex::new(State::default()),
            taken_up: watch::Sender::new(-1),
            stopping: AtomicBool::new(false),
        });
        reader::spawn(&config.kafka, registry.clone()).context("[kafka] settings")?;
        Ok(Some(registry))
    }

    /// Completes when the topic has been read to its end once.
    pub fn read(&self) -> impl Future<Output = ()> + Send + use<> {
        self.taken_up_to(0)
    }

    /// Completes when everything before this offset has been read, and what fits of it has been taken up.
    pub fn taken_up_to(&self, offset: i64) -> impl Future<Output = ()> + Send + use<> {
        let mut taken_up = self.taken_up.subscribe();
        async move {
            // An error means that the server is gone altogether.
            taken_up.wait_for(|next| *next >= offset).await.ok();
        }
    }

    /// Ends the reading; what is in force stays.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Every definition of the topic, in the order in which it was written.
    pub fn latest(&self) -> Vec<Piece> {
        self.state.lock().contents.in_order()
    }

    /// The last offset read; -1: none.
    pub fn offset(&self) -> i64 {
        (*self.taken_up.borrow() - 1).max(-1)
    }

    /// Why the topic is not being read now, if it is not.
    pub fn trouble(&self) -> Option<String> {
        let not_yet = || format!("reading topic {}", self.topic);
        self.state.lock().trouble.clone().or_else(|| (*self.taken_up.borrow() < 0).then(not_yet))
    }

    /// What is in the topic and not in force as it stands there, a text each.
    pub fn held_back(&self) -> Vec<String> {
        let state = self.state.lock();
        let held = state.held.iter().map(|held| format!("{}: {}", held.key.path(), held.reasons));
        held.chain(state.contents.unreadable.values().cloned()).collect()
    }

    /// Whether the newest record of this definition is none.
    pub fn is_unreadable(&self, path: &str) -> bool {
        self.state.lock().contents.unreadable.contains_key(path)
    }

    /// Why this definition is held back, if it is.
    pub fn why_held(&self, path: &str) -> Option<String> {
        let state = self.state.lock();
        state.held.iter().find(|held| held.key.path() == path).map(|held| held.reasons.clone())
    }

    /// Tries again what was held back: the files have changed.
    pub fn try_again(&self) {
        let mut state = self.state.lock();
        if *self.taken_up.borrow() >= 0 {
            state.held = self.in_force.take_up(&state.contents.in_order(), false);
        }
    }

    fn set_trouble(&self, trouble: Option<String>) {
        let mut state = self.state.lock();
        if state.trouble != trouble {
            match &trouble {
                Some(reason) => tracing::warn!(topic = self.topic, "registry: {reason}"),
                None => tracing::info!(topic = self.topic, "registry: read again"),
            }
        }
        state.trouble = trouble;
    }

    /// Takes up what the topic says before `next`.
    fn publish(&self, contents: &Contents, next: i64) {
        let mut state = self.state.lock();
        let starting = *self.taken_up.borrow() < 0;
        let held = self.in_force.take_up(&contents.in_order(), starting);
        for held in held.iter().filter(|held| !state.held.contains(held)) {
            tracing::error!(key = held.key.path(), "registry: held back: {}", held.reasons);
        }
        for reason in contents.unreadable.values().filter(|reason| !state.has_said(reason)) {
            tracing::error!("registry: {reason}");
        }
        state.held = held;
        state.contents = contents.clone();
        state.trouble = None;
        self.taken_up.send_replace(next.max(0));
    }
}

impl State {
    fn has_said(&self, reason: &str) -> bool {
        self.contents.unreadable.values().any(|said| said == reason)
    }
}

impl Contents {
    /// Takes in a record.
    fn take(&mut self, offset: i64, key: &[u8], payload: Option<&[u8]>) {
        let path = String::from_utf8_lossy(key).into_owned();
        self.unreadable.remove(&path);
        match payload.map(|payload| record::decode(&path, payload)) {
            None => drop(self.pieces.remove(&path)),
            Some(Ok(piece)) => drop(self.pieces.insert(path, (offset, piece))),
            // What the key said before stays: a record that says nothing takes nothing back.
            Some(Err(why)) => drop(self.unreadable.insert(path, format!("record at offset {offset}: {why}"))),
        }
    }

    fn in_order(&self) -> Vec<Piece> {
        let mut all: Vec<_> = self.pieces.values().collect();
        all.sort_by_key(|(offset, _)| *offset);
        all.into_iter().map(|(_, piece)| piece.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_is_read_by_key_and_in_order() {
        let piece = |name: &str, text: &str| Piece {
            key: crate::definitions::pieces::Key::new("view", name, 0).unwrap(),
            toml: format!("[[view]]\nname = \"{name}\"\n# {text}\n"),
        };
        let mut contents = Contents::default();
        let mut put = |offset, piece: &Piece| {
            contents.take(offset, piece.key.path().as_bytes(), Some(encode(piece).as_bytes()));
        };
        put(0, &piece("b", "1"));
        put(1, &piece("a", "1"));
        put(2, &piece("b", "2"));
        assert_eq!(contents.in_order(), [piece("a", "1"), piece("b", "2")]);
        contents.take(3, b"view/b", Some(b"broken"));
        contents.take(4, b"\xff", Some(b"{}"));
        assert_eq!(contents.in_order(), [piece("a", "1"), piece("b", "2")], "what was there stays");
        assert_eq!(contents.unreadable.len(), 2, "{:?}", contents.unreadable);
        contents.take(5, b"view/b", None);
        contents.take(6, b"\xff", None);
        assert_eq!(contents.in_order(), [piece("a", "1")]);
        assert!(contents.unreadable.is_empty());
    }
}
