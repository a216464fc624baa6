//! What a client is told: servers, pool size, deadlines, retries, TLS. Read by `client` and `pool`.

use std::time::Duration;

use rand::Rng as _;

/// How to reach the servers and how long to try.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `http://host:port` or `https://host:port` of every server, in any order.
    pub servers: Vec<String>,
    /// Connections to each server. One connection is one TCP stream and one reader: two to four use a server fully.
    pub channels_per_server: usize,
    /// Deadline of a call whose request gives none. Every call has a deadline.
    pub deadline: Duration,
    /// Longest time to establish a connection.
    pub connect_timeout: Duration,
    /// Largest answer taken, in bytes.
    pub max_response_bytes: usize,
    /// How often the client asks who has which shard, besides asking when an answer shows that it moved.
    /// With one server nothing is asked.
    pub refresh_interval: Duration,
    /// How reads are tried again.
    pub retry: RetryPolicy,
    /// For `https` servers.
    pub tls: Option<TlsOptions>,
}

/// How reads are tried again when a server is unavailable: capped exponential backoff with jitter, inside the deadline. A
/// server that says how long it wants to be left alone is left alone for longer than that. Writes are tried again only when no connection was established, so that nothing can have been sent.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all; 1 means no retry.
    pub attempts: u32,
    /// Longest pause after the first failure; it doubles with each.
    pub first_backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
}

/// PEM material for TLS.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// Certificates that sign the servers' certificates.
    pub ca_pem: Vec<u8>,
    /// Our certificate chain and private key, for servers that ask for one.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name on the servers' certificates, when it is not the host of their address.
    pub server_name: Option<String>,
}

impl ClientConfig {
    /// Defaults for these servers: 2 channels each, 5 s deadline, 4 attempts.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        ClientConfig {
            servers: servers.into_iter().map(Into::into).collect(),
            channels_per_server: 2,
            deadline: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            max_response_bytes: 256 << 20,
            refresh_interval: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            tls: None,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 4,
            first_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// The pause after failure number `failures` (1 and up): anything up to the cap, so that clients spread out; and
    /// beyond what the server asked for, if it did, spread out as well.
    pub(crate) fn pause(&self, failures: u32, asked_for: Option<Duration>) -> Duration {
        let doubled = self.first_backoff.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let own = doubled.min(self.max_backoff).mul_f64(rand::rng().random_range(0.5..=1.0));
        asked_for.map_or(own, |asked_for| asked_for + own)
    }
}

impl std::fmt::Debug for TlsOptions {
    /// Without the private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsOptions")
            .field("client_certificate", &self.identity_pem.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap_and_is_never_zero() {
        let policy = RetryPolicy::default();
        for failures in 1..40 {
            let pause = policy.pause(failures, None);
            assert!(
                pause >= policy.first_backoff / 2 && pause <= policy.max_backoff,
                "{failures}: {pause:?}"
            );
        }
        assert!(policy.pause(1, None) <= policy.first_backoff);
        let asked_for = Duration::from_secs(3);
        assert!(policy.pause(1, Some(asked_for)) > asked_for, "however short its own pause is");
    }
}
