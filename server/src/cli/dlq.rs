//! `forebay dlq`.

const EXAMPLES: &str = "  forebay dlq";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not built in")
}
