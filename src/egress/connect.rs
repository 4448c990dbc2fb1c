//! Connecting: the name is resolved, its addresses are judged, and a judged address is what is
//! connected to. A name that resolves differently a moment later changes nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};

use super::address::is_public;
use super::origin::INSTANCE_METADATA;
use super::{EgressError, Origin, Reach};
use crate::clock::{Clock, within};

/// To one address, resolving aside.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// More addresses than this are not tried.
const MOST_ADDRESSES: usize = 8;

/// Why no connection was made.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Refused {
    #[error("the address may not be reached from here")]
    Forbidden,
    #[error("the name cannot be resolved")]
    Unknown,
    #[error("nobody answers there")]
    Unreachable,
    #[error("nobody answered in time")]
    Timeout,
}

impl Refused {
    pub const fn told(self) -> EgressError {
        match self {
            Self::Forbidden => EgressError::Forbidden,
            Self::Unknown | Self::Unreachable => EgressError::Unreachable,
            Self::Timeout => EgressError::Timeout,
        }
    }
}

/// Connects to where its reach allows.
#[derive(Clone)]
pub struct Connector {
    clock: Arc<dyn Clock>,
    reach: Reach,
    insecure_loopback: bool,
}

impl Connector {
    pub fn new(clock: Arc<dyn Clock>, reach: Reach, insecure_loopback: bool) -> Self {
        Self { clock, reach, insecure_loopback }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Refused> {
        let url = uri.to_string();
        let origin = match self.reach {
            Reach::Instance => Origin::instance(Some(&url), self.insecure_loopback),
            Reach::Public | Reach::Operator => {
                Origin::parse(&url, self.insecure_loopback).map(|(origin, _)| origin)
            }
        };
        let origin = origin.map_err(|_| Refused::Forbidden)?;
        let mut refused = Refused::Unknown;
        for address in self.resolve(&origin).await?.into_iter().take(MOST_ADDRESSES) {
            if !self.allows(&origin, address.ip()) {
                refused = Refused::Forbidden;
                continue;
            }
            match within(&*self.clock, CONNECT_WITHIN, TcpStream::connect(address)).await {
                Some(Ok(stream)) => {
                    // Small requests leave at once; a failure only costs a delay.
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Some(Err(_)) => refused = Refused::Unreachable,
                None => refused = Refused::Timeout,
            }
        }
        Err(refused)
    }

    async fn resolve(&self, origin: &Origin) -> Result<Vec<SocketAddr>, Refused> {
        if let Ok(ip) = origin.host().parse::<IpAddr>() {
            return Ok(vec![(ip, origin.port()).into()]);
        }
        let lookup = lookup_host((origin.host(), origin.port()));
        match within(&*self.clock, RESOLVE_WITHIN, lookup).await {
            Some(Ok(addresses)) => Ok(addresses.collect()),
            Some(Err(_)) => Err(Refused::Unknown),
            None => Err(Refused::Timeout),
        }
    }

    /// Plain HTTP goes to loopback alone, and loopback is only reached where it was written.
    fn allows(&self, origin: &Origin, ip: IpAddr) -> bool {
        let written_loopback = self.insecure_loopback && origin.is_loopback();
        match self.reach {
            Reach::Instance => {
                let own = INSTANCE_METADATA.parse().is_ok_and(|own: IpAddr| own == ip);
                own || (written_loopback && ip.is_loopback())
            }
            _ if !origin.is_https() => written_loopback && ip.is_loopback(),
            Reach::Operator => true,
            Reach::Public => is_public(ip) || (written_loopback && ip.is_loopback()),
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move { connecting.await.map_err(io::Error::other) })
    }
}
