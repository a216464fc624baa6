//! What may be left of a story that was cut off: from what the child said until then.

use super::child::Said;
use super::story::Story;

/// How it was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The process ended; the system lived on, and with it everything written.
    Kill,
    /// The power went: only what was synced is sure to be there.
    Power,
}

/// What may be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// At least so many commits, and at most.
    pub least: usize,
    pub most: usize,
    /// At least these offsets by topic.
    pub durable: Vec<i64>,
    /// Versions that need be kept no longer than until here may be missing.
    pub gone_ms: i64,
}

impl Default for Fate {
    /// Of a story that has not begun.
    fn default() -> Self {
        Fate { least: 0, most: 0, durable: Vec::new(), gone_ms: i64::MIN }
    }
}

impl Fate {
    /// `said` is all that the child said until it was cut off.
    pub fn of<'s>(story: &Story, said: impl Iterator<Item = &'s Said>, cut: Cut) -> Fate {
        Fate::default().and(story, said, cut)
    }

    /// Of a story that is told a second time over what was left of the first.
    pub fn and<'s>(&self, story: &Story, said: impl Iterator<Item = &'s Said>, cut: Cut) -> Fate {
        let mut fate = self.clone();
        for said in said {
            match said {
                Said::Begins(step) => {
                    fate.most = fate.most.max(story.commits[*step]);
                    fate.gone_ms = fate.gone_ms.max(story.gone_ms[*step]);
                }
                Said::Committed(commits) if cut == Cut::Kill => fate.least = fate.least.max(*commits),
                Said::Durable(offsets) => {
                    fate.durable.resize(offsets.len(), -1);
                    fate.durable.iter_mut().zip(offsets).for_each(|(most, now)| *most = (*most).max(*now));
                }
                _ => {}
            }
        }
        fate
    }
}
