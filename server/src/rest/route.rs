//! Every route with what answers it: one table, from which the router is made and with which `docs/openapi.json` is
//! compared.

use std::pin::Pin;
use std::sync::Arc;

use axum::RequestPartsExt as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tonic::{Code, Status};

use super::call::{Call, Query};
use super::failure::Failure;
use super::{admin, diagnoses, store};
use crate::service::Context;

/// What a route's function gives: JSON, or why there is none.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;

/// A route.
pub(super) struct Route {
    pub method: Method,
    pub path: &'static str,
    /// Names that may stand behind the `?`.
    pub query: &'static [&'static str],
    /// What answers it.
    pub handle: fn(Call) -> Answer,
}

const HISTORY: &[&str] = &[
    "from_ms",
    "to_ms",
    "known_at_ms",
    "limit",
    "page_token",
    "format",
    "fields",
    "max_staleness_ms",
    "include_expired",
];
const LIST: &[&str] = &["from_ms", "to_ms", "limit", "page_token", "full"];

macro_rules! routes {
    ($($method:ident $path:literal $query:expr => $handle:path,)*) => {
        /// Every route.
        pub(super) const ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            query: $query,
            handle: |call| Box::pin($handle(call)),
        }),*];
    };
}

routes! {
    POST "/v1/features" &[] => store::features,
    GET "/v1/entities/{entity}/views/{view}/history" HISTORY => store::history,
    DELETE "/v1/entities/{entity}/views/{view}" &["event_time_ms"] => store::delete,
    POST "/v1/data-points" &[] => store::push,
    POST "/v1/snapshots" &[] => diagnoses::create_snapshot,
    GET "/v1/snapshots/{diagnosis}" &[] => diagnoses::snapshot,
    GET "/v1/diagnoses/{diagnosis}" &[] => diagnoses::diagnosis,
    GET "/v1/entities/{entity}/diagnoses" LIST => diagnoses::list,
    POST "/v1/predictions" &[] => diagnoses::record_prediction,
    POST "/v1/outcomes" &[] => diagnoses::record_outcome,
    POST "/v1/entities/{entity}/erase" &["entity_kind"] => diagnoses::erase,
    GET "/v1/definitions" &["kind", "name"] => admin::definitions,
    GET "/v1/status" &["lane"] => admin::status,
    GET "/v1/openapi.json" &[] => admin::openapi,
}

/// The router of all of them. Other paths are 404, other methods 405, both as JSON.
pub(super) fn router(context: Arc<Context>) -> Router {
    let add = |router: Router<Arc<Context>>, route: &'static Route| {
        // Every method of the table has a filter.
        let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
        let handle = move |State(context), request| answer(route, context, request);
        router.route(route.path, MethodRouter::new().merge(on(filter, handle)))
    };
    let absent = async |request: Request| {
        Failure::of(
            StatusCode::NOT_FOUND,
            Code::NotFound,
            format!("there is no path {}", request.uri().path()),
        )
    };
    let other = async |request: Request| {
        let message = format!("{} has no {}", request.uri().path(), request.method());
        Failure::of(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, message)
    };
    ROUTES
        .iter()
        .fold(Router::new(), add)
        .fallback(absent)
        .method_not_allowed_fallback(other)
        .with_state(context)
}

async fn answer(route: &'static Route, context: Arc<Context>, request: Request<Body>) -> Response {
    match call(route, context, request).await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn call(route: &Route, context: Arc<Context>, request: Request<Body>) -> Result<Vec<u8>, Failure> {
    allowed(&context)?;
    let limit = context.config.read.max_message_bytes;
    let (mut parts, body) = request.into_parts();
    if route.method == Method::POST && !is_json(&parts.headers) {
        let message = "header content-type: expected application/json";
        return Err(Failure::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message));
    }
    let query = Query::read(parts.uri.query().unwrap_or_default(), route.query)?;
    let path = parts.extract::<RawPathParams>().await;
    let path = path.map_err(|error| Status::invalid_argument(format!("path: {error}")))?;
    let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let body = to_bytes(body, limit).await.map_err(|error| too_large(&error, limit))?;
    let call = Call { context, path, query, headers: parts.headers, body };
    Ok((route.handle)(call).await?)
}

fn too_large(error: &axum::Error, limit: usize) -> Failure {
    let message = format!("body: {error}; it has at most {limit} bytes");
    Failure::of(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, message)
}

/// What a web page may send here without asking first is no JSON: so no page can write.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// This port is never encrypted: where others can reach it and the server was told to keep its data from them, it gives
/// none.
fn allowed(context: &Context) -> Result<(), Status> {
    let server = &context.config.server;
    match server.http_listen.ip().is_loopback() || server.insecure {
        true => Ok(()),
        false => Err(Status::permission_denied(
            "this port is not encrypted and other machines can reach it: use gRPC, or set server.insecure = true, or \
             have server.http_listen be a loopback address",
        )),
    }
}
