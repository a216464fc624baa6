//! A generation for people: its blocks with their pieces, slots and branches. Called by inspection.

use serde_json::{Value, json};

use super::generation::Generation;
use super::graph::{DraftBlock, END};
use super::slot::{Kind, Slot};

impl Generation {
    /// One object per block, in order.
    pub fn blocks(&self) -> impl Iterator<Item = Value> {
        self.graph().draft().into_iter().enumerate().map(|(number, block)| show_block(number, &block))
    }
}

fn show_block(number: usize, block: &DraftBlock) -> Value {
    let steps = block.steps.iter().map(|(piece, slot)| {
        let mut step = show_slot(slot);
        step["piece"] = text(piece);
        step
    });
    let branch = |(piece, target): &(Vec<u8>, u32)| match *target {
        END => json!({ "piece": text(piece), "to": "end" }),
        target => json!({ "piece": text(piece), "to": target }),
    };
    json!({
        "block": number, "steps": steps.collect::<Vec<_>>(),
        "branches": block.branches.iter().map(branch).collect::<Vec<_>>(),
    })
}

fn show_slot(slot: &Slot) -> Value {
    let mut value = json!({ "bits": slot.bits() });
    let usual: Vec<Value> = slot.commons.texts().map(|usual| text(&usual)).collect();
    if !usual.is_empty() {
        value["usual"] = json!(usual);
    }
    match &slot.kind {
        Kind::Other => {}
        Kind::Number(range) => {
            value["decimals"] = json!(range.form.scale);
            value["from"] = json!(range.base);
        }
        Kind::Template(template) => value["template"] = text(template.parts().0),
    }
    value
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}
