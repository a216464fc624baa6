//! The lane of diagnoses as the RPCs need it: where a key's shard is, and what is kept of a diagnosis. Knows documents
//! as bytes only, and writes nothing.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::{Diagnosis, OffsetVector, Snapshot};
use forebay_storage::{Kind, Pinned};
use tonic::Status;

use super::super::Context;
use super::super::cold::{self, Unread};
use super::super::deadline::Deadline;
use super::super::read::{NO_LANE, reader_of};
use super::super::wait::{Gate, Terms};
use crate::definitions::diagnoses::{LANE, OUTCOMES, PREDICTIONS, SNAPSHOTS};
use crate::definitions::{Definitions, DiagnosesDefinition, LaneDefinition, View};
use crate::diagnosis::entry::model_key;
use crate::diagnosis::{NotADocument, outcome, prediction, snapshot};
use crate::lane::{Lane, ShardHandle};

const NOT_DEFINED: &str = "this server keeps no diagnoses: add [diagnoses] to its definitions, create the topics with \
                           `forebay topics create`, and restart it";

/// The lane of diagnoses, by the definitions in force when the call came.
#[derive(Clone)]
pub(super) struct Home {
    pub context: Arc<Context>,
    pub definitions: Arc<Definitions>,
    pub lane: Arc<Lane>,
}

/// What a key of a view has.
#[derive(Debug)]
pub(super) enum Kept {
    /// Nothing, or what it had has expired.
    Nothing,
    /// Nothing for now, by an erasure.
    Erased,
    /// A document.
    Written(Document),
}

/// A document as it is stored.
#[derive(Debug)]
pub(super) struct Document {
    pub bytes: Bytes,
    /// Its offset in the one topic of its view, in the key's partition.
    pub offset: i64,
}

impl Home {
    /// FAILED_PRECONDITION if nothing is said of diagnoses.
    pub fn of(context: &Arc<Context>) -> Result<Home, Status> {
        let definitions = context.definitions.load_full();
        if definitions.diagnoses.is_none() {
            return Err(Status::failed_precondition(NOT_DEFINED));
        }
        let no_lane = || Status::unavailable(format!("lane {LANE}: {NO_LANE}"));
        let lane = context.lane(LANE).cloned().ok_or_else(no_lane)?;
        Ok(Home { context: context.clone(), definitions, lane })
    }

    /// What `[diagnoses]` says.
    pub fn settings(&self) -> &DiagnosesDefinition {
        self.definitions.diagnoses.as_ref().expect("looked at when it was made")
    }

    /// A built-in view.
    pub fn view(&self, name: &str) -> &Arc<View> {
        self.definitions.view(name).expect("it comes with [diagnoses]")
    }

    /// The lane's definition in force, with the views its topics feed.
    pub fn lane_definition(&self) -> &LaneDefinition {
        &self.definitions.lanes[self.view(SNAPSHOTS).lane]
    }

    /// The partition of a key.
    pub fn partition(&self, key: &[u8]) -> Result<u32, Status> {
        Ok(self.lane.definition.partitioner.partition(key, self.partitions()?))
    }

    /// How many partitions the lane has.
    pub fn partitions(&self) -> Result<u32, Status> {
        let unknown = || Status::unavailable(format!("lane {LANE}: Kafka has not told its partitions yet"));
        self.lane.partition_count().ok_or_else(unknown)
    }

    /// The key of a model's entries on a partition.
    pub fn model_key(&self, model: &str, partition: u32) -> Result<String, Status> {
        let (count, partitioner) = (self.partitions()?, self.lane.definition.partitioner);
        Ok(model_key(model, partition, |key| partitioner.partition(key, count)))
    }

    /// What a call waits for.
    pub fn terms(&self, wait_for: Option<&OffsetVector>) -> Result<Terms, Status> {
        Terms::new(&self.context, wait_for, None)
    }

    /// The shard of a key, once it may be read.
    pub async fn shard(
        &self,
        key: &[u8],
        terms: &Terms,
        deadline: Deadline,
    ) -> Result<Arc<ShardHandle>, Status> {
        let partition = self.partition(key)?;
        let gate = match terms.gate(&self.lane, partition, 0) {
            Gate::Undecided => {
                let until = deadline.wait_until(self.context.config.read.default_wait_ms);
                terms.wait(&self.context, &self.lane, partition, until).await
            }
            decided => decided,
        };
        match gate {
            Gate::Open(shard) => Ok(shard),
            Gate::Closed(reason) => Err(unavailable(partition, &reason)),
            Gate::Undecided => Err(unavailable(partition, "not looked at")),
        }
    }

    /// What views have of a key.
    pub async fn kept<const N: usize>(
        &self,
        views: [&str; N],
        key: &[u8],
        terms: &Terms,
        deadline: Deadline,
    ) -> Result<[Kept; N], Status> {
        let shard = self.shard(key, terms, deadline).await?;
        let (ids, key) = (views.map(|view| self.view(view).id), key.to_vec());
        let look_at = move |context: &Context, reach: cold::Reach| {
            let now_ms = context.clock.now_ms();
            let mut found = [const { Kept::Nothing }; N];
            for (view, kept) in ids.iter().zip(&mut found) {
                let pin = reach.pin(reader_of(&shard).of(*view));
                *kept = look(&pin, &key, *view, now_ms)?;
                pin.check()?;
            }
            Ok(found)
        };
        cold::read(&self.context, deadline, look_at).await
    }

    /// All that is kept of a diagnosis; nothing if it was erased.
    pub async fn diagnosis(
        &self,
        id: &str,
        terms: &Terms,
        deadline: Deadline,
    ) -> Result<Option<Diagnosis>, Status> {
        let kept = self.kept([SNAPSHOTS, PREDICTIONS, OUTCOMES], id.as_bytes(), terms, deadline).await?;
        let [snapshot, prediction, outcome] = kept;
        if matches!(snapshot, Kept::Erased) {
            return Ok(None);
        }
        let snapshot = snapshot.written().map(|kept| parsed(id, snapshot::parse(kept.bytes))).transpose()?;
        let prediction = prediction.written().map(|kept| parsed(id, prediction::parse(&kept.bytes)));
        let outcome = outcome.written().map(|kept| parsed(id, outcome::parse(&kept.bytes)));
        let (prediction, outcome) = (prediction.transpose()?, outcome.transpose()?);
        let is_empty = snapshot.is_none() && prediction.is_none() && outcome.is_none();
        Ok((!is_empty).then(|| Diagnosis { diagnosis_id: id.to_owned(), snapshot, prediction, outcome }))
    }
}

impl Kept {
    /// The document, if there is one.
    pub fn written(self) -> Option<Document> {
        match self {
            Kept::Written(document) => Some(document),
            Kept::Nothing | Kept::Erased => None,
        }
    }
}

fn look(pin: &Pinned<'_>, key: &[u8], view: u16, now_ms: i64) -> Result<Kept, Unread> {
    let current = pin.latest(key, view)?.filter(|version| version.expiry_ms() > now_ms);
    let Some(version) = current else { return Ok(Kept::Nothing) };
    match version.kind() {
        Kind::Tombstone => Ok(Kept::Erased),
        Kind::Value => {
            let bytes = Bytes::from(version.payload()?.into_owned());
            Ok(Kept::Written(Document { bytes, offset: version.offset() }))
        }
    }
}

/// A stored document as what it is of.
pub(super) fn parsed<T>(id: &str, document: Result<T, NotADocument>) -> Result<T, Status> {
    document.map_err(|error| Status::data_loss(format!("what is stored of diagnosis {id:?} is {error}")))
}

/// The snapshot of a stored document.
pub(super) fn snapshot_of(id: &str, document: Document) -> Result<Snapshot, Status> {
    parsed(id, snapshot::parse(document.bytes))
}

/// Says which shard cannot answer.
pub(super) fn unavailable(partition: u32, reason: &str) -> Status {
    Status::unavailable(format!("lane {LANE}, partition {partition}: {reason}"))
}
