//! What a request fails with: the one table from gRPC's codes to HTTP's, and the JSON of an error. Called by every route,
//! and by requests by Kafka for the names of codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::{Code, Status};

/// gRPC's codes, their names, and what HTTP says for them.
const CODES: [(Code, &str, u16); 17] = [
    (Code::Ok, "OK", 200),
    (Code::Cancelled, "CANCELLED", 499),
    (Code::Unknown, "UNKNOWN", 500),
    (Code::InvalidArgument, "INVALID_ARGUMENT", 400),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (Code::NotFound, "NOT_FOUND", 404),
    (Code::AlreadyExists, "ALREADY_EXISTS", 409),
    (Code::PermissionDenied, "PERMISSION_DENIED", 403),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Code::Aborted, "ABORTED", 409),
    (Code::OutOfRange, "OUT_OF_RANGE", 400),
    (Code::Unimplemented, "UNIMPLEMENTED", 501),
    (Code::Internal, "INTERNAL", 500),
    (Code::Unavailable, "UNAVAILABLE", 503),
    (Code::DataLoss, "DATA_LOSS", 500),
    (Code::Unauthenticated, "UNAUTHENTICATED", 401),
];

/// A failure with its HTTP code.
#[derive(Debug)]
pub(crate) struct Failure {
    http: u16,
    status: Status,
}

/// The name of a code.
pub(crate) fn name(code: Code) -> &'static str {
    CODES[code as usize].1
}

/// An error as JSON.
pub(crate) fn error_json(status: &Status) -> Vec<u8> {
    json!({"code": name(status.code()), "message": status.message()}).to_string().into_bytes()
}

impl Failure {
    /// A failure that only HTTP knows, under the gRPC code that is nearest to it.
    pub(crate) fn of(http: StatusCode, code: Code, message: impl Into<String>) -> Failure {
        Failure { http: http.as_u16(), status: Status::new(code, message) }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure { http: CODES[status.code() as usize].2, status }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (code, [json], error_json(&self.status)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code_at_its_place() {
        for (i, (code, name, http)) in CODES.into_iter().enumerate() {
            assert_eq!(code as usize, i, "{name}");
            assert!(StatusCode::from_u16(http).is_ok(), "{name}");
            assert_eq!(format!("{code:?}").to_uppercase(), name.replace('_', ""));
        }
    }
}
