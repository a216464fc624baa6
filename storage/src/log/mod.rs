//! The log of a shard: segment files of frames, each sealed by a footer. `frame` is one commit, `segment` one file,
//! `footer` what a full file says of itself, `segments` all of them at one moment.

pub(crate) mod footer;
pub(crate) mod frame;
pub(crate) mod segment;
pub(crate) mod segments;
