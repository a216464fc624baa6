//! The MANIFEST: what a shard is and which segment files it must have. Read when a shard is opened, replaced as a
//! whole when any of it changes. A line with magic, format number and checksum, then JSON for people to read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::OpenError;
use crate::layout::checksum;
use crate::log::segment::SegmentHeader;
use crate::types::{ShardIdentity, TopicLog, ViewPolicy};

/// Name of the file.
pub(crate) const NAME: &str = "MANIFEST";
/// The format this version writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 2;
const MAGIC: &str = "forebay-shard";

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The one it was read in; it is always written in the newest. An older one makes an opening write it again.
    #[serde(skip)]
    pub format: u32,
    /// Names this shard in all its files.
    #[serde(with = "hex")]
    pub shard: uuid::Uuid,
    pub lane: String,
    pub partition: u32,
    pub partitions: u32,
    /// A topic's place here is its number in records and frames; topics are only added.
    pub topics: Vec<Topic>,
    pub views: BTreeMap<u16, String>,
    /// The oldest segment that must exist; older ones have expired.
    pub first_segment: u32,
    /// The newest segment that must exist; 0 before the first commit.
    pub last_segment: u32,
    /// Segments between these two that are gone, ascending and apart.
    #[serde(default)]
    pub removed: Vec<Hole>,
    /// Segments after `last_segment` up to this one were given up at an opening: they held nothing that was synced.
    pub discarded_segment: u32,
    /// Frames up to this one were synced when this was written.
    pub durable_sequence: u64,
    /// Records may use codec generations up to this number.
    #[serde(default)]
    pub last_codec: u32,
}

/// Neighbouring segments that are gone while older ones are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hole {
    pub from: u32,
    /// The last one.
    pub to: u32,
    /// Where the segment before must end, from the header of the first that had frames: sequence and `head_sum`. The
    /// sequence is 0 if none had any; then the segments around follow each other.
    pub first_sequence: u64,
    pub previous: u64,
}

/// A topic in the MANIFEST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topic {
    pub name: String,
    /// All zeros if not known.
    #[serde(with = "hex")]
    pub id: uuid::Uuid,
    pub priority: u8,
}

/// Ids as 32 hex digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(id: &uuid::Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&id.simple())
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<uuid::Uuid, D::Error> {
        let text = String::deserialize(from)?;
        uuid::Uuid::try_parse(&text).map_err(D::Error::custom)
    }
}

impl Manifest {
    /// Of a shard that has nothing yet.
    pub fn new(identity: &ShardIdentity) -> Manifest {
        Manifest {
            format: FORMAT,
            shard: uuid::Uuid::new_v4(),
            lane: identity.lane.clone(),
            partition: identity.partition,
            partitions: identity.partitions,
            topics: identity.topics.iter().map(Topic::of).collect(),
            views: identity.views.iter().map(|(id, view)| (*id, view.description.clone())).collect(),
            first_segment: 1,
            last_segment: 0,
            removed: Vec::new(),
            discarded_segment: 0,
            durable_sequence: 0,
            last_codec: 0,
        }
    }

    /// Reads and checks the one of a directory.
    pub fn load(dir: &Path) -> Result<Manifest, OpenError> {
        let path = dir.join(NAME);
        let bytes = std::fs::read(&path).map_err(OpenError::io(&path))?;
        Manifest::decode(&path, &bytes)
    }

    /// Checks and decodes the content of the file named `path`.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest, OpenError> {
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let words = std::str::from_utf8(&bytes[..line]).unwrap_or_default();
        let words: Vec<_> = words.split(' ').collect();
        let (format, sum) = match words[..] {
            [MAGIC, format, sum] => (format.parse::<u32>().ok(), u64::from_str_radix(sum, 16).ok()),
            _ => (None, None),
        };
        let format =
            format.ok_or_else(|| OpenError::corrupt(path, 0, "its first line is not a MANIFEST's"))?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat { file: path.to_path_buf(), found: format, known: FORMAT });
        }
        let json = bytes.get(line + 1..).unwrap_or_default();
        if sum != Some(checksum(json)) {
            return Err(OpenError::corrupt(path, line as u64 + 1, "its checksum does not fit its content"));
        }
        let parsed = serde_json::from_slice(json);
        let parsed: Manifest =
            parsed.map_err(|error| OpenError::corrupt(path, line as u64 + 1, error.to_string()))?;
        Ok(Manifest { format, ..parsed })
    }

    /// The content of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        json.push(b'\n');
        let mut bytes = format!("{MAGIC} {FORMAT} {:016x}\n", checksum(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes
    }

    /// Puts it in the directory for good.
    pub fn store(&self, dir: &Path) -> std::io::Result<()> {
        disk::replace(dir, NAME, &self.encode())
    }

    /// Checks that a shard is the one asked for, and takes up new topics, topic ids and views.
    pub fn adopt(&mut self, dir: &Path, identity: &ShardIdentity) -> Result<(), OpenError> {
        let dir = dir.to_path_buf();
        if (&self.lane, self.partition) != (&identity.lane, identity.partition) {
            let name = |lane: &str, partition| format!("lane {lane} partition {partition}");
            let (stored, now) = (name(&self.lane, self.partition), name(&identity.lane, identity.partition));
            return Err(OpenError::WrongShard { dir, stored, now });
        }
        if self.partitions != identity.partitions {
            return Err(OpenError::PartitionsChanged {
                dir,
                stored: self.partitions,
                now: identity.partitions,
            });
        }
        self.format = FORMAT;
        identity.topics.iter().try_for_each(|topic| self.adopt_topic(&dir, topic))?;
        self.adopt_views(&dir, &identity.views)
    }

    /// Checks that no view id names another view than before, and takes up new ones.
    pub fn adopt_views(&mut self, dir: &Path, views: &BTreeMap<u16, ViewPolicy>) -> Result<(), OpenError> {
        views.iter().try_for_each(|(id, now)| self.adopt_view(dir, *id, &now.description))
    }

    fn adopt_topic(&mut self, dir: &Path, now: &TopicLog) -> Result<(), OpenError> {
        let now = Topic::of(now);
        let (dir, topic) = (dir.to_path_buf(), now.name.clone());
        let Some(stored) = self.topics.iter_mut().find(|stored| stored.name == topic) else {
            self.topics.push(now);
            return Ok(());
        };
        if stored.id.is_nil() {
            stored.id = now.id;
        }
        if !now.id.is_nil() && stored.id != now.id {
            let (stored, now) = (stored.id.simple().to_string(), now.id.simple().to_string());
            return Err(OpenError::TopicRecreated { dir, topic, stored, now });
        }
        if stored.priority != now.priority {
            return Err(OpenError::TopicChanged { dir, topic, stored: stored.priority, now: now.priority });
        }
        Ok(())
    }

    fn adopt_view(&mut self, dir: &Path, id: u16, now: &str) -> Result<(), OpenError> {
        let stored = self.views.entry(id).or_insert_with(|| now.to_owned());
        if stored == now {
            return Ok(());
        }
        Err(OpenError::ViewChanged {
            dir: PathBuf::from(dir),
            id,
            stored: stored.clone(),
            now: now.to_owned(),
        })
    }

    /// Numbers of the segments that must exist, ascending.
    pub fn segments(&self) -> impl Iterator<Item = u32> {
        let gone = |number| self.removed.iter().any(|hole| (hole.from..=hole.to).contains(&number));
        (self.first_segment..=self.last_segment).filter(move |number| !gone(*number))
    }

    /// What is gone just before a segment.
    pub fn hole_before(&self, number: u32) -> Option<&Hole> {
        self.removed.iter().find(|hole| hole.to + 1 == number)
    }

    /// Takes a segment out of those that must exist.
    pub fn remove(&mut self, segment: &SegmentHeader) {
        let SegmentHeader { number, first_sequence, previous, .. } = *segment;
        let at = self.removed.partition_point(|hole| hole.from < number);
        self.removed.insert(at, Hole { from: number, to: number, first_sequence, previous });
        self.removed.dedup_by(|next, hole| {
            let meets = next.from == hole.to + 1;
            if meets {
                hole.to = next.to;
                if hole.first_sequence == 0 {
                    (hole.first_sequence, hole.previous) = (next.first_sequence, next.previous);
                }
            }
            meets
        });
        if self.removed.first().is_some_and(|hole| hole.from == self.first_segment) {
            self.first_segment = self.removed.remove(0).to + 1;
        }
    }

    /// Its topics as the API names them.
    pub fn topic_logs(&self) -> Vec<TopicLog> {
        let log = |topic: &Topic| TopicLog {
            name: topic.name.clone(),
            topic_id: topic.id.into_bytes(),
            priority: topic.priority,
        };
        self.topics.iter().map(log).collect()
    }
}

impl Topic {
    fn of(topic: &TopicLog) -> Topic {
        Topic {
            name: topic.name.clone(),
            id: uuid::Uuid::from_bytes(topic.topic_id),
            priority: topic.priority,
        }
    }
}
