//! Rules on the fast path against the CEL interpreter, with random rules and values. Tests only.

use proptest::prelude::*;

use super::rule::{Cost, Rule};
use crate::definitions::{View, parse};
use crate::json::Slots;

const VIEW: &str = r#"
[[lane]]
name = "main"
[[lane.topic]]
name = "points"
[[view]]
id = 1
name = "signal"
lane = "main"
entity = "customer"
topics = ["points"]
[[view.field]]
name = "snr"
path = "s.snr"
type = "double"
[[view.field]]
name = "errors"
type = "int64"
[[view.field]]
name = "seen"
type = "timestamp"
[[view.field]]
name = "online"
type = "bool"
[[view.field]]
name = "firmware"
type = "string"
[[view.field]]
name = "mode"
type = "string"
default = "auto"
[[view.field]]
name = "channels"
type = "json"
"#;

fn view() -> std::sync::Arc<View> {
    parse(VIEW).unwrap_or_else(|errors| panic!("{errors}")).views[0].clone()
}

/// What a rule says of a payload, and how many conditions the interpreter decided.
fn judged(rule: &Rule, view: &View, payload: &str) -> (bool, u64) {
    let mut slots = Slots::new();
    view.plan.scan(payload.as_bytes(), &mut slots).expect("JSON");
    let mut cost = Cost::default();
    let values = |slot| slots.get(slot, payload.as_bytes());
    (rule.holds(view, &values, &mut cost), cost.interpreted)
}

fn holds(text: &str, payload: &str) -> bool {
    let view = view();
    let rule = Rule::compile(text, &view).unwrap_or_else(|error| panic!("{text}: {error}"));
    judged(&rule, &view, payload).0
}

fn condition() -> impl Strategy<Value = String> {
    let order = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let number = prop_oneof![
        (-4i64..4).prop_map(|number| number.to_string()),
        (-4i64..4).prop_map(|number| format!("{}.5", number)),
        Just(i64::MAX.to_string()),
        Just("1e300".to_owned()),
    ];
    let text = prop::sample::select(vec!["''", "'a'", "\"b\"", "'ab'", "'\u{e9}'", "'auto'"]);
    let equal = prop::sample::select(vec!["==", "!="]);
    prop_oneof![
        (prop::sample::select(vec!["snr", "errors", "seen"]), order.clone(), number.clone())
            .prop_map(|(field, op, number)| format!("{field} {op} {number}")),
        (number, order.clone(), prop::sample::select(vec!["snr", "errors"]))
            .prop_map(|(number, op, field)| format!("{number} {op} {field}")),
        (prop::sample::select(vec!["firmware", "mode"]), order, text)
            .prop_map(|(field, op, text)| format!("{field} {op} {text}")),
        (equal, any::<bool>()).prop_map(|(op, value)| format!("online {op} {value}")),
        Just("online".to_owned()),
    ]
}

fn rule() -> impl Strategy<Value = String> {
    condition().prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) && ({other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) || ({other})")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

/// A payload whose fields are of their types, of others, null or absent.
fn payload() -> impl Strategy<Value = String> {
    let values = vec![
        "-4",
        "-1.5",
        "0",
        "0.5",
        "1",
        "2.5",
        "3",
        "1e300",
        "9223372036854775807",
        "true",
        "false",
        "\"\"",
        "\"a\"",
        "\"b\"",
        "\"ab\"",
        "\"\\u00e9\"",
        "null",
        "[1]",
    ];
    let value = prop::option::weighted(0.85, prop::sample::select(values));
    prop::collection::vec(value, 6).prop_map(|values| {
        let names = ["snr", "errors", "seen", "online", "firmware", "mode"];
        let member = |(name, value): (&str, &Option<&str>)| {
            let value = (*value)?;
            Some(if name == "snr" {
                format!("\"s\":{{\"snr\":{value}}}")
            } else {
                format!("\"{name}\":{value}")
            })
        };
        let members: Vec<String> = names.into_iter().zip(&values).filter_map(member).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_fast_path_says_what_the_interpreter_says(text in rule(), payload in payload()) {
        let view = view();
        let (fast, slow) = (Rule::compile(&text, &view), Rule::compile_as(&text, &view, true));
        let (fast, slow) = (fast.expect("a rule"), slow.expect("a rule"));
        prop_assert!(fast.is_fast() && !slow.is_fast());
        let (by_fast, by_slow) = (judged(&fast, &view, &payload), judged(&slow, &view, &payload));
        prop_assert_eq!(by_fast.0, by_slow.0, "{} on {}", text, payload);
        prop_assert_eq!(by_fast.1, 0);
    }
}

#[test]
fn a_missing_value_makes_a_comparison_false_whatever_it_compares() {
    for payload in ["{}", r#"{"errors":null}"#, r#"{"errors":"x"}"#, r#"{"errors":1.5}"#] {
        for rule in
            ["errors < 3", "errors >= 3", "errors == 3", "errors != 3", "errors + 1 != 3", "3 != errors"]
        {
            assert!(!holds(rule, payload), "{rule} on {payload}");
            assert!(holds(&format!("!({rule})"), payload), "not {rule} on {payload}");
        }
        assert!(holds("errors == null", payload), "{payload}");
    }
    assert!(!holds("online", "{}") && holds("!online", "{}"));
    assert!(holds("mode == 'auto'", "{}"), "a default counts");
}

#[test]
fn what_is_no_comparison_with_a_constant_is_interpreted() {
    let payload =
        r#"{"s":{"snr":31.5},"errors":7,"firmware":"v2.1","channels":[{"p":1},{"p":9}],"online":true}"#;
    for (rule, expected) in [
        ("snr - 1.5 > 29.0", true),
        ("firmware.startsWith('v2') && online", true),
        ("firmware.matches('^v[0-9]')", true),
        ("channels.exists(c, c.p > 8)", true),
        ("channels.all(c, c.p > 8)", false),
        ("channels[0].p == 1", true),
        ("size(channels) == 2", true),
        ("errors in [6, 7]", true),
        ("(errors == null ? 0 : errors) > 3", true),
        ("channels[9].p == 1 || errors == 7", true),
        ("errors / 0 > 1", false),
        ("double(errors) < snr", true),
        ("errors < snr", true),
    ] {
        assert_eq!(holds(rule, payload), expected, "{rule}");
    }
    let view = view();
    let rule = Rule::compile("snr < 30 || firmware.startsWith('v2')", &view).unwrap();
    assert!(!rule.is_fast());
    assert_eq!(judged(&rule, &view, payload), (true, 1));
    assert_eq!(judged(&rule, &view, r#"{"s":{"snr":1}}"#), (true, 0), "the first condition decided");
}

#[test]
fn bad_14_numbers_at_the_edge_of_their_range_compare_as_they_are() {
    assert!(holds("errors == 9223372036854775807", r#"{"errors":9223372036854775807}"#));
    assert!(!holds("errors == 9223372036854775806", r#"{"errors":9223372036854775807}"#));
    assert!(!holds("snr > 0.0", r#"{"s":{"snr":1e400}}"#), "out of range is INVALID");
    assert!(holds("snr == 0.0", r#"{"s":{"snr":-0.0}}"#));
}
