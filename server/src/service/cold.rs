//! Reads of what is not held in memory: they may wait for the disk, so they run beside the threads that serve
//! connections, a bounded number at a time. `read`, `stream` and `history` first read where they are called, which is
//! enough nearly always; only a read that meets a record that is not in memory is done again here, as a whole.

use std::sync::Arc;

use forebay_storage::{Pinned, ReadError, ShardReader};
use tokio::sync::Semaphore;
use tonic::Status;

use super::Context;
use super::deadline::Deadline;
use super::errors::{data_loss, too_late};

/// The bound on cold reads of this server.
#[derive(Debug)]
pub struct ColdReads(Arc<Semaphore>);

/// How far a read may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// What is in memory.
    Memory,
    /// Everything; it waits for the disk.
    Disk,
}

/// Why a read gave no answer.
#[derive(Debug)]
pub(super) enum Unread {
    /// Something is not in memory: the same read with `Reach::Disk` goes on.
    Cold,
    /// It failed.
    Failed(Status),
}

impl ColdReads {
    /// So many at the same time: enough to keep a good disk busy; each holds a thread that mostly waits.
    pub fn new(at_once: usize) -> Self {
        ColdReads(Arc::new(Semaphore::new(at_once)))
    }
}

#[cfg(test)]
impl ColdReads {
    /// Takes the place of all cold reads that may run.
    pub(super) fn all_at_once(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.clone().try_acquire_many_owned(self.0.available_permits() as u32).expect("none runs")
    }
}

impl Reach {
    pub(super) fn pin(self, reader: &ShardReader) -> Pinned<'_> {
        match self {
            Reach::Memory => reader.pin(),
            Reach::Disk => reader.pin_blocking(),
        }
    }
}

impl From<Status> for Unread {
    fn from(status: Status) -> Unread {
        Unread::Failed(status)
    }
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Unread {
        match error {
            ReadError::Cold => Unread::Cold,
            damaged => Unread::Failed(data_loss(&damaged)),
        }
    }
}

impl Unread {
    /// As a call fails with it.
    pub(super) fn status(self) -> Status {
        match self {
            Unread::Cold => Status::internal("a read that may wait for the disk was refused for that"),
            Unread::Failed(status) => status,
        }
    }
}

/// Does a read here, from memory; if that is not enough, does it again elsewhere, until the deadline.
pub(super) async fn read<A: Send + 'static>(
    context: &Arc<Context>,
    deadline: Deadline,
    read: impl Fn(&Context, Reach) -> Result<A, Unread> + Send + 'static,
) -> Result<A, Status> {
    match read(context, Reach::Memory) {
        Err(Unread::Cold) => {}
        done => return done.map_err(Unread::status),
    }
    let (context, cold) = (context.clone(), context.cold.0.clone());
    let elsewhere = async move {
        let permit = cold.acquire_owned().await;
        let work = move || {
            // Held until it is done, also when nobody waits for it any more.
            let _permit = permit;
            deadline.check()?;
            read(&context, Reach::Disk).map_err(Unread::status)
        };
        tokio::task::spawn_blocking(work).await
    };
    let done = match deadline.give_up() {
        None => elsewhere.await,
        Some(until) => tokio::time::timeout_at(until.into(), elsewhere).await.map_err(|_| {
            too_late("the deadline passed while what is not in memory was read from the disk")
        })?,
    };
    done.unwrap_or_else(|_| Err(Status::internal("a read ended by a mistake of this program")))
}
