//! How arguments are written: moments, durations, entities, views with fields, and how to reach the servers. Every
//! error says what was expected. Used by the commands; knows none of them.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use forebay_client::{Client, ClientConfig, TlsOptions};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::BadInput;

/// How to reach the servers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The server's address, or several with commas between
    #[arg(
        long,
        global = true,
        env = "FOREBAY_SERVER",
        default_value = "http://127.0.0.1:7400",
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub server: Vec<String>,
    /// How long to wait for an answer
    #[arg(long, global = true, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub deadline: Duration,
    /// PEM file with the certificates that sign the servers' (for https)
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, for servers that ask for one
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with our private key
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// A view, and which of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewArgument {
    /// The view's name.
    pub view: String,
    /// Its fields; empty: all.
    pub fields: Vec<String>,
}

impl Connection {
    /// A client for these servers.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let mut config = ClientConfig::new(self.server.clone());
        config.deadline = self.deadline;
        config.tls = self.tls()?;
        Ok(Client::connect(config).await?)
    }

    fn tls(&self) -> anyhow::Result<Option<TlsOptions>> {
        let Some(ca) = &self.tls_ca else { return Ok(None) };
        let identity_pem = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        Ok(Some(TlsOptions { ca_pem: read(ca)?, identity_pem, server_name: None }))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, BadInput> {
    std::fs::read(path).map_err(|error| BadInput(format!("{}: {error}", path.display())))
}

/// A moment: ms since the epoch, or RFC 3339 (`2026-01-31T12:00:00Z`). Gives ms since the epoch.
pub fn moment(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!("{text:?} is not a time: expected ms since the epoch or like 2026-01-31T12:00:00Z")
    })?;
    Ok((parsed.unix_timestamp_nanos() / 1_000_000) as i64)
}

/// A duration with its unit: `500ms`, `5s`, `10m`, `1h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("{text:?} is not a duration: expected a number and a unit, like 500ms, 5s, 10m, 1h, 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    ms.map(Duration::from_millis).ok_or_else(expected)
}

/// An entity id: UTF-8 text, or `hex:` and hexadecimal digits.
pub fn entity(text: &str) -> Result<Bytes, String> {
    let id = match text.strip_prefix("hex:") {
        Some(digits) => {
            hex::decode(digits).map_err(|error| format!("{text:?} is not hexadecimal: {error}"))?
        }
        None => text.as_bytes().to_vec(),
    };
    match id.len() {
        1..=255 => Ok(id.into()),
        0 => Err("an entity id has at least 1 byte".into()),
        length => Err(format!("an entity id has at most 255 bytes, this one has {length}")),
    }
}

/// `VIEW` or `VIEW:field,field`.
pub fn view(text: &str) -> Result<ViewArgument, String> {
    let (view, fields) = match text.split_once(':') {
        Some((view, fields)) => (view, fields.split(',').map(str::to_owned).collect()),
        None => (text, Vec::new()),
    };
    if view.is_empty() || fields.iter().any(String::is_empty) {
        return Err(format!("{text:?} is not a view: expected VIEW or VIEW:field,field"));
    }
    Ok(ViewArgument { view: view.to_owned(), fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_ms_or_rfc_3339() {
        assert_eq!(moment("1700000000123"), Ok(1_700_000_000_123));
        assert_eq!(moment("-5"), Ok(-5));
        assert_eq!(moment("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(moment("2023-11-14T23:13:20.5+01:00"), Ok(1_700_000_000_500));
        for bad in ["", "yesterday", "2023-11-14", "1.5"] {
            assert!(moment(bad).is_err_and(|error| error.contains("ms since the epoch")), "{bad}");
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "5", "s", "-5s", "1.5h", "5 s", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(bad).is_err_and(|error| error.contains("500ms")), "{bad}");
        }
    }

    #[test]
    fn an_entity_is_text_or_hex_of_1_to_255_bytes() {
        assert_eq!(entity("c-1").as_deref(), Ok(&b"c-1"[..]));
        assert_eq!(entity("hex:00ff").as_deref(), Ok(&[0, 255][..]));
        assert!(entity("hex:0").is_err_and(|error| error.contains("hexadecimal")));
        assert!(entity("hex:").is_err() && entity("").is_err());
        assert!(entity(&"x".repeat(255)).is_ok() && entity(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_view_may_name_its_fields() {
        let parsed = view("modem:snr,firmware").expect("a view");
        assert_eq!((parsed.view.as_str(), parsed.fields.len()), ("modem", 2));
        assert_eq!(view("modem").expect("a view").fields.len(), 0);
        assert!(view(":a").is_err() && view("v:").is_err() && view("v:a,,b").is_err());
    }
}
