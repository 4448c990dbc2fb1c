//! HTTP/2 frame by frame (RFC 9113), written by hand: what no library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PATIENCE: Duration = Duration::from_secs(40);

/// A frame that came in.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection that speaks HTTP/2 without having been asked to (prior knowledge).
pub struct Two {
    stream: TcpStream,
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block: every field literal, nothing indexed (RFC 7541, section 6.2.2).
pub fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in all {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a 7-bit prefix (RFC 7541, section 5.1).
pub fn length(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        block.push(value as u8);
        return;
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The fields of a request without a body.
pub fn get<'a>(path: &'a str, key: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut all =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)];
    if !key.is_empty() {
        all.push(("authorization", key));
    }
    all
}

impl Two {
    /// Connects and sends preface and settings; each setting is an identifier and a value.
    pub fn open(at: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut two = Self { stream };
        let mut payload = Vec::new();
        for (identifier, value) in settings {
            payload.extend_from_slice(&identifier.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        two.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        two.send(&frame(SETTINGS, 0, 0, &payload)).unwrap();
        two
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request's head.
    pub fn ask(&mut self, stream: u32, flags: u8, all: &[(&str, &str)]) -> std::io::Result<()> {
        self.send(&frame(HEADERS, flags | END_HEADERS, stream, &fields(all)))
    }

    /// Sends `piece` until the other side has had enough; how many went out, at most `most`. What
    /// comes back meanwhile is read and thrown away, so that nobody has to wait for anybody.
    pub fn flood(mut self, piece: &[u8], most: usize) -> usize {
        let mut reader = self.stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut piece = [0; 16 << 10];
            while reader.read(&mut piece).is_ok_and(|read| read > 0) {}
        });
        let sent = (0..most).take_while(|_| self.send(piece).is_ok()).count();
        if sent == most {
            let _ = self.stream.shutdown(std::net::Shutdown::Both);
        }
        reading.join().unwrap();
        sent
    }

    /// The next frame; `None` when the connection ends. Silence fails the test.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        self.fill(&mut payload)?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    fn fill(&mut self, into: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(into) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the gateway kept silent")
            }
            Err(_) => None,
        }
    }

    /// Answers what has to be answered until the connection ends; the frames that came.
    pub fn until_the_end(&mut self) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(came) = self.next() {
            self.acknowledge(&came);
            all.push(came);
        }
        all
    }

    /// Answers SETTINGS and PING as a client has to.
    pub fn acknowledge(&mut self, came: &Frame) {
        if matches!(came.kind, SETTINGS | PING) && came.flags & ACK == 0 {
            let payload = if came.kind == PING { came.payload.as_slice() } else { &[] };
            // It may have closed: then the next read says so.
            let _ = self.send(&frame(came.kind, ACK, 0, payload));
        }
    }

    /// The head of a stream's answer, as its block of fields; `None` when the connection ends.
    pub fn head_of(&mut self, stream: u32) -> Option<Vec<u8>> {
        loop {
            let came = self.next()?;
            self.acknowledge(&came);
            if came.kind == HEADERS && came.stream == stream {
                return Some(came.payload);
            }
        }
    }
}
