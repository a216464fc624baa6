//! `forebay apply`: changes what is defined, through the registry. Shows what would change, then has it done, and waits
//! until every server has taken it up.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_client::Client;
use forebay_client::v1::{ApplyRequest, ApplyResponse, DefinitionFile, RegistryStatus};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::arguments::Connection;
use super::output::{self, BadInput};

/// How often servers are asked whether they have taken it up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  forebay apply -f new_view.toml --dry-run
  forebay apply -f new_view.toml
  forebay apply -f definitions/ --yes --json
A server checks the definitions together with those in force and says what would change; what
would break stored data or a reader is refused with all reasons. Files are TOML, as in the
servers' definition files. Lanes take a restart of the servers.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file with definitions, or a directory of *.toml files; may be given several times
    #[arg(short, long, required = true, value_name = "FILE|DIR")]
    file: Vec<PathBuf>,
    /// Check and show only, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let files = args.file.iter().map(|path| files(path)).collect::<Result<Vec<_>, _>>()?.concat();
    let client = connection.client().await?;
    let ask = |dry_run| client.apply(ApplyRequest { files: files.clone(), dry_run }, None);
    let shown = ask(true).await?;
    if !args.json {
        output::line(text(&shown))?;
    }
    if args.dry_run || shown.changes.is_empty() || !agreed(args.yes)? {
        return end(&args, &shown, &[]);
    }
    let done = ask(false).await?;
    let servers = match done.offset {
        Some(offset) => wait(&client, offset, connection.deadline).await,
        None => Vec::new(),
    };
    end(&args, &done, &servers)
}

fn files(path: &Path) -> Result<Vec<DefinitionFile>, BadInput> {
    let failed = |path: &Path, error: io::Error| BadInput(format!("{}: {error}", path.display()));
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let entries = entries.map_err(|error| failed(path, error))?.into_iter().map(|entry| entry.path());
        paths = entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
        paths.sort();
    }
    let read = |path: PathBuf| {
        let toml = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        Ok(DefinitionFile { name: path.display().to_string(), toml })
    };
    paths.into_iter().map(read).collect()
}

/// Asks the person, if there is one.
fn agreed(yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(BadInput("nobody can be asked here: give --yes, or --dry-run".into()).into());
    }
    eprint!("Apply this? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn text(shown: &ApplyResponse) -> String {
    match shown.changes.is_empty() {
        true => "nothing changes".into(),
        false => format!("{}\n{}", shown.diff, shown.changes.join("\n")),
    }
}

/// A server and what became of the change there: where its registry stands, or why that is not known.
pub(super) type Taken = (String, Result<RegistryStatus, String>);

/// Waits until every server has read the registry up to an offset.
pub(super) async fn wait(client: &Client, offset: i64, patience: Duration) -> Vec<Taken> {
    let until = Instant::now() + patience;
    loop {
        let of = |server: forebay_client::ServerStatus| {
            let registry = match server.status {
                Ok(status) => status.registry.ok_or_else(|| "it has no registry".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (server.server, registry)
        };
        let taken: Vec<Taken> = client.status("").await.into_iter().map(of).collect();
        let there = |(_, registry): &Taken| registry.as_ref().is_ok_and(|registry| registry.offset >= offset);
        if taken.iter().all(there) || Instant::now() >= until {
            return taken;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A sentence for each server where it is not as it should be.
fn complaints(servers: &[Taken], offset: i64) -> Vec<String> {
    let complaint = |(server, registry): &Taken| match registry {
        Err(why) => Some(format!("{server}: not known to have taken it up: {why}")),
        Ok(registry) if registry.offset < offset => {
            Some(format!("{server}: has not taken it up yet (it is at offset {})", registry.offset))
        }
        Ok(registry) if !registry.held_back.is_empty() => {
            Some(format!("{server}: holds back: {}", registry.held_back.join("; ")))
        }
        Ok(_) => None,
    };
    servers.iter().filter_map(complaint).collect()
}

fn end(args: &Args, answer: &ApplyResponse, servers: &[Taken]) -> anyhow::Result<()> {
    let complaints = complaints(servers, answer.offset.unwrap_or(-1));
    if args.json {
        let document: Value = json!({
            "dry_run": args.dry_run,
            "applied": answer.offset.is_some(),
            "changes": answer.changes,
            "diff": answer.diff,
            "offset": answer.offset,
            "servers": complaints,
        });
        return Ok(output::json_line(&document)?);
    }
    if let Some(offset) = answer.offset {
        output::line(format_args!("applied, at offset {offset} of the registry"))?;
    }
    complaints.iter().try_for_each(output::line)?;
    Ok(())
}
