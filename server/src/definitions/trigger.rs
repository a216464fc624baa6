//! Triggers as they are defined: the grammar of `[[trigger]]`, what is checked against the views, and what a reload may
//! change. A trigger belongs to the lane of its view, and its id is one of the views' ids: it names the records of its
//! states. Called by `grammar`, `check` and `compatible`; what the rules mean is `crate::trigger`'s.

use std::sync::Arc;

use super::compatible::Found;
use super::grammar::{Placed, ViewDraft, finish, name, named, topic_name};
use super::{DefinitionErrors, Definitions, View};
use crate::config::suggest::did_you_mean;
use crate::config::table::{self, Errors, Table};
use crate::config::units::show_duration;
use crate::trigger::Rule;

const DAY: i64 = 86_400_000;
const DEFAULT_EDGES: &str = "forebay.edges";
/// What an edge comes from when nothing is known of the entity; so no state's name.
pub const UNKNOWN: &str = "UNKNOWN";

/// A named rule that gives each entity of a view a state; a change of state is an edge.
#[derive(Debug)]
pub struct Trigger {
    /// Unique among triggers.
    pub name: String,
    /// Unique among triggers and views: names the records of its states. Never given to another.
    pub id: u16,
    /// A new one for every change of its rules.
    pub version: u32,
    /// The view whose values it judges.
    pub view: Arc<View>,
    /// In order: the first that holds names the state.
    pub rules: Vec<StateRule>,
    /// The state when none holds.
    pub otherwise: String,
    /// Event time that a change to `otherwise` must be seen for before it counts, ms.
    pub otherwise_hold_ms: i64,
    /// What the first known state of an entity is.
    pub first_sight: FirstSight,
    /// Topic of its edges.
    pub edges_topic: String,
}

/// One state and when it is taken.
#[derive(Debug)]
pub struct StateRule {
    /// The state.
    pub state: String,
    /// Taken when this holds.
    pub when: Rule,
    /// Once taken, kept until this holds.
    pub until: Option<Rule>,
    /// Event time that it must be seen for before it counts, ms.
    pub hold_ms: i64,
}

/// What the first state of an entity is that had none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstSight {
    /// No edge.
    Silent,
    /// An edge from [`UNKNOWN`].
    Edge,
}

/// A trigger whose view is still a name.
#[derive(Debug)]
pub(super) struct TriggerDraft {
    pub name: String,
    pub id: u16,
    version: u32,
    view: String,
    rules: Vec<RuleDraft>,
    otherwise: String,
    hold_ms: i64,
    first_sight: FirstSight,
    edges_topic: String,
}

#[derive(Debug)]
struct RuleDraft {
    place: String,
    state: String,
    when: String,
    until: Option<String>,
    hold_ms: Option<i64>,
}

/// Reads one `[[trigger]]`.
pub(super) fn read(table: Table<'_>) -> Placed<TriggerDraft> {
    if table.value("id").is_none() {
        table.error(
            "id",
            "missing: a number of its own among views and triggers, that names its stored states",
        );
    }
    if table.value("version").is_none() {
        table.error("version", "missing: 1 for the first, and a new one for every change of its rules");
    }
    let sights = [("silent", FirstSight::Silent), ("edge", FirstSight::Edge)];
    let item = TriggerDraft {
        name: name(&table, "name", "every trigger has a name"),
        id: table.integer("id", 1..=65_535).unwrap_or(0) as u16,
        version: table.integer("version", 1..=i64::from(u32::MAX)).unwrap_or(0) as u32,
        view: table.required("view", "the view whose values it judges").unwrap_or_default().to_owned(),
        rules: rules(&table),
        otherwise: state(&table, "otherwise", table.text("otherwise").unwrap_or("GREEN")),
        hold_ms: table.duration_ms("hold", 0..=400 * DAY).unwrap_or(0),
        first_sight: table.choice("first_sight", &sights).unwrap_or(FirstSight::Silent),
        edges_topic: topic_name(&table, "edges_topic", table.text("edges_topic").unwrap_or(DEFAULT_EDGES)),
    };
    finish(table, item)
}

fn rules(trigger: &Table<'_>) -> Vec<RuleDraft> {
    let tables = trigger.tables("rules", "trigger.rules");
    if tables.is_empty() {
        trigger.error("rules", "write at least one, such as { state = \"RED\", when = \"snr_db < 30\" }");
    }
    tables.into_iter().enumerate().map(|(number, table)| rule(trigger, number, table)).collect()
}

fn rule(trigger: &Table<'_>, number: usize, table: &toml::Table) -> RuleDraft {
    let named = named(&trigger.place, "rule", number, table, trigger.errors());
    let place = match table.get("state").and_then(toml::Value::as_str) {
        Some(state) => format!("{}: rule {} (\"{state}\")", trigger.place, number + 1),
        None => named.place.clone(),
    };
    let table = Table::new(place.clone(), table, trigger.errors());
    let draft = RuleDraft {
        state: state(&table, "state", table.required("state", "the state it gives").unwrap_or_default()),
        when: table.required("when", "the condition, in CEL").unwrap_or_default().to_owned(),
        until: table.text("until").map(str::to_owned),
        hold_ms: table.duration_ms("hold", 0..=400 * DAY),
        place,
    };
    table.finish();
    draft
}

/// A state's name goes into messages, headers and records.
fn state(table: &Table<'_>, key: &'static str, name: &str) -> String {
    let allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if !allowed || name.len() > 100 || name == UNKNOWN {
        let rule = "states are up to 100 letters, digits, `_`, `-` and `.`, and not UNKNOWN";
        table.error(key, format_args!("\"{name}\" is not possible: {rule}"));
    }
    name.to_owned()
}

/// Resolves a trigger's view and compiles its rules; nothing if it has no view.
pub(super) fn check(
    placed: Placed<TriggerDraft>,
    definitions: &Definitions,
    errors: &Errors,
) -> Option<Arc<Trigger>> {
    let Placed { place, item } = placed;
    let known = definitions.view_by_name.get(&item.view).map(|at| definitions.views[*at].clone());
    let Some(view) = known else {
        if !item.view.is_empty() {
            let hint = did_you_mean(&item.view, definitions.view_by_name.keys().map(String::as_str));
            errors.add(&place, format_args!("view: no view \"{}\" is defined{hint}", item.view));
        }
        return None;
    };
    check_states(&item, errors);
    check_topic(&place, &item, definitions, errors);
    let hold_ms = item.hold_ms;
    Some(Arc::new(Trigger {
        rules: item.rules.into_iter().filter_map(|rule| compile(rule, &view, hold_ms, errors)).collect(),
        name: item.name,
        id: item.id,
        version: item.version,
        view,
        otherwise: item.otherwise,
        otherwise_hold_ms: hold_ms,
        first_sight: item.first_sight,
        edges_topic: item.edges_topic,
    }))
}

fn check_states(item: &TriggerDraft, errors: &Errors) {
    let mut seen = vec![item.otherwise.as_str()];
    for rule in &item.rules {
        if seen.contains(&rule.state.as_str()) {
            let advice = "join its conditions with ||";
            errors.add(&rule.place, format_args!("state \"{}\" is given already: {advice}", rule.state));
        }
        seen.push(&rule.state);
    }
}

fn check_topic(place: &str, item: &TriggerDraft, definitions: &Definitions, errors: &Errors) {
    let mut topics = definitions.lanes.iter().flat_map(|lane| {
        let sources = lane.topics.iter().map(|topic| topic.name.as_str());
        sources.chain([lane.dead_letter_topic.as_str()])
    });
    if topics.any(|topic| topic == item.edges_topic) {
        let message =
            format!("\"{}\" is a topic of a lane: edges need a topic of their own", item.edges_topic);
        errors.add(place, format_args!("edges_topic: {message}"));
    }
}

fn compile(draft: RuleDraft, view: &View, hold_ms: i64, errors: &Errors) -> Option<StateRule> {
    let rule = |key: &str, text: &str| {
        let compiled = Rule::compile(text, view);
        compiled.map_err(|error| errors.add(&draft.place, format_args!("{key}: {error}"))).ok()
    };
    let when = rule("when", &draft.when);
    let until = draft.until.as_ref().map(|text| rule("until", text));
    Some(StateRule {
        when: when?,
        until: match until {
            None => None,
            Some(until) => Some(until?),
        },
        hold_ms: draft.hold_ms.unwrap_or(hold_ms),
        state: draft.state,
    })
}

/// The triggers of one text, over views that are defined elsewhere: a rule that is only tried.
///
/// # Errors
/// Everything wrong with them.
pub fn triggers_over(
    file: &str,
    text: &str,
    definitions: &Definitions,
) -> Result<Vec<Arc<Trigger>>, DefinitionErrors> {
    let errors = Errors::default();
    let root = table::parse(file, text, &errors).unwrap_or_default();
    let root = Table::new(file.to_owned(), &root, &errors);
    let tables = root.tables("trigger", "trigger").into_iter().enumerate();
    let drafts = tables.map(|(number, table)| read(named(file, "trigger", number, table, &errors)));
    let triggers = drafts.filter_map(|draft| check(draft, definitions, &errors)).collect();
    let errors = errors.into_vec();
    if errors.is_empty() { Ok(triggers) } else { Err(DefinitionErrors(errors)) }
}

/// Notes ids that a view or another trigger has.
pub(super) fn unique_ids(views: &[Placed<ViewDraft>], triggers: &[Placed<TriggerDraft>], errors: &Errors) {
    for (at, Placed { place, item }) in triggers.iter().enumerate() {
        let view = views.iter().find(|view| view.item.id == item.id).map(|view| &view.place);
        let other = triggers[..at].iter().find(|other| other.item.id == item.id).map(|other| &other.place);
        if let Some(earlier) = view.or(other) {
            let rule = "views and triggers share their ids";
            errors.add(place, format_args!("id {} is taken already ({earlier}): {rule}", item.id));
        }
    }
}

impl Trigger {
    /// What must not change as long as its id is in stored records.
    pub fn fingerprint(&self) -> String {
        format!(
            "states of trigger {} over view {} in lane {}",
            self.name, self.view.name, self.view.lane_name
        )
    }

    /// Name under which its id stays taken when it is gone.
    pub(super) fn owner(&self) -> String {
        format!("{TRIGGER_OWNER}{}", self.name)
    }

    /// How long after a data point's event time its state's record may be needed.
    pub fn retention_ms(&self) -> i64 {
        self.view.max_ttl_ms.saturating_add(self.view.max_ttl_ms / 2)
    }

    /// Fields its rules look at, by index into the view's; one may come several times.
    pub fn fields(&self) -> impl Iterator<Item = usize> {
        let rules = self.rules.iter().flat_map(|rule| [Some(&rule.when), rule.until.as_ref()]);
        rules.flatten().flat_map(Rule::fields)
    }

    /// Every state it gives.
    pub fn states(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.state.as_str()).chain([self.otherwise.as_str()])
    }

    /// All that its version stands for, in one text.
    pub fn meaning(&self) -> String {
        let mut text = String::new();
        for rule in &self.rules {
            let until = rule.until.as_ref().map(|until| format!(" until {}", until.text)).unwrap_or_default();
            let hold = show_duration(rule.hold_ms);
            text.push_str(&format!("{} when {}{until} held {hold}; ", rule.state, rule.when.text));
        }
        let (hold, sight) = (show_duration(self.otherwise_hold_ms), self.first_sight.as_str());
        text.push_str(&format!("otherwise {} held {hold}; first sight {sight}", self.otherwise));
        text
    }
}

impl FirstSight {
    /// As in definitions.
    pub fn as_str(self) -> &'static str {
        match self {
            FirstSight::Silent => "silent",
            FirstSight::Edge => "edge",
        }
    }
}

/// No view's name has a colon.
const TRIGGER_OWNER: &str = "trigger:";

/// The owner of an id for people.
pub(super) fn show_owner(owner: &str) -> String {
    match owner.strip_prefix(TRIGGER_OWNER) {
        Some(trigger) => format!("trigger \"{trigger}\""),
        None => format!("view \"{owner}\""),
    }
}

/// What a reload may change: everything but the meaning of an id and of a version.
pub(super) fn compatible(old: &Definitions, new: &Definitions, found: &mut Found) {
    let taken = old.ids_taken();
    for trigger in &new.triggers {
        let title = format!("trigger \"{}\"", trigger.name);
        let before = old.triggers.iter().find(|before| before.name == trigger.name);
        match (before, taken.get(&trigger.id).filter(|owner| **owner != trigger.owner())) {
            (Some(before), _) => same_trigger(&title, before, trigger, found),
            (None, Some(owner)) => found.reasons.push(format!(
                "{title} takes id {}, which is in the stored records of {}: give it an id of its own",
                trigger.id,
                show_owner(owner)
            )),
            (None, None) => found.changes.push(format!("{title} is new")),
        }
    }
    let gone = |trigger: &&Arc<Trigger>| new.triggers.iter().all(|other| other.name != trigger.name);
    for trigger in old.triggers.iter().filter(gone) {
        found.changes.push(format!("trigger \"{}\" is removed", trigger.name));
    }
}

fn same_trigger(title: &str, old: &Trigger, new: &Trigger, found: &mut Found) {
    found.refuse(old.id, new.id, |old, new| {
        format!("{title} changes its id from {old} to {new}: stored states have the old one, keep it")
    });
    found.refuse(&old.view.name, &new.view.name, |old, new| {
        format!("{title} moves from view \"{old}\" to \"{new}\": define a new trigger for that")
    });
    if new.version < old.version {
        let (old, new) = (old.version, new.version);
        found.reasons.push(format!("{title} goes back from version {old} to {new}: give it a new version"));
    } else if old.version == new.version {
        found.refuse(old.meaning(), new.meaning(), |_, _| {
            format!(
                "{title} changes its rules under version {}: make version {}",
                new.version,
                new.version + 1
            )
        });
    }
    found.change(old.version, new.version, |old, new| format!("{title}: version {old} becomes {new}"));
    found.change(&old.edges_topic, &new.edges_topic, |old, new| {
        format!("{title}: edges go to {new}, no longer to {old}")
    });
}
