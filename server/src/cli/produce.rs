//! `forebay produce`: the simulator's command line; the work is `mix::produce`'s.

use super::output::BadInput;
use crate::config::ConfigErrors;
use crate::mix::produce::BadArguments;

pub use crate::mix::produce::Args;

pub fn run(args: Args) -> anyhow::Result<()> {
    crate::mix::produce::run(args).map_err(|error| {
        match error.is::<ConfigErrors>() || error.is::<BadArguments>() {
            true => BadInput(format!("{error:#}")).into(),
            false => error,
        }
    })
}
