//! Page tokens of GetHistory: the last version given and the request it was given to, with a checksum. A version is named
//! by its topic's name rather than by a shard's number for it, so that a token is good on every replica.
//!
//! Bytes: checksum u64 · request fingerprint u64 · event time i64 · offset i64 · tombstone u8 · topic name. Integers are
//! little-endian.

use bytes::Bytes;
use forebay_proto::v1::GetHistoryRequest;
use forebay_storage::{TopicIndex, VersionKey};
use tonic::Status;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::errors::invalid;

/// Tells a token from chance bytes; a change of the layout changes it too.
const SEED: u64 = 0x666f_7265_6261_7901;

/// Bytes before the topic name.
const FIXED_BYTES: usize = 33;

/// The token after `last`, a version of `topic`.
pub(super) fn token(request: &GetHistoryRequest, last: &VersionKey, topic: &str) -> Bytes {
    let mut body = Vec::with_capacity(FIXED_BYTES + topic.len());
    body.extend_from_slice(&fingerprint(request).to_le_bytes());
    body.extend_from_slice(&last.event_time_ms.to_le_bytes());
    body.extend_from_slice(&last.offset.to_le_bytes());
    body.push(u8::from(last.tombstone));
    body.extend_from_slice(topic.as_bytes());
    let checksum = xxh3_64_with_seed(&body, SEED);
    body.splice(0..0, checksum.to_le_bytes());
    body.into()
}

/// Refuses a token that is not ours or belongs to another request.
pub(super) fn check(request: &GetHistoryRequest) -> Result<(), Status> {
    parse(request).map(drop)
}

/// The version after which the page begins; none without a token. `number` gives a topic's number in the shard.
pub(super) fn after(
    request: &GetHistoryRequest,
    number: impl Fn(&str) -> Option<TopicIndex>,
) -> Result<Option<VersionKey>, Status> {
    let Some(last) = parse(request)? else { return Ok(None) };
    let topic = number(last.topic).ok_or_else(|| {
        invalid(format!("page_token: the shard has no topic {:?} any more; begin again", last.topic))
    })?;
    let Last { event_time_ms, tombstone, offset, .. } = last;
    Ok(Some(VersionKey { event_time_ms, tombstone, topic, offset }))
}

struct Last<'t> {
    event_time_ms: i64,
    tombstone: bool,
    offset: i64,
    topic: &'t str,
}

fn parse(request: &GetHistoryRequest) -> Result<Option<Last<'_>>, Status> {
    if request.page_token.is_empty() {
        return Ok(None);
    }
    let foreign = || invalid("page_token: not a token this server gave; begin again without one");
    let (of, last) = decode(&request.page_token).ok_or_else(foreign)?;
    if of != fingerprint(request) {
        return Err(invalid(
            "page_token: given for another request; entity, view, times and include_expired must be the same on every page",
        ));
    }
    Ok(Some(last))
}

fn decode(token: &[u8]) -> Option<(u64, Last<'_>)> {
    let (checksum, body) = token.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*checksum) != xxh3_64_with_seed(body, SEED) {
        return None;
    }
    let (fingerprint, rest) = body.split_first_chunk::<8>()?;
    let (event_time_ms, rest) = rest.split_first_chunk::<8>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (tombstone, topic) = rest.split_first()?;
    let last = Last {
        event_time_ms: i64::from_le_bytes(*event_time_ms),
        tombstone: *tombstone != 0,
        offset: i64::from_le_bytes(*offset),
        topic: std::str::from_utf8(topic).ok()?,
    };
    Some((u64::from_le_bytes(*fingerprint), last))
}

/// What must be the same on every page.
fn fingerprint(request: &GetHistoryRequest) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&xxh3_64(&request.entity).to_le_bytes());
    hash.update(&xxh3_64(request.view.as_bytes()).to_le_bytes());
    for time in [request.from_ms, request.to_ms, request.known_at_ms] {
        hash.update(&[u8::from(time.is_some())]);
        hash.update(&time.unwrap_or_default().to_le_bytes());
    }
    hash.update(&[u8::from(request.include_expired)]);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: VersionKey =
        VersionKey { event_time_ms: 1_700_000_000_000, tombstone: true, topic: TopicIndex(3), offset: 42 };

    fn request(entity: &'static str, page_token: Bytes) -> GetHistoryRequest {
        GetHistoryRequest {
            entity: entity.into(),
            view: "points".into(),
            from_ms: Some(5),
            page_token,
            ..GetHistoryRequest::default()
        }
    }

    fn number(topic: &str) -> Option<TopicIndex> {
        (topic == "t").then_some(TopicIndex(3))
    }

    #[test]
    fn a_token_gives_its_version_back_to_the_same_request() {
        let token = token(&request("e", Bytes::new()), &LAST, "t");
        assert_eq!(after(&request("e", token), number).unwrap(), Some(LAST));
        assert_eq!(after(&request("e", Bytes::new()), number).unwrap(), None);
    }

    #[test]
    fn a_token_of_another_request_is_refused() {
        let token = token(&request("e", Bytes::new()), &LAST, "t");
        assert!(check(&request("f", token.clone())).unwrap_err().message().contains("another request"));
        let mut other = request("e", token);
        other.from_ms = None;
        assert!(check(&other).is_err());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_of_a_token_is_refused() {
        let token = token(&request("e", Bytes::new()), &LAST, "t");
        for at in 0..token.len() {
            let mut bad = token.to_vec();
            bad[at] ^= 1;
            assert!(check(&request("e", bad.into())).is_err(), "byte {at}");
            if at > 0 {
                assert!(check(&request("e", token.slice(..at))).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_token_of_a_topic_that_is_gone_is_refused() {
        let token = token(&request("e", Bytes::new()), &LAST, "gone");
        assert!(after(&request("e", token), number).unwrap_err().message().contains("gone"));
    }
}
