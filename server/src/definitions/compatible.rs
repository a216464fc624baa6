//! What may change while the server runs, and why the rest may not. Called when definitions are reloaded, or come from
//! the registry.

use super::{Definitions, FeatureService, Field, LaneDefinition, View};
use super::{model, trigger};
use crate::config::units::show_duration;

/// The changes from `old` to `new`, one sentence each; or every reason why they cannot be made in a running server.
pub fn compatible(old: &Definitions, new: &Definitions) -> Result<Vec<String>, Vec<String>> {
    let found = Found::between(old, new);
    let reasons: Vec<String> = found.restart.into_iter().chain(found.reasons).collect();
    if reasons.is_empty() { Ok(found.changes) } else { Err(reasons) }
}

/// What differs, one sentence each.
#[derive(Debug, Default)]
pub struct Found {
    /// What can be taken up at once.
    pub changes: Vec<String>,
    /// What a restart takes up.
    pub restart: Vec<String>,
    /// What would break stored data or a reader.
    pub reasons: Vec<String>,
}

impl Found {
    /// Everything that differs from `old` to `new`.
    pub fn between(old: &Definitions, new: &Definitions) -> Found {
        let mut found = Found::default();
        lanes(old, new, &mut found);
        views(old, new, &mut found);
        services(old, new, &mut found);
        trigger::compatible(old, new, &mut found);
        model::compatible(old, new, &mut found);
        found
    }

    /// Notes what takes a restart if there is a change.
    fn restart<T: PartialEq>(&mut self, old: T, new: T, sentence: impl FnOnce(T, T) -> String) {
        if old != new {
            self.restart.push(sentence(old, new));
        }
    }

    /// Notes a change if there is one.
    pub fn change<T: PartialEq>(&mut self, old: T, new: T, sentence: impl FnOnce(T, T) -> String) {
        if old != new {
            self.changes.push(sentence(old, new));
        }
    }

    /// Notes a reason if there is a change.
    pub fn refuse<T: PartialEq>(&mut self, old: T, new: T, sentence: impl FnOnce(T, T) -> String) {
        if old != new {
            self.reasons.push(sentence(old, new));
        }
    }
}

fn lanes(old: &Definitions, new: &Definitions, found: &mut Found) {
    let names = |definitions: &Definitions| definitions.lanes.iter().map(|lane| lane.name.clone()).collect();
    found.restart::<Vec<String>>(names(old), names(new), |old, new| {
        let (old, new) = (old.join(", "), new.join(", "));
        format!("the lanes change from {old} to {new}: restart the server to add, remove or reorder lanes")
    });
    for lane in &old.lanes {
        if let Ok(now) = new.lane(&lane.name) {
            found.restart(without_views(lane), without_views(now), |old, new| {
                format!(
                    "lane \"{}\" changes its {}: restart the server for that",
                    old.name,
                    what_differs(&old, &new)
                )
            });
        }
    }
}

/// Which views a topic feeds is the views' matter.
fn without_views(lane: &LaneDefinition) -> LaneDefinition {
    let mut lane = lane.clone();
    lane.topics.iter_mut().for_each(|topic| topic.views.clear());
    lane
}

fn what_differs(old: &LaneDefinition, new: &LaneDefinition) -> String {
    let settings = [
        ("topics", old.topics != new.topics),
        ("partitioner", old.partitioner != new.partitioner),
        ("strict_partition", old.strict_partition != new.strict_partition),
        ("dead_letter_topic", old.dead_letter_topic != new.dead_letter_topic),
        ("threads", old.threads != new.threads),
        ("nice", old.nice != new.nice),
        ("max_value", old.max_value_bytes != new.max_value_bytes),
        ("future_bound", old.future_bound_ms != new.future_bound_ms),
        ("disk", old.disk_bytes != new.disk_bytes),
        ("allowed_lateness", old.allowed_lateness_ms != new.allowed_lateness_ms),
    ];
    settings.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn views(old: &Definitions, new: &Definitions, found: &mut Found) {
    let taken = old.ids_taken();
    for view in &new.views {
        // A view that comes back under the id it had is the same view.
        match (old.view(&view.name), taken.get(&view.id).filter(|name| **name != view.name)) {
            (Ok(before), _) => same_view(before, view, found),
            (Err(_), Some(before)) => found.reasons.push(format!(
                "view \"{}\" takes id {}, which is in the stored records of {}: give it an id of its own",
                view.name,
                view.id,
                trigger::show_owner(before)
            )),
            (Err(_), None) => found.changes.push(format!("view \"{}\" is new", view.name)),
        }
    }
    for view in old.views.iter().filter(|view| new.view(&view.name).is_err()) {
        found.changes.push(format!("view \"{}\" is removed: its data points become dead letters", view.name));
    }
}

fn same_view(old: &View, new: &View, found: &mut Found) {
    let name = &new.name;
    let new_view = "define a new view for that";
    found.refuse(old.id, new.id, |old, new| {
        format!(
            "view \"{name}\" changes its id from {old} to {new}: stored records have the old one, keep it"
        )
    });
    found.refuse(&old.lane_name, &new.lane_name, |old, new| {
        format!("view \"{name}\" moves from lane \"{old}\" to \"{new}\": {new_view}")
    });
    found.refuse(&old.entity_kind, &new.entity_kind, |old, new| {
        format!("view \"{name}\" changes its entity from \"{old}\" to \"{new}\": {new_view}")
    });
    found.refuse(old.event_time.describe(), new.event_time.describe(), |old, new| {
        format!("view \"{name}\" changes its event_time from \"{old}\" to \"{new}\": {new_view}")
    });
    found.refuse(old.avro_json, new.avro_json, |old, new| {
        format!(
            "view \"{name}\" changes avro_json from {old} to {new}, which stored records are not: {new_view}"
        )
    });
    view_settings(old, new, found);
    fields(old, new, found);
}

fn view_settings(old: &View, new: &View, found: &mut Found) {
    let name = &new.name;
    let later = "for data points that arrive from now on";
    found.change(old.ttl_ms, new.ttl_ms, |old, new| {
        format!("view \"{name}\": ttl {} becomes {} {later}", show_duration(old), show_duration(new))
    });
    found.change(old.max_ttl_ms, new.max_ttl_ms, |old, new| {
        format!("view \"{name}\": max_ttl {} becomes {} {later}", show_duration(old), show_duration(new))
    });
    found.change(old.history.as_str(), new.history.as_str(), |old, new| {
        format!("view \"{name}\": history \"{old}\" becomes \"{new}\" {later}")
    });
    found.change(old.topics.join(", "), new.topics.join(", "), |old, new| {
        format!("view \"{name}\": topics {old} become {new} {later}")
    });
}

fn fields(old: &View, new: &View, found: &mut Found) {
    for field in &new.fields {
        match old.fields.iter().find(|before| before.name == field.name) {
            Some(before) => same_field(&new.name, before, field, found),
            None => found.changes.push(format!("view \"{}\": field \"{}\" is new", new.name, field.name)),
        }
    }
    for field in old.fields.iter().filter(|field| new.field(&field.name).is_err()) {
        found.changes.push(format!("view \"{}\": field \"{}\" is removed", new.name, field.name));
    }
}

fn same_field(view: &str, old: &Field, new: &Field, found: &mut Found) {
    let name = &new.name;
    found.refuse(old.field_type.as_str(), new.field_type.as_str(), |old, new| {
        format!("view \"{view}\": field \"{name}\" changes its type from {old} to {new}: define a new field for that")
    });
    found.refuse(old.path.join("."), new.path.join("."), |old, new| {
        format!("view \"{view}\": field \"{name}\" changes its path from {old} to {new}: define a new field for that")
    });
    found.change(old.default_json(), new.default_json(), |old, new| {
        let shown = |text: String| if text.is_empty() { "nothing".into() } else { text };
        format!(
            "view \"{view}\": the default of field \"{name}\" changes from {} to {}",
            shown(old),
            shown(new)
        )
    });
}

fn services(old: &Definitions, new: &Definitions, found: &mut Found) {
    let title =
        |service: &FeatureService| format!("feature service \"{}@{}\"", service.name, service.version);
    let of = |definitions: &Definitions, title: &FeatureService| {
        let same = |service: &FeatureService| service.name == title.name && service.version == title.version;
        definitions.services.iter().find(|service| same(service)).cloned()
    };
    for service in &new.services {
        match of(old, service) {
            None => found.changes.push(format!("{} is new", title(service))),
            Some(before) if before.declared != service.declared => found.reasons.push(format!(
                "{} changes its features: those who ask for it rely on them, make version {}",
                title(service),
                service.version.saturating_add(1)
            )),
            Some(before) => service_fields(old, &before, new, service, found),
        }
    }
    for service in old.services.iter().filter(|service| of(new, service).is_none()) {
        found.changes.push(format!("{} is removed", title(service)));
    }
}

/// The same "view.*" may be other fields now: more are a change, fewer are refused.
fn service_fields(
    old: &Definitions,
    before: &FeatureService,
    new: &Definitions,
    after: &FeatureService,
    found: &mut Found,
) {
    let (had, has) = (old.feature_names(before), new.feature_names(after));
    let title = format!("feature service \"{}@{}\"", after.name, after.version);
    for lost in had.iter().filter(|feature| !has.contains(feature)) {
        found
            .reasons
            .push(format!("{lost} is removed while {title} uses it: remove the service version first"));
    }
    for gained in has.iter().filter(|feature| !had.contains(feature)) {
        found.changes.push(format!("{title} has {gained} too"));
    }
}
