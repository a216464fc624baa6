//! `forebay demo`: the demo's command line; see `demo`.

pub use crate::demo::{Args, run};
