//! What the shards of a sync group have learned. They hold parts of the same views, so what one has learned fits the
//! others: they learn it once, and have one copy of it in memory, which then stays in the processor's caches whichever
//! shard is written to. Files stay each shard's own: a shard needs no other to be read. Called by training and when a
//! stream is opened.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::files::Known;
use crate::codec::{Content, Drift, Generation, Trainer};

/// The generations of a group's shards. A generation that no shard uses any more leaves it.
#[derive(Debug, Default)]
pub(crate) struct Library {
    shelves: Mutex<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    /// One copy of each content, by its hash.
    copies: HashMap<u128, Content>,
    /// What was learned of each view last. Views of different lanes may have the same id: what does not fit is not
    /// taken.
    newest: BTreeMap<u16, Learned>,
}

#[derive(Debug, Clone)]
struct Learned {
    generation: Generation,
    samples: u32,
    /// How its own samples fit it.
    fit: Drift,
}

/// What others learned fits, if it leaves at most this factor of the bytes it left of its own samples, and so much more
/// share of the payloads unfit: what it was not learned from always fits less than what it was.
const MORE_BYTES: f64 = 1.3;
const MORE_UNFIT: f64 = 0.04;

impl Library {
    /// A generation of a view that was learned from no fewer samples than `trainer` has, fits them, and is not `now`;
    /// and the samples it was learned from.
    pub fn fitting(
        &self,
        view: u16,
        trainer: &Trainer,
        now: Option<&Generation>,
    ) -> Option<(Generation, u32)> {
        let learned = self.shelves.lock().newest.get(&view).cloned()?;
        let is_new = now.is_none_or(|now| !now.is_copy_of(&learned.generation));
        if !is_new || u64::from(learned.samples) < trainer.seen() {
            return None;
        }
        let fit = trainer.fit(&learned.generation);
        let fits = fit.stored_share() <= learned.fit.stored_share() * MORE_BYTES
            && fit.unfit_share() <= learned.fit.unfit_share() + MORE_UNFIT;
        fits.then_some((learned.generation, learned.samples))
    }

    /// Takes in what was just learned from the samples of `trainer`.
    pub fn add(&self, known: &Known, trainer: &Trainer) {
        let (generation, samples) = (self.copy_of(known.generation.clone()), known.samples);
        let learned = Learned { fit: trainer.fit(&generation), generation, samples };
        self.shelves.lock().newest.insert(known.view, learned);
    }

    /// The same generation, with the copy of its content that is there already, if one is.
    pub fn copy_of(&self, generation: Generation) -> Generation {
        let Some(hash) = generation.content_hash() else { return generation };
        let copies = &mut self.shelves.lock().copies;
        copies.retain(|_, content| content.is_used());
        let content = copies.entry(hash).or_insert_with(|| generation.content());
        generation.with_content(content).unwrap_or(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Limits;

    fn trainer(payloads: impl Iterator<Item = String>) -> Trainer {
        let mut trainer = Trainer::new(Limits::default());
        payloads.for_each(|payload| trainer.sample(payload.as_bytes()));
        trainer
    }

    fn levels(from: u32, count: u32) -> Trainer {
        let device = |n| n * 7919 % 10_000;
        trainer(
            (from..from + count)
                .map(|n| format!("{{\"device\":\"modem-{:04}\",\"level\":{}}}", device(n), n % 90)),
        )
    }

    fn known(trainer: &Trainer, number: u32) -> Known {
        Known {
            generation: trainer.train(number),
            view: 7,
            samples: trainer.seen() as u32,
            identity: number.into(),
        }
    }

    #[test]
    fn what_another_learned_is_taken_if_it_fits_and_is_learned_from_as_much() {
        let library = Library::default();
        let first = levels(1000, 256);
        assert!(library.fitting(7, &first, None).is_none());
        let learned = known(&first, 1);
        library.add(&learned, &first);
        let (taken, samples) = library.fitting(7, &levels(5000, 256), None).expect("it fits");
        assert!(taken.is_copy_of(&learned.generation) && samples == 256);
        assert!(library.fitting(7, &levels(5000, 257), None).is_none(), "more is known of it");
        assert!(library.fitting(8, &levels(5000, 256), None).is_none(), "another view");
        assert!(library.fitting(7, &levels(5000, 256), Some(&taken)).is_none(), "it has that");
        let others = trainer((0..256).map(|n| format!("[{n},\"{}\"]", "x".repeat(n % 40))));
        assert!(library.fitting(7, &others, None).is_none(), "it does not fit");
    }

    #[test]
    fn equal_contents_are_there_once_and_leave_with_their_last_user() {
        let library = Library::default();
        let read = |trainer: Trainer, number| {
            Generation::from_bytes(&trainer.train(number).to_bytes()).expect("whole")
        };
        let made = |number| library.copy_of(read(levels(1000, 256), number));
        let (one, two) = (made(1), made(2));
        assert!(one.is_copy_of(&two) && (one.number(), two.number()) == (1, 2));
        assert!(!one.is_copy_of(&library.copy_of(read(levels(1000, 16), 3))));
        drop((one, two));
        made(4);
        assert_eq!(library.shelves.lock().copies.len(), 1, "what nobody uses is not kept");
    }
}
