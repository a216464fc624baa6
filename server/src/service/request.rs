//! The checks of a read: entities, selection of views and fields, moment, format. What passes is a `Selection` that the
//! rest works with without looking at names again. Called by `read` and `history`; knows definitions, not shards.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::get_features_request::Selection as Asked;
use forebay_proto::v1::{Format, GetFeaturesRequest, ViewSelection};
use tonic::Status;

use super::errors::invalid;
use crate::definitions::{Definitions, FeatureService, View, diagnoses};
use crate::ingest::decode::MAX_ENTITY_BYTES;

/// Longer names are not looked up.
const MAX_NAME_BYTES: usize = 255;

/// A view to read, with its wanted fields (indices into its `fields`) for typed answers.
#[derive(Debug, Clone)]
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
    check_name("view", name)?;
    definitions.view(name).map_err(|unknown| invalid(unknown.0))
}

/// Refuses views that only this server writes.
pub(super) fn check_written_by_users(view: &View) -> Result<(), Status> {
    match view.name.starts_with(diagnoses::PREFIX) {
        true => {
            Err(invalid(format!("view {:?} is the server's own: the Diagnoses service writes it", view.name)))
        }
        false => Ok(()),
    }
}

/// Refuses names that are longer than any name: looking for what is near them would take long.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Status> {
    match name.len() {
        0 => Err(invalid(format!("{what}: its name is empty"))),
        1..=MAX_NAME_BYTES => Ok(()),
        length => {
            Err(invalid(format!("{what}: a name of {length} bytes; none has more than {MAX_NAME_BYTES}")))
        }
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
    check_name("field", name)?;
    view.field(name).map_err(|unknown| invalid(unknown.0))
}

fn feature_service<'d>(definitions: &'d Definitions, asked: &str) -> Result<&'d FeatureService, Status> {
    check_name("feature_service", asked)?;
    definitions.service(asked).map(Arc::as_ref).map_err(|unknown| invalid(unknown.0))
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
