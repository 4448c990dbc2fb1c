//! TLS at the door: a certificate from files, replaced while connections go on.
//!
//! TLS 1.2 and 1.3 with the suites that rustls holds safe; `h2` and `http/1.1` on one port. Nothing
//! is resumed: a ticket or a cached session would be a key that outlives its connection.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::{Clock, within};
use crate::disk::{self, SecretFileError};

/// Where a certificate and its key lie, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("listen.tls.cert_file: it cannot be read ({0})")]
    CertUnreadable(io::ErrorKind),
    #[error("listen.tls.cert_file: there is no certificate in it (PEM)")]
    NoCertificate,
    #[error("listen.tls.key_file: {0}")]
    KeyFile(#[source] SecretFileError),
    #[error("listen.tls.key_file: there is no private key in it (PEM)")]
    NoKey,
    #[error("listen.tls: the key is not the certificate's")]
    NotAPair,
    #[error("listen.tls: the certificate or its key cannot be used")]
    Unusable,
}

/// The certificate that new connections are shown.
pub struct Certificates(ArcSwap<ServerConfig>);

/// A pair that was read and tried, and is not shown yet.
pub struct Pair(Arc<ServerConfig>);

impl Pair {
    /// Reads a pair. The key's bytes are wiped; what rustls made of them stays in its memory.
    ///
    /// # Errors
    /// When a file cannot be read, or the two are no pair.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let pem = disk::read_text(&files.cert_file)
            .map_err(|error| TlsError::CertUnreadable(error.kind()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let chain = chain.map_err(|_| TlsError::NoCertificate)?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let secret = disk::read_secret(&files.key_file).map_err(TlsError::KeyFile)?;
        let key = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| TlsError::NoKey)?;
        drop(secret);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::NotAPair,
                _ => TlsError::Unusable,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }
}

impl Certificates {
    #[must_use]
    pub fn new(pair: Pair) -> Self {
        Self(ArcSwap::new(pair.0))
    }

    /// Shows another pair from now on. Connections that are there keep the one they were shown.
    pub fn replace(&self, pair: Pair) {
        self.0.store(pair.0);
    }

    /// Shakes hands; `None` if the client cannot, or not in time.
    pub(super) async fn greet(
        &self,
        tcp: TcpStream,
        clock: &dyn Clock,
        patience: Duration,
    ) -> Option<Stream> {
        let shaking = TlsAcceptor::from(self.0.load_full()).accept(tcp);
        let tls = within(clock, patience, shaking).await?.ok()?;
        Some(Stream::Tls(Box::new(tls)))
    }
}

/// A client's bytes, with or without TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What lies below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    pub fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_mut().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
