//! Triggers: rules compiled from the definitions, the state they give each (entity, trigger), and the edges between
//! states. All of it is pure: the same values give the same states and edges on every replica. `ingest` evaluates and
//! stores, `definitions` compiles, `cli` replays. Knows nothing of Kafka, shards or threads.
//!
//! ```text
//!  rule text ── cel parser ──► a tree of && || ! over conditions        (rule)
//!                               ├─ field op constant: compared natively  (compare)
//!                               └─ anything else: the CEL interpreter    (expression)
//!  value ──► rules in order ──► candidate ──► hysteresis, hold ──► state, edge   (machine)
//!                                                                  └─ as stored  (record)
//! ```

mod compare;
mod expression;
pub mod machine;
pub mod record;
pub mod replay;
mod rule;
#[cfg(test)]
mod tests;

pub use rule::{Cost, Rule, RuleError};

use crate::definitions::{Field, View};
use crate::json::typed::{Cell, cell};

/// The fields of one value: raw JSON text by slot of the view's plan; nothing if the payload has none there.
pub trait Values<'p>: Fn(usize) -> Option<&'p [u8]> {}

impl<'p, F: Fn(usize) -> Option<&'p [u8]>> Values<'p> for F {}

/// A field's typed value, its default if it has none.
fn value<'p>(view: &'p View, field: usize, values: &impl Values<'p>) -> Cell<'p> {
    let field: &Field = &view.fields[field];
    cell(field, view.avro_json, values(field.slot))
}
