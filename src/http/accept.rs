//! The accept loop, and how a connection is spoken to: every limit set on purpose.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::interim::Interim;
use super::line::Line;
use super::places::{Crowd, Places};
use super::socket::{CutMark, Socket};
use super::tls::{Certificates, Stream};
use super::tus;
use super::watch::Watch;
use crate::clock::{Clock, within};
use crate::deliver::Unconfirmed;
use crate::metrics;
use crate::table::Cut;
use crate::tasks::{Shutdown, Tasks};

/// The longest head of HTTP/1.1 (431 beyond), and what is read of a body at once, bytes. One
/// connection whose head never ends holds so much, so it is no larger than reading fast needs.
const BUFFER_BYTES: usize = 64 << 10;
/// What is kept of an answer over HTTP/2 that its client has not taken yet, per stream, bytes.
const SEND_BYTES: usize = 256 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 100;
/// The longest list of header fields on HTTP/2, bytes.
const HEADER_LIST_BYTES: u32 = 32 << 10;
/// What a client may send ahead on HTTP/2, bytes: this bounds what a connection can make us hold
/// of bodies nobody has read yet. One stream may have all of it.
const WINDOW: u32 = 1 << 20;
/// Streams a client may reset before they were served (CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// Between two of our PINGs to a client that is silent, and the wait for its answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// What a connection that was told to end has left for requests already on their way.
const PARTING: Duration = Duration::from_secs(3);

/// Limits of the door.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// For a TLS handshake; then from a connection's first byte, or the end of the request before,
    /// to the end of a head. Over HTTP/2, too: a connection without a request ends.
    pub header_timeout: Duration,
    /// The least rate at which a response must be read, bytes per second; 0 for none.
    pub min_rate: u64,
    /// How long running requests may take to end when the gateway stops.
    pub drain: Duration,
}

/// A listening socket and what is served on it.
pub struct Listener {
    pub socket: TcpListener,
    /// With TLS, or in the clear.
    pub tls: Option<Arc<Certificates>>,
    pub service: Router,
    pub door: Door,
    pub crowd: Crowd,
    pub watch: Watch,
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
    /// What is said before an answer, over HTTP/1.1.
    pub interim: Interim,
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
        let places = Arc::new(Places::new(self.crowd.clone()));
        let builder = Arc::new(self.builder());
        loop {
            // The wish to stop is asked first: neither a full house nor a flood can hide it.
            let accepted = async {
                let free = places.free().await?;
                Some((free, self.socket.accept().await))
            };
            let (stop, accepted) =
                (std::pin::pin!(self.shutdown.begun()), std::pin::pin!(accepted));
            let Either::Right((Some((free, accepted)), _)) = select(stop, accepted).await else {
                break;
            };
            match accepted {
                Ok((tcp, address)) => {
                    let Some(place) = places.give(free, address.ip()) else {
                        refuse(&tcp);
                        continue;
                    };
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

    /// Head fields are at most 100, hyper's own number (431 beyond): to name it here would make
    /// every request allocate for them.
    fn builder(&self) -> Builder<Spawner> {
        let mut builder = Builder::new(Spawner(self.connections.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.door.header_timeout)
            .max_buf_size(BUFFER_BYTES)
            // Whoever has asked may close its half and wait: `nc -N` does.
            .half_close(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_LIST_BYTES)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_send_buf_size(SEND_BYTES)
            .max_local_error_reset_streams(PENDING_RESETS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        builder
    }

    /// All of one connection: handshake, requests, end.
    fn connection(
        &self,
        builder: Arc<Builder<Spawner>>,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Small answers leave at once; a failure to set it costs only latency.
        let _ = tcp.set_nodelay(true);
        let (door, clock, tls) = (self.door, self.clock.clone(), self.tls.clone());
        let (router, stop, watch) =
            (self.service.clone(), self.shutdown.clone(), self.watch.clone());
        async move {
            let stream = match tls {
                None => Stream::Plain(tcp),
                Some(tls) => {
                    let shaking = std::pin::pin!(tls.greet(tcp, &*clock, door.header_timeout));
                    let stopped = std::pin::pin!(stop.begun());
                    let Either::Left((shaken, _)) = select(shaking, stopped).await else { return };
                    let Some(stream) = shaken else {
                        metrics::count_by(metrics::CONNECTIONS_REFUSED, "why", "handshake");
                        return;
                    };
                    stream
                }
            };
            let peer = Peer {
                address,
                cut: CutMark::default(),
                kill: Cut::default(),
                unconfirmed: Unconfirmed::default(),
                interim: Interim::default(),
            };
            let socket = Socket::new(stream, clock.clone(), &door, &peer);
            let (line, killed) = (Line::new(clock.clone()), peer.kill.fired());
            let service = serving(router, peer, line.clone(), watch);
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            let mut connection = std::pin::pin!(connection);
            let serving = async {
                let stop = std::pin::pin!(stop.begun());
                // hyper's own limit comes first where there is one: it ends half a head, too.
                let idle = std::pin::pin!(line.idle(door.header_timeout + Duration::from_secs(1)));
                let over = std::pin::pin!(select(stop, idle));
                // How a client leaves is its own business: nothing of it is logged.
                let Either::Right((over, _)) = select(connection.as_mut(), over).await else {
                    return;
                };
                connection.as_mut().graceful_shutdown();
                match over {
                    Either::Left(_) => drop(within(&*clock, door.drain, connection).await),
                    // What has begun meanwhile is served to its end.
                    Either::Right(_) => {
                        let parted = std::pin::pin!(line.idle(door.header_timeout + PARTING));
                        drop(select(connection, parted).await);
                    }
                }
            };
            select(std::pin::pin!(serving), std::pin::pin!(killed)).await;
        }
    }
}

/// The router, with what each request of this connection brings along.
fn serving(
    router: Router,
    peer: Peer,
    line: Arc<Line>,
    watch: Watch,
) -> impl Service<
    hyper::Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Future<Output = Result<Response, Infallible>> + Send + 'static,
> + Send
+ 'static {
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (router, peer, watch) = (router.clone(), peer.clone(), watch.clone());
        let (busy, version, kill) = (line.begin(), request.version(), peer.kill.clone());
        // Boxed, so that a connection between two requests holds none of it.
        let answering: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            let mut request: Request = request.map(Body::new);
            tus::overridden(&mut request);
            request.extensions_mut().insert(peer);
            let Ok(response) = router.oneshot(request).await;
            Ok::<_, Infallible>(busy.ride(response, version, &watch, &kill))
        });
        answering
    })
}

/// Ends a connection that has no place, without a word and without lingering.
fn refuse(tcp: &TcpStream) {
    metrics::count_by(metrics::CONNECTIONS_REFUSED, "why", "address");
    // If it cannot be set, the close is an ordinary one.
    let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}
