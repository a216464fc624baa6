//! One server as the client holds it: its channels, taken in turn, and how many calls it has in flight. Knows nothing of
//! shards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::v1::admin_client::AdminClient;
use crate::v1::diagnoses_client::DiagnosesClient;
use crate::v1::feature_store_client::FeatureStoreClient;
use crate::v1::registry_client::RegistryClient;
use crate::{ClientConfig, Error, TlsOptions};

/// Large answers should not wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A server and its channels. A channel connects when first used and again after it broke.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) uri: String,
    channels: Vec<Channel>,
    next: AtomicUsize,
    in_flight: AtomicUsize,
    max_response_bytes: usize,
}

/// Counts a call for as long as it lives.
pub(crate) struct InFlight<'s>(&'s Server);

impl Server {
    /// Connects nothing yet; errors say what is wrong with the address or the TLS material.
    pub(crate) fn new(uri: &str, config: &ClientConfig) -> Result<Self, Error> {
        let endpoint = endpoint(uri, config)?;
        let channels = (0..config.channels_per_server.max(1)).map(|_| endpoint.connect_lazy()).collect();
        Ok(Server {
            uri: uri.to_owned(),
            channels,
            next: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            max_response_bytes: config.max_response_bytes,
        })
    }

    pub(crate) fn store(&self) -> FeatureStoreClient<Channel> {
        FeatureStoreClient::new(self.channel()).max_decoding_message_size(self.max_response_bytes)
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel()).max_decoding_message_size(self.max_response_bytes)
    }

    pub(crate) fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel()).max_decoding_message_size(self.max_response_bytes)
    }

    pub(crate) fn diagnoses(&self) -> DiagnosesClient<Channel> {
        DiagnosesClient::new(self.channel()).max_decoding_message_size(self.max_response_bytes)
    }

    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn channel(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.channels[turn % self.channels.len()].clone()
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn endpoint(uri: &str, config: &ClientConfig) -> Result<Endpoint, Error> {
    let bad = |error: &dyn std::fmt::Display| {
        Error::invalid(format!(
            "server address {uri:?}: {error}; expected http://host:port or https://host:port"
        ))
    };
    let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|error| bad(&error))?;
    let (scheme, host) = (endpoint.uri().scheme_str(), endpoint.uri().host());
    let tls = match (scheme, host) {
        (Some("http"), Some(_)) => false,
        (Some("https"), Some(_)) => true,
        _ => return Err(bad(&"no scheme or host")),
    };
    let endpoint = endpoint
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if !tls {
        return Ok(endpoint);
    }
    let options =
        config.tls.as_ref().ok_or_else(|| bad(&"https needs the certificate that signs the server's"))?;
    endpoint.tls_config(tls_config(options)).map_err(|error| bad(&error))
}

fn tls_config(options: &TlsOptions) -> ClientTlsConfig {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&options.ca_pem));
    if let Some((certificate, key)) = &options.identity_pem {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    match &options.server_name {
        Some(name) => tls.domain_name(name),
        None => tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_must_have_scheme_and_host() {
        let config = ClientConfig::new([""; 0]);
        for uri in ["", "localhost:7400", "ftp://a:1", "http://"] {
            assert!(matches!(Server::new(uri, &config), Err(Error::Invalid { .. })), "{uri}");
        }
        assert!(Server::new("http://localhost:7400", &config).is_ok());
        let error = Server::new("https://localhost:7400", &config).expect_err("no certificate");
        assert!(error.to_string().contains("certificate"), "{error}");
    }

    #[tokio::test]
    async fn calls_in_flight_are_counted_while_they_live() {
        let server = Server::new("http://localhost:1", &ClientConfig::new([""; 0])).expect("an address");
        let call = server.begin();
        assert_eq!(server.load(), 1);
        drop(call);
        assert_eq!(server.load(), 0);
    }
}
