//! One HTTP/1.1 connection, byte by byte: what a well-behaved client would never send or read.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Nothing here takes longer; a gateway that keeps silent fails the test.
const PATIENCE: Duration = Duration::from_secs(30);
const PIECE: usize = 64 * 1024;

/// A connection, with what was read ahead on it.
pub struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

/// A response's body, and whether it came to its own end.
#[derive(Clone)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub whole: bool,
}

impl Head {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|(_, value)| value.as_str())
    }
}

impl Wire {
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).expect("the gateway accepts a connection")
    }

    pub fn try_open(addr: SocketAddr) -> std::io::Result<Self> {
        Self::prepared(TcpStream::connect_timeout(&addr, PATIENCE)?)
    }

    /// A reader whose own buffer is small, so that the gateway feels it when it stops reading.
    pub fn open_narrow(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&addr.into()).unwrap();
        Self::prepared(socket.into()).unwrap()
    }

    fn prepared(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Sends; an error means that the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Another handle, to send by while this one reads.
    pub fn sender(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Ends our half: an honest end of file.
    pub fn end_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes without a goodbye: the other side sees a reset.
    pub fn reset(self) {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads more; 0 at the end. A reset counts as an error, silence fails the test.
    fn more(&mut self) -> std::io::Result<usize> {
        let start = self.ahead.len();
        self.ahead.resize(start + PIECE, 0);
        let read = self.stream.read(&mut self.ahead[start..]);
        self.ahead.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.more(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the gateway kept silent")
            }
            read => read,
        }
    }

    /// The next head, interim ones (100) included; `None` when the connection ends before one.
    pub fn try_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                break at;
            }
            if !matches!(self.more(), Ok(read) if read > 0) {
                return None;
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
        Some(Head { status, headers: headers.collect() })
    }

    /// The next head, interim ones included.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.try_head().expect("the gateway answers")
    }

    /// The body that follows `head`.
    pub fn body(&mut self, head: &Head) -> Body {
        if matches!(head.status, 100..=199 | 204 | 304) {
            return Body { bytes: Vec::new(), whole: true };
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            return self.chunks();
        }
        match head.header("content-length") {
            Some(length) => {
                let length = length.parse().expect("a length");
                let bytes = self.up_to(length);
                let whole = bytes.len() == length;
                Body { bytes, whole }
            }
            None => loop {
                match self.more() {
                    Ok(0) => return Body { bytes: std::mem::take(&mut self.ahead), whole: true },
                    Ok(_) => {}
                    Err(_) => {
                        return Body { bytes: std::mem::take(&mut self.ahead), whole: false };
                    }
                }
            },
        }
    }

    /// Exactly `count` bytes, or fewer when the connection ends before.
    pub fn up_to(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.ahead);
        if bytes.len() > count {
            self.ahead = bytes.split_off(count);
            return bytes;
        }
        let mut at = bytes.len();
        bytes.resize(count, 0);
        while at < count {
            match self.stream.read(&mut bytes[at..]) {
                Ok(0) => break,
                Ok(read) => at += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the gateway kept silent")
                }
                Err(_) => break,
            }
        }
        bytes.truncate(at);
        bytes
    }

    /// The next chunk of a chunked body, empty at its end; `None` if the connection ends before.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        let mut chunk = self.up_to(size + 2);
        (chunk.len() == size + 2).then(|| {
            chunk.truncate(size);
            chunk
        })
    }

    fn chunks(&mut self) -> Body {
        let mut bytes = Vec::new();
        loop {
            let Ok(size) = self.line().and_then(|line| {
                let size = line.split(';').next().unwrap_or_default();
                usize::from_str_radix(size.trim(), 16).map_err(Error::other)
            }) else {
                return Body { bytes, whole: false };
            };
            if size == 0 {
                // Trailers, up to the empty line.
                loop {
                    match self.line() {
                        Ok(line) if line.is_empty() => return Body { bytes, whole: true },
                        Ok(_) => {}
                        Err(_) => return Body { bytes, whole: false },
                    }
                }
            }
            let chunk = self.up_to(size + 2);
            if chunk.len() < size + 2 {
                bytes.extend_from_slice(&chunk[..chunk.len().min(size)]);
                return Body { bytes, whole: false };
            }
            bytes.extend_from_slice(&chunk[..size]);
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.more()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
