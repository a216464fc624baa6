//! Triggers on the data points that an ingest thread puts: what state each brings, kept beside it in the same frame, and
//! the edges of the frame, which are told once it is durable (`edges`). Part of `Shard`; what states mean is
//! `crate::trigger`'s.

use std::sync::Arc;

use forebay_storage::{CurrentVersion, HistoryRange, Kind, Outcome, Put, TopicIndex, WriteError};

use super::decode::DataPoint;
use super::shard::Shard;
use crate::definitions::{FirstSight, Trigger};
use crate::json::Slots;
use crate::trigger::Cost;
use crate::trigger::machine::{Held, Step, decide, given};
use crate::trigger::record::{Edge, Position, StateRecord, edge_id};

/// An edge on its way to Kafka.
#[derive(Debug, Clone)]
pub struct EdgeMessage {
    /// Where it goes.
    pub to: String,
    /// Number of its value's topic in the lane.
    pub topic: usize,
    /// Offset of its value.
    pub offset: i64,
    /// Its id, which is a header too.
    pub id: String,
    /// The entity.
    pub key: Vec<u8>,
    /// The message.
    pub json: Vec<u8>,
}

/// What the triggers made of the frame being filled, and what of it is not handed over yet.
#[derive(Debug, Default)]
pub struct Evaluations {
    /// Edges of the frame being filled.
    pending: Vec<EdgeMessage>,
    /// Edges of frames that are committed.
    pub(super) ready: Vec<EdgeMessage>,
    /// Values judged, each by one trigger, since the counters had them.
    pub(super) judged: u64,
    /// Conditions that the interpreter decided since then.
    pub(super) interpreted: u64,
    /// Room for a stored state.
    record: Vec<u8>,
}

/// A state as it was stored.
#[derive(Debug)]
struct Known {
    held: Held,
    version: u32,
    /// Expiry of the value it was written beside, ms.
    value_expiry_ms: i64,
    /// Until when the record is kept, ms.
    kept_until_ms: i64,
}

/// Where a data point is, in the lane's terms.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Number of its topic in the lane.
    pub topic: usize,
    /// Its offset.
    pub offset: i64,
    /// Its partition's clock, ms.
    pub now_ms: i64,
}

/// What one trigger makes of a data point.
enum Made {
    /// A state, told or not.
    State { held: Held, version: u32, edge_from: Option<String> },
    /// It is unknown from now on.
    Unknown,
}

impl Evaluations {
    /// The frame is committed: its edges may go as soon as it is durable.
    pub fn committed(&mut self) {
        self.ready.append(&mut self.pending);
    }
}

impl Shard {
    /// Judges a data point that was just put, and keeps the states it brings beside it. Only the current version of a key
    /// changes a state. One that was put before (in a frame that this shard had already) has told its edges to the
    /// records beside it: they are looked up there.
    pub fn judge(
        &mut self,
        at: At,
        point: &DataPoint<'_>,
        outcome: Outcome,
        triggers: &[Arc<Trigger>],
        slots: &Slots,
    ) -> Result<(), WriteError> {
        match outcome {
            Outcome::Replayed => return self.repeat(at, point, triggers),
            Outcome::Late | Outcome::Duplicate => return Ok(()),
            Outcome::Current => {}
        }
        let mut made = Vec::new();
        let ids = triggers.iter().map(|trigger| trigger.id);
        let any_stored = self.writer.may_have(point.view, point.entity, ids);
        // All are judged before anything is put beside: the fields are those of the payload encoded last.
        for trigger in triggers {
            if let Some(new) = self.made(trigger, at, point, slots, any_stored)? {
                made.push((trigger, new));
            }
        }
        made.into_iter().try_for_each(|(trigger, new)| self.keep(trigger, at, point, new))
    }

    fn made(
        &mut self,
        trigger: &Trigger,
        at: At,
        point: &DataPoint<'_>,
        slots: &Slots,
        may_be_stored: bool,
    ) -> Result<Option<Made>, WriteError> {
        let stored = if may_be_stored { self.stored_state(trigger, point.entity)? } else { None };
        if point.kind == Kind::Tombstone {
            return Ok(stored.map(|_| Made::Unknown));
        }
        self.evaluations.judged += 1;
        let held = match &stored {
            Some(known) if self.lives(known, at, point)? => Some(&known.held),
            _ => None,
        };
        let fit = self.writer.fitted(point.view, point.payload);
        let values = |slot| match &fit {
            Some(fit) => fit.field(slot),
            None => slots.get(slot, point.payload),
        };
        let mut cost = Cost::default();
        let given = given(trigger, held, &values, &mut cost);
        self.evaluations.interpreted += cost.interpreted;
        if stored.is_none() && given == trigger.otherwise && trigger.first_sight == FirstSight::Silent {
            // What it was or is by itself is not stored.
            return Ok(None);
        }
        let by_itself = if stored.is_none() { self.by_itself(trigger, at, point)? } else { None };
        let step = decide(trigger, held.or(by_itself.as_ref()), point.event_time_ms, given);
        Ok(match (step, stored) {
            (Some(Step { held, edge_from }), _) => {
                Some(Made::State { held, version: trigger.version, edge_from })
            }
            // It is written again before what is stored would leave before the value, or if it would outlive it.
            (None, Some(known))
                if point.expiry_ms > known.kept_until_ms || point.expiry_ms < known.value_expiry_ms =>
            {
                Some(Made::State { held: known.held, version: known.version, edge_from: None })
            }
            (None, _) => None,
        })
    }

    fn stored_state(&mut self, trigger: &Trigger, entity: &[u8]) -> Result<Option<Known>, WriteError> {
        let record = &mut self.evaluations.record;
        record.clear();
        let version = match self.writer.current_payload(entity, trigger.id, record) {
            // The index takes the entity for one that has a state there: this one is without.
            Err(WriteError::Collision { .. }) => return Ok(None),
            found => found?,
        };
        let Some(version) = version.filter(|version| version.kind == Kind::Value) else { return Ok(None) };
        Ok(StateRecord::parse(record).map(|record| Known {
            held: record.held(),
            version: record.version,
            value_expiry_ms: record.value_expiry_ms,
            kept_until_ms: version.expiry_ms,
        }))
    }

    /// The state that an entity without a stored one has: the one no rule gives, if the value that was just replaced
    /// lives and was judged. Any other would have been stored.
    fn by_itself(
        &self,
        trigger: &Trigger,
        at: At,
        point: &DataPoint<'_>,
    ) -> Result<Option<Held>, WriteError> {
        let judged = self.outlived(at, point)?.filter(|replaced| self.writer.was_there(trigger.id, replaced));
        Ok(judged.map(|replaced| Held {
            state: trigger.otherwise.clone(),
            since_ms: replaced.event_time_ms,
            candidate: None,
        }))
    }

    /// Whether a state is still held when a data point comes: as long as the entity's last value lives. The value that
    /// the state was written beside mostly says so; if not, the one that was just replaced does.
    fn lives(&self, known: &Known, at: At, point: &DataPoint<'_>) -> Result<bool, WriteError> {
        Ok(when_ms(at, point) < known.value_expiry_ms || self.outlived(at, point)?.is_some())
    }

    /// The value that was just replaced, if it still lived.
    fn outlived(&self, at: At, point: &DataPoint<'_>) -> Result<Option<CurrentVersion>, WriteError> {
        let lived = |replaced: &CurrentVersion| {
            replaced.kind == Kind::Value && when_ms(at, point) < replaced.expiry_ms
        };
        Ok(self.writer.replaced(point.view)?.filter(lived))
    }

    fn keep(
        &mut self,
        trigger: &Trigger,
        at: At,
        point: &DataPoint<'_>,
        made: Made,
    ) -> Result<(), WriteError> {
        let (known, edge_from) = match made {
            Made::Unknown => (None, None),
            Made::State { held, version, edge_from } => {
                // Values whose expiry is less than this later need no new record.
                let kept_until_ms = point.expiry_ms.saturating_add(trigger.view.ttl_ms / 2);
                let known = Known { held, version, value_expiry_ms: point.expiry_ms, kept_until_ms };
                (Some(known), edge_from)
            }
        };
        let name = self.topics[at.topic].name.clone();
        let position = Position { topic: &name, partition: self.partition, offset: at.offset };
        let id = edge_from.as_ref().map(|_| edge_id(&trigger.name, trigger.version, point.entity, position));
        let edge = edge_from.as_deref().zip(id.as_deref());
        let payload = known
            .as_ref()
            .map(|known| StateRecord::new(&known.held, known.version, edge, known.value_expiry_ms).to_json());
        let put = self.writer.put_beside(
            at.topic,
            &Put {
                view: trigger.id,
                entity: point.entity,
                kind: if known.is_some() { Kind::Value } else { Kind::Tombstone },
                event_time_ms: point.event_time_ms,
                ingest_time_ms: at.now_ms,
                expiry_ms: known.as_ref().map_or(point.expiry_ms, |known| known.kept_until_ms),
                topic: TopicIndex(at.topic as u16),
                offset: at.offset,
                payload: payload.as_deref().unwrap_or_default(),
            },
        );
        let outcome = match put {
            // The index takes the entity for one that has a state there: this one is without, and the lane goes on.
            Err(WriteError::Collision { .. }) => return Ok(()),
            put => put?,
        };
        if outcome == Outcome::Late {
            // Not the newest of its key after all: it changes nothing.
            return Ok(());
        }
        if let (Some((from, id)), Some(known)) = (edge, &known) {
            let edge = Edge {
                id,
                trigger,
                version: trigger.version,
                entity: point.entity,
                from,
                to: &known.held.state,
                event_time_ms: point.event_time_ms,
                ingest_time_ms: at.now_ms,
                since_ms: known.held.since_ms,
                position,
            };
            if at.offset >= self.topics[at.topic].told_from {
                self.evaluations.pending.push(message(&edge, at));
            }
        }
        Ok(())
    }

    /// Takes up again the edges of a data point that the shard's files have: they may not have been told.
    pub fn repeat(
        &mut self,
        at: At,
        point: &DataPoint<'_>,
        triggers: &[Arc<Trigger>],
    ) -> Result<(), WriteError> {
        if at.offset < self.topics[at.topic].told_from {
            return Ok(());
        }
        let name = self.topics[at.topic].name.clone();
        let position = Position { topic: &name, partition: self.partition, offset: at.offset };
        let range = HistoryRange {
            from_ms: Some(point.event_time_ms),
            to_ms: Some(point.event_time_ms.saturating_add(1)),
            ..HistoryRange::default()
        };
        let readers = self.writer.readers().clone();
        for trigger in triggers {
            let reader = readers.of(trigger.id);
            let pinned = reader.pin_blocking();
            for version in pinned.history(point.entity, trigger.id, &range) {
                let version = version?;
                let topic = reader.topics().get(usize::from(version.topic().0));
                let is_it = version.offset() == at.offset && topic.is_some_and(|topic| *topic.name == *name);
                if !is_it || version.kind() == Kind::Tombstone {
                    continue;
                }
                let payload = version.payload()?;
                let Some(record) = StateRecord::parse(&payload) else { continue };
                if let (Some(id), Some(from)) = (&record.edge, &record.from) {
                    let edge = Edge {
                        id,
                        trigger,
                        version: record.version,
                        entity: point.entity,
                        from,
                        to: &record.state,
                        event_time_ms: point.event_time_ms,
                        ingest_time_ms: version.ingest_time_ms(),
                        since_ms: record.since_ms,
                        position,
                    };
                    self.evaluations.ready.push(message(&edge, at));
                }
            }
        }
        Ok(())
    }
}

/// When a data point ends what has expired by then, ms.
fn when_ms(at: At, point: &DataPoint<'_>) -> i64 {
    at.now_ms.max(point.event_time_ms)
}

fn message(edge: &Edge<'_>, at: At) -> EdgeMessage {
    EdgeMessage {
        to: edge.trigger.edges_topic.clone(),
        topic: at.topic,
        offset: at.offset,
        id: edge.id.to_owned(),
        key: edge.entity.to_vec(),
        json: edge.to_json(),
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
