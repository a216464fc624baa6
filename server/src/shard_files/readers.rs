//! The readers of a shard's classes, as one: which of them has a view, how far all of them have come, what they take
//! together. Any number of threads use it.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use forebay_storage::{ShardReader, Stats, TopicIndex};

use super::layout::Layout;

/// Reads a shard. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    classes: Vec<Class>,
    layout: ArcSwap<Layout>,
}

#[derive(Debug)]
struct Class {
    reader: ShardReader,
    /// The numbers that the lane's topics have in its files.
    topics: Vec<TopicIndex>,
}

/// Some of the columns of a request: those whose views one reader has.
#[derive(Debug)]
pub struct Share<'r> {
    /// The reader.
    pub reader: &'r ShardReader,
    /// View ids.
    pub views: Cow<'r, [u16]>,
    /// The column of each.
    pub columns: Cow<'r, [usize]>,
}

impl Readers {
    /// Of readers in the order of the layout's classes, which all know the lane's topics.
    ///
    /// # Panics
    /// If a reader does not know a topic.
    pub fn new(readers: Vec<ShardReader>, topics: &[&str], layout: Layout) -> Readers {
        let class = |reader: ShardReader| {
            let known = |name: &&str| reader.topic(name).expect("the directory was opened with this topic");
            let topics = topics.iter().map(known).collect();
            Class { reader, topics }
        };
        let classes = readers.into_iter().map(class).collect();
        Readers(Arc::new(Inner { classes, layout: ArcSwap::from_pointee(layout) }))
    }

    /// The reader that has a view.
    pub fn of(&self, view: u16) -> &ShardReader {
        let class = match &self.0.classes[..] {
            [_] => 0,
            _ => self.0.layout.load().class_of(view),
        };
        &self.0.classes[class].reader
    }

    /// Divides columns among the readers that have their views.
    pub fn share<'r>(&'r self, views: &'r [u16], columns: &'r [usize]) -> Vec<Share<'r>> {
        if let [class] = &self.0.classes[..] {
            let (views, columns) = (Cow::Borrowed(views), Cow::Borrowed(columns));
            return vec![Share { reader: &class.reader, views, columns }];
        }
        let layout = self.0.layout.load();
        let mut shares = Vec::with_capacity(self.0.classes.len());
        for (number, class) in self.0.classes.iter().enumerate() {
            let here = || views.iter().zip(columns).filter(|(view, _)| layout.class_of(**view) == number);
            let views: Vec<u16> = here().map(|(view, _)| *view).collect();
            if !views.is_empty() {
                let columns = Cow::Owned(here().map(|(_, column)| *column).collect());
                shares.push(Share { reader: &class.reader, views: Cow::Owned(views), columns });
            }
        }
        shares
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &ShardReader> {
        self.0.classes.iter().map(|class| &class.reader)
    }

    /// The last offset of a topic of the lane that reads of every view see; none: nothing yet.
    pub fn applied(&self, topic: usize) -> Option<i64> {
        let applied = |class: &Class| class.reader.applied(class.topics[topic]).map(|last| last.0);
        self.0.classes.iter().map(applied).min().flatten()
    }

    /// The last offset of a topic of the lane that survives a power loss; none: nothing yet.
    pub fn durable(&self, topic: usize) -> Option<i64> {
        let durable = |class: &Class| class.reader.durable(class.topics[topic]).map(|last| last.0);
        self.0.classes.iter().map(durable).min().flatten()
    }

    /// Why the shard stopped, if its disk failed it.
    pub fn poisoned(&self) -> Option<String> {
        self.all().find_map(ShardReader::poisoned)
    }

    /// Sizes, all classes together.
    pub fn stats(&self) -> Stats {
        self.all().map(ShardReader::stats).fold(Stats::default(), |sum, class| Stats {
            keys: sum.keys + class.keys,
            disk_bytes: sum.disk_bytes + class.disk_bytes,
            index_bytes: sum.index_bytes + class.index_bytes,
            segments: sum.segments + class.segments,
            hot_bytes: sum.hot_bytes + class.hot_bytes,
            cold_reads: sum.cold_reads + class.cold_reads,
        })
    }

    /// Notes where views are from now on.
    pub(super) fn set_layout(&self, layout: Layout) {
        self.0.layout.store(Arc::new(layout));
    }
}
