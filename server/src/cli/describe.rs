//! `forebay describe`: the definitions in force on a server: views with their fields, feature services, and of every kind
//! what is defined where.

use forebay_client::v1::{
    Definition, DescribeViewsResponse, FieldDescription, ListDefinitionsRequest, ViewDescription,
};
use serde_json::{Value, json};

use super::arguments::Connection;
use super::output::{self, BadInput};
use super::registry::versioned;
use crate::definitions::pieces::KINDS;

const EXAMPLES: &str = "\
Examples:
  forebay describe
  forebay describe modem_health
  forebay describe view modem_health
  forebay describe feature_service triage@2
  forebay describe trigger
  forebay describe --json
After a kind (lane, view, feature_service, trigger, model, diagnoses) comes a name, or none for
all of the kind; they are shown as they were written, with the file they are from.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only these views; or a KIND and a NAME
    #[arg(value_name = "VIEW | KIND NAME")]
    what: Vec<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let kind = args.what.first().filter(|word| KINDS.iter().any(|kind| kind.name == **word));
    if let Some(kind) = kind {
        let (name, version) = match &args.what[1..] {
            [] => Default::default(),
            [name] => versioned(name).map_err(BadInput)?,
            _ => return Err(BadInput(format!("expected one name after {kind}")).into()),
        };
        let request = ListDefinitionsRequest { kind: kind.clone(), name: name.clone() };
        let mut found = client.list_definitions(request).await?.definitions;
        found.retain(|definition| version == 0 || definition.version == version);
        if found.is_empty() && !name.is_empty() {
            return Err(BadInput(format!("there is no {kind} {}", args.what[1])).into());
        }
        return show(&found, args.json);
    }
    let definitions = client.describe_views(args.what.clone()).await?;
    let sources = match args.what.is_empty() {
        true => client.list_definitions(ListDefinitionsRequest::default()).await?.definitions,
        false => Vec::new(),
    };
    match args.json {
        true => output::json_line(&document(&definitions, &sources))?,
        false => print(&definitions, &sources)?,
    }
    Ok(())
}

fn show(definitions: &[Definition], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let all: Vec<_> = definitions.iter().map(definition_json).collect();
        return Ok(output::json_line(&json!({"definitions": all}))?);
    }
    for Definition { source, toml, .. } in definitions {
        output::line(format_args!("# from {source}\n{toml}"))?;
    }
    Ok(())
}

fn definition_json(definition: &Definition) -> Value {
    json!({
        "kind": definition.kind,
        "name": definition.name,
        "version": (definition.version > 0).then_some(definition.version),
        "source": definition.source,
        "toml": definition.toml,
    })
}

fn print(definitions: &DescribeViewsResponse, sources: &[Definition]) -> std::io::Result<()> {
    for view in &definitions.views {
        output::line(view_text(view))?;
    }
    for service in &definitions.feature_services {
        output::line(format_args!("{}@{}: {}", service.name, service.version, service.features.join(", ")))?;
    }
    if sources.is_empty() {
        return Ok(());
    }
    let mut table = output::table(&["kind", "name", "version", "from"]);
    for Definition { kind, name, version, source, .. } in sources {
        let version = if *version == 0 { String::new() } else { version.to_string() };
        table.add_row([kind, name, &version, source]);
    }
    output::line(format_args!("\n{}", output::rendered(&table)))
}

fn view_text(view: &ViewDescription) -> String {
    let mut table = output::table(&["field", "path", "type", "default"]);
    for field in &view.fields {
        table.add_row([&field.name, &field.path, &field.r#type, &field.default_json]);
    }
    format!(
        "{} (id {}, lane {}, of a {})\nfrom {}; event time by {}; TTL {}; history {}{}\n{}\n",
        view.name,
        view.id,
        view.lane,
        view.entity_kind,
        view.topics.join(", "),
        view.event_time,
        output::span(view.ttl_ms as i64),
        view.history,
        if view.avro_json { "; Avro-JSON" } else { "" },
        output::rendered(&table)
    )
}

fn document(definitions: &DescribeViewsResponse, sources: &[Definition]) -> Value {
    let services = definitions.feature_services.iter();
    let services = services.map(
        |service| json!({"name": service.name, "version": service.version, "features": service.features}),
    );
    json!({
        "views": definitions.views.iter().map(view_json).collect::<Vec<_>>(),
        "feature_services": services.collect::<Vec<_>>(),
        "definitions": sources.iter().map(definition_json).collect::<Vec<_>>(),
    })
}

fn view_json(view: &ViewDescription) -> Value {
    json!({
        "name": view.name,
        "id": view.id,
        "lane": view.lane,
        "entity": view.entity_kind,
        "topics": view.topics,
        "event_time": view.event_time,
        "ttl_ms": view.ttl_ms,
        "history": view.history,
        "avro_json": view.avro_json,
        "fields": view.fields.iter().map(field_json).collect::<Vec<_>>(),
    })
}

fn field_json(field: &FieldDescription) -> Value {
    let default: Option<Value> = serde_json::from_str(&field.default_json).ok();
    json!({"name": field.name, "path": field.path, "type": field.r#type, "default": default})
}
