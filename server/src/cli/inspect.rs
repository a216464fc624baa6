//! `forebay inspect`: decodes the files of a shard. Offline: reads files only, of a stopped or a running server.

use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::shard_files::{self, Layout};

const EXAMPLES: &str = "\
Examples:
  forebay inspect data/shards/standard/0
  forebay inspect data/shards/standard/0 --json | jq 'select(.entity == \"customer-1\")'
A damaged file is shown as far as it is whole; then the exit code is 1 and the error says where
the damage is.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A shard's directory (<storage.dir>/<lane>/<partition>) or one file of it
    path: PathBuf,
    /// JSON lines
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let bar = super::output::progress(0, "bytes");
    let mut out = BufWriter::with_capacity(1 << 16, bar.wrap_write(io::stdout().lock()));
    if shard_files::is_layout(&args.path) {
        classes(&args.path, args.json, &mut out)?;
        bar.finish_and_clear();
        return Ok(());
    }
    let mut outcome = Ok(());
    for path in shard_files::directories(&args.path) {
        let shown = forebay_storage::inspect::dump(&path, args.json, &mut out);
        let shown = shown.with_context(|| format!("inspecting {}", path.display()));
        outcome = outcome.and(shown);
    }
    out.flush()?;
    bar.finish_and_clear();
    outcome
}

/// Which TTL classes a shard has, and which views are in each.
fn classes(path: &Path, as_json: bool, out: &mut impl io::Write) -> anyhow::Result<()> {
    let shard = path.parent().unwrap_or(Path::new("."));
    let layout = Layout::load(shard)?.with_context(|| format!("inspecting {}", path.display()))?;
    for (number, name) in layout.classes().iter().enumerate() {
        let views = layout.views_of(number);
        match as_json {
            true => writeln!(out, "{}", json!({"what": "class", "name": name, "views": views}))?,
            false => writeln!(out, "class {name}: views {views:?}")?,
        }
    }
    Ok(out.flush()?)
}
