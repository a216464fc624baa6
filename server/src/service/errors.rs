//! What a call fails with: one place for the gRPC codes, and the suggestions that turn "unknown" into "did you mean".
//! Used by every module here.

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

/// An unknown name of something, with the known name that is nearest to it.
pub(super) fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Status {
    let shown: String = name.chars().take(100).collect();
    match nearest(&shown, known) {
        Some(near) => invalid(format!("unknown {what} {shown:?}; did you mean {near:?}?")),
        None => invalid(format!("unknown {what} {shown:?}; DescribeViews lists what is defined")),
    }
}

/// The known name within a third of the letters of what was written, if there is one.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = (name.chars().count() / 3).max(1);
    let near = known.map(|other| (distance(name, other), other)).min_by_key(|(distance, _)| *distance)?;
    (near.0 <= allowed).then_some(near.1)
}

/// Levenshtein distance by Wagner and Fischer's rows.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_if_it_is_near() {
        let known = ["signal", "speedtest", "wifi"];
        let message = |name: &str| unknown("view", name, known.into_iter()).message().to_owned();
        assert_eq!(message("signel"), r#"unknown view "signel"; did you mean "signal"?"#);
        assert_eq!(message("speed_test"), r#"unknown view "speed_test"; did you mean "speedtest"?"#);
        assert!(message("modem").contains("DescribeViews"));
    }

    #[test]
    fn a_huge_unknown_name_does_not_make_a_huge_message() {
        let message = unknown("view", &"x".repeat(1 << 20), ["a"].into_iter()).message().to_owned();
        assert!(message.len() < 300, "{}", message.len());
    }
}
