//! The walk against serde_json: the same texts are valid, and the same values are captured, for random JSON, random
//! damage to it and random Avro-JSON unions. Tests only.

use proptest::prelude::*;
use serde_json::Value;

use super::{JsonError, Plan, Slots};

const NAMES: [&str; 6] = ["a", "b", "c", "ab", "a longer name than eight", ""];

/// JSON text with white space, escapes, duplicate names and nesting; names are few, so that paths meet them.
fn json(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        Just("-0.0e-5".to_owned()),
        ".{0,20}".prop_map(|text| serde_json::to_string(&text).expect("a string")),
        Just(r#""\ud83d\ude00\u0000\/""#.to_owned()),
    ];
    let space = || prop_oneof![9 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")];
    leaf.prop_recursive(depth, 40, 6, move |inner| {
        let member = (name(), space(), inner.clone())
            .prop_map(|(name, space, value)| format!("{name}{space}:{space}{value}"));
        prop_oneof![
            3 => (prop::collection::vec(member, 0..6), space())
                .prop_map(|(members, space)| format!("{{{space}{}}}", members.join(&format!("{space},")))),
            1 => (prop::collection::vec(inner, 0..4), space())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!(",{space}")))),
        ]
    })
    .boxed()
}

fn name() -> impl Strategy<Value = String> {
    let plain =
        prop::sample::select(NAMES.to_vec()).prop_map(|name| serde_json::to_string(name).expect("a string"));
    let written = |text: &'static str| Just(text.to_owned());
    prop_oneof![
        8 => plain,
        1 => written(r#""\u0061""#),
        1 => written(r#""a\u0062""#),
        1 => written(r#""x\n""#),
    ]
}

fn object() -> impl Strategy<Value = String> {
    let any =
        json(5).prop_map(|value| if value.starts_with('{') { value } else { format!(r#"{{"a":{value}}}"#) });
    prop_oneof![any, union(3).prop_map(|value| format!(r#"{{"a":{value}}}"#))]
}

/// Records as Avro-JSON writes them: wrapped in a branch's name or bare, the wrapper sometimes with company or twice.
fn union(depth: u32) -> BoxedStrategy<String> {
    let leaf =
        prop_oneof![Just("1".to_owned()), Just(r#"{"double":1.5}"#.to_owned()), Just("null".to_owned())];
    leaf.prop_recursive(depth, 24, 3, |inner| {
        let members = prop::collection::vec((name(), inner.clone()).prop_map(|(n, v)| format!("{n}:{v}")), 0..3);
        let record = members.prop_map(|members| format!("{{{}}}", members.join(","))).boxed();
        let branch = prop::sample::select(vec![r#""R""#, r#""\u0052""#, r#""S""#]);
        let branches = prop::collection::vec((branch, record.clone()).prop_map(|(b, r)| format!("{b}:{r}")), 1..3);
        let company = prop_oneof![3 => Just(String::new()), 1 => (name(), inner).prop_map(|(n, v)| format!(",{n}:{v}"))];
        let wrapped = (branches, company).prop_map(|(b, company)| format!("{{{}{company}}}", b.join(",")));
        prop_oneof![1 => record, 3 => wrapped]
    })
    .boxed()
}

fn paths() -> impl Strategy<Value = Vec<Vec<String>>> {
    let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    prop::collection::vec(prop::collection::vec(name, 1..4), 0..8)
}

/// What serde_json, without building values, says is JSON. (Its numbers may be out of range and its surrogates alone.)
fn valid(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

fn agrees_on_validity(text: &[u8]) -> Result<(), TestCaseError> {
    let got = Plan::default().scan(text, &mut Slots::new());
    match got {
        Ok(()) | Err(JsonError::NotObject) => {
            prop_assert!(valid(text), "accepted {:?}", String::from_utf8_lossy(text))
        }
        Err(JsonError::NotJson { .. }) => {
            prop_assert!(!valid(text), "{got:?} {:?}", String::from_utf8_lossy(text))
        }
        Err(JsonError::TooDeep) => {}
    }
    Ok(())
}

/// The value at a path. In Avro-JSON a single unasked-for name between two steps is a record branch.
fn walk<'v>(value: &'v Value, path: &[String], paths: &[Vec<String>], avro: bool) -> Option<&'v Value> {
    let mut at = value;
    for (depth, step) in path.iter().enumerate() {
        let asked = |name: &String| {
            paths
                .iter()
                .any(|path_| path_.len() > depth && path_[..depth] == path[..depth] && path_[depth] == *name)
        };
        let object = at.as_object()?;
        let wrapper = avro && depth > 0 && object.len() == 1 && !object.keys().any(asked);
        at = if wrapper { object.values().next()?.get(step)? } else { object.get(step)? };
    }
    Some(at)
}

fn agrees_on_captures(text: &str, paths: &[Vec<String>], avro: bool) -> Result<(), TestCaseError> {
    let value: Value = serde_json::from_str(text).expect("generated JSON");
    let plan = Plan::compile(paths, avro);
    let mut slots = Slots::new();
    for _ in 0..2 {
        plan.scan(text.as_bytes(), &mut slots).expect("generated JSON");
        for (slot, path) in paths.iter().enumerate() {
            let got = slots.get(slot, text.as_bytes());
            let parsed = got.map(|raw| serde_json::from_slice::<Value>(raw).expect("a value"));
            prop_assert_eq!(
                parsed.as_ref(),
                walk(&value, path, paths, avro),
                "{} of {}",
                path.join("."),
                text
            );
            prop_assert!(got.is_none_or(|raw| raw.trim_ascii() == raw));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn captures_are_what_serde_json_finds(text in object(), paths in paths(), avro in any::<bool>()) {
        agrees_on_captures(&text, &paths, avro)?;
    }

    #[test]
    fn valid_is_what_serde_json_calls_valid(text in json(6)) {
        agrees_on_validity(text.as_bytes())?;
    }

    #[test]
    fn damage_is_seen_where_serde_json_sees_it(
        text in json(4), at in any::<prop::sample::Index>(), cut in 0usize..4,
        put in prop_oneof![
            prop::collection::vec(prop::sample::select(b"{}[]\",:\\0123456789.eE+-tfnu \n\x00\x1f\x7f\xef\xbb\xbf\xc3\xa9".to_vec()), 0..4),
            prop::collection::vec(any::<u8>(), 0..3),
        ],
    ) {
        let mut text = text.into_bytes();
        let at = at.index(text.len() + 1);
        let end = (at + cut).min(text.len());
        text.splice(at..end, put);
        agrees_on_validity(&text)?;
    }
}
