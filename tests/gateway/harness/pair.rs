//! A certificate for loopback, made for a test, and a client that trusts it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::gateway::folder;
use super::setup::Setup;

/// A certificate and its key, as files.
pub struct Pair {
    dir: TempDir,
}

/// A TLS connection to a gateway.
pub type TlsWire = StreamOwned<ClientConnection, TcpStream>;

impl Pair {
    pub fn new() -> Self {
        let pair = Self { dir: folder() };
        pair.renew();
        pair
    }

    /// Draws another key and certificate into the same files.
    pub fn renew(&self) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(self.cert(), made.cert.pem()).unwrap();
        self.write_key(&made.signing_key.serialize_pem());
    }

    pub fn write_key(&self, pem: &str) {
        std::fs::write(self.key(), pem).unwrap();
        std::fs::set_permissions(self.key(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// A configuration that shows this certificate.
    pub fn on(&self, setup: Setup) -> Setup {
        let (cert, key) = (self.cert(), self.key());
        let table = format!("{{ cert_file = {}, key_file = {} }}", quoted(&cert), quoted(&key));
        setup.set("listen", "tls", &table)
    }

    /// Shakes hands with a gateway; fails if it shows another certificate.
    pub fn connect(&self, at: SocketAddr, protocols: &[&str]) -> std::io::Result<TlsWire> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.cert()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut wire = StreamOwned::new(client, stream);
        while wire.conn.is_handshaking() {
            wire.conn.complete_io(&mut wire.sock)?;
        }
        Ok(wire)
    }
}

/// Sends a HEAD request and reads the status of its answer.
pub fn status_over(wire: &mut TlsWire, path: &str) -> Option<u16> {
    let ask = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.write_all(ask.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match wire.read(&mut piece) {
            Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
