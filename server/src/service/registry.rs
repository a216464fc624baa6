//! The Registry service: definitions are checked against those in force, written to the registry's topic, and waited for
//! until this server has taken them up. What is in force is `definitions::InForce`'s matter, reading the topic
//! `crate::registry`'s.

use std::sync::Arc;

use forebay_proto::v1::registry_server::Registry as Service;
use forebay_proto::v1::{
    ApplyRequest, ApplyResponse, Definition, DefinitionFile, ListDefinitionsRequest, ListDefinitionsResponse,
    RegistryStatus, RemoveRequest, RemoveResponse,
};
use tokio::time::timeout_at;
use tonic::{Request, Response, Status};

use super::Context;
use super::deadline::Deadline;
use super::errors::{invalid, too_late};
use super::produce::{Outgoing, produce};
use super::request::check_name;
use crate::definitions::pieces::{self, KINDS, Key, Piece};
use crate::definitions::{Checked, Refusal, Source};
use crate::registry::{Registry, encode};

/// How long taking up may take when the call has no deadline, in ms.
const DEFAULT_PATIENCE_MS: u64 = 30_000;

/// Answers Registry calls.
pub(super) struct RegistryService {
    context: Arc<Context>,
}

impl RegistryService {
    pub(super) fn new(context: Arc<Context>) -> RegistryService {
        RegistryService { context }
    }
}

#[tonic::async_trait]
impl Service for RegistryService {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        apply(&self.context, request.into_inner(), deadline).await.map(Response::new)
    }

    async fn list_definitions(
        &self,
        request: Request<ListDefinitionsRequest>,
    ) -> Result<Response<ListDefinitionsResponse>, Status> {
        list(&self.context, &request.into_inner()).map(Response::new)
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        remove(&self.context, request.into_inner(), deadline).await.map(Response::new)
    }
}

async fn apply(
    context: &Context,
    request: ApplyRequest,
    deadline: Deadline,
) -> Result<ApplyResponse, Status> {
    deadline.check()?;
    let registry = configured(context)?;
    let asked = asked(&request.files)?;
    let _one_at_a_time = context.applying.lock().await;
    let mut checked = context.in_force.check_apply(&registry.latest(), &asked).map_err(refused)?;
    mend(registry, &mut checked, asked.into_iter().map(|(_, piece)| (piece.key.clone(), Some(piece))));
    let offset = match request.dry_run {
        true => None,
        false => write(context, registry, &checked, deadline).await?,
    };
    Ok(ApplyResponse { changes: checked.changes, diff: checked.diff, offset })
}

async fn remove(
    context: &Context,
    request: RemoveRequest,
    deadline: Deadline,
) -> Result<RemoveResponse, Status> {
    deadline.check()?;
    let registry = configured(context)?;
    check_name("name", &request.name)?;
    let key = Key::new(&request.kind, &request.name, request.version).map_err(invalid)?;
    let _one_at_a_time = context.applying.lock().await;
    let latest = registry.latest();
    if latest.iter().all(|piece| piece.key != key) && !registry.is_unreadable(&key.path()) {
        return Err(not_there(context, &key));
    }
    let mut checked = context.in_force.check_removal(&latest, &key).map_err(refused)?;
    mend(registry, &mut checked, [(key, None)].into_iter());
    if !request.dry_run {
        write(context, registry, &checked, deadline).await?;
    }
    Ok(RemoveResponse { changes: checked.changes })
}

/// What the topic holds that cannot be read is written over, even if nothing changes by that.
fn mend(registry: &Registry, checked: &mut Checked, asked: impl Iterator<Item = (Key, Option<Piece>)>) {
    for (key, piece) in asked {
        let is_written = checked.writes.iter().any(|(written, _)| *written == key);
        if !is_written && registry.is_unreadable(&key.path()) {
            checked.changes.push(format!("{key}: takes the place of a record that cannot be read"));
            checked.writes.push((key, piece));
        }
    }
}

fn not_there(context: &Context, key: &Key) -> Status {
    match context.in_force.sources().into_iter().find(|source| source.piece.key == *key) {
        Some(Source { source, .. }) => Status::failed_precondition(format!(
            "{key} is defined in {source}: take it out there, and have the servers reload"
        )),
        None => Status::not_found(format!("{key} is not in the registry")),
    }
}

fn configured(context: &Context) -> Result<&Registry, Status> {
    context.registry.as_deref().ok_or_else(|| {
        Status::failed_precondition(
            "this server has no registry: name its topic in [registry] of the configuration, create it with \
             `forebay topics create`, and restart",
        )
    })
}

fn asked(files: &[DefinitionFile]) -> Result<Vec<(String, Piece)>, Status> {
    let mut asked = Vec::new();
    for file in files {
        let pieces = pieces::split(&file.name, &file.toml).map_err(|errors| invalid(errors.to_string()))?;
        asked.extend(pieces.into_iter().map(|piece| (file.name.clone(), piece)));
    }
    match asked.is_empty() {
        true => Err(invalid("files: there is no definition in them")),
        false => Ok(asked),
    }
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Wrong(why) => invalid(why),
        Refusal::Breaks(why) => Status::failed_precondition(why),
    }
}

/// Writes what differs and waits until it is taken up here; gives the offset of the last record.
async fn write(
    context: &Context,
    registry: &Registry,
    checked: &Checked,
    deadline: Deadline,
) -> Result<Option<i64>, Status> {
    let record = |(key, piece): &(Key, Option<Piece>)| Outgoing {
        topic: registry.topic.clone(),
        partition: 0,
        key: key.path().into(),
        payload: piece.as_ref().map(|piece| encode(piece).into()),
        timestamp_ms: None,
        headers: Vec::new(),
    };
    let records: Vec<_> = checked.writes.iter().map(record).collect();
    let positions = produce(context, &records, deadline).await?;
    let Some(last) = positions.iter().map(|position| position.offset).max() else { return Ok(None) };
    let until = deadline.wait_until(DEFAULT_PATIENCE_MS);
    timeout_at(until.into(), registry.taken_up_to(last + 1)).await.map_err(|_| {
        too_late(format!("written at offset {last} of {}, and not yet read back here", registry.topic))
    })?;
    let held = checked.writes.iter().filter_map(|(key, _)| registry.why_held(&key.path()));
    let held: Vec<String> = held.collect();
    match held.is_empty() || checked.restart {
        true => Ok(Some(last)),
        false => Err(Status::aborted(format!(
            "written at offset {last} of {}, and held back: something else changed meanwhile; apply it again, mended\n{}",
            registry.topic,
            held.join("\n")
        ))),
    }
}

fn list(context: &Context, request: &ListDefinitionsRequest) -> Result<ListDefinitionsResponse, Status> {
    if !request.kind.is_empty() && KINDS.iter().all(|kind| kind.name != request.kind) {
        let names = KINDS.map(|kind| kind.name).join(", ");
        return Err(invalid(format!("kind: no kind {:?}: there are {names}", request.kind)));
    }
    let wanted = |source: &Source| {
        let key = &source.piece.key;
        (request.kind.is_empty() || key.kind == request.kind)
            && (request.name.is_empty() || key.name == request.name)
    };
    let definition = |Source { piece, source }| Definition {
        kind: piece.key.kind.into(),
        name: piece.key.name,
        version: piece.key.version,
        toml: piece.toml,
        source,
    };
    let all = context.in_force.sources().into_iter().filter(wanted).map(definition);
    Ok(ListDefinitionsResponse { definitions: all.collect() })
}

/// How far the registry has been read, if there is one.
pub(super) fn status(context: &Context) -> Option<RegistryStatus> {
    context.registry.as_deref().map(|registry| RegistryStatus {
        topic: registry.topic.clone(),
        offset: registry.offset(),
        reason: registry.trouble().unwrap_or_default(),
        held_back: registry.held_back(),
    })
}
