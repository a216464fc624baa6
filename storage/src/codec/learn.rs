//! Chooses a slot for the values seen at one place: the one that would have taken the fewest bits, escapes counted.
//! Called by training.

use std::collections::{HashMap, HashSet};

use super::bits::MAX_WIDTH;
use super::commons::{self, Commons};
use super::number::{self, Decimal, Form};
use super::scalar::PAD;
use super::slot::{Kind, Slot};
use super::template::Template;

/// Usual values of a slot that has a kind of its own.
const FEW_COMMONS: usize = 3;
/// Most bytes of all usual values of a slot.
const MAX_COMMON_BYTES: usize = 16 << 10;
/// Milliseconds that are times, and the room they get to grow.
const TIMES_MS: std::ops::Range<i64> = 1_000_000_000_000..4_102_444_800_000;
const DAY_MS: i64 = 86_400_000;

/// A slot for `values`.
pub(super) fn slot(values: &[&[u8]]) -> Slot {
    let tally = Tally::new(values);
    let mut best = tally.usual();
    for candidate in tally.numbers().into_iter().chain(tally.template()) {
        if candidate.0 <= best.0 {
            best = candidate;
        }
    }
    best.1
}

/// Bits of all values, and the slot that takes them.
type Candidate = (u64, Slot);

/// The distinct values, the most frequent first, with their counts.
struct Tally<'a> {
    values: Vec<(&'a [u8], u64)>,
    total: u64,
    /// Count from which a value is expected to come again.
    usual: u64,
}

impl<'a> Tally<'a> {
    fn new(values: &[&'a [u8]]) -> Tally<'a> {
        let mut counts: HashMap<&[u8], u64> = HashMap::new();
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
        let mut sorted: Vec<_> = counts.into_iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let usual = if values.len() < 8 { 1 } else { 2 };
        Tally { values: sorted, total: values.len() as u64, usual }
    }

    /// The first values of `candidates` that may be usual ones, at most `count`.
    fn commons(&self, candidates: impl Iterator<Item = (&'a [u8], u64)>, count: usize) -> Vec<&'a [u8]> {
        let mut bytes = 0;
        candidates
            .take_while(|(_, seen)| *seen >= self.usual)
            .filter(|(text, _)| text.len() <= commons::MAX_LENGTH)
            .take(count)
            .map(|(text, _)| text)
            .take_while(|text| {
                bytes += text.len();
                bytes <= MAX_COMMON_BYTES
            })
            .collect()
    }

    /// The best slot of usual values only.
    fn usual(&self) -> Candidate {
        let mut best: Option<Candidate> = None;
        for width in 0..=10u32 {
            let commons = self.commons(self.values.iter().copied(), (1 << width) - 1);
            let all = commons.len() < (1 << width) - 1;
            let known: HashSet<&[u8]> = commons.iter().copied().collect();
            let escapes = self.values.iter().filter(|(text, _)| !known.contains(text));
            let bits = self.total * u64::from(width)
                + escapes.map(|(text, seen)| seen * escape_bits(text)).sum::<u64>();
            if best.as_ref().is_none_or(|best| bits < best.0) {
                best = Some((bits, make(width, &commons, Kind::Other)));
            }
            if all {
                break;
            }
        }
        best.expect("width 0 is always tried")
    }

    /// The best slots of numbers.
    fn numbers(&self) -> Vec<Candidate> {
        let parsed: Vec<Option<Decimal>> = self.values.iter().map(|(text, _)| parse(text)).collect();
        let decimals = parsed.iter().flatten().map(|number| number.decimals as u8);
        let Some(scale) = decimals.clone().max() else { return Vec::new() };
        let least = decimals.min().unwrap_or(0);
        let needed = parsed.iter().flatten().map(|number| number.needed_decimals() as u8).max().unwrap_or(0);
        let mut forms = vec![
            Form { scale, least: scale },
            Form { scale: needed.max(1), least: 1 },
            Form { scale: needed, least: 0 },
            Form { scale, least: least.min(1) },
        ];
        forms.dedup();
        forms.into_iter().filter_map(|form| self.number(form, &parsed)).collect()
    }

    fn number(&self, form: Form, parsed: &[Option<Decimal>]) -> Option<Candidate> {
        let mantissas: Vec<Option<i64>> =
            parsed.iter().map(|number| number.as_ref().and_then(|number| form.mantissa(number))).collect();
        let others = self.values.iter().copied().zip(&mantissas).filter(|(_, mantissa)| mantissa.is_none());
        let commons = self.commons(others.clone().map(|(value, _)| value), FEW_COMMONS);
        let other_bits: u64 = others
            .filter(|((text, _), _)| !commons.contains(text))
            .map(|((text, seen), _)| seen * escape_bits(text))
            .sum();
        let mut known: Vec<(i64, u64)> = mantissas
            .iter()
            .zip(&self.values)
            .filter_map(|(mantissa, (_, seen))| Some(((*mantissa)?, *seen)))
            .collect();
        known.sort_unstable();
        let (lo, hi) = (known.first()?.0, known.last()?.0);
        if TIMES_MS.contains(&lo) && TIMES_MS.contains(&hi) && form.scale == 0 {
            let (lo, hi) = (lo - 30 * DAY_MS, hi + 1100 * DAY_MS);
            let width = width_of((hi - lo) as u64 + 1 + commons.len() as u64);
            let bits = self.total * u64::from(width) + other_bits;
            return Some((bits, Slot::numbers(width, common(&commons), form, lo)));
        }
        let mut best: Option<Candidate> = None;
        for width in 1..=MAX_WIDTH {
            let span = ((1u64 << width) - 1).checked_sub(commons.len() as u64).filter(|span| *span > 0);
            let Some(span) = span else { continue };
            let (base, top, missed) = window(&known, span);
            let bits = self.total * u64::from(width) + missed + other_bits;
            if best.as_ref().is_none_or(|best| bits < best.0) {
                let base = centred(base, top, span);
                best = Some((bits, Slot::numbers(width, common(&commons), form, base)));
            }
            if missed == 0 {
                break;
            }
        }
        best
    }

    /// The best slot of strings of the most frequent length.
    fn template(&self) -> Option<Candidate> {
        let mut lengths: HashMap<usize, u64> = HashMap::new();
        let strings = self.values.iter().filter(|(text, _)| text.first() == Some(&b'"'));
        strings.clone().for_each(|(text, seen)| *lengths.entry(text.len()).or_default() += seen);
        let (length, _) = lengths.into_iter().max_by_key(|(length, seen)| (*seen, *length))?;
        let texts: Vec<&[u8]> = strings.map(|(text, _)| *text).filter(|text| text.len() == length).collect();
        let template = template(&texts)?;
        let is_other = |text: &[u8]| text.first() != Some(&b'"') || text.len() != length;
        let others = self.values.iter().copied().filter(|(text, _)| is_other(text));
        let commons = self.commons(others.clone(), FEW_COMMONS);
        let missed: u64 = others
            .filter(|(text, _)| !commons.contains(text))
            .map(|(text, seen)| seen * escape_bits(text))
            .sum();
        let width = width_of(1 + commons.len() as u64);
        let bits = self.total * u64::from(width + template.bits()) + missed;
        Some((bits, make(width, &commons, Kind::Template(Box::new(template)))))
    }
}

fn make(width: u32, commons: &[&[u8]], kind: Kind) -> Slot {
    Slot { width, commons: common(commons), kind }
}

fn common(texts: &[&[u8]]) -> Commons {
    Commons::new(texts.iter().map(|text| text.to_vec()).collect())
}

/// Bits of a code field with `values` values and the escape.
fn width_of(values: u64) -> u32 {
    64 - values.leading_zeros()
}

fn escape_bits(text: &[u8]) -> u64 {
    8 * (2 + text.len() as u64)
}

fn parse(text: &[u8]) -> Option<Decimal> {
    let mut padded = text.to_vec();
    padded.resize(text.len() + PAD, 0);
    number::scan(&padded, 0).filter(|number| number.end == text.len())
}

/// Of `span` consecutive mantissas those that miss the fewest bits: lowest and highest known, bits of escapes.
fn window(known: &[(i64, u64)], span: u64) -> (i64, i64, u64) {
    let bits =
        |(mantissa, seen): &(i64, u64)| seen * (24 + 64 - u64::from(mantissa.unsigned_abs().leading_zeros()));
    let total: u64 = known.iter().map(bits).sum();
    let (mut best, mut inside, mut first) = ((known[0].0, known[0].0, u64::MAX), 0, 0);
    for value in known {
        inside += bits(value);
        while (value.0 - known[first].0) as u64 >= span {
            inside -= bits(&known[first]);
            first += 1;
        }
        if total - inside < best.2 {
            best = (known[first].0, value.0, total - inside);
        }
    }
    best
}

/// The base of a window: from 0 if that covers the values, else with what is left on both sides.
fn centred(lo: i64, hi: i64, span: u64) -> i64 {
    let left = span - ((hi - lo) as u64 + 1);
    if lo >= 0 && lo as u64 <= left { 0 } else { lo - (left / 2) as i64 }
}

/// The template of strings of one length, if every character is either always the same or always a digit.
fn template(texts: &[&[u8]]) -> Option<Template> {
    let first = texts.first()?;
    let upper = texts.iter().any(|text| text.iter().any(|byte| matches!(byte, b'A'..=b'F')));
    let hex = |byte: u8| {
        byte.is_ascii_digit() || if upper { matches!(byte, b'A'..=b'F') } else { matches!(byte, b'a'..=b'f') }
    };
    let varies = |at: usize| texts.iter().any(|text| text[at] != first[at]);
    let digit: Vec<bool> = (0..first.len()).map(varies).collect();
    let fits = |at: usize| !digit[at] || texts.iter().all(|text| hex(text[at]));
    if !digit.contains(&true) || !(0..first.len()).all(fits) {
        return None;
    }
    Template::new(first.to_vec(), digit, upper)
}
