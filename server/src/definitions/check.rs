//! What definitions say of each other: names and ids used once, lanes, topics and fields that exist. Resolves names to
//! indices and compiles the plans. Called by `load`; when it notes an error its result is not used.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;

use forebay_storage::FieldPlan;

use super::grammar::{Draft, Placed, ServiceDraft, ViewDraft};
use super::{
    Definitions, EventTimeSource, FeatureService, LaneDefinition, Model, ServiceView, View, diagnoses, model,
    trigger,
};
use crate::config::suggest::did_you_mean;
use crate::config::table::Errors;
use crate::json::Plan;

pub(super) fn check(mut draft: Draft, errors: &Errors) -> Definitions {
    let diagnoses = diagnoses::expand(&mut draft, errors);
    if draft.lanes.is_empty() && draft.views.is_empty() {
        errors.add("definitions", "nothing is defined: begin with a [[lane]] and a [[view]]");
    }
    unique(&draft.lanes, errors, |lane| &lane.name, |_| "a lane of this name is defined".into());
    unique(&draft.views, errors, |view| &view.name, |_| "a view of this name is defined".into());
    unique(&draft.views, errors, |view| &view.id, |view| format!("id {} is the id of another view", view.id));
    let same = |service: &ServiceDraft| format!("version {} of this name is defined", service.version);
    unique(&draft.services, errors, |service| (&service.name, service.version), same);
    unique(&draft.triggers, errors, |trigger| &trigger.name, |_| "a trigger of this name is defined".into());
    trigger::unique_ids(&draft.views, &draft.triggers, errors);
    let same = |model: &Model| format!("version {} of this name is defined", model.version);
    unique(&draft.models, errors, |model| (&model.name, model.version), same);
    check_topics(&draft.lanes, errors);
    let views: Vec<_> = draft.views.into_iter().map(|placed| view(placed, &draft.lanes, errors)).collect();
    let view_by_name: HashMap<_, _> =
        views.iter().enumerate().map(|(at, view)| (view.name.clone(), at)).collect();
    let mut definitions = Definitions { views, view_by_name, diagnoses, ..Definitions::default() };
    definitions.lanes = draft.lanes.into_iter().map(|placed| lane(placed.item, &definitions.views)).collect();
    definitions.services =
        draft.services.into_iter().map(|placed| service(placed, &definitions, errors)).collect();
    let triggers = draft.triggers.into_iter();
    definitions.triggers =
        triggers.filter_map(|placed| trigger::check(placed, &definitions, errors)).collect();
    draft.models.iter().for_each(|placed| model::check(placed, &definitions, errors));
    definitions.models = draft.models.into_iter().map(|placed| Arc::new(placed.item)).collect();
    definitions
}

/// Notes each item whose key an earlier one has, and where that is.
fn unique<'t, T, K: Eq + Hash>(
    items: &'t [Placed<T>],
    errors: &Errors,
    key: impl Fn(&'t T) -> K,
    message: impl Fn(&T) -> String,
) {
    let mut first: HashMap<K, &str> = HashMap::new();
    for Placed { place, item } in items {
        match first.get(&key(item)) {
            Some(earlier) => errors.add(place, format_args!("{} already ({earlier})", message(item))),
            None => drop(first.insert(key(item), place)),
        }
    }
}

fn check_topics(lanes: &[Placed<LaneDefinition>], errors: &Errors) {
    let mut lane_of: HashMap<&str, &str> = HashMap::new();
    for Placed { place, item: lane } in lanes {
        for topic in &lane.topics {
            match lane_of.insert(&topic.name, &lane.name) {
                Some(other) if other == lane.name => {
                    errors.add(place, format_args!("topic \"{}\" is listed twice", topic.name));
                }
                Some(other) => {
                    let rule = "a topic belongs to one lane";
                    errors.add(
                        place,
                        format_args!("topic \"{}\" is read by lane \"{other}\": {rule}", topic.name),
                    );
                }
                None => {}
            }
        }
    }
    for Placed { place, item: lane } in lanes {
        if let Some(reader) = lane_of.get(lane.dead_letter_topic.as_str()) {
            let message = format!("\"{}\" is a source topic of lane \"{reader}\"", lane.dead_letter_topic);
            errors.add(
                place,
                format_args!("dead_letter_topic: {message}: dead letters need a topic of their own"),
            );
        }
    }
}

fn view(placed: Placed<ViewDraft>, lanes: &[Placed<LaneDefinition>], errors: &Errors) -> Arc<View> {
    let Placed { place, item: mut draft } = placed;
    let lane = lane_index(&place, &draft, lanes, errors);
    if let Some(at) = lane {
        check_view_topics(&place, &draft, &lanes[at].item, errors);
    }
    twice(&place, "topic", draft.topics.iter(), errors);
    twice(&place, "field", draft.fields.iter().map(|field| &field.name), errors);
    let mut paths = Vec::new();
    if let EventTimeSource::Path { path, .. } = &draft.event_time {
        paths.push(path.clone());
    }
    for field in &mut draft.fields {
        field.slot = paths.len();
        paths.push(field.path.clone());
    }
    Arc::new(View {
        plan: Plan::compile(&paths, draft.avro_json),
        stored: FieldPlan::new(paths, draft.avro_json),
        name: draft.name,
        id: draft.id,
        lane: lane.unwrap_or_default(),
        lane_name: draft.lane,
        entity_kind: draft.entity_kind,
        topics: draft.topics,
        event_time: draft.event_time,
        ttl_ms: draft.ttl_ms,
        max_ttl_ms: draft.max_ttl_ms,
        history: draft.history,
        avro_json: draft.avro_json,
        write_once: draft.write_once,
        fields: draft.fields,
    })
}

fn lane_index(
    place: &str,
    draft: &ViewDraft,
    lanes: &[Placed<LaneDefinition>],
    errors: &Errors,
) -> Option<usize> {
    let found = lanes.iter().position(|lane| lane.item.name == draft.lane);
    if found.is_none() && !draft.lane.is_empty() {
        let hint = did_you_mean(&draft.lane, lanes.iter().map(|lane| lane.item.name.as_str()));
        errors.add(place, format_args!("lane: no lane \"{}\" is defined{hint}", draft.lane));
    }
    found
}

fn check_view_topics(place: &str, draft: &ViewDraft, lane: &LaneDefinition, errors: &Errors) {
    for topic in &draft.topics {
        if !lane.topics.iter().any(|known| known.name == *topic) {
            let hint = did_you_mean(topic, lane.topics.iter().map(|topic| topic.name.as_str()));
            errors.add(place, format_args!("topics: lane \"{}\" has no topic \"{topic}\"{hint}", lane.name));
        }
    }
}

fn twice<T: Display + Eq + Hash>(place: &str, what: &str, names: impl Iterator<Item = T>, errors: &Errors) {
    let mut seen = HashSet::new();
    for name in names {
        let message = format!("{what} \"{name}\" is listed twice");
        if !seen.insert(name) {
            errors.add(place, message);
        }
    }
}

fn lane(mut lane: LaneDefinition, views: &[Arc<View>]) -> Arc<LaneDefinition> {
    for topic in &mut lane.topics {
        let feeds = |view: &&Arc<View>| view.lane_name == lane.name && view.topics.contains(&topic.name);
        topic.views = views.iter().filter(feeds).map(|view| view.name.clone()).collect();
    }
    Arc::new(lane)
}

fn service(placed: Placed<ServiceDraft>, definitions: &Definitions, errors: &Errors) -> Arc<FeatureService> {
    let Placed { place, item } = placed;
    let mut features: Vec<ServiceView> = Vec::new();
    for declared in &item.features {
        match resolve(declared, definitions) {
            Ok((view, fields)) => add_features(&mut features, view, fields),
            Err(message) => errors.add(&place, format_args!("features: {message}")),
        }
    }
    Arc::new(FeatureService { name: item.name, version: item.version, declared: item.features, features })
}

fn add_features(features: &mut Vec<ServiceView>, view: usize, fields: Vec<usize>) {
    let at = features.iter().position(|wanted| wanted.view == view).unwrap_or_else(|| {
        features.push(ServiceView { view, fields: Vec::new() });
        features.len() - 1
    });
    let wanted = &mut features[at].fields;
    for field in fields {
        if !wanted.contains(&field) {
            wanted.push(field);
        }
    }
}

/// "view.field" or "view.*". Both names may have dots in them: every place to split is tried.
fn resolve(declared: &str, definitions: &Definitions) -> Result<(usize, Vec<usize>), String> {
    let splits = declared.match_indices('.').map(|(at, _)| (&declared[..at], &declared[at + 1..]));
    let known = splits.filter_map(|(view, field)| Some((*definitions.view_by_name.get(view)?, field)));
    let mut error = None;
    for (at, field) in known {
        let view = &definitions.views[at];
        match view.field(field) {
            _ if field == "*" => return Ok((at, (0..view.fields.len()).collect())),
            Ok(field) => return Ok((at, vec![field])),
            Err(unknown) => error = Some(format!("\"{declared}\": {unknown}")),
        }
    }
    Err(error.unwrap_or_else(|| match declared.split_once('.') {
        None => format!("expected \"view.field\" or \"view.*\", found \"{declared}\""),
        Some((view, _)) => {
            let names = definitions.views.iter().map(|view| view.name.as_str());
            format!("\"{declared}\": no view \"{view}\" is defined{}", did_you_mean(view, names))
        }
    }))
}
