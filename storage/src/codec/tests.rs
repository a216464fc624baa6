//! What the codec promises, on synthetic telemetry, random JSON, and damage.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::*;

#[path = "../../examples/codec_pace/telemetry.rs"]
mod telemetry;
use telemetry::{Telemetry, VIEWS};

mod damage;

/// A random kind of JSON document: what varies, and what may be missing or repeated.
enum Schema {
    Scalar(u8),
    Object(Vec<(String, Schema, bool)>),
    Array(Box<Schema>),
}

const NAMES: [&str; 8] = ["a", "b", "c", "long.name.Record", "\\u0061", "d\\n", "\u{e9}t\u{e9}", ""];
const SPACES: [&str; 4] = ["", " ", "\n\t", "  \r\n"];

impl Schema {
    fn object(random: &mut SmallRng, depth: u32) -> Schema {
        let members = random.random_range(0..5);
        let member = |_| {
            let name = NAMES[random.random_range(0..NAMES.len())].to_owned();
            let optional = random.random_bool(0.2);
            (name, Schema::any(random, depth + 1), optional)
        };
        Schema::Object((0..members).map(member).collect())
    }

    fn any(random: &mut SmallRng, depth: u32) -> Schema {
        match random.random_range(0..if depth > 4 { 6 } else { 10 }) {
            kind @ 0..6 => Schema::Scalar(kind),
            6 => Schema::Array(Box::new(Schema::any(random, depth + 1))),
            _ => Schema::object(random, depth),
        }
    }

    fn print(&self, random: &mut SmallRng, space: &str, out: &mut String) {
        match self {
            Schema::Scalar(kind) => out.push_str(&scalar(*kind, random)),
            Schema::Object(members) => {
                out.push('{');
                let kept: Vec<_> =
                    members.iter().filter(|member| !member.2 || random.random_bool(0.5)).collect();
                for (index, (name, schema, _)) in kept.into_iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    out.push_str(&format!("{comma}{space}\"{name}\"{space}:{space}"));
                    schema.print(random, space, out);
                }
                out.push_str(&format!("{space}}}"));
            }
            Schema::Array(element) => {
                out.push('[');
                for index in 0..random.random_range(0..4) {
                    out.push_str(if index > 0 { "," } else { space });
                    element.print(random, space, out);
                }
                out.push(']');
            }
        }
    }
}

fn scalar(kind: u8, random: &mut SmallRng) -> String {
    match (kind, random.random_range(0..20)) {
        (_, 0) => ["null", "-0", "1.0e3", "1E400", "0.00", "\"\"", "\"\\ud800\"", "12345678901234567890.5"]
            [random.random_range(0..8)]
        .to_owned(),
        (0, _) => random.random_range(-1000..1000).to_string(),
        (1, _) => format!("{:.3}", random.random_range(-10.0..10.0)),
        (2, _) => random.random::<f64>().to_string(),
        (3, _) => format!("\"{:012x}\"", random.random_range(0..1u64 << 48)),
        (4, _) => ["true", "false", "null", "\"on\"", "\"off\""][random.random_range(0..5)].to_owned(),
        _ => format!(
            "\"{}\\u00e9\u{1f600}\\\\{}\"",
            random.random::<u16>(),
            "x".repeat(random.random_range(0..40))
        ),
    }
}

/// Payloads of one random schema.
fn random_payloads(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let random = &mut SmallRng::seed_from_u64(seed);
    let schema = Schema::object(random, 0);
    let space = SPACES[random.random_range(0..SPACES.len())];
    let print = |_| {
        let mut out = space.to_owned();
        schema.print(random, space, &mut out);
        out.push_str(space);
        out.into_bytes()
    };
    (0..count).map(print).collect()
}

fn train<'a>(number: u32, samples: impl IntoIterator<Item = &'a Vec<u8>>) -> Generation {
    let mut trainer = Trainer::new(Limits { dictionary_bytes: 1024, ..Limits::default() });
    samples.into_iter().for_each(|sample| trainer.sample(sample));
    Generation::from_bytes(&trainer.train(number).to_bytes()).unwrap()
}

fn views(count: usize) -> Vec<Vec<Vec<u8>>> {
    let payloads = |(index, (_, template)): (usize, &(&str, &str))| {
        let mut telemetry = Telemetry::new(template, index % 2 == 1, index as u64);
        (0..count).map(|_| telemetry.payload().into_bytes()).collect()
    };
    VIEWS.iter().enumerate().map(payloads).collect()
}

fn stored(generation: &Generation, payload: &[u8], encoder: &mut Encoder) -> (Encoded, Vec<u8>) {
    let mut out = b"before".to_vec();
    let encoded = encode(generation, payload, encoder, &mut out);
    (encoded, out.split_off(6))
}

/// Encodes, decodes, and checks what encoding says; returns what it says.
fn round_trip(generation: &Generation, payload: &[u8], encoder: &mut Encoder) -> Encoded {
    let (encoded, stored) = stored(generation, payload, encoder);
    let mut back = b"before".to_vec();
    decode(generation, encoded.coding, &stored, &mut back).unwrap();
    assert_eq!(&back[6..], payload, "{}", String::from_utf8_lossy(payload));
    assert!(stored.len() <= payload.len());
    if encoded.valid {
        serde_json::from_slice::<IgnoredAny>(payload).unwrap();
        assert_eq!(payload.trim_ascii_start()[0], b'{');
        for (start, end) in encoder.scalars() {
            serde_json::from_slice::<IgnoredAny>(&payload[*start as usize..*end as usize]).unwrap();
        }
    }
    encoded
}

/// The raw text at `path`, by serde_json: of duplicate names the last; objects of one name that no path asks for are
/// looked through in Avro views.
fn reference<'p>(payload: &'p str, path: &[String], asked: &[Vec<String>], avro: bool) -> Option<&'p str> {
    let mut value: &RawValue = serde_json::from_str(payload).unwrap();
    for depth in 0..path.len() {
        let mut members: HashMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
        let known = |name: &String| {
            asked
                .iter()
                .any(|other| other.len() > depth && other[..depth] == path[..depth] && other[depth] == *name)
        };
        if avro && depth > 0 && members.len() == 1 && !known(members.keys().next()?) {
            members = serde_json::from_str(members.values().next()?.get()).ok()?;
        }
        value = members.get(&path[depth])?;
    }
    Some(value.get())
}

fn check_paths(
    generation: &Generation,
    payload: &[u8],
    paths: &[Vec<String>],
    encoder: &mut Encoder,
) -> usize {
    let (encoded, stored) = stored(generation, payload, encoder);
    let text = std::str::from_utf8(payload).unwrap_or_default();
    if !encoded.valid {
        return 0;
    }
    let mut found = 0;
    for avro in [false, true] {
        let binding = generation.bind(paths, avro);
        let mut ranges = Ranges::new();
        binding.ranges(generation, encoder, &mut ranges);
        for (index, path) in paths.iter().enumerate() {
            let expected = reference(text, path, paths, avro);
            let range = ranges.get(index).map(|(start, end)| &text[start as usize..end as usize]);
            assert_eq!(range, expected, "{path:?} avro {avro} in {text}");
            if encoded.coding == Coding::Shape {
                let mut out = b"before".to_vec();
                let got = field(generation, &binding, &stored, index, &mut out).map(<[u8]>::to_vec);
                assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{path:?} avro {avro} in {text}");
                assert!(out.starts_with(b"before"));
            }
            found += usize::from(expected.is_some());
        }
        if encoded.coding == Coding::Shape {
            let (mut told, mut out) = (Vec::new(), b"before".to_vec());
            let tell = |text: Option<&[u8]>| told.push(text.map(<[u8]>::to_vec));
            // In another order than they are in, and one of them twice.
            let order = (0..paths.len()).rev().chain([0]);
            fields(generation, &binding, &stored, order.clone(), &mut out, tell);
            let alone =
                |index| field(generation, &binding, &stored, index, &mut Vec::new()).map(<[u8]>::to_vec);
            assert_eq!(told, order.map(alone).collect::<Vec<_>>(), "avro {avro} in {text}");
            assert_eq!(out, b"before");
        }
    }
    found
}

fn paths(texts: &[&str]) -> Vec<Vec<String>> {
    texts.iter().map(|text| text.split('/').map(str::to_owned).collect()).collect()
}

#[test]
fn telemetry_comes_back_and_takes_a_fifth() {
    let (mut raw, mut kept) = (0, 0);
    for payloads in views(600) {
        let generation = train(1, &payloads[..400]);
        let mut encoder = Encoder::new();
        let shaped = payloads[400..].iter().filter(|payload| {
            raw += payload.len();
            kept += stored(&generation, payload, &mut encoder).1.len();
            round_trip(&generation, payload, &mut encoder).coding == Coding::Shape
        });
        assert!(shaped.count() >= 190);
    }
    assert!(kept * 5 <= raw, "{kept} of {raw} bytes");
}

#[test]
fn fields_of_telemetry_are_found_before_and_after_storing() {
    let paths = paths(&[
        "ts",
        "radio",
        "radio/rssi",
        "quality/score",
        "probes",
        "power/saving",
        "call",
        "schema",
        "header/event_time",
        "signal/snr_db",
        "ofdm/profile",
        "ofdm",
        "last_reset_at",
        "upstream",
        "upstream/array",
        "downstream",
        "note",
        "ticket",
        "missing",
        "radio/missing",
        "header/event_time/long",
    ]);
    for payloads in views(300) {
        let generation = train(1, &payloads[..200]);
        let mut encoder = Encoder::new();
        let found: usize = payloads[200..]
            .iter()
            .map(|payload| check_paths(&generation, payload, &paths, &mut encoder))
            .sum();
        assert!(found > 300);
    }
}

#[test]
fn duplicates_and_wrappers_mean_what_the_scanner_says() {
    let samples = [
        r#"{"a":{"b":1},"a":{"b":2}}"#,
        r#"{"a":{"b":1},"a":{"c":2}}"#,
        r#"{"a":{"b":1},"a":null}"#,
        r#"{"a":1,"\u0061":[2,{"b":3}]}"#,
        r#"{"a":{"com.x.Rec":{"b":1}}}"#,
        r#"{"a":{"R":{"b":{"S":{"c":1}}}}}"#,
        r#"{"a":{"x":{"b":1},"y":2}}"#,
        r#"{"a":{"x":{"b":1},"b":2}}"#,
        r#"{"a":{"b":2,"x":{"b":1}}}"#,
        r#"{"a":{"x":{"b":1},"x":{"b":2}}}"#,
        r#"{"a":{"x":{"b":1},"x":0}}"#,
        r#"{"x":{"b":1}}"#,
        r#"{"a":{"c":{"b":1}}}"#,
        r#"{"a":{"x":{"y":{"b":1}}}}"#,
        r#"{}"#,
    ]
    .map(|text| text.as_bytes().to_vec());
    let mut encoder = Encoder::new();
    for sample in &samples {
        for samples in [std::slice::from_ref(sample), &samples[..]] {
            let generation = train(1, samples);
            assert!(stored(&generation, sample, &mut encoder).0.valid);
            check_paths(&generation, sample, &paths(&["a", "a/b", "b", "a/b/c"]), &mut encoder);
            check_paths(&generation, sample, &paths(&["a/b", "a/c", "a/x/b"]), &mut encoder);
            check_paths(&generation, sample, &paths(&["a/b"]), &mut encoder);
        }
    }
}

#[test]
fn what_is_not_json_fits_no_shape() {
    let samples: Vec<Vec<u8>> =
        (0..30).map(|i| format!(r#"{{"a":{i},"b":"text {i}","c":true}}"#).into_bytes()).collect();
    let generation = train(1, &samples);
    let mut encoder = Encoder::new();
    let valid =
        |payload: &str, encoder: &mut Encoder| round_trip(&generation, payload.as_bytes(), encoder).valid;
    for good in ["5", "-0", "1e400", "12345678901234567890", "null", "\"\\ud800\""] {
        assert!(valid(&format!(r#"{{"a":{good},"b":"text","c":false}}"#), &mut encoder), "{good}");
    }
    for bad in ["05", "-", "1.", "+1", "tru", "\"a\u{1}\"", "\"\\x\"", "", "{}", "1 2", "NaN"] {
        assert!(!valid(&format!(r#"{{"a":{bad},"b":"text","c":false}}"#), &mut encoder), "{bad}");
    }
    assert!(!valid(r#"{"a":1,"b":"text","c":false}}"#, &mut encoder));
    assert!(!valid(r#"{"a":1,"b":"text","c":false"#, &mut encoder));
    assert!(!valid("", &mut encoder));
    assert!(!round_trip(&generation, b"{\"a\":1,\"b\":\"\xff\",\"c\":false}", &mut encoder).valid);
}

#[test]
fn later_generations_leave_earlier_bytes_readable() {
    let views = views(200);
    let mut encoder = Encoder::new();
    let mut generations = Vec::new();
    let mut kept = Vec::new();
    for (number, payloads) in (0u32..).zip(&views) {
        generations.push(train(number, payloads));
        for payload in payloads.iter().take(20) {
            kept.push((number, payload, stored(&generations[number as usize], payload, &mut encoder)));
        }
    }
    for (number, payload, (encoded, stored)) in kept {
        let generation = Generation::from_bytes(&generations[number as usize].to_bytes()).unwrap();
        let mut back = Vec::new();
        decode(&generation, encoded.coding, &stored, &mut back).unwrap();
        assert_eq!(back, *payload);
    }
}

#[test]
fn training_is_deterministic_and_bounded() {
    let payloads = views(300).concat();
    let limits = Limits { samples: 100, sample_bytes: 50_000, dictionary_bytes: 1024 };
    let mut trainers = [Trainer::new(limits), Trainer::new(limits)];
    for payload in &payloads {
        trainers.iter_mut().for_each(|trainer| trainer.sample(payload));
    }
    assert!(trainers[0].len() <= 100 && trainers[0].len() > 10);
    let [one, two] = trainers.map(|trainer| trainer.train(7).to_bytes());
    assert!(one == two);
    assert!(Generation::from_bytes(&one).unwrap().to_bytes() == one);
    let nothing = Trainer::new(limits).train(1);
    assert_eq!(round_trip(&nothing, &payloads[0], &mut Encoder::new()).coding, Coding::Zstd);
}

#[test]
fn values_out_of_range_and_long_texts_come_back() {
    let sample = |count: u64, text: &str| {
        format!(r#"{{"count":{count},"note":"{text}","t":[{count}.5]}}"#).into_bytes()
    };
    let samples: Vec<Vec<u8>> =
        (0..100).map(|i| sample(1000 + i * 7, &format!("note {} of many", i * 31))).collect();
    let generation = train(1, &samples);
    let binding = generation.bind(&paths(&["count", "note", "t"]), false);
    let (mut encoder, mut drift) = (Encoder::new(), Drift::default());
    for (count, text) in
        [(5, "note"), (1 << 40, "other"), (1001, &"a long note ".repeat(400)), (7, &"\u{e9}\\n".repeat(60))]
    {
        let payload = sample(count, text);
        assert_eq!(round_trip(&generation, &payload, &mut encoder).coding, Coding::Shape);
        let (encoded, stored) = stored(&generation, &payload, &mut encoder);
        drift.count(encoded, &encoder, payload.len(), stored.len());
        for (path, expected) in
            [count.to_string(), format!("\"{text}\""), format!("[{count}.5]")].iter().enumerate()
        {
            let got = field(&generation, &binding, &stored, path, &mut Vec::new()).map(<[u8]>::to_vec);
            assert_eq!(got.as_deref(), Some(expected.as_bytes()));
        }
    }
    assert_eq!((drift.payloads, drift.unfit, drift.scalars), (4, 0, 12));
    assert!(drift.escapes >= 4 && drift.stored_bytes < drift.raw_bytes);
}

#[test]
fn most_random_documents_fit_a_shape() {
    let mut encoder = Encoder::new();
    let (mut shaped, mut all) = (0, 0);
    for seed in 0..200 {
        let payloads = random_payloads(seed, 60);
        let generation = train(1, &payloads[..40]);
        shaped += payloads[40..]
            .iter()
            .filter(|payload| round_trip(&generation, payload, &mut encoder).valid)
            .count();
        all += 20;
    }
    assert!(shaped * 2 > all, "{shaped} of {all}");
}
