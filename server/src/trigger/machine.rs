//! The state machine of a trigger: from what is held of an entity and a new value to what is held next, and the edge, if
//! the state changed. Pure: event time, never the clock. Called by `ingest` for every current value, and by the replay of
//! rules; knows nothing of how states are stored.
//!
//! ```text
//!                 a first value, or the last one expired
//!   unknown ───────────────────────────────────────────► the state its rules give (silent, or an edge from UNKNOWN)
//!      ▲                                                     │
//!      │ tombstone                                           │ the rules give another, and `until` lets go
//!      │                                                     ▼
//!      └───────────────────────────── candidate: seen since t ── seen for `hold` ──► the other state, an edge
//!                                         │ the rules give the held state again: forgotten
//! ```

use super::Values;
use super::rule::Cost;
use crate::definitions::{FirstSight, Trigger, UNKNOWN};

/// What is held of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its state.
    pub state: String,
    /// Event time of the value that brought it, ms.
    pub since_ms: i64,
    /// Another state that the rules give, and since which event time; it has not been seen for its hold yet.
    pub candidate: Option<(String, i64)>,
}

/// What a value comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is held from now on.
    pub held: Held,
    /// The state before, if the change is to be told: [`UNKNOWN`] if there was none.
    pub edge_from: Option<String>,
}

/// What a value does to an entity. `before`: what is held, nothing if that is unknown; a state that this version of the
/// trigger does not have is unknown too. Nothing: all stays as it is.
pub fn step<'p>(
    trigger: &'p Trigger,
    before: Option<&Held>,
    event_time_ms: i64,
    values: &impl Values<'p>,
    cost: &mut Cost,
) -> Option<Step> {
    let given = given(trigger, before, values, cost);
    decide(trigger, before, event_time_ms, given)
}

/// The state the rules give, with the hysteresis of the state that is held.
pub fn given<'t, 'p: 't>(
    trigger: &'p Trigger,
    before: Option<&Held>,
    values: &impl Values<'p>,
    cost: &mut Cost,
) -> &'t str {
    let view = &*trigger.view;
    let own = before.and_then(|held| trigger.rules.iter().find(|rule| rule.state == held.state));
    if let Some((own, until)) = own.and_then(|own| Some((own, own.until.as_ref()?)))
        && !until.holds(view, values, cost)
    {
        return &own.state;
    }
    let first = trigger.rules.iter().find(|rule| rule.when.holds(view, values, cost));
    first.map_or(&trigger.otherwise, |rule| &rule.state)
}

/// What a value does to an entity for which the rules give a state; as `step`.
pub fn decide(trigger: &Trigger, before: Option<&Held>, event_time_ms: i64, given: &str) -> Option<Step> {
    let before = before.filter(|held| trigger.states().any(|state| state == held.state));
    let taken = |edge_from: Option<String>| {
        let held = Held { state: given.to_owned(), since_ms: event_time_ms, candidate: None };
        Some(Step { held, edge_from })
    };
    let Some(before) = before else {
        let told = trigger.first_sight == FirstSight::Edge;
        return taken(told.then(|| UNKNOWN.to_owned()));
    };
    if before.state == given {
        // A candidate that was not seen for long enough is forgotten.
        before.candidate.as_ref()?;
        return Some(Step { held: Held { candidate: None, ..before.clone() }, edge_from: None });
    }
    let since_ms = match &before.candidate {
        Some((candidate, since_ms)) if candidate == given => *since_ms,
        _ => event_time_ms,
    };
    if event_time_ms.saturating_sub(since_ms) >= hold_ms(trigger, given) {
        return taken(Some(before.state.clone()));
    }
    let candidate = Some((given.to_owned(), since_ms));
    (before.candidate != candidate)
        .then(|| Step { held: Held { candidate, ..before.clone() }, edge_from: None })
}

fn hold_ms(trigger: &Trigger, state: &str) -> i64 {
    let rule = trigger.rules.iter().find(|rule| rule.state == state);
    rule.map_or(trigger.otherwise_hold_ms, |rule| rule.hold_ms)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::definitions::parse;

    const DEFINITIONS: &str = r#"
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
type = "double"
[[trigger]]
name = "t"
id = 100
version = 1
view = "signal"
"#;

    fn trigger(rules: &str) -> Arc<Trigger> {
        let definitions = parse(&format!("{DEFINITIONS}{rules}")).unwrap_or_else(|errors| panic!("{errors}"));
        definitions.triggers[0].clone()
    }

    /// What is told of values (event time, snr), as "from>to@event time".
    fn edges(trigger: &Trigger, values: &[(i64, &str)]) -> Vec<String> {
        let mut held: Option<Held> = None;
        let mut told = Vec::new();
        for (at, raw) in values {
            let fields = |_| Some(raw.as_bytes());
            if let Some(step) = step(trigger, held.as_ref(), *at, &fields, &mut Cost::default()) {
                if let Some(from) = &step.edge_from {
                    told.push(format!("{from}>{}@{at}", step.held.state));
                }
                held = Some(step.held);
            }
        }
        told
    }

    #[test]
    fn states_change_when_rules_say_so_and_the_first_is_silent() {
        let plain = trigger(r#"rules = [{ state = "RED", when = "snr < 30" }]"#);
        let values = [(1, "20"), (2, "25"), (3, "30"), (4, "31"), (5, "1"), (6, "null"), (7, "\"x\"")];
        assert_eq!(edges(&plain, &values), ["RED>GREEN@3", "GREEN>RED@5", "RED>GREEN@6"]);
    }

    #[test]
    fn a_first_sight_may_be_an_edge_from_unknown() {
        let loud = trigger("first_sight = \"edge\"\nrules = [{ state = \"RED\", when = \"snr < 30\" }]");
        assert_eq!(edges(&loud, &[(1, "20"), (2, "40")]), ["UNKNOWN>RED@1", "RED>GREEN@2"]);
        assert_eq!(edges(&loud, &[(1, "40")]), ["UNKNOWN>GREEN@1"]);
    }

    #[test]
    fn once_in_a_state_it_stays_until_its_until_holds() {
        let sticky = trigger(
            r#"rules = [{ state = "RED", when = "snr < 30", until = "snr >= 35" }, { state = "YELLOW", when = "snr < 33" }]"#,
        );
        let values =
            [(1, "50"), (2, "29"), (3, "32"), (4, "34.9"), (5, "35"), (6, "32"), (7, "29"), (8, "40")];
        let expected = ["GREEN>RED@2", "RED>GREEN@5", "GREEN>YELLOW@6", "YELLOW>RED@7", "RED>GREEN@8"];
        assert_eq!(edges(&sticky, &values), expected);
    }

    #[test]
    fn a_change_counts_when_it_was_seen_for_the_hold() {
        let slow = trigger(
            "hold = \"10ms\"\nrules = [{ state = \"RED\", when = \"snr < 30\" }, { state = \"BLACK\", when = \"snr < 40\", hold = \"0ms\" }]",
        );
        let red_once = [(0, "50"), (100, "20"), (105, "50"), (106, "20"), (115, "20")];
        assert!(edges(&slow, &red_once).is_empty(), "a candidate that was interrupted begins again");
        assert_eq!(edges(&slow, &[(0, "50"), (100, "20"), (109, "20"), (110, "20")]), ["GREEN>RED@110"]);
        assert_eq!(edges(&slow, &[(0, "50"), (100, "35")]), ["GREEN>BLACK@100"]);
        let other_between = [(0, "20"), (100, "50"), (105, "35"), (106, "50"), (115, "50"), (116, "50")];
        assert_eq!(edges(&slow, &other_between), ["RED>BLACK@105", "BLACK>GREEN@116"]);
    }

    #[test]
    fn a_state_the_version_does_not_know_is_unknown() {
        let plain = trigger(r#"rules = [{ state = "RED", when = "snr < 30" }]"#);
        let old = Held { state: "ORANGE".into(), since_ms: 1, candidate: None };
        let fields = |_| Some(b"20".as_slice());
        let step = step(&plain, Some(&old), 5, &fields, &mut Cost::default()).unwrap();
        assert_eq!((step.held.state.as_str(), step.edge_from), ("RED", None));
    }

    #[test]
    fn what_does_not_change_writes_nothing() {
        let plain = trigger(r#"rules = [{ state = "RED", when = "snr < 30" }]"#);
        let held = Held { state: "RED".into(), since_ms: 1, candidate: None };
        let fields = |_| Some(b"20".as_slice());
        assert_eq!(step(&plain, Some(&held), 5, &fields, &mut Cost::default()), None);
    }
}
