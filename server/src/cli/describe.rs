//! `forebay describe`: the definitions in force on a server: views with their fields, feature services.

use forebay_client::v1::{DescribeViewsResponse, FieldDescription, ViewDescription};
use serde_json::{Value, json};

use super::arguments::Connection;
use super::output;

const EXAMPLES: &str = "\
Examples:
  forebay describe
  forebay describe modem_health
  forebay describe --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only these views
    views: Vec<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let definitions = connection.client().await?.describe_views(args.views).await?;
    match args.json {
        true => output::json_line(&document(&definitions))?,
        false => print(&definitions)?,
    }
    Ok(())
}

fn print(definitions: &DescribeViewsResponse) -> std::io::Result<()> {
    for view in &definitions.views {
        output::line(view_text(view))?;
    }
    for service in &definitions.feature_services {
        output::line(format_args!("{}@{}: {}", service.name, service.version, service.features.join(", ")))?;
    }
    Ok(())
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

fn document(definitions: &DescribeViewsResponse) -> Value {
    let services = definitions.feature_services.iter();
    let services = services.map(
        |service| json!({"name": service.name, "version": service.version, "features": service.features}),
    );
    json!({
        "views": definitions.views.iter().map(view_json).collect::<Vec<_>>(),
        "feature_services": services.collect::<Vec<_>>(),
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
