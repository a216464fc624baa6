//! CreateSnapshot: the features of a moment, read as any read is, written once under the diagnosis id, and with it the
//! entry of the entity's index. What Kafka has first wins; this answers with what won, and takes its entry back if that is
//! another. A retry writes an entry that is missing.

use std::sync::Arc;

use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{
    CreateSnapshotRequest, CreateSnapshotResponse, Format, GetFeaturesRequest, GetFeaturesResponse, Position,
    Snapshot,
};
use tonic::Status;

use super::super::Context;
use super::super::deadline::Deadline;
use super::super::errors::invalid;
use super::super::produce::Outgoing;
use super::super::read::Read;
use super::super::request;
use super::home::{Home, Kept, snapshot_of};
use super::{check_id, erased};
use crate::definitions::FeatureService;
use crate::definitions::diagnoses::{BY_ENTITY, FUTURE_MS, SNAPSHOTS};
use crate::diagnosis::entry::OfEntity;
use crate::diagnosis::{snapshot, value};

/// How often features are read for a vector that has them all; a frame is published within microseconds.
const READINGS: usize = 10;

/// Answers when the snapshot is readable.
pub(in crate::service) async fn create(
    context: &Arc<Context>,
    request: CreateSnapshotRequest,
    deadline: Deadline,
) -> Result<CreateSnapshotResponse, Status> {
    deadline.check()?;
    let home = Home::of(context)?;
    check(&home, &request)?;
    match home.snapshot(&request.diagnosis_id, deadline).await? {
        Kept::Nothing => write(&home, &request, deadline).await,
        Kept::Erased => Err(erased(&request.diagnosis_id)),
        Kept::Written(kept) => {
            let kept = snapshot_of(&request.diagnosis_id, kept)?;
            existing(&home, &request, kept, deadline).await
        }
    }
}

/// Answers with what would be kept.
pub(in crate::service) async fn assembled(
    context: &Arc<Context>,
    request: CreateSnapshotRequest,
    deadline: Deadline,
) -> Result<Snapshot, Status> {
    deadline.check()?;
    let home = Home::of(context)?;
    check(&home, &request)?;
    assemble(&home, &request, deadline).await
}

fn check(home: &Home, request: &CreateSnapshotRequest) -> Result<(), Status> {
    check_id(&request.diagnosis_id)?;
    request::check_entity(&"entity", &request.entity)?;
    request::check_time("known_at_ms", request.known_at_ms)?;
    match request.as_of_ms {
        Some(as_of_ms) => home.check_moment("as_of_ms", as_of_ms, FUTURE_MS),
        None => Ok(()),
    }
}

async fn write(
    home: &Home,
    request: &CreateSnapshotRequest,
    deadline: Deadline,
) -> Result<CreateSnapshotResponse, Status> {
    let (id, snapshot) = match &request.assembled {
        Some(assembled) => (&request.diagnosis_id, foreign(request, assembled)?),
        None => (&request.diagnosis_id, assemble(home, request, deadline).await?),
    };
    let record = home.record(SNAPSHOTS, id.as_bytes(), snapshot::document(&snapshot), snapshot.as_of_ms)?;
    let positions = home.write(&[record, home.entry(&snapshot)?], deadline).await?;
    match home.snapshot(id, deadline).await? {
        Kept::Erased => {
            home.take_back(&snapshot, None, deadline).await?;
            Err(erased(id))
        }
        Kept::Nothing => Err(Status::unavailable(format!(
            "snapshot {id:?} is in Kafka at {positions:?} and was not taken in; see the lane's dead letters, or ask again"
        ))),
        Kept::Written(kept) if positions[0].offset == kept.offset => {
            Ok(CreateSnapshotResponse { snapshot: Some(snapshot_of(id, kept)?), existed: false })
        }
        Kept::Written(kept) => {
            // Somebody else's came first.
            let kept = snapshot_of(id, kept)?;
            home.take_back(&snapshot, Some(&kept), deadline).await?;
            existing(home, request, kept, deadline).await
        }
    }
}

/// What was there before is the answer, if it is what was asked for.
async fn existing(
    home: &Home,
    request: &CreateSnapshotRequest,
    kept: Snapshot,
    deadline: Deadline,
) -> Result<CreateSnapshotResponse, Status> {
    let differences = differences(request, &kept);
    if !differences.is_empty() {
        return Err(Status::already_exists(format!(
            "diagnosis {:?} has a snapshot of something else: {}",
            kept.diagnosis_id,
            differences.join("; ")
        )));
    }
    let (id, entity) = (&kept.diagnosis_id, &kept.entity);
    if !home.is_indexed(BY_ENTITY, entity, kept.as_of_ms, id, deadline).await? {
        home.write(&[home.entry(&kept)?], deadline).await?;
    }
    Ok(CreateSnapshotResponse { snapshot: Some(kept), existed: true })
}

/// What the kept snapshot has other than the request asks for. A moment or a version that the request leaves open is
/// whatever it was.
fn differences(request: &CreateSnapshotRequest, kept: &Snapshot) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, is: &dyn std::fmt::Debug, asked: &dyn std::fmt::Debug| {
        differences.push(format!("its {what} is {is:?}, asked for was {asked:?}"));
    };
    if request.entity != kept.entity {
        differ("entity", &kept.entity, &request.entity);
    }
    let service = match request.feature_service.contains('@') {
        true => kept.feature_service.as_str(),
        false => kept.feature_service.split('@').next().unwrap_or_default(),
    };
    if request.feature_service != service {
        differ("feature_service", &kept.feature_service, &request.feature_service);
    }
    if let Some(as_of_ms) = request.as_of_ms.filter(|as_of_ms| *as_of_ms != kept.as_of_ms) {
        differ("as_of_ms", &kept.as_of_ms, &as_of_ms);
    }
    if request.known_at_ms != kept.known_at_ms {
        differ("known_at_ms", &kept.known_at_ms, &request.known_at_ms);
    }
    differences
}

/// What another server has read, if that is what is asked for.
fn foreign(request: &CreateSnapshotRequest, assembled: &Snapshot) -> Result<Snapshot, Status> {
    let mut differences = differences(request, assembled);
    if request.diagnosis_id != assembled.diagnosis_id {
        differences.push(format!("its diagnosis_id is {:?}", assembled.diagnosis_id));
    }
    match differences.is_empty() {
        true => Ok(Snapshot { document: Default::default(), ..assembled.clone() }),
        false => Err(invalid(format!("assembled: {}", differences.join("; ")))),
    }
}

/// Reads the features of the moment. What is published while they are read may show a value that is not within the
/// vector noted before: then all is read again, so that a snapshot is what was applied at its vector, no less and no more.
async fn assemble(
    home: &Home,
    request: &CreateSnapshotRequest,
    deadline: Deadline,
) -> Result<Snapshot, Status> {
    let as_of_ms = request.as_of_ms.unwrap_or_else(|| home.context.clock.now_ms());
    for _ in 1..READINGS {
        let snapshot = read(home, request, as_of_ms, deadline).await?;
        if !is_ahead(&snapshot) {
            return Ok(snapshot);
        }
        tokio::task::yield_now().await;
    }
    // Offsets of a log that was recreated may be below those of values taken from the one before.
    read(home, request, as_of_ms, deadline).await
}

/// Whether a value is from beyond the vector.
fn is_ahead(snapshot: &Snapshot) -> bool {
    let topics = snapshot.read_at.iter().flat_map(|vector| &vector.topics);
    let applied = |place: &Position| {
        let topic = topics.clone().find(|topic| topic.topic == place.topic)?;
        let at = topic.partitions.iter().position(|partition| *partition == place.partition)?;
        topic.offsets.get(at).copied()
    };
    let mut places = snapshot.values.iter().filter_map(|value| value.position.as_ref());
    places.any(|place| applied(place).is_none_or(|applied| applied < place.offset))
}

async fn read(
    home: &Home,
    request: &CreateSnapshotRequest,
    as_of_ms: i64,
    deadline: Deadline,
) -> Result<Snapshot, Status> {
    let service = service(home, &request.feature_service)?;
    let feature_service = format!("{}@{}", service.name, service.version);
    let asked = GetFeaturesRequest {
        entities: vec![request.entity.clone()],
        selection: Some(Selection::FeatureService(feature_service.clone())),
        format: Format::Json.into(),
        as_of_ms: Some(as_of_ms),
        known_at_ms: request.known_at_ms,
        wait_for: request.wait_for.clone(),
        max_staleness_ms: None,
        include_expired: false,
    };
    let mut read = Read::new(&home.context, asked)?.judged_at(as_of_ms);
    if !read.decide(&home.context) {
        read.wait(&home.context, deadline).await;
    }
    let wanted = read.wanted().to_vec();
    let answer = read.answer(&home.context, deadline).await?;
    complete(&answer)?;
    let values = answer.views.iter().zip(&wanted);
    Ok(Snapshot {
        diagnosis_id: request.diagnosis_id.clone(),
        entity: request.entity.clone(),
        feature_service,
        as_of_ms,
        known_at_ms: request.known_at_ms,
        values: values.map(|(columns, of)| value::of_row(columns, &of.view, &of.fields)).collect(),
        read_at: answer.read_at,
        cause: request.cause.clone(),
        document: Default::default(),
    })
}

fn service<'h>(home: &'h Home, name: &str) -> Result<&'h FeatureService, Status> {
    request::check_name("feature_service", name)?;
    home.definitions.service(name).map(Arc::as_ref).map_err(|unknown| invalid(unknown.0))
}

/// Refuses an answer that lacks a value a shard could not give.
fn complete(answer: &GetFeaturesResponse) -> Result<(), Status> {
    let of = |shard: &forebay_proto::v1::ShardUnavailable| {
        format!("lane {}, partition {}: {}", shard.lane, shard.partition, shard.reason)
    };
    let missing: Vec<String> = answer.unavailable.iter().map(of).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Status::unavailable(format!("nothing was kept: {}", missing.join("; ")))),
    }
}

impl Home {
    async fn snapshot(&self, id: &str, deadline: Deadline) -> Result<Kept, Status> {
        let [kept] = self.kept([SNAPSHOTS], id.as_bytes(), &self.terms(None)?, deadline).await?;
        Ok(kept)
    }

    /// The entry of an entity's index.
    fn entry(&self, snapshot: &Snapshot) -> Result<Outgoing, Status> {
        let document = OfEntity::of(snapshot).document();
        self.record(BY_ENTITY, &snapshot.entity, document, snapshot.as_of_ms)
    }

    /// Makes good the entry of a snapshot that was not kept, because another was, or none.
    async fn take_back(
        &self,
        lost: &Snapshot,
        kept: Option<&Snapshot>,
        deadline: Deadline,
    ) -> Result<(), Status> {
        let is_listed_there =
            |kept: &&Snapshot| (&kept.entity, kept.as_of_ms) == (&lost.entity, lost.as_of_ms);
        let instead = match kept.filter(is_listed_there) {
            Some(kept) if OfEntity::of(kept) == OfEntity::of(lost) => return Ok(()),
            Some(kept) => self.entry(kept)?,
            None => self.marker(&lost.entity, &lost.diagnosis_id, lost.as_of_ms)?,
        };
        self.write(&[instead], deadline).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use forebay_proto::v1::{OffsetVector, SnapshotValue, TopicOffsets};

    use super::*;

    #[test]
    fn p12_a_value_from_beyond_the_vector_is_seen() {
        let ahead = |partition: u32, offset: i64| {
            let place = Position { topic: "points".into(), partition, offset };
            let topic =
                TopicOffsets { topic: "points".into(), partitions: vec![0, 2], offsets: vec![5, 9891] };
            is_ahead(&Snapshot {
                read_at: Some(OffsetVector { topics: vec![topic] }),
                values: vec![
                    SnapshotValue::default(),
                    SnapshotValue { position: Some(place), ..SnapshotValue::default() },
                ],
                ..Snapshot::default()
            })
        };
        assert_eq!([ahead(2, 9891), ahead(2, 9892), ahead(0, 6), ahead(0, 5)], [false, true, true, false]);
        assert!(ahead(1, 0), "a partition of which nothing had been applied");
    }
}
