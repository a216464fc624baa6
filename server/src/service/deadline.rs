//! When an answer is due: from the `grpc-timeout` header or a stream request's own timeout. Used by every handler that
//! may wait. tonic ends a call at the header's time by itself, so what waits here has to give up a little earlier to be
//! able to say why.

use std::time::{Duration, Instant};

use tonic::Status;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::MetadataMap;

use super::errors::too_late;

/// When an answer is due, if ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// When waiting must end so that the answer is there in time.
    give_up: Option<Instant>,
    /// When the caller stops listening.
    end: Option<Instant>,
}

impl Deadline {
    /// The deadline of a call that arrives now.
    pub(super) fn of(metadata: &MetadataMap) -> Deadline {
        Deadline::after(timeout(metadata.as_ref()))
    }

    /// The deadline of a stream's request that arrives now; 0 ms: none.
    pub(super) fn after_ms(timeout_ms: u32) -> Deadline {
        Deadline::after((timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into())))
    }

    fn after(timeout: Option<Duration>) -> Deadline {
        let Some(timeout) = timeout else { return Deadline { give_up: None, end: None } };
        let now = Instant::now();
        let margin = (timeout / 10).clamp(Duration::from_millis(1), Duration::from_millis(100));
        // A timeout too long for the clock is as good as none.
        let give_up = now.checked_add(timeout.saturating_sub(margin));
        Deadline { give_up, end: now.checked_add(timeout) }
    }

    /// Refuses a call whose deadline has passed.
    pub(super) fn check(&self) -> Result<(), Status> {
        match self.end {
            Some(end) if end <= Instant::now() => {
                Err(too_late("the deadline had passed before the call began"))
            }
            _ => Ok(()),
        }
    }

    /// Until when to wait; without a deadline for `default_ms`.
    pub(super) fn wait_until(&self, default_ms: u64) -> Instant {
        self.give_up.unwrap_or_else(|| Instant::now() + Duration::from_millis(default_ms))
    }

    /// When waiting must end so that the answer is there in time, if ever.
    pub(super) fn give_up(&self) -> Option<Instant> {
        self.give_up
    }

    /// When the caller stops listening, if ever.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }
}

/// How long a call's caller waits, if it says so.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse)
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol: at most 8 digits and one of H M S m u n.
fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "m", "1", "-1m", "123456789m", "1x", "1.5S", "\u{e9}"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bad_42_a_deadline_of_zero_has_passed_and_one_of_an_hour_has_not() {
        let of = |header: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", header.parse().expect("ASCII"));
            Deadline::of(&metadata)
        };
        assert_eq!(of("0n").check().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert!(of("1H").check().is_ok());
        assert!(of("99999999H").check().is_ok());
        assert!(Deadline::after_ms(0).check().is_ok());
    }

    #[test]
    fn waiting_gives_up_before_the_caller_does() {
        let deadline = Deadline::after_ms(1000);
        assert!(deadline.wait_until(5000) < deadline.end().unwrap());
    }
}
