//! From a target to a connected client.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::client::{CallOptions, Client};
use crate::error::Error;
use crate::pool::Pool;
use crate::retry::RetryPolicy;

/// What one HTTP/2 stream may send before we read: with the default of 64 KiB a large reply waits for us again and again.
const WINDOW_BYTES: u32 = 8 << 20;

/// How often a server from which nothing comes is asked, while calls are in flight, whether it is there: one that is frozen
/// keeps its connections.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect. Begin with [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    targets: Vec<String>,
    connections: usize,
    tls: Option<ClientTlsConfig>,
    has_ca: bool,
    token: Option<String>,
    metadata: Vec<(String, String)>,
    allows_plaintext_token: bool,
    options: CallOptions,
    max_reply_bytes: usize,
}

// Here and not beside the calls: a builder makes a client, so this module knows that one, and never the other way round.
impl Client {
    /// Begins to connect to `HOST:PORT` or `unix:/path`.
    pub fn builder(target: &str) -> Builder {
        Builder::new(vec![target.to_owned()])
    }

    /// Begins to connect to several servers, each `HOST:PORT` or `unix:/path`. They get the calls in turn as long as they
    /// are healthy: one that starts, drains or is gone gets none.
    pub fn builder_of<T: Into<String>>(targets: impl IntoIterator<Item = T>) -> Builder {
        Builder::new(targets.into_iter().map(Into::into).collect())
    }
}

impl Builder {
    fn new(targets: Vec<String>) -> Self {
        Self {
            targets,
            connections: 1,
            tls: None,
            has_ca: false,
            token: None,
            metadata: Vec::new(),
            allows_plaintext_token: false,
            options: CallOptions {
                timeout: Duration::from_secs(30),
                retry: RetryPolicy::default(),
            },
            max_reply_bytes: 256 << 20,
        }
    }

    /// Uses TLS. Unless [`Builder::ca`] says otherwise, the authorities of this machine are trusted.
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_with(ClientTlsConfig::new);
        self
    }

    /// Uses TLS, and trusts this authority (PEM) alone.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        let tls = self.tls.take().unwrap_or_default();
        self.tls = Some(tls.ca_certificate(Certificate::from_pem(pem)));
        self.has_ca = true;
        self
    }

    /// Uses TLS, and shows this certificate with its key (both PEM): mutual TLS.
    pub fn identity(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let tls = self.tls.take().unwrap_or_default();
        self.tls = Some(tls.identity(Identity::from_pem(certificate, key)));
        self
    }

    /// Sends `authorization: Bearer TOKEN` with every call. Without TLS only to this machine itself.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Connections to each server, on which calls take turns. Default: 1. A server with several workers gives a connection
    /// to one of them.
    pub fn connections(mut self, number: usize) -> Self {
        self.connections = number;
        self
    }

    /// Sends this with every call. Calls about an uploaded distribution carry its name as `x-samplerd-distribution` in
    /// any case, by which a proxy can choose the server.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Sends the token over a network in plain text, for everyone on the way to read.
    pub fn allow_plaintext_token(mut self) -> Self {
        self.allows_plaintext_token = true;
        self
    }

    /// Bounds connecting, and every call with all its retries, unless the call says otherwise. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// How often calls are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = policy;
        self
    }

    /// The largest reply that is taken. Default: 256 MiB (tonic's own is 4 MiB).
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.max_reply_bytes = bytes;
        self
    }

    /// Connects. A connection that breaks later is made again when it is needed. Several servers are connected to, and
    /// watched, in the background: whether they are there is found out by calls.
    ///
    /// # Errors
    /// [`Error::Connect`] if the one server does not answer or the certificate is not trusted; [`Error::Config`] if the target or the
    /// token cannot be used.
    pub async fn connect(self) -> Result<Client, Error> {
        let metadata = self.sent()?;
        if self.targets.is_empty() || self.connections == 0 {
            return Err(Error::Config(
                "at least one target and one connection are needed".to_owned(),
            ));
        }
        let mut channels = Vec::new();
        for _ in 0..self.connections {
            for target in &self.targets {
                channels.push(self.channel(target).await?);
            }
        }
        let pool = Pool::new(channels, self.max_reply_bytes, self.targets.len() > 1);
        Ok(Client::new(pool, metadata, self.options))
    }

    async fn channel(&self, target: &str) -> Result<Channel, Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let is_lazy = self.targets.len() > 1;
        Ok(match target.strip_prefix("unix:") {
            Some(path) => {
                let path = PathBuf::from(path);
                let connector = tower::service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                let endpoint = self.endpoint("http://localhost")?;
                if is_lazy {
                    endpoint.connect_with_connector_lazy(connector)
                } else {
                    endpoint.connect_with_connector(connector).await?
                }
            }
            None if is_lazy => self.endpoint(&format!("{scheme}://{target}"))?.connect_lazy(),
            None => self.endpoint(&format!("{scheme}://{target}"))?.connect().await?,
        })
    }

    fn endpoint(&self, uri: &str) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(uri.to_owned())
            .map_err(|error| Error::Config(format!("{uri} is no target: {error}")))?
            .connect_timeout(self.options.timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES);
        match &self.tls {
            Some(tls) if self.has_ca => Ok(endpoint.tls_config(tls.clone())?),
            Some(tls) => Ok(endpoint.tls_config(tls.clone().with_native_roots())?),
            None => Ok(endpoint),
        }
    }

    /// What every call carries.
    fn sent(&self) -> Result<MetadataMap, Error> {
        let mut sent = MetadataMap::new();
        for (key, value) in &self.metadata {
            let name = MetadataKey::from_bytes(key.as_bytes());
            match (name, MetadataValue::try_from(value)) {
                (Ok(name), Ok(value)) => sent.append(name, value),
                _ => return Err(Error::Config(format!("{key}: {value} is no metadata"))),
            };
        }
        if let Some(value) = self.authorization()? {
            sent.insert("authorization", value);
        }
        if self.targets.iter().any(|target| is_unix(target)) {
            sent.insert("x-samplerd-client", own_name());
        }
        Ok(sent)
    }

    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        if self.tls.is_none() && !self.allows_plaintext_token && !self.targets.iter().all(|one| is_local(one)) {
            let told = "a token is not sent over a network in plain text: use TLS, or allow_plaintext_token";
            return Err(Error::Config(told.to_owned()));
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::Config("a token is made of visible ASCII characters".to_owned()))?;
        value.set_sensitive(true); // kept out of logs and out of HTTP/2's header table
        Ok(Some(value))
    }
}

/// Whether what is sent there never leaves this machine.
fn is_local(target: &str) -> bool {
    if is_unix(target) {
        return true;
    }
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_unix(target: &str) -> bool {
    target.starts_with("unix:")
}

/// A name at random. All callers of a Unix socket have one address: by their names the server gives each its own fair share.
fn own_name() -> MetadataValue<Ascii> {
    let random = RandomState::new().build_hasher().finish();
    MetadataValue::try_from(format!("{random:016x}")).expect("hexadecimal digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_unix_socket_have_names_of_their_own() {
        let names = ["unix:/run/s.sock", "unix:/run/s.sock"].map(|target| {
            let sent = Client::builder(target).sent().unwrap();
            sent.get("x-samplerd-client").unwrap().to_str().unwrap().to_owned()
        });
        assert_eq!(names[0].len(), 16);
        assert_ne!(names[0], names[1]);
        assert!(Client::builder("127.0.0.1:1")
            .sent()
            .unwrap()
            .get("x-samplerd-client")
            .is_none());
    }

    #[test]
    fn a_token_stays_on_this_machine_unless_told() {
        for target in ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/s.sock"] {
            assert!(Client::builder(target).token("t").authorization().is_ok(), "{target}");
        }
        let away = Client::builder("sampler.example:443").token("t");
        assert!(matches!(away.authorization(), Err(Error::Config(_))));
        assert!(away.clone().tls().authorization().is_ok());
        let mixed = Client::builder_of(["127.0.0.1:1", "10.0.0.1:1"]).token("t");
        assert!(matches!(mixed.authorization(), Err(Error::Config(_))));
        let value = away.allow_plaintext_token().authorization().unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer t");
        assert!(!format!("{value:?}").contains("Bearer"));
    }

    #[tokio::test]
    async fn no_servers_and_no_connections_are_refused() {
        let none = Client::builder_of(Vec::<String>::new()).connect().await;
        assert!(matches!(none, Err(Error::Config(_))));
        let none = Client::builder("127.0.0.1:1").connections(0).connect().await;
        assert!(matches!(none, Err(Error::Config(_))));
    }
}
