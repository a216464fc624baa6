//! Routes of features: reads, history, data points, deletions.

use forebay_proto::v1::feature_store_server::FeatureStore as _;
use forebay_proto::v1::{
    DataPoint, DeleteFeaturesRequest, Format, GetHistoryRequest, OffsetVector, PushFeaturesRequest,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tonic::Status;

use super::ask::Ask;
use super::call::{Call, entity, token_text};
use super::values;
use crate::service::calls;

pub(super) async fn features(call: Call) -> Result<Vec<u8>, Status> {
    let ask: Ask = call.body()?;
    ask.check_rest()?;
    let message = ask.message()?;
    let entities = message.entities.clone();
    let answer = calls::store(&call.context).get_features(call.request(message)?).await?.into_inner();
    Ok(values::features(&entities, &answer))
}

pub(super) async fn history(call: Call) -> Result<Vec<u8>, Status> {
    let query = &call.query;
    let format = match query.text("format") {
        "" | "json" => Format::Json,
        "typed" => Format::Typed,
        other => {
            return Err(Status::invalid_argument(format!("query: format: {other:?} is not json or typed")));
        }
    };
    let message = GetHistoryRequest {
        entity: call.entity()?,
        view: call.part("view").to_owned(),
        from_ms: query.value("from_ms")?,
        to_ms: query.value("to_ms")?,
        known_at_ms: query.value("known_at_ms")?,
        limit: query.value("limit")?.unwrap_or_default(),
        page_token: query.token("page_token")?,
        format: format.into(),
        fields: query.list("fields"),
        wait_for: None,
        max_staleness_ms: query.value("max_staleness_ms")?,
        include_expired: query.value("include_expired")?.unwrap_or_default(),
    };
    let answer = calls::store(&call.context).get_history(call.request(message)?).await?.into_inner();
    let mut out = b"{\"versions\":".to_vec();
    values::rows(&mut out, &answer.versions.unwrap_or_default());
    values::vector_member(&mut out, "read_at", answer.read_at.as_ref());
    if let Some(token) = token_text(&answer.next_page_token) {
        // The token needs no escaping.
        out.extend_from_slice(format!(",\"next_page_token\":\"{token}\"").as_bytes());
    }
    out.push(b'}');
    Ok(out)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push<'j> {
    #[serde(borrow)]
    data_points: Vec<Point<'j>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point<'j> {
    entity: String,
    view: String,
    #[serde(borrow)]
    value: &'j RawValue,
    event_time_ms: Option<i64>,
    ttl_ms: Option<u64>,
}

pub(super) async fn push(call: Call) -> Result<Vec<u8>, Status> {
    let asked: Push<'_> = serde_json::from_slice(&call.body)
        .map_err(|error| Status::invalid_argument(format!("body: {error}")))?;
    let point = |(i, point): (usize, Point<'_>)| {
        Ok(DataPoint {
            entity: entity(&format!("data_points[{i}].entity"), &point.entity)?,
            view: point.view,
            json: point.value.get().to_owned().into(),
            event_time_ms: point.event_time_ms,
            ttl_ms: point.ttl_ms,
        })
    };
    let data_points = asked.data_points.into_iter().enumerate().map(point).collect::<Result<_, Status>>()?;
    let request = call.request(PushFeaturesRequest { data_points })?;
    let answer = calls::store(&call.context).push_features(request).await?.into_inner();
    let mut out = positions(answer.positions.as_ref());
    out.extend_from_slice(b",\"data_points\":[");
    for (i, position) in answer.data_points.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        values::write_position(&mut out, position);
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

pub(super) async fn delete(call: Call) -> Result<Vec<u8>, Status> {
    let message = DeleteFeaturesRequest {
        entities: vec![call.entity()?],
        views: vec![call.part("view").to_owned()],
        event_time_ms: call.query.value("event_time_ms")?,
    };
    let answer = calls::store(&call.context).delete_features(call.request(message)?).await?.into_inner();
    let mut out = positions(answer.positions.as_ref());
    out.push(b'}');
    Ok(out)
}

/// The beginning of an object: where what was written can be waited for.
pub(super) fn positions(positions: Option<&OffsetVector>) -> Vec<u8> {
    let mut out = b"{\"positions\":".to_vec();
    values::write_vector(&mut out, positions);
    out
}
