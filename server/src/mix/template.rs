//! Payload templates: JSON text with `<...>` marks, compiled once per view and filled in a microsecond or two per record.
//! Used by `generate` only. The marks:
//!
//! | Mark | Becomes |
//! |---|---|
//! | `<time>`, `<time s>` | the event time in ms or in s |
//! | `<before N>` | a time in ms up to N ms before the event time |
//! | `<entity>`, `<mac>` | the entity's id; its MAC address, always the same |
//! | `<uuid>`, `<hex N>` | random |
//! | `<decimal LOW HIGH PLACES>`, `<integer LOW HIGH>` | a number around the entity's own level, with noise |
//! | `<counter N>` | a count that grows by about N a second |
//! | `<one A\|B\|C>`, `<own A\|B\|C>` | one of them at random; always the same one for an entity |
//! | `<note MIN MAX>` | that many sentences, few being likelier |
//! | `<maybe> … <else> … <end>` | one or the other, evenly; without `<else>` nothing half the time |
//! | `<repeat MIN MAX> … <end>` | that many copies with commas between, few being likelier |

use std::ops::Range;

use super::notes;
use super::random::{Random, scatter};
use super::views::push_hex;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// The event time is in seconds.
    pub in_seconds: bool,
}

#[derive(Debug)]
enum Part {
    Text(Box<[u8]>),
    Time { per: i64 },
    Before(u64),
    Entity,
    Mac,
    Uuid,
    Hex(usize),
    Number { low: i64, spread: u64, places: u32, salt: u64 },
    Counter { per_second: u64, salt: u64 },
    One(Vec<Box<[u8]>>),
    Own { choices: Vec<Box<[u8]>>, salt: u64 },
    Note { min: u64, max: u64 },
    Maybe(Vec<Part>, Vec<Part>),
    Repeat { min: u64, max: u64, body: Vec<Part> },
}

/// What a record's payload is about.
pub(super) struct Subject<'a> {
    /// Entity id.
    pub entity: &'a [u8],
    /// Stands for the entity: decides its levels, MAC and choices.
    pub number: u64,
    pub event_time_ms: i64,
}

/// Fills one template.
struct Filling<'a> {
    subject: &'a Subject<'a>,
    own: u64,
    random: &'a mut Random,
    out: &'a mut Vec<u8>,
    time: Range<usize>,
}

impl Template {
    /// Compiles a template of the mix; panics on a mistake in it, which a test would show.
    pub fn compile(text: &str) -> Template {
        let text: String = text.lines().collect();
        let mut parser = Parser { rest: &text, salt: 0 };
        let parts = parser.parts(&[]).0;
        let in_seconds = parts.iter().any(|part| matches!(part, Part::Time { per: 1000 }));
        Template { parts, in_seconds }
    }

    /// Replaces `out` by a payload; gives where in it the event time is (empty if it has none).
    pub fn fill(&self, subject: &Subject<'_>, random: &mut Random, out: &mut Vec<u8>) -> Range<usize> {
        out.clear();
        let own = scatter(subject.number ^ 0x5eed_0f0e);
        let mut filling = Filling { subject, own, random, out, time: 0..0 };
        filling.all(&self.parts);
        filling.time
    }
}

struct Parser<'t> {
    rest: &'t str,
    salt: u64,
}

impl<'t> Parser<'t> {
    /// Parts up to one of the closing marks (or the end of the text, if none is expected), and which it was.
    fn parts(&mut self, closing: &[&str]) -> (Vec<Part>, &'t str) {
        let mut parts = Vec::new();
        while let Some((text, rest)) = self.rest.split_once('<') {
            if !text.is_empty() {
                parts.push(Part::Text(text.as_bytes().into()));
            }
            let (mark, rest) = rest.split_once('>').expect("a mark is closed");
            self.rest = rest;
            if closing.contains(&mark) {
                return (parts, mark);
            }
            let part = self.part(mark);
            parts.push(part);
        }
        assert!(closing.is_empty(), "<end> is missing");
        parts.push(Part::Text(self.rest.as_bytes().into()));
        (parts, "")
    }

    fn part(&mut self, mark: &str) -> Part {
        let (name, arguments) = mark.split_once(' ').unwrap_or((mark, ""));
        self.salt += 1;
        let salt = scatter(self.salt);
        let whole = || whole_numbers(arguments);
        match name {
            "time" => Part::Time { per: if arguments == "s" { 1000 } else { 1 } },
            "before" => Part::Before(whole()[0]),
            "entity" => Part::Entity,
            "mac" => Part::Mac,
            "uuid" => Part::Uuid,
            "hex" => Part::Hex(whole()[0] as usize),
            "decimal" => number(arguments, salt),
            "integer" => number(&format!("{arguments} 0"), salt),
            "counter" => Part::Counter { per_second: whole()[0], salt },
            "one" => Part::One(choices(arguments)),
            "own" => Part::Own { choices: choices(arguments), salt: scatter(arguments.len() as u64) },
            "note" => Part::Note { min: whole()[0], max: whole()[1] },
            "repeat" => Part::Repeat { min: whole()[0], max: whole()[1], body: self.parts(&["end"]).0 },
            "maybe" => self.maybe(),
            _ => panic!("mark <{mark}>"),
        }
    }

    fn maybe(&mut self) -> Part {
        let (first, closed_by) = self.parts(&["else", "end"]);
        let second = if closed_by == "else" { self.parts(&["end"]).0 } else { Vec::new() };
        Part::Maybe(first, second)
    }
}

fn whole_numbers(arguments: &str) -> Vec<u64> {
    arguments.split(' ').map(|word| word.parse().expect("a whole number")).collect()
}

fn choices(arguments: &str) -> Vec<Box<[u8]>> {
    arguments.split('|').map(|choice| choice.as_bytes().into()).collect()
}

fn number(arguments: &str, salt: u64) -> Part {
    let words: Vec<f64> = arguments.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [low, high, places] = words[..] else { panic!("{arguments}: LOW HIGH PLACES") };
    let unit = 10_f64.powf(places);
    let (low, high) = ((low * unit).round() as i64, (high * unit).round() as i64);
    Part::Number { low, spread: (high - low) as u64, places: places as u32, salt }
}

impl Filling<'_> {
    fn all(&mut self, parts: &[Part]) {
        parts.iter().for_each(|part| self.one(part));
    }

    fn one(&mut self, part: &Part) {
        match part {
            Part::Text(text) => self.out.extend_from_slice(text),
            Part::Time { per } => self.time(*per),
            Part::Before(most) => {
                let before = self.random.below(*most) as i64;
                push_number(self.out, self.subject.event_time_ms - before, 0);
            }
            Part::Entity => self.out.extend_from_slice(self.subject.entity),
            Part::Mac => push_mac(self.out, self.own),
            Part::Uuid => push_uuid(self.out, self.random),
            Part::Hex(digits) => self.hex(*digits),
            Part::Number { low, spread, places, salt } => {
                let offset = self.around_level(*spread, *salt);
                push_number(self.out, low + offset as i64, *places);
            }
            Part::Counter { per_second, salt } => self.counter(*per_second, *salt),
            Part::One(choices) => {
                let at = self.random.below(choices.len() as u64);
                self.out.extend_from_slice(&choices[at as usize]);
            }
            Part::Own { choices, salt } => {
                let at = scatter(self.own ^ salt) % choices.len() as u64;
                self.out.extend_from_slice(&choices[at as usize]);
            }
            Part::Note { min, max } => {
                let count = self.few(*min, *max);
                notes::push_sentences(self.out, count, self.random);
            }
            Part::Maybe(first, second) => {
                let chosen = if self.random.bits() >> 63 == 0 { first } else { second };
                self.all(chosen);
            }
            Part::Repeat { min, max, body } => self.repeat(*min, *max, body),
        }
    }

    fn time(&mut self, per: i64) {
        let from = self.out.len();
        push_number(self.out, self.subject.event_time_ms / per, 0);
        self.time = from..self.out.len();
    }

    fn hex(&mut self, digits: usize) {
        let first = digits.min(16);
        push_hex(self.out, self.random.bits(), first);
        push_hex(self.out, self.random.bits(), digits - first);
    }

    /// In 0..=spread: three parts the entity's level, one part noise, as a sensor that is read again and again.
    fn around_level(&mut self, spread: u64, salt: u64) -> u64 {
        let (level, noise) = (scatter(self.own ^ salt) >> 32, self.random.bits() >> 32);
        let unit = (3 * level + noise) >> 2;
        ((u128::from(spread + 1) * u128::from(unit)) >> 32) as u64
    }

    fn counter(&mut self, per_second: u64, salt: u64) {
        let age_s = self.subject.event_time_ms / 1000 - 1_600_000_000
            + (scatter(self.own ^ salt) % 50_000_000) as i64;
        let noise = self.random.below(per_second + 1) as i64;
        push_number(self.out, age_s.max(0) * per_second as i64 + noise, 0);
    }

    /// In min..=max, with a long tail: a quarter of the way on average.
    fn few(&mut self, min: u64, max: u64) -> u64 {
        let unit = self.random.unit();
        min + (unit * unit * unit * (max - min + 1) as f64) as u64
    }

    fn repeat(&mut self, min: u64, max: u64, body: &[Part]) {
        for at in 0..self.few(min, max) {
            if at > 0 {
                self.out.push(b',');
            }
            self.all(body);
        }
    }
}

/// Appends `number / 10^places` with exactly that many places.
pub(super) fn push_number(out: &mut Vec<u8>, number: i64, places: u32) {
    let mut digits = [0_u8; 24];
    let (mut at, mut left, mut written) = (digits.len(), number.unsigned_abs(), 0);
    while left > 0 || written <= places {
        if places > 0 && written == places {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        written += 1;
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// A locally administered address.
fn push_mac(out: &mut Vec<u8>, own: u64) {
    let address = (own >> 16) & 0xfcff_ffff_ffff | 0x0200_0000_0000;
    for at in (0..6).rev() {
        push_hex(out, address >> (8 * at), 2);
        if at > 0 {
            out.push(b':');
        }
    }
}

/// A version 4 UUID.
fn push_uuid(out: &mut Vec<u8>, random: &mut Random) {
    let (high, low) = (random.bits(), random.bits());
    for (number, digits) in [(high >> 32, 8), (high >> 16, 4), (high & 0xfff | 0x4000, 4)] {
        push_hex(out, number, digits);
        out.push(b'-');
    }
    push_hex(out, (low >> 48) & 0x3fff | 0x8000, 4);
    out.push(b'-');
    push_hex(out, low, 12);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_text(number: i64, places: u32) -> String {
        let mut out = Vec::new();
        push_number(&mut out, number, places);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn numbers_have_their_places_and_sign() {
        assert_eq!(number_text(0, 0), "0");
        assert_eq!(number_text(-5, 3), "-0.005");
        assert_eq!(number_text(41_238, 3), "41.238");
        assert_eq!(number_text(1_700_000_000_000, 0), "1700000000000");
    }

    #[test]
    fn every_mark_is_filled() {
        let text = "{\"t\":<time>,\n\"u\":\"<uuid>\",\"o\":<own 1|1>,\"m\":\"<mac>\",\"r\":[<repeat 3 3><decimal -1 1 2><end>],\
                    \"c\":<maybe>1<else>2<end>,\"h\":\"<hex 20>\"}";
        let template = Template::compile(text);
        let subject = Subject { entity: b"x", number: 3, event_time_ms: 1_700_000_000_123 };
        let mut out = Vec::new();
        let time = template.fill(&subject, &mut Random::new(1), &mut out);
        assert_eq!(&out[time], b"1700000000123");
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["r"].as_array().map(Vec::len), Some(3));
        assert_eq!(json["u"].as_str().map(str::len), Some(36));
        assert_eq!(json["m"].as_str().map(str::len), Some(17));
        assert_eq!(json["h"].as_str().map(str::len), Some(20));
        assert_eq!(json["o"], 1);
    }
}
