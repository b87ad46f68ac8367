//! From a target to a connected client.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::client::{CallOptions, Client};
use crate::error::Error;
use crate::retry::RetryPolicy;

/// What one HTTP/2 stream may send before we read: with the default of 64 KiB a large reply waits for us again and again.
const WINDOW_BYTES: u32 = 8 << 20;

/// How to connect. Begin with [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    target: String,
    tls: Option<ClientTlsConfig>,
    has_ca: bool,
    token: Option<String>,
    allows_plaintext_token: bool,
    options: CallOptions,
    max_reply_bytes: usize,
}

// Here and not beside the calls: a builder makes a client, so this module knows that one, and never the other way round.
impl Client {
    /// Begins to connect to `HOST:PORT` or `unix:/path`.
    pub fn builder(target: &str) -> Builder {
        Builder::new(target)
    }
}

impl Builder {
    fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            tls: None,
            has_ca: false,
            token: None,
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

    /// Connects. A connection that breaks later is made again when it is needed.
    ///
    /// # Errors
    /// [`Error::Connect`] if nobody answers or the certificate is not trusted; [`Error::Config`] if the target or the
    /// token cannot be used.
    pub async fn connect(self) -> Result<Client, Error> {
        let authorization = self.authorization()?;
        let channel = match self.target.strip_prefix("unix:") {
            Some(path) => connect_unix(self.endpoint("http://localhost")?, path.into()).await?,
            None if self.tls.is_some() => self.endpoint(&format!("https://{}", self.target))?.connect().await?,
            None => self.endpoint(&format!("http://{}", self.target))?.connect().await?,
        };
        Ok(Client::new(channel, authorization, self.options, self.max_reply_bytes))
    }

    fn endpoint(&self, uri: &str) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(uri.to_owned())
            .map_err(|error| Error::Config(format!("{} is no target: {error}", self.target)))?
            .connect_timeout(self.options.timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES);
        match &self.tls {
            Some(tls) if self.has_ca => Ok(endpoint.tls_config(tls.clone())?),
            Some(tls) => Ok(endpoint.tls_config(tls.clone().with_native_roots())?),
            None => Ok(endpoint),
        }
    }

    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        if self.tls.is_none() && !self.allows_plaintext_token && !is_local(&self.target) {
            let told = "a token is not sent over a network in plain text: use TLS, or allow_plaintext_token";
            return Err(Error::Config(told.to_owned()));
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::Config("a token is made of visible ASCII characters".to_owned()))?;
        value.set_sensitive(true); // kept out of logs and out of HTTP/2's header table
        Ok(Some(value))
    }
}

async fn connect_unix(endpoint: Endpoint, path: PathBuf) -> Result<Channel, Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Whether what is sent there never leaves this machine.
fn is_local(target: &str) -> bool {
    if target.starts_with("unix:") {
        return true;
    }
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_on_this_machine_unless_told() {
        for target in ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/s.sock"] {
            assert!(Builder::new(target).token("t").authorization().is_ok(), "{target}");
        }
        let away = Builder::new("sampler.example:443").token("t");
        assert!(matches!(away.authorization(), Err(Error::Config(_))));
        assert!(away.clone().tls().authorization().is_ok());
        let value = away.allow_plaintext_token().authorization().unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer t");
        assert!(!format!("{value:?}").contains("Bearer"));
    }
}
