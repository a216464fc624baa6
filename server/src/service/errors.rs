//! What a call fails with: one place for the gRPC codes. Used by every module here.

use forebay_proto::v1::RequestError;
use forebay_storage::ReadError;
use tonic::Status;

/// The request itself is wrong; sending it again changes nothing.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

/// The deadline passed; says what was not done.
pub(super) fn too_late(message: impl Into<String>) -> Status {
    Status::deadline_exceeded(message)
}

/// Stored bytes are damaged: the call fails as a whole rather than answer with anything else.
pub(super) fn data_loss(error: &ReadError) -> Status {
    tracing::error!(%error, "a read found damaged data");
    Status::data_loss(error.to_string())
}

/// The same failure as an answer on a stream.
pub(super) fn request_error(status: &Status) -> RequestError {
    RequestError { code: status.code() as i32, message: status.message().to_owned() }
}
