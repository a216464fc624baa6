//! One request as routes see it: what stands in its path, query, headers and body, each read with errors that name the
//! place. Made by `route`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tonic::Status;

use crate::service::Context;

/// Before the base64 of an entity id that is not text.
pub(crate) const BASE64: &str = "base64:";

/// The header with a request's deadline.
const TIMEOUT: &str = "x-timeout-ms";

/// One request.
pub(super) struct Call {
    pub context: Arc<Context>,
    pub path: BTreeMap<String, String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What stands behind the `?`.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

impl Call {
    /// A part of the path.
    pub(super) fn part(&self, name: &str) -> &str {
        self.path.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The entity of the path.
    pub(super) fn entity(&self) -> Result<Bytes, Status> {
        entity("entity", self.part("entity"))
    }

    /// The body, as JSON.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Status> {
        body(&self.body)
    }

    /// The contract's message as a call with the deadline of the header.
    pub(super) fn request<T>(&self, message: T) -> Result<tonic::Request<T>, Status> {
        let mut request = tonic::Request::new(message);
        if let Some(value) = self.headers.get(TIMEOUT) {
            let ms = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
            let ms = ms.ok_or_else(|| invalid(format!("header {TIMEOUT}: expected whole milliseconds")))?;
            request.set_timeout(Duration::from_millis(ms.into()));
        }
        Ok(request)
    }
}

/// A body as JSON; an error names the place.
pub(crate) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(bytes).map_err(|error| invalid(format!("body: {error}")))
}

/// An entity id: text, or `base64:` and its bytes.
pub(crate) fn entity(place: &str, text: &str) -> Result<Bytes, Status> {
    match text.strip_prefix(BASE64) {
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map(Bytes::from)
            .map_err(|error| invalid(format!("{place}: not base64 after \"{BASE64}\": {error}"))),
    }
}

/// A page token as text.
pub(super) fn token_text(token: &[u8]) -> Option<String> {
    (!token.is_empty()).then(|| BASE64_URL_SAFE_NO_PAD.encode(token))
}

impl Query {
    /// Reads what stands behind the `?`; names that are not `known` are refused.
    pub(super) fn read(text: &str, known: &[&str]) -> Result<Query, Status> {
        let mut all = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (unescaped(name)?, unescaped(value)?);
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "there are none".into() } else { known.join(", ") };
                return Err(invalid(format!("query: unknown parameter {name:?}; known: {known}")));
            }
            if all.insert(name.clone(), value).is_some() {
                return Err(invalid(format!("query: {name} is given twice")));
            }
        }
        Ok(Query(all))
    }

    /// A text; empty if it is not given.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A number or `true`/`false`, if it is given.
    pub(super) fn value<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        let read = |text: &String| {
            text.parse().map_err(|_| {
                let expected = std::any::type_name::<T>();
                invalid(format!("query: {name}: expected {expected}, found {text:?}"))
            })
        };
        self.0.get(name).map(read).transpose()
    }

    /// Names with commas between.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// The token of the page before.
    pub(super) fn token(&self, name: &str) -> Result<Bytes, Status> {
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(self.text(name));
        decoded.map(Bytes::from).map_err(|_| invalid(format!("query: {name}: not a token of ours")))
    }
}

/// `%41+b` as `A b`.
fn unescaped(text: &str) -> Result<String, Status> {
    let bad = || invalid(format!("query: {text:?} is not escaped as a query is"));
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
                hex::decode(digits).map_err(|_| bad())?[0]
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_its_escapes() {
        let query = Query::read("a=%41+b&n=7&list=x,y", &["a", "n", "list", "none"]).expect("good");
        assert_eq!(query.text("a"), "A b");
        assert_eq!(query.value::<u32>("n").expect("a number"), Some(7));
        assert_eq!(query.value::<u32>("none").expect("absent"), None);
        assert_eq!(query.list("list"), ["x", "y"]);
        assert!(query.value::<u32>("a").is_err_and(|status| status.message().contains("expected u32")));
        for bad in ["b=1", "a=1&a=2", "a=%4", "a=%zz", "a=%ff"] {
            assert!(Query::read(bad, &["a"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entity_is_text_or_base64() {
        assert_eq!(entity("e", "c-1").as_deref().ok(), Some(b"c-1".as_slice()));
        assert_eq!(entity("e", "base64:AP8=").as_deref().ok(), Some([0, 255].as_slice()));
        assert!(entity("e", "base64:?").is_err());
    }
}
