//! The writer's side of payload coding: encodes each payload once, remembers what it was encoded to until it is put, takes
//! samples, and takes up what training gives. Owned by the writer; never waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::learning::Learning;
use super::training::{Finished, Job, Trainings};
use super::{Codecs, FieldPlan, Known, Library, Loaded, Stored};
use crate::codec::{self, Binding, Coding, Encoded, Encoder, Ranges, Trainer};
use crate::shard::Shard;

/// The coders of a stream's views.
#[derive(Debug)]
pub(crate) struct Coder {
    views: BTreeMap<u16, Box<ViewCoder>>,
    /// Samples of a view's first training; 0: none is learned.
    samples: u32,
    encoder: Encoder,
    /// What the last payload was encoded to.
    bytes: Vec<u8>,
    last: Option<Last>,
    ranges: Ranges,
    trainings: Trainings,
    /// The highest number given to a training or to a file.
    number: u32,
    /// The newest generations of views when the stream was opened.
    newest: BTreeMap<u16, (u32, u32)>,
}

/// The last payload that was encoded; the encoder has its text.
#[derive(Debug, Clone, Copy)]
struct Last {
    view: u16,
    codec: u32,
    encoded: Encoded,
}

#[derive(Debug)]
struct ViewCoder {
    learning: Learning,
    /// Number of the generation in use, 0 for none.
    codec: u32,
    /// What `bind` was given.
    asked: Option<Asked>,
    /// The same bound to the generation in use.
    binding: Option<Binding>,
}

#[derive(Debug)]
struct Asked {
    paths: Vec<Vec<String>>,
    /// Wrappers are looked through.
    avro: bool,
    /// The paths to be found, by their numbers.
    wanted: Vec<usize>,
}

/// What encoding found out about a payload.
#[derive(Debug, Clone, Copy)]
pub struct Fit<'w, 'p> {
    payload: &'p [u8],
    /// Nothing if it does not fit.
    ranges: Option<&'w Ranges>,
}

impl<'p> Fit<'_, 'p> {
    /// The payload is a JSON object of at most 128 levels, and the fields bound for its view are known. If not, or if
    /// nothing is bound, it may be anything.
    pub fn is_valid(&self) -> bool {
        self.ranges.is_some()
    }

    /// The raw JSON text at path number `path` of those bound for the view; nothing if a valid payload has none there.
    pub fn field(&self, path: usize) -> Option<&'p [u8]> {
        let (start, end) = self.ranges?.get(path)?;
        self.payload.get(start as usize..end as usize)
    }
}

impl Coder {
    /// Of a stream that was opened; `last` is the highest number the MANIFEST knows to be used.
    pub fn new(loaded: &Loaded, last: u32, samples: u32) -> Coder {
        Coder {
            views: BTreeMap::new(),
            samples,
            encoder: Encoder::new(),
            bytes: Vec::new(),
            last: None,
            ranges: Ranges::new(),
            trainings: Trainings::default(),
            number: loaded.last.max(last),
            newest: loaded.newest.clone(),
        }
    }

    fn view(&mut self, view: u16) -> &mut ViewCoder {
        let (samples, newest) = (self.samples, &self.newest);
        self.views.entry(view).or_insert_with(|| {
            let known = newest.get(&view);
            let learning = Learning::new(samples, known.map(|(_, samples)| *samples));
            let codec = known.map_or(0, |(number, _)| *number);
            Box::new(ViewCoder { learning, codec, asked: None, binding: None })
        })
    }

    /// Remembers which paths of a view are asked for.
    pub fn bind(
        &mut self,
        codecs: &Codecs,
        view: u16,
        plan: &FieldPlan,
        wanted: impl Iterator<Item = usize>,
    ) {
        let coder = self.view(view);
        let (paths, avro) = (plan.paths().to_vec(), plan.looks_through_wrappers());
        coder.asked = Some(Asked { paths, avro, wanted: wanted.collect() });
        coder.bind(codecs);
    }

    /// Encodes a payload that is about to be put.
    pub fn encode<'p>(&mut self, codecs: &Codecs, view: u16, payload: &'p [u8]) -> Fit<'_, 'p> {
        let bound = self.prepare(codecs, view, payload);
        Fit { payload, ranges: bound.is_some().then_some(&self.ranges) }
    }

    /// Encodes a payload, if that is worth while. If it is valid and its view is bound, `ranges` has the fields.
    fn prepare(&mut self, codecs: &Codecs, view: u16, payload: &[u8]) -> Option<()> {
        self.last = None;
        let codec = self.view(view).codec_in_use().filter(|_| !payload.is_empty())?;
        let generation = &codecs.get(codec)?.generation;
        self.bytes.clear();
        let encoded = codec::encode(generation, payload, &mut self.encoder, &mut self.bytes);
        self.last = Some(Last { view, codec, encoded });
        let binding = self.views.get(&view)?.binding.as_ref().filter(|_| encoded.valid)?;
        binding.ranges(generation, &self.encoder, &mut self.ranges);
        Some(())
    }

    /// What was found out about the payload encoded last, if it was of this view and fits.
    pub fn fitted<'p>(&self, view: u16, payload: &'p [u8]) -> Option<Fit<'_, 'p>> {
        let fits = self.last.is_some_and(|last| last.view == view && last.encoded.valid);
        let bound = self.views.get(&view).is_some_and(|view| view.binding.is_some());
        (fits && bound).then_some(Fit { payload, ranges: Some(&self.ranges) })
    }

    /// Makes sure that `stored` is of this payload. Costs no second encoding if it was the last one encoded.
    pub fn ready(&mut self, codecs: &Codecs, view: u16, payload: &[u8]) {
        let is_last = self.last.is_some_and(|last| last.view == view) && self.encoder.is_of(payload);
        if !is_last {
            self.prepare(codecs, view, payload);
        }
    }

    /// The payload that is ready, as it is to be stored.
    pub fn stored<'s>(&'s self, payload: &'s [u8]) -> Stored<'s> {
        match self.last {
            Some(Last { codec, encoded: Encoded { coding, .. }, .. }) if coding != Coding::Raw => {
                Stored { codec, coding, bytes: &self.bytes }
            }
            _ => Stored { codec: 0, coding: Coding::Raw, bytes: payload },
        }
    }

    /// Notes that the payload that is ready was put. Gives the samples if it is time to learn.
    pub fn note(&mut self, view: u16, payload: &[u8]) -> Option<Trainer> {
        if payload.is_empty() {
            return None;
        }
        let coded = self.last.map(|last| (last.encoded, &self.encoder, self.bytes.len()));
        self.views.get_mut(&view)?.learning.note(payload, coded)
    }

    /// Begins a training: gives what is to be run elsewhere.
    pub fn train(
        &mut self,
        shard: &Arc<Shard>,
        library: &Arc<Library>,
        view: u16,
        trainer: Trainer,
    ) -> impl FnOnce() + Send + use<> {
        self.number += 1;
        let codec = self.views.get(&view).map_or(0, |view| view.codec);
        let now = shard.codecs.get(codec).map(|known| known.generation.clone());
        let (shard, library) = (shard.clone(), library.clone());
        self.trainings.begin(Job { shard, view, number: self.number, trainer, now, library })
    }

    /// A generation that has been learned and is not used yet; nothing most of the time.
    pub fn learned(&mut self) -> Option<(u16, Known)> {
        while let Some(Finished { view, known }) = self.trainings.take() {
            match known {
                Some(known) => return Some((view, known)),
                None => self.view(view).learning.trained(None),
            }
        }
        None
    }

    /// Uses a generation from now on.
    pub fn adopt(&mut self, codecs: &Codecs, view: u16, known: Known) {
        let (number, samples) = (known.generation.number(), known.samples);
        codecs.add(known);
        let coder = self.view(view);
        coder.codec = number;
        coder.learning.trained(Some(samples));
        coder.bind(codecs);
    }

    /// Whether something is being learned.
    pub fn is_learning(&self) -> bool {
        self.trainings.are_running()
    }
}

impl ViewCoder {
    fn bind(&mut self, codecs: &Codecs) {
        let known = codecs.get(self.codec).zip(self.asked.as_ref());
        self.binding = known.map(|(known, Asked { paths, avro, wanted })| {
            known.generation.bind_wanted(paths, *avro, |path| wanted.contains(&path))
        });
    }

    fn codec_in_use(&self) -> Option<u32> {
        (self.codec > 0 && self.learning.pays()).then_some(self.codec)
    }
}
