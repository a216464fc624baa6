//! What a call fails with: one place for the gRPC codes. Used by every module here.

use std::time::Duration;

use forebay_proto::v1::RequestError;
use forebay_storage::ReadError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

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

/// There is too much to do; nothing was done for this call, and after some time it may be made again. Says when in the
/// details, and in the trailer that gRPC's own retries heed.
pub(super) fn overloaded(message: impl Into<String>, after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(after));
    let mut status = Status::with_error_details(Code::ResourceExhausted, message, details);
    status.metadata_mut().insert("grpc-retry-pushback-ms", (after.as_millis() as u64).into());
    status
}

/// The same failure as an answer on a stream.
pub(super) fn request_error(status: &Status) -> RequestError {
    let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
    RequestError {
        code: status.code() as i32,
        message: status.message().to_owned(),
        retry_after_ms: hint.map_or(0, |after| after.as_millis() as u32),
    }
}
