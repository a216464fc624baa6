//! `forebay produce`: the simulator's command line; see `mix::produce`.

pub use crate::mix::produce::{Args, run};
