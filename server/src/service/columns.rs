//! The rows of one view in the making: status, times, position and value of each version, column by column. Filled by
//! `read` in any order of rows and by `history` from the newest on; knows versions, not shards or requests.

use std::cell::RefCell;

use bytes::Bytes;
use forebay_proto::v1::{Format, Status as ValueStatus, ViewColumns};
use forebay_storage::{Kind, ReadError, TopicLog, Version};
use tonic::Status;

use super::errors::data_loss;
use super::request::Wanted;
use super::typed::FieldColumns;

/// How versions are judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    /// The time it is: what is long past its expiry by then may be gone.
    pub now_ms: i64,
    /// The moment at which it is judged what has expired; mostly the same.
    pub at_ms: i64,
    /// How long past its expiry a version is still told of.
    pub lateness_ms: i64,
    /// Give values of EXPIRED versions.
    pub include_expired: bool,
}

impl Judge {
    /// What is known of a value whose newest version is this one.
    pub(super) fn status(&self, version: &Version<'_>) -> ValueStatus {
        let expiry_ms = version.expiry_ms();
        match version.kind() {
            _ if self.now_ms.max(self.at_ms) >= expiry_ms.saturating_add(self.lateness_ms) => {
                ValueStatus::NotFound
            }
            Kind::Tombstone => ValueStatus::Deleted,
            Kind::Value if self.at_ms >= expiry_ms => ValueStatus::Expired,
            Kind::Value => ValueStatus::Present,
        }
    }

    /// Whether the value itself is given.
    fn gives(&self, status: ValueStatus) -> bool {
        status == ValueStatus::Present || (status == ValueStatus::Expired && self.include_expired)
    }
}

/// How many bytes an answer may still take. Without it a small request (one large value asked 10,000 times)
/// would make an answer that fills the memory.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    /// Room for `limit` bytes.
    pub(super) fn new(limit: usize) -> Budget {
        Budget { left: limit, limit }
    }

    /// Bytes that may still be spent.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Status> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                return Err(Status::resource_exhausted(format!(
                    "the answer would have more than {} bytes; ask for fewer entities, views or versions at once",
                    self.limit
                )));
            }
        }
        Ok(())
    }
}

/// About what a row takes in an answer and in memory, its value aside.
const ROW_BYTES: usize = 48;

/// About what a field of a row takes, its text aside.
const CELL_BYTES: usize = 12;

fn row_bytes(wanted: &Wanted, format: Format) -> usize {
    match format {
        Format::Json => ROW_BYTES,
        Format::Typed => ROW_BYTES + CELL_BYTES * wanted.fields.len(),
    }
}

/// Where a version is from, to name its position.
#[derive(Clone, Copy)]
pub(super) struct Origin<'s> {
    /// The shard's topics by number.
    pub topics: &'s [TopicLog],
    /// The shard's partition.
    pub partition: u32,
}

/// The columns of one view.
pub(super) struct Columns {
    out: ViewColumns,
    typed: Option<FieldColumns>,
    row_bytes: usize,
}

thread_local! {
    /// The payload or the field at hand: put together here, where there is room already, and copied at its size.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Room for text that a thread keeps.
const KEPT_BYTES: usize = 256 << 10;

impl Columns {
    /// `rows` rows that are NOT_FOUND.
    pub(super) fn new(
        wanted: &Wanted,
        format: Format,
        rows: usize,
        budget: &mut Budget,
    ) -> Result<Columns, Status> {
        let row_bytes = row_bytes(wanted, format);
        budget.spend(row_bytes.saturating_mul(rows))?;
        let typed = (format == Format::Typed).then(|| FieldColumns::new(wanted, rows));
        let json_rows = if typed.is_none() { rows } else { 0 };
        let out = ViewColumns {
            view: wanted.view.name.clone(),
            status: vec![ValueStatus::NotFound as i32; rows],
            event_time_ms: vec![0; rows],
            ingest_time_ms: vec![0; rows],
            expiry_ms: vec![0; rows],
            topics: Vec::new(),
            topic_index: vec![0; rows],
            partition: vec![0; rows],
            offset: vec![0; rows],
            json: vec![Bytes::new(); json_rows],
            fields: Vec::new(),
        };
        Ok(Columns { out, typed, row_bytes })
    }

    /// Adds a row that is NOT_FOUND and gives its index.
    pub(super) fn add_row(&mut self, budget: &mut Budget) -> Result<usize, Status> {
        budget.spend(self.row_bytes)?;
        let out = &mut self.out;
        out.status.push(ValueStatus::NotFound as i32);
        for times in [&mut out.event_time_ms, &mut out.ingest_time_ms, &mut out.expiry_ms, &mut out.offset] {
            times.push(0);
        }
        out.topic_index.push(0);
        out.partition.push(0);
        match &mut self.typed {
            Some(typed) => typed.add_row(),
            None => out.json.push(Bytes::new()),
        }
        Ok(out.status.len() - 1)
    }

    /// Nothing can be said of this row.
    pub(super) fn set_unavailable(&mut self, row: usize) {
        self.out.status[row] = ValueStatus::Unavailable as i32;
    }

    /// Fills a row from the version that answers it, as far as its status lets it be seen.
    pub(super) fn set(
        &mut self,
        row: usize,
        version: &Version<'_>,
        origin: Origin<'_>,
        judge: &Judge,
        budget: &mut Budget,
    ) -> Result<(), Status> {
        let status = judge.status(version);
        if status == ValueStatus::NotFound {
            return Ok(());
        }
        self.out.status[row] = status as i32;
        self.set_place(row, version, origin);
        if judge.gives(status) {
            let bytes = self.set_value(row, version).map_err(|error| data_loss(&error))?;
            budget.spend(bytes)?;
        }
        Ok(())
    }

    fn set_place(&mut self, row: usize, version: &Version<'_>, origin: Origin<'_>) {
        let topic = &origin.topics[usize::from(version.topic().0)].name;
        self.out.topic_index[row] = self.topic_index(topic);
        self.out.event_time_ms[row] = version.event_time_ms();
        self.out.ingest_time_ms[row] = version.ingest_time_ms();
        self.out.expiry_ms[row] = version.expiry_ms();
        self.out.partition[row] = origin.partition;
        self.out.offset[row] = version.offset();
    }

    /// A view has a handful of topics: looking along the list is quicker than a map.
    fn topic_index(&mut self, name: &str) -> u32 {
        let topics = &mut self.out.topics;
        let at = topics.iter().position(|topic| topic == name).unwrap_or_else(|| {
            topics.push(name.to_owned());
            topics.len() - 1
        });
        at as u32
    }

    /// Gives how many bytes of the answer the value takes.
    fn set_value(&mut self, row: usize, version: &Version<'_>) -> Result<usize, ReadError> {
        TEXT.with_borrow_mut(|text| {
            text.clear();
            text.shrink_to(KEPT_BYTES);
            if let Some(typed) = &mut self.typed {
                return typed.set(row, version, text);
            }
            version.payload_into(text)?;
            self.out.json[row] = Bytes::copy_from_slice(text);
            Ok(text.len())
        })
    }

    /// The finished columns.
    pub(super) fn finish(mut self) -> ViewColumns {
        if let Some(typed) = self.typed {
            self.out.fields = typed.finish(&self.out.status);
        }
        self.out
    }
}
