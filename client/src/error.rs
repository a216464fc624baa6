//! Why a call failed, told by what the caller should do about it. Made from gRPC statuses here and nowhere else.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, ConnectError, TimeoutExpired};
use tonic_types::StatusExt as _;

/// Why a call failed. The variants differ in what the caller should do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request or the configuration is wrong; the same again fails again.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// There is no such thing, or not any more.
    #[error("{message}")]
    NotFound {
        /// What there is not.
        message: String,
    },
    /// It is there already, and is something else than was asked for.
    #[error("{message}")]
    AlreadyExists {
        /// How it differs.
        message: String,
    },
    /// The server is in no state to do it (a reload that would break data, a read-only server); a person must act.
    #[error("{message}")]
    Refused {
        /// What stands against it.
        message: String,
    },
    /// The server wants credentials, or others.
    #[error("{message}")]
    Denied {
        /// What is missing.
        message: String,
    },
    /// No connection could be established: nothing was sent. Trying again is safe for writes too.
    #[error("cannot connect to {server}: {message}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// What the operating system or TLS said.
        message: String,
    },
    /// A server answered that it cannot now. Reads may be tried again later; a write may have happened.
    #[error("{server} is unavailable: {message}")]
    Unavailable {
        /// The server's address.
        server: String,
        /// What it said.
        message: String,
    },
    /// The server has more to do than it can. It did nothing; after a while it may be asked again, for writes too.
    #[error("{server}: {message}")]
    Overloaded {
        /// The server's address.
        server: String,
        /// What it has too much of.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Duration,
    },
    /// The connection broke during the call. Reads may be tried again; a write may have happened.
    #[error("the connection to {server} broke: {message}")]
    Broken {
        /// The server's address.
        server: String,
        /// How it broke.
        message: String,
    },
    /// The deadline passed first. A write may have happened.
    #[error("the deadline passed: {message}")]
    DeadlineExceeded {
        /// What was being waited for.
        message: String,
    },
    /// Stored bytes are damaged; another replica may have them whole.
    #[error("{server}: {message}")]
    DataLoss {
        /// The server's address.
        server: String,
        /// Which shard and position.
        message: String,
    },
    /// The answer would be larger than `max_response_bytes`, or than the server lets one be: ask for less.
    #[error("{message}")]
    TooMuch {
        /// What there was too much of.
        message: String,
    },
    /// The server failed in a way the contract does not foresee.
    #[error("{server} failed ({code:?}): {message}")]
    Server {
        /// The server's address.
        server: String,
        /// The gRPC code.
        code: Code,
        /// What it said.
        message: String,
    },
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid { message: message.into() }
    }

    /// What a status of this server means.
    pub(crate) fn from_status(server: &str, status: &tonic::Status) -> Self {
        let (server, message) = (server.to_owned(), status.message().to_owned());
        if let Some(connect) = cause::<ConnectError>(status) {
            return Error::Unreachable { server, message: root_cause(connect) };
        }
        if cause::<TimeoutExpired>(status).is_some() || is_timeout(status) {
            return Error::DeadlineExceeded { message: format!("{server} did not answer in time") };
        }
        if status.source().is_some() && !matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) {
            return Error::Broken { message: root_cause(status), server };
        }
        let hint = match status.code() {
            Code::ResourceExhausted => status.get_details_retry_info().and_then(|info| info.retry_delay),
            _ => None,
        };
        match hint {
            Some(retry_after) => Error::Overloaded { server, message, retry_after },
            None => Error::from_code(server, status.code(), message),
        }
    }

    /// What a gRPC code and message of this server mean.
    pub(crate) fn from_code(server: String, code: Code, message: String) -> Self {
        match code {
            Code::InvalidArgument => Error::Invalid { message },
            Code::NotFound => Error::NotFound { message },
            Code::AlreadyExists => Error::AlreadyExists { message },
            Code::FailedPrecondition => Error::Refused { message },
            Code::Unauthenticated | Code::PermissionDenied => Error::Denied { message },
            Code::Unavailable => Error::Unavailable { server, message },
            Code::DeadlineExceeded => Error::DeadlineExceeded { message },
            Code::DataLoss => Error::DataLoss { server, message },
            Code::OutOfRange | Code::ResourceExhausted => Error::TooMuch { message },
            code => Error::Server { server, code, message },
        }
    }

    /// A read that failed so may succeed on the same server later, or on another now.
    pub fn read_may_be_retried(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::Unavailable { .. }
                | Error::Broken { .. }
                | Error::Overloaded { .. }
        )
    }

    /// How long the server that said so wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Another replica may answer where this one failed.
    pub(crate) fn another_server_may_help(&self) -> bool {
        self.read_may_be_retried() || matches!(self, Error::DataLoss { .. })
    }

    /// Who has which shard may not be what it was.
    pub(crate) fn may_have_moved(&self) -> bool {
        self.another_server_may_help() && !matches!(self, Error::Overloaded { .. })
    }

    /// Nothing was sent, or nothing was done with it, so a write may be tried again.
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Overloaded { .. })
    }
}

/// tonic's own timeout, from either side of the wire, comes as CANCELLED or DEADLINE_EXCEEDED with this text.
fn is_timeout(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) && status.message() == "Timeout expired"
}

/// The first error of this type in the chain of causes.
fn cause<E: std::error::Error + 'static>(status: &tonic::Status) -> Option<&E> {
    let mut next = status.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The innermost cause says the most: "Connection refused" rather than "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code) -> Error {
        Error::from_status("http://a:1", &tonic::Status::new(code, "why"))
    }

    #[test]
    fn each_code_becomes_what_the_caller_should_do() {
        assert!(matches!(error(Code::InvalidArgument), Error::Invalid { message } if message == "why"));
        assert!(matches!(error(Code::DataLoss), Error::DataLoss { .. }));
        assert!(matches!(error(Code::DeadlineExceeded), Error::DeadlineExceeded { .. }));
        assert!(matches!(error(Code::Internal), Error::Server { code: Code::Internal, .. }));
        assert!(error(Code::Unavailable).read_may_be_retried());
        assert!(!error(Code::Unavailable).nothing_was_sent());
    }

    #[test]
    fn a_busy_server_is_asked_again_and_one_that_was_asked_for_too_much_is_not() {
        let too_much = error(Code::ResourceExhausted);
        assert!(matches!(&too_much, Error::TooMuch { .. }) && !too_much.read_may_be_retried(), "{too_much}");
        let after = Duration::from_millis(40);
        let details = tonic_types::ErrorDetails::with_retry_info(Some(after));
        let status = tonic::Status::with_error_details(Code::ResourceExhausted, "busy", details);
        let busy = Error::from_status("http://a:1", &status);
        assert_eq!(busy.retry_after(), Some(after));
        assert!(busy.read_may_be_retried() && busy.nothing_was_sent(), "{busy}");
    }

    #[test]
    fn the_transports_timeout_is_a_deadline_whatever_its_code() {
        let status = tonic::Status::new(Code::Cancelled, "Timeout expired");
        assert!(matches!(Error::from_status("s", &status), Error::DeadlineExceeded { .. }));
    }
}
