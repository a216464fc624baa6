//! Learns a generation from samples: the graph of pieces, the slots, the zstd dictionary. Called by the engine when a
//! view has had enough payloads, and again when they have drifted. Deterministic: the same samples give the same bytes.

use super::generation::Generation;
use super::network::Network;
use super::symbols::Symbols;
use super::tail::TailReader;
use super::zstd::Dictionary;
use super::{Coding, Drift, Encoder, encode};

/// What training may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most samples kept.
    pub samples: usize,
    /// Most bytes of samples kept.
    pub sample_bytes: usize,
    /// Largest zstd dictionary in bytes, at most 16 KiB.
    pub dictionary_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { samples: 1024, sample_bytes: 4 << 20, dictionary_bytes: 8 << 10 }
    }
}

/// Collects samples, evenly from all that it is shown, in bounded memory.
#[derive(Debug)]
pub struct Trainer {
    limits: Limits,
    samples: Vec<Vec<u8>>,
    bytes: usize,
    seen: u64,
    random: u64,
}

impl Trainer {
    /// No samples yet.
    pub fn new(limits: Limits) -> Trainer {
        Trainer { limits, samples: Vec::new(), bytes: 0, seen: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Samples kept.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// No sample is kept.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Payloads shown, kept or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Shows a payload. It may be kept, and others dropped for it.
    pub fn sample(&mut self, payload: &[u8]) {
        self.seen += 1;
        if payload.len() > self.limits.sample_bytes / 4 {
            return;
        }
        let full = self.samples.len() >= self.limits.samples
            || self.bytes + payload.len() > self.limits.sample_bytes;
        if full {
            let place = self.random_below(self.seen);
            if place as usize >= self.samples.len() {
                return;
            }
            self.drop_sample(place as usize);
        }
        while !self.samples.is_empty() && self.bytes + payload.len() > self.limits.sample_bytes {
            let place = self.random_below(self.samples.len() as u64);
            self.drop_sample(place as usize);
        }
        self.bytes += payload.len();
        self.samples.push(payload.to_vec());
    }

    fn drop_sample(&mut self, place: usize) {
        self.bytes -= self.samples.swap_remove(place).len();
    }

    /// xorshift; the seed is fixed.
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Learns generation `number` from the samples kept. With no use in them it is one that codes everything by zstd.
    pub fn train(&self, number: u32) -> Generation {
        let draft = Network::of(&self.samples).draft();
        let shape = Generation::new(number, draft);
        // What was cut from JSON is JSON; should it be refused all the same, zstd alone is no danger to anybody's data.
        let shape = shape.unwrap_or_else(|_| Generation::without_shape(number));
        let (symbols, dictionary) = self.texts(&shape);
        shape.with_texts(symbols, dictionary)
    }

    /// How the samples kept fit a generation.
    pub fn fit(&self, generation: &Generation) -> Drift {
        let (mut fit, mut encoder, mut stored) = (Drift::default(), Encoder::new(), Vec::new());
        for sample in &self.samples {
            stored.clear();
            let encoded = encode(generation, sample, &mut encoder, &mut stored);
            fit.count(encoded, &encoder, sample.len(), stored.len());
        }
        fit
    }

    /// Symbols from the strings that fit no slot. The dictionary from payloads that fit no shape, tails of those that do,
    /// and some whole ones for what is to come.
    fn texts(&self, shape: &Generation) -> (Symbols, Dictionary) {
        let mut encoder = Encoder::new();
        let (mut texts, mut strings): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let mut stored = Vec::new();
        for (index, sample) in self.samples.iter().enumerate() {
            stored.clear();
            let coded = encode(shape, sample, &mut encoder, &mut stored);
            if coded.coding == Coding::Shape && !encoder.tail().is_empty() {
                texts.push(encoder.tail().to_vec());
                strings.extend(TailReader::new(encoder.tail()).strings());
            }
            if !coded.valid || index % 16 == 0 {
                texts.push(sample.clone());
            }
        }
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        (Symbols::learn(&strings), Dictionary::train(&texts, self.limits.dictionary_bytes))
    }
}
