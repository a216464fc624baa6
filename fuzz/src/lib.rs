//! What the targets share: a shard to damage, and generations trained on telemetry, the same in every run. Called by the
//! targets; knows nothing of the fuzzer.

pub mod shard;

use std::sync::OnceLock;

use forebay_storage::codec::{Binding, Generation, Limits, Trainer};

#[path = "../../storage/examples/codec_pace/telemetry.rs"]
#[allow(dead_code)]
mod telemetry;

const SAMPLES: usize = 200;
/// Paths that some of the views have.
pub const PATHS: [&[&str]; 6] =
    [&["ts"], &["radio", "band"], &["probes"], &["top"], &["header", "event_time"], &["note"]];

/// What was learned of a view.
pub struct Learned {
    /// Numbered from 1.
    pub generation: Generation,
    /// A payload that fits.
    pub payload: Vec<u8>,
    /// `PATHS`, without and with wrappers looked through.
    pub bindings: [Binding; 2],
}

/// One per view of the measuring telemetry.
pub fn learned() -> &'static [Learned] {
    static LEARNED: OnceLock<Vec<Learned>> = OnceLock::new();
    LEARNED.get_or_init(|| (1..).zip(telemetry::VIEWS).map(|(number, (_, view))| learn(number, view)).collect())
}

fn learn(number: u32, template: &str) -> Learned {
    let mut telemetry = telemetry::Telemetry::new(template, number % 2 == 0, number.into());
    let mut trainer = Trainer::new(Limits::default());
    for _ in 0..SAMPLES {
        trainer.sample(telemetry.payload().as_bytes());
    }
    let generation = trainer.train(number);
    let paths = PATHS.map(|path| path.iter().map(|name| (*name).to_owned()).collect());
    let bindings = [false, true].map(|avro| generation.bind(&paths, avro));
    Learned { generation, payload: telemetry.payload().into_bytes(), bindings }
}

/// Picks a view by the first byte of an input, and gives the rest.
pub fn pick(input: &[u8]) -> Option<(&'static Learned, &[u8])> {
    let (first, rest) = input.split_first()?;
    let all = learned();
    Some((&all[usize::from(*first) % all.len()], rest))
}
