//! `forebay check`: definitions and configuration, checked as a whole as a server would, with every error named.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::output::{self, BadInput};
use super::sources;
use crate::definitions::Definitions;

const EXAMPLES: &str = "\
Examples:
  forebay check definitions/
  forebay check features.toml --json
  forebay check --config forebay.toml
Exit code 2 if there is an error.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["path", "config"])))]
pub struct Args {
    /// A definition file, or a directory of them
    path: Option<PathBuf>,
    /// A server's configuration; its definitions are checked too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let checked = match (&args.path, &args.config) {
        (Some(path), _) => sources::definitions(path),
        (None, Some(config)) => sources::both(config).map(|(_, definitions)| definitions),
        (None, None) => unreachable!("clap requires one of them"),
    };
    match checked {
        Ok(definitions) if args.json => Ok(output::json_line(&summary_json(&definitions))?),
        Ok(definitions) => Ok(output::line(summary(&definitions))?),
        Err(BadInput(errors)) => {
            if args.json {
                let errors: Vec<&str> = errors.lines().collect();
                output::json_line(&json!({"ok": false, "errors": errors}))?;
            }
            Err(BadInput(errors).into())
        }
    }
}

fn summary(definitions: &Definitions) -> String {
    let lanes: Vec<String> = definitions
        .lanes
        .iter()
        .enumerate()
        .map(|(index, lane)| {
            let views = definitions.views.iter().filter(|view| view.lane == index);
            let views: Vec<&str> = views.map(|view| view.name.as_str()).collect();
            format!("  lane {} ({} topics): {}", lane.name, lane.topics.len(), views.join(", "))
        })
        .collect();
    let fields: usize = definitions.views.iter().map(|view| view.fields.len()).sum();
    format!(
        "OK: {} lanes, {} views with {fields} fields, {} feature services\n{}",
        definitions.lanes.len(),
        definitions.views.len(),
        definitions.services.len(),
        lanes.join("\n")
    )
}

fn summary_json(definitions: &Definitions) -> Value {
    let services = definitions.services.iter();
    json!({
        "ok": true,
        "lanes": definitions.lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(),
        "views": definitions.views.iter().map(|view| &view.name).collect::<Vec<_>>(),
        "fields": definitions.views.iter().map(|view| view.fields.len()).sum::<usize>(),
        "feature_services": services.map(|service| format!("{}@{}", service.name, service.version)).collect::<Vec<_>>(),
    })
}
