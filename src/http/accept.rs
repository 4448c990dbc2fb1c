//! The accept loop, and how a connection is spoken to: every limit set on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::socket::{CutMark, Socket};
use crate::clock::{Clock, within};
use crate::deliver::Unconfirmed;
use crate::metrics;
use crate::table::Cut;
use crate::tasks::{Shutdown, Tasks};

/// Head fields a request may have (RFC 6585: more is 431).
const MOST_HEADERS: usize = 100;
/// The longest head, and the most that is buffered of a body in either direction, bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 100;
/// The longest list of header fields on HTTP/2, bytes.
const HEADER_LIST_BYTES: u32 = 32 << 10;
/// What a client may send ahead on HTTP/2, per stream and per connection, bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Streams a client may reset before they were served (CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// Limits of the door.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// Connections at a time; the others wait in the listener's queue.
    pub connections: usize,
    /// From a connection's first byte, or the end of the request before, to the end of a head.
    pub header_timeout: Duration,
    /// The least rate at which a response must be read, bytes per second; 0 for none.
    pub min_rate: u64,
    /// How long running requests may take to end when the gateway stops.
    pub drain: Duration,
}

/// A listening socket and what is served on it.
pub struct Listener {
    pub socket: TcpListener,
    pub service: Router,
    pub door: Door,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
    /// Counts this listener's connections alone, so that it can wait for them.
    pub connections: Tasks,
}

/// Who is at the other end, and how to end it.
#[derive(Clone)]
pub(super) struct Peer {
    pub address: SocketAddr,
    pub cut: CutMark,
    /// Ends the connection, whatever it is doing.
    pub kill: Cut,
    /// Counted deliveries whose last byte has left on this connection.
    pub unconfirmed: Unconfirmed,
}

/// Lets hyper spawn through our one seam.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        drop(self.0.spawn(work));
    }
}

impl Listener {
    /// Accepts until the gateway stops, then waits for running requests as long as they may take.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(self.door.connections));
        let builder = Arc::new(self.builder());
        loop {
            // The wish to stop is asked first: neither a full house nor a flood can hide it.
            let accepted = async {
                let place = places.clone().acquire_owned().await.ok()?;
                Some((place, self.socket.accept().await))
            };
            let (stop, accepted) =
                (std::pin::pin!(self.shutdown.begun()), std::pin::pin!(accepted));
            let Either::Right((Some((place, accepted)), _)) = select(stop, accepted).await else {
                break;
            };
            match accepted {
                Ok((tcp, address)) => {
                    let connection = self.connection(builder.clone(), tcp, address);
                    self.connections.spawn(async move {
                        metrics::shift(metrics::CONNECTIONS, 1.0);
                        connection.await;
                        metrics::shift(metrics::CONNECTIONS, -1.0);
                        drop(place);
                    });
                }
                // Out of descriptors, or a client that was gone again: others may still be served.
                Err(_) => self.clock.sleep(Duration::from_millis(10)).await,
            }
        }
        drop(self.socket);
        // Each connection ends itself when its time to drain is over; this only waits for them.
        let drain = self.door.drain + Duration::from_secs(1);
        within(&*self.clock, drain, self.connections.idle()).await;
    }

    fn builder(&self) -> Builder<Spawner> {
        let mut builder = Builder::new(Spawner(self.connections.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.door.header_timeout)
            .max_headers(MOST_HEADERS)
            .max_buf_size(BUFFER_BYTES)
            // Whoever has asked may close its half and wait: `nc -N` does.
            .half_close(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_LIST_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_send_buf_size(BUFFER_BYTES)
            .max_local_error_reset_streams(PENDING_RESETS)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }

    fn connection(
        &self,
        builder: Arc<Builder<Spawner>>,
        tcp: tokio::net::TcpStream,
        address: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let peer = Peer {
            address,
            cut: CutMark::default(),
            kill: Cut::default(),
            unconfirmed: Unconfirmed::default(),
        };
        // Small answers leave at once; a failure to set it costs only latency.
        let _ = tcp.set_nodelay(true);
        let socket = Socket::new(tcp, self.clock.clone(), &self.door, &peer);
        let (killed, clock, drain) = (peer.kill.fired(), self.clock.clone(), self.door.drain);
        let (router, stop) = (self.service.clone(), self.shutdown.clone());
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let (router, peer) = (router.clone(), peer.clone());
            async move {
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                router.oneshot(request).await
            }
        });
        async move {
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            let mut connection = std::pin::pin!(connection);
            let serving = async {
                let stop = std::pin::pin!(stop.begun());
                // How a client leaves is its own business: nothing of it is logged.
                if let Either::Right(_) = select(connection.as_mut(), stop).await {
                    connection.as_mut().graceful_shutdown();
                    within(&*clock, drain, connection).await;
                }
            };
            select(std::pin::pin!(serving), std::pin::pin!(killed)).await;
        }
    }
}
