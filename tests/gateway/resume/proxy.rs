//! A proxy that cuts connections in the middle, so many times, and counts what went through.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

/// Small buffers: what is in flight when a cut comes is lost, and sent twice.
const BUFFER: usize = 64 << 10;
const PIECE: usize = 16 << 10;

/// Between clients and a gateway.
pub struct Proxy {
    pub addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    /// Bytes that were passed on to the gateway, heads included.
    sent: AtomicU64,
    /// At these counts a connection is cut, the next one last.
    cuts: Mutex<Vec<u64>>,
    done: AtomicU64,
    over: AtomicBool,
}

impl Proxy {
    /// Cuts `cuts` times within the first `bytes`, at places that the seed draws.
    pub fn start(upstream: SocketAddr, bytes: u64, cuts: u64, seed: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_recv_buffer_size(BUFFER).unwrap();
        let mut random = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
        let mut draw = || {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            u64::from_be_bytes(bytes)
        };
        let step = bytes / (cuts + 1);
        let mut places: Vec<u64> = (1..=cuts).map(|n| n * step + draw() % (step / 2)).collect();
        places.reverse();
        let state = Arc::new(State {
            upstream,
            sent: AtomicU64::new(0),
            cuts: Mutex::new(places),
            done: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let addr = listener.local_addr().unwrap();
        let own = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if own.over.load(Ordering::Relaxed) {
                    return;
                }
                let own = own.clone();
                std::thread::spawn(move || own.carry(&client));
            }
        });
        Self { addr, state }
    }

    pub fn cuts(&self) -> u64 {
        self.state.done.load(Ordering::Relaxed)
    }

    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
    }
}

impl State {
    fn carry(&self, client: &TcpStream) {
        let Ok(gateway) = TcpStream::connect(self.upstream) else { return };
        let _ = SockRef::from(&gateway).set_send_buffer_size(BUFFER);
        std::thread::scope(|scope| {
            let (back, front) = (gateway.try_clone().unwrap(), client.try_clone().unwrap());
            scope.spawn(move || {
                let _ = std::io::copy(&mut &back, &mut &front);
                let _ = front.shutdown(Shutdown::Write);
            });
            let mut piece = [0; PIECE];
            let (mut from, mut to) = (client, &gateway);
            while let Ok(read) = from.read(&mut piece) {
                if read == 0 || to.write_all(&piece[..read]).is_err() {
                    break;
                }
                let sent = self.sent.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
                let mut cuts = self.cuts.lock().unwrap();
                if cuts.last().is_some_and(|at| sent >= *at) {
                    cuts.pop();
                    let count = self.done.fetch_add(1, Ordering::Relaxed);
                    if count.is_multiple_of(2) {
                        // Every other time without a goodbye.
                        let _ = SockRef::from(client).set_linger(Some(Duration::ZERO));
                    }
                    let _ = client.shutdown(Shutdown::Both);
                    break;
                }
            }
            let _ = gateway.shutdown(Shutdown::Write);
            let _ = gateway.shutdown(Shutdown::Read);
        });
    }
}
