//! What the targets share: a shard to damage, and generations trained on telemetry, the same in every run. Called by the
//! targets; knows nothing of the fuzzer.

pub mod shard;

use std::sync::OnceLock;

use forebay_storage::codec::{Generation, Limits, Trainer};

#[path = "../../storage/examples/codec_pace/telemetry.rs"]
#[allow(dead_code)]
mod telemetry;

const SAMPLES: usize = 200;

/// One generation per view of the measuring telemetry, numbered from 1, each with a payload of its view.
pub fn generations() -> &'static [(Generation, Vec<u8>)] {
    static TRAINED: OnceLock<Vec<(Generation, Vec<u8>)>> = OnceLock::new();
    TRAINED
        .get_or_init(|| (1..).zip(telemetry::VIEWS).map(|(number, (_, view))| train(number, view)).collect())
}

fn train(number: u32, template: &str) -> (Generation, Vec<u8>) {
    let mut telemetry = telemetry::Telemetry::new(template, number % 2 == 0, number.into());
    let mut trainer = Trainer::new(Limits::default());
    for _ in 0..SAMPLES {
        trainer.sample(telemetry.payload().as_bytes());
    }
    (trainer.train(number), telemetry.payload().into_bytes())
}

/// Picks a generation by the first byte of an input, and gives the rest.
pub fn pick(input: &[u8]) -> Option<(&'static Generation, &'static [u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    let all = generations();
    let (generation, payload) = &all[usize::from(*first) % all.len()];
    Some((generation, payload, rest))
}
