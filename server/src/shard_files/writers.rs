//! The writers of a shard's classes, as one: a data point goes to its view's class, and every commit brings all classes
//! to the same positions. Owned by the shard's ingest thread.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_storage::{
    CurrentVersion, ExpireReport, FieldPlan, Fit, OpenError, Outcome, Put, ShardWriter, ThinReport,
    TopicIndex, ViewPolicy, WriteError,
};

use super::layout::{Layout, LayoutError};
use super::readers::Readers;

/// Writes a shard. Dropping it leaves what is not committed behind; `close` ends it in order.
#[derive(Debug)]
pub struct Writers {
    shard: PathBuf,
    classes: Vec<Class>,
    layout: Layout,
    readers: Readers,
    /// The lane's topics.
    topics: Vec<String>,
    /// By number of the lane's topics.
    positions: Vec<Position>,
}

#[derive(Debug)]
struct Class {
    writer: ShardWriter,
    /// The numbers that the lane's topics have in its files.
    topics: Vec<TopicIndex>,
}

/// How far the shard has come in a topic, what is not committed included.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// None: nothing was put or skipped yet.
    last: Option<i64>,
    /// The log was followed before, from its beginning.
    knew: bool,
    ingest_time_ms: i64,
}

impl Writers {
    /// Of writers in the order of the layout's classes, which all know the lane's topics.
    pub(super) fn new(
        shard: PathBuf,
        writers: Vec<ShardWriter>,
        topics: &[&str],
        layout: Layout,
        readers: Readers,
    ) -> Writers {
        let class = |writer: ShardWriter| {
            let known = |name: &&str| writer.topic(name).expect("the directory was opened with this topic");
            let topics = topics.iter().map(known).collect();
            Class { writer, topics }
        };
        let classes: Vec<Class> = writers.into_iter().map(class).collect();
        let positions = (0..topics.len()).map(|topic| lowest(&classes, topic)).collect();
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Writers { shard, classes, layout, readers, topics, positions }
    }

    /// Its readers.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Last offset put or skipped of a topic, uncommitted ones included.
    pub fn position(&self, topic: usize) -> Option<i64> {
        self.positions[topic].last
    }

    /// Whether the shard had this topic before it was opened now; see [`ShardWriter::knew`].
    pub fn knew(&self, topic: usize) -> bool {
        self.positions[topic].knew
    }

    /// Ingest time of a topic, ms; 0 if none.
    pub fn ingest_time_ms(&self, topic: usize) -> i64 {
        self.positions[topic].ingest_time_ms
    }

    /// As [`ShardWriter::bind`].
    pub fn bind(&mut self, view: u16, plan: &FieldPlan, wanted: impl Iterator<Item = usize>) {
        self.class(view).writer.bind(view, plan, wanted);
    }

    /// As [`ShardWriter::encode`].
    pub fn encode<'p>(&mut self, view: u16, payload: &'p [u8]) -> Fit<'_, 'p> {
        self.class(view).writer.encode(view, payload)
    }

    /// As [`ShardWriter::expect`].
    pub fn expect<'e>(&mut self, view: u16, points: impl Iterator<Item = (&'e [u8], &'e [u8])> + Clone) {
        self.class(view).writer.expect(view, points);
    }

    /// Adds a data point to the batch; `topic` of the put is the lane's number of it. A class that has it already, which
    /// another had not at the opening, says `Replayed`.
    ///
    /// # Errors
    /// As of [`ShardWriter::put`].
    pub fn put(&mut self, topic: usize, put: &Put<'_>) -> Result<Outcome, WriteError> {
        let class = &mut self.classes[self.layout.class_of(put.view)];
        let outcome = class.writer.put(&Put { topic: class.topics[topic], ..*put })?;
        self.advance(topic, put.offset, put.ingest_time_ms);
        Ok(outcome)
    }

    /// As [`ShardWriter::put_beside`]: beside the last put, in the class of the views of both.
    ///
    /// # Errors
    /// As of [`ShardWriter::put_beside`].
    pub fn put_beside(&mut self, topic: usize, put: &Put<'_>) -> Result<Outcome, WriteError> {
        let class = &mut self.classes[self.layout.class_of(put.view)];
        class.writer.put_beside(&Put { topic: class.topics[topic], ..*put })
    }

    /// As [`ShardWriter::fitted`].
    pub fn fitted<'p>(&self, view: u16, payload: &'p [u8]) -> Option<Fit<'_, 'p>> {
        self.classes[self.layout.class_of(view)].writer.fitted(view, payload)
    }

    /// As [`ShardWriter::replaced`], of the last put, which was of this view.
    ///
    /// # Errors
    /// As of [`ShardWriter::replaced`].
    pub fn replaced(&self, view: u16) -> Result<Option<CurrentVersion>, WriteError> {
        self.classes[self.layout.class_of(view)].writer.replaced()
    }

    /// Whether a view of records put beside others was there when this version of one of those came.
    pub fn was_there(&self, view: u16, version: &CurrentVersion) -> bool {
        let class = &self.classes[self.layout.class_of(view)];
        let topic = class.topics.iter().position(|topic| *topic == version.topic);
        // A topic that is not the lane's any more was its before the view came.
        topic.is_some_and(|topic| version.offset >= self.layout.since(view, &self.topics[topic]))
    }

    /// The segments that the next frames go to, by class.
    pub fn newest_segments(&self) -> Vec<u32> {
        self.classes.iter().map(|class| class.writer.newest_segment()).collect()
    }

    /// As [`ShardWriter::hold_from`], by class.
    pub fn hold_from(&mut self, segments: &[u32]) {
        for (class, segment) in self.classes.iter_mut().zip(segments) {
            class.writer.hold_from(*segment);
        }
    }

    /// As [`ShardWriter::current`].
    ///
    /// # Errors
    /// As of [`ShardWriter::current`].
    pub fn current(&self, entity: &[u8], view: u16) -> Result<Option<CurrentVersion>, WriteError> {
        self.classes[self.layout.class_of(view)].writer.current(entity, view)
    }

    /// As [`ShardWriter::may_have`], in the class of a view.
    pub fn may_have(&self, view: u16, entity: &[u8], views: impl Iterator<Item = u16>) -> bool {
        self.classes[self.layout.class_of(view)].writer.may_have(entity, views)
    }

    /// As [`ShardWriter::current_payload`].
    ///
    /// # Errors
    /// As of [`ShardWriter::current_payload`].
    pub fn current_payload(
        &self,
        entity: &[u8],
        view: u16,
        payload: &mut Vec<u8>,
    ) -> Result<Option<CurrentVersion>, WriteError> {
        self.classes[self.layout.class_of(view)].writer.current_payload(entity, view, payload)
    }

    /// Advances past an offset that holds no data point for this shard.
    pub fn skip(&mut self, topic: usize, offset: i64, ingest_time_ms: i64) {
        if self.positions[topic].last.is_none_or(|last| last < offset) {
            self.advance(topic, offset, ingest_time_ms);
        }
    }

    fn advance(&mut self, topic: usize, offset: i64, ingest_time_ms: i64) {
        let position = &mut self.positions[topic];
        position.last = Some(offset);
        position.ingest_time_ms = position.ingest_time_ms.max(ingest_time_ms);
    }

    /// Writes the batch; when it returns, reads see all of it.
    ///
    /// # Errors
    /// As of [`ShardWriter::commit`]; what one class has committed by then is committed.
    pub fn commit(&mut self) -> Result<(), WriteError> {
        for class in &mut self.classes {
            class.commit(&self.positions)?;
        }
        Ok(())
    }

    /// Bytes of the batch.
    pub fn pending_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.writer.pending_bytes()).sum()
    }

    /// Takes up what view ids name now. A view that is new here goes to one of the classes there are.
    ///
    /// # Errors
    /// As of [`ShardWriter::adopt_views`].
    pub fn adopt_views(&mut self, views: &BTreeMap<u16, ViewPolicy>) -> Result<(), OpenError> {
        let before = self.layout.clone();
        if self.layout.place(views)
            && let Err(error) = self.note_layout()
        {
            self.layout = before;
            return Err(as_open_error(error));
        }
        for (number, class) in self.classes.iter_mut().enumerate() {
            class.writer.adopt_views(&self.layout.of_class(number, views))?;
        }
        Ok(())
    }

    /// Stores which class each view is in and which have come now, and shows it to the readers.
    pub(super) fn note_layout(&mut self) -> Result<(), LayoutError> {
        let next = self.positions.iter().map(|position| position.last.map_or(0, |last| last + 1));
        self.layout.note_arrivals(self.topics.iter().map(String::as_str).zip(next));
        self.layout.store(&self.shard)?;
        self.readers.set_layout(self.layout.clone());
        Ok(())
    }

    /// As [`ShardWriter::expire`], in every class. Commits first.
    ///
    /// # Errors
    /// As of [`ShardWriter::expire`].
    pub fn expire(&mut self, now_ms: i64) -> Result<ExpireReport, WriteError> {
        let mut sum = ExpireReport::default();
        for class in &mut self.classes {
            let report = class.writer.expire(now_ms)?;
            sum.segments += report.segments;
            sum.bytes += report.bytes;
            sum.keys += report.keys;
            sum.more |= report.more;
        }
        Ok(sum)
    }

    /// As [`ShardWriter::thin`], in every class.
    ///
    /// # Errors
    /// As of [`ShardWriter::thin`].
    pub fn thin(&mut self, now_ms: i64, budget_bytes: u64) -> Result<ThinReport, WriteError> {
        let mut sum = ThinReport::default();
        for class in &mut self.classes {
            let report = class.writer.thin(now_ms, budget_bytes)?;
            sum.copied_bytes += report.copied_bytes;
            sum.segments += report.segments;
            sum.bytes += report.bytes;
            sum.keys += report.keys;
            sum.more |= report.more;
        }
        Ok(sum)
    }

    /// Syncs what is committed, on this thread.
    ///
    /// # Errors
    /// If a sync fails, now or earlier.
    pub fn sync_now(&mut self) -> Result<(), WriteError> {
        self.classes.iter_mut().try_for_each(|class| class.writer.sync_now())
    }

    /// Commits, syncs and lets go of the directories.
    ///
    /// # Errors
    /// The first there was; all directories are let go of all the same.
    pub fn close(mut self) -> Result<(), WriteError> {
        let mut outcome = self.commit();
        for class in self.classes {
            outcome = outcome.and(class.writer.close());
        }
        outcome
    }

    fn class(&mut self, view: u16) -> &mut Class {
        &mut self.classes[self.layout.class_of(view)]
    }
}

impl Class {
    fn commit(&mut self, positions: &[Position]) -> Result<(), WriteError> {
        for (topic, position) in self.topics.iter().zip(positions) {
            if let Some(last) = position.last {
                self.writer.skip(*topic, last, position.ingest_time_ms)?;
            }
        }
        self.writer.commit()
    }
}

/// Where the class that is furthest behind is: what it lacks comes again, and the others pass it.
fn lowest(classes: &[Class], topic: usize) -> Position {
    let of = |class: &Class| {
        let index = class.topics[topic];
        Position {
            last: class.writer.position(index),
            knew: class.writer.knew(index),
            ingest_time_ms: class.writer.ingest_time_ms(index),
        }
    };
    // A shard has at least one class.
    let lowest = classes.iter().map(of).min_by_key(|position| position.last);
    lowest.unwrap_or(Position { last: None, knew: false, ingest_time_ms: 0 })
}

fn as_open_error(error: LayoutError) -> OpenError {
    match error {
        LayoutError::Io { path, error: source } => OpenError::Io { path: path.into(), source },
        LayoutError::Damaged { path, detail } => {
            OpenError::Io { path: path.into(), source: std::io::Error::other(detail) }
        }
    }
}
