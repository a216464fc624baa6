//! `forebay demo`: a whole Forebay with simulated data in one process.

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not built in")
}
