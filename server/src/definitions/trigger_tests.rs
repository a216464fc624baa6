//! Triggers as people define them, right and wrong. Tests only.

use super::*;

const BASE: &str = r#"
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
name = "snr_db"
type = "double"
[[view.field]]
name = "online"
type = "bool"
[[trigger]]
name = "snr"
id = 100
version = 1
view = "signal"
rules = [{ state = "RED", when = "snr_db < 30", until = "snr_db >= 32", hold = "5m" }]
"#;

fn errors(old: &str, new: &str) -> Vec<String> {
    assert!(BASE.contains(old), "{old}");
    parse(&BASE.replacen(old, new, 1)).map(|_| Vec::new()).unwrap_or_else(|errors| errors.0)
}

fn error(old: &str, new: &str) -> String {
    let mut errors = errors(old, new);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

fn defined(text: &str) -> Definitions {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn a_trigger_has_the_defaults_that_are_documented() {
    let definitions = defined(BASE);
    let trigger = &definitions.triggers[0];
    assert_eq!((trigger.id, trigger.version, trigger.view.name.as_str()), (100, 1, "signal"));
    assert_eq!((trigger.otherwise.as_str(), trigger.edges_topic.as_str()), ("GREEN", "forebay.edges"));
    assert_eq!((trigger.rules[0].hold_ms, trigger.otherwise_hold_ms), (300_000, 0));
    assert_eq!(trigger.first_sight, FirstSight::Silent);
    assert!(trigger.rules[0].when.is_fast());
}

#[test]
fn bad_64_a_trigger_over_an_unknown_field_is_refused_with_a_suggestion() {
    assert_eq!(
        error("snr_db < 30", "online && snr_bd < 30"),
        "definitions: trigger \"snr\": rule 1 (\"RED\"): when: at line 1, column 11: view \"signal\" has no field \
         \"snr_bd\"; did you mean \"snr_db\"?"
    );
    assert_eq!(
        error("view = \"signal\"", "view = \"sginal\""),
        "definitions: trigger \"snr\": view: no view \"sginal\" is defined; did you mean \"signal\"?"
    );
}

#[test]
fn bad_64_a_rule_that_does_not_compile_names_the_rule_and_the_position() {
    let at = "definitions: trigger \"snr\": rule 1 (\"RED\")";
    let broken = error("snr_db < 30", "snr_db <");
    assert!(broken.starts_with(&format!("{at}: when: at line 1, column ")), "{broken}");
    let broken = error("snr_db >= 32", "snr_db >= ) 32");
    assert!(broken.starts_with(&format!("{at}: until: at line 1, column ")), "{broken}");
    assert!(error("snr_db < 30", " ").contains("empty: write a condition"));
    let text = error("snr_db < 30", "snr_db < 'x'");
    assert!(text.contains("field \"snr_db\": its type is double, it is compared with a string"), "{text}");
    assert!(error("snr_db < 30", "snr_db + 1.0").contains("expected a condition"));
    assert!(error("snr_db < 30", "snr_db").contains("field \"snr_db\" is a double: compare it"));
    assert!(error("snr_db < 30", "online < true").contains("true and false have no order"));
    let function = error("snr_db < 30", "sise(string(snr_db)) > 3");
    assert!(function.contains("no function \"sise\"; did you mean \"size\"?"), "{function}");
}

#[test]
fn bad_64_a_trigger_without_rules_or_with_an_impossible_state_is_refused() {
    let rules = r#"rules = [{ state = "RED", when = "snr_db < 30", until = "snr_db >= 32", hold = "5m" }]"#;
    assert!(error(rules, "rules = []").contains("rules: write at least one"));
    assert!(error("state = \"RED\"", "state = \"UNKNOWN\"").contains("not UNKNOWN"));
    assert!(error("state = \"RED\"", "state = \"GREEN\"").contains("state \"GREEN\" is given already"));
    assert!(error("until =", "untill =").contains("unknown key \"untill\"; did you mean \"until\"?"));
    let topic = error("id = 100", "id = 100\nedges_topic = \"points\"");
    assert!(topic.contains("edges need a topic of their own"), "{topic}");
}

#[test]
fn bad_63_a_trigger_takes_no_name_or_id_that_is_taken() {
    let again = &BASE[BASE.find("[[trigger]]").unwrap()..];
    let text = BASE.to_owned() + again;
    let errors = parse(&text).unwrap_err().0;
    assert!(errors[0].contains("a trigger of this name is defined already"), "{errors:?}");
    assert!(errors[1].contains("id 100 is taken already"), "{errors:?}");
    assert!(error("id = 100", "id = 1").contains("id 1 is taken already (definitions: view \"signal\")"));
}

fn refused(new: &str, old: &str) -> String {
    compatible(&defined(old), &defined(new)).unwrap_err().join("; ")
}

#[test]
fn a_reload_takes_triggers_and_new_versions_but_no_new_meaning() {
    let without = &BASE[..BASE.find("[[trigger]]").unwrap()];
    let changes = |old: &str, new: &str| compatible(&defined(old), &defined(new)).unwrap();
    assert_eq!(changes(without, BASE), ["trigger \"snr\" is new"]);
    assert_eq!(changes(BASE, without), ["trigger \"snr\" is removed"]);
    let stricter = BASE.replace("snr_db < 30", "snr_db < 25");
    assert!(refused(&stricter, BASE).contains("changes its rules under version 1: make version 2"));
    let second = stricter.replace("version = 1", "version = 2");
    assert_eq!(changes(BASE, &second), ["trigger \"snr\": version 1 becomes 2"]);
    assert!(refused(BASE, &second).contains("goes back from version 2 to 1"));
    assert!(refused(&BASE.replace("id = 100", "id = 101"), BASE).contains("changes its id from 100 to 101"));
}

#[test]
fn bad_65_an_id_is_never_given_to_another() {
    let without = &BASE[..BASE.find("[[trigger]]").unwrap()];
    let gone = defined(without).after(&defined(BASE));
    let other = BASE.replace("name = \"snr\"", "name = \"other\"");
    let reasons = compatible(&gone, &defined(&other)).unwrap_err().join("; ");
    assert!(reasons.contains("takes id 100, which is in the stored records of trigger \"snr\""), "{reasons}");
    compatible(&gone, &defined(BASE)).expect("the same trigger may come back");
    let view = without.to_owned() + &without[without.find("[[view]]").unwrap()..].replace("signal", "new");
    let view = view.replacen("id = 1\nname = \"new\"", "id = 100\nname = \"new\"", 1);
    let reasons = compatible(&gone, &defined(&view)).unwrap_err().join("; ");
    assert!(reasons.contains("view \"new\" takes id 100"), "{reasons}");
}
