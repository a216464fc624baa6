//! The checks of a read: entities, selection of views and fields, moment, format. What passes is a `Selection` that the
//! rest works with without looking at names again. Called by `read` and `history`; knows definitions, not shards.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::get_features_request::Selection as Asked;
use forebay_proto::v1::{Format, GetFeaturesRequest, ViewSelection};
use tonic::Status;

use super::errors::{invalid, unknown};
use crate::definitions::{Definitions, FeatureService, View};

/// The longest entity id, in bytes.
pub(super) const MAX_ENTITY_BYTES: usize = 255;

/// A view to read, with its wanted fields (indices into its `fields`) for typed answers.
#[derive(Debug)]
pub(super) struct Wanted {
    pub view: Arc<View>,
    pub fields: Vec<usize>,
}

/// Which version of a key is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Latest,
    AsOf { event_time_ms: i64, known_at_ms: Option<i64> },
}

/// The views of a request, in its order.
pub(super) fn selection(
    definitions: &Definitions,
    request: &GetFeaturesRequest,
    format: Format,
) -> Result<Vec<Wanted>, Status> {
    match &request.selection {
        None => Err(invalid("selection: name a feature_service, or views")),
        Some(Asked::FeatureService(name)) => of_service(definitions, feature_service(definitions, name)?),
        Some(Asked::Views(selections)) => of_views(definitions, &selections.views, format),
    }
}

fn of_service(definitions: &Definitions, service: &FeatureService) -> Result<Vec<Wanted>, Status> {
    let wanted = |of: &crate::definitions::ServiceView| Wanted {
        view: definitions.views[of.view].clone(),
        fields: of.fields.clone(),
    };
    Ok(service.features.iter().map(wanted).collect())
}

fn of_views(
    definitions: &Definitions,
    selections: &[ViewSelection],
    format: Format,
) -> Result<Vec<Wanted>, Status> {
    if selections.is_empty() {
        return Err(invalid("views: none given; name at least one view"));
    }
    let mut all: Vec<Wanted> = Vec::with_capacity(selections.len().min(definitions.views.len()));
    for selection in selections {
        let view = view(definitions, &selection.view)?;
        if all.iter().any(|wanted| wanted.view.id == view.id) {
            return Err(invalid(format!("views: {:?} is named twice; name each view once", view.name)));
        }
        let fields = fields(view, &selection.fields, format)?;
        all.push(Wanted { view: view.clone(), fields });
    }
    Ok(all)
}

/// The view of a name.
pub(super) fn view<'d>(definitions: &'d Definitions, name: &str) -> Result<&'d Arc<View>, Status> {
    match definitions.view_by_name.get(name) {
        Some(at) => Ok(&definitions.views[*at]),
        None => Err(unknown("view", name, definitions.views.iter().map(|view| view.name.as_str()))),
    }
}

/// Indices of the named fields of a view; none named: all, if they are wanted at all.
pub(super) fn fields(view: &View, names: &[String], format: Format) -> Result<Vec<usize>, Status> {
    if format == Format::Json {
        return match names.first() {
            None => Ok(Vec::new()),
            Some(name) => Err(invalid(format!(
                "fields: {name:?} of view {:?} is named, but format JSON gives whole payloads; ask for format TYPED",
                view.name
            ))),
        };
    }
    if names.is_empty() {
        return Ok((0..view.fields.len()).collect());
    }
    let mut all = Vec::with_capacity(names.len().min(view.fields.len()));
    for name in names {
        let field = field(view, name)?;
        if all.contains(&field) {
            return Err(invalid(format!("fields: {name:?} of view {:?} is named twice", view.name)));
        }
        all.push(field);
    }
    Ok(all)
}

fn field(view: &View, name: &str) -> Result<usize, Status> {
    view.fields.iter().position(|field| field.name == name).ok_or_else(|| {
        let known = view.fields.iter().map(|field| field.name.as_str());
        unknown(&format!("field of view {:?}", view.name), name, known)
    })
}

/// A feature service by "name" (its highest version) or "name@version".
fn feature_service<'d>(definitions: &'d Definitions, asked: &str) -> Result<&'d FeatureService, Status> {
    let (name, version) = match asked.rsplit_once('@') {
        Some((name, version)) => (name, Some(service_version(asked, version)?)),
        None => (asked, None),
    };
    let of_name = || definitions.services.iter().filter(|service| service.name == name);
    let found = match version {
        None => of_name().max_by_key(|service| service.version),
        Some(version) => of_name().find(|service| service.version == version),
    };
    found.map(Arc::as_ref).ok_or_else(|| match of_name().map(|service| service.version).max() {
        Some(highest) => invalid(format!(
            "feature service {name:?} has no version {}; its highest is {highest}",
            version.unwrap_or_default()
        )),
        None => unknown("feature service", name, definitions.services.iter().map(|s| s.name.as_str())),
    })
}

fn service_version(asked: &str, version: &str) -> Result<u32, Status> {
    version.parse().map_err(|_| {
        let shown: String = asked.chars().take(100).collect();
        invalid(format!(
            "feature_service: {shown:?} must be \"name\" or \"name@version\" with a whole number"
        ))
    })
}

/// Refuses too few, too many or unusable entity ids.
pub(super) fn check_entities(entities: &[Bytes], max: usize) -> Result<(), Status> {
    if entities.is_empty() {
        return Err(invalid("entities: none given; name at least one entity"));
    }
    if entities.len() > max {
        return Err(invalid(format!("entities: {} given, at most {max} are allowed", entities.len())));
    }
    entities
        .iter()
        .enumerate()
        .try_for_each(|(i, entity)| check_entity(&format_args!("entities[{i}]"), entity))
}

/// Refuses an unusable entity id; `what` names it.
pub(super) fn check_entity(what: &dyn std::fmt::Display, entity: &[u8]) -> Result<(), Status> {
    match entity.len() {
        0 => Err(invalid(format!("{what}: empty; an entity id has 1 to {MAX_ENTITY_BYTES} bytes"))),
        1..=MAX_ENTITY_BYTES => Ok(()),
        length => {
            Err(invalid(format!("{what}: {length} bytes; an entity id has 1 to {MAX_ENTITY_BYTES} bytes")))
        }
    }
}

/// The format, if it is one.
pub(super) fn format(format: i32) -> Result<Format, Status> {
    Format::try_from(format).map_err(|_| invalid(format!("format: {format} is not JSON (0) or TYPED (1)")))
}

/// Which versions the request is about.
pub(super) fn moment(request: &GetFeaturesRequest) -> Result<Moment, Status> {
    check_time("as_of_ms", request.as_of_ms)?;
    check_time("known_at_ms", request.known_at_ms)?;
    match (request.as_of_ms, request.known_at_ms) {
        (None, None) => Ok(Moment::Latest),
        (Some(event_time_ms), known_at_ms) => Ok(Moment::AsOf { event_time_ms, known_at_ms }),
        (None, Some(_)) => Err(invalid("known_at_ms: only with as_of_ms")),
    }
}

/// Refuses times before the epoch.
pub(super) fn check_time(what: &str, time_ms: Option<i64>) -> Result<(), Status> {
    match time_ms {
        Some(time_ms @ ..0) => {
            Err(invalid(format!("{what}: {time_ms} is negative; it is ms since the epoch")))
        }
        _ => Ok(()),
    }
}
