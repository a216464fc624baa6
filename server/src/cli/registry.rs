//! `forebay registry`: takes definitions out of the registry.

use forebay_client::v1::RemoveRequest;
use serde_json::json;

use super::arguments::Connection;
use super::output;

const EXAMPLES: &str = "\
Examples:
  forebay registry remove view modem_health --dry-run
  forebay registry remove feature_service triage@2
What something that remains needs is not removed. Definitions of files stay in their files; one
that the registry had replaced is in force again.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Take a definition out
    #[command(after_help = EXAMPLES)]
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// lane, view, feature_service, trigger, model or diagnoses
    kind: String,
    /// Its name, with its version if there are several: NAME or NAME@VERSION
    #[arg(value_parser = versioned)]
    name: (String, u32),
    /// Check only, change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// `NAME` or `NAME@VERSION`; without a version 0.
pub(super) fn versioned(text: &str) -> Result<(String, u32), String> {
    match text.split_once('@') {
        None => Ok((text.into(), 0)),
        Some((name, version)) => match version.parse() {
            Ok(version @ 1..) => Ok((name.into(), version)),
            _ => Err(format!("{text:?}: expected NAME or NAME@VERSION, with a version from 1")),
        },
    }
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let Action::Remove(args) = args.action;
    let (name, version) = args.name;
    let request = RemoveRequest { kind: args.kind, name, version, dry_run: args.dry_run };
    let removed = connection.client().await?.remove_definition(request, None).await?;
    match args.json {
        true => output::json_line(&json!({"dry_run": args.dry_run, "changes": removed.changes}))?,
        false => output::line(removed.changes.join("\n"))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_the_name() {
        assert_eq!(versioned("a"), Ok(("a".into(), 0)));
        assert_eq!(versioned("a@3"), Ok(("a".into(), 3)));
        for bad in ["a@", "a@0", "a@x", "a@-1"] {
            assert!(versioned(bad).is_err(), "{bad}");
        }
    }
}
