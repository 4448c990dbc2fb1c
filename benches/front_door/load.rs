//! The load: plain HTTP/1.1 over plain sockets, one thread a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A server that says and takes nothing for this long has failed.
const SILENCE: Duration = Duration::from_secs(60);
const BLOCK: usize = 256 << 10;

/// Where a server listens, and how it wants to be asked.
#[derive(Clone)]
pub struct Target {
    pub addr: SocketAddr,
    /// What stands before an upload's name.
    pub prefix: &'static str,
    /// Whole header lines, each with its end.
    pub headers: String,
    /// Whether the answer names the file by an id.
    pub answers_with_id: bool,
}

/// The path under which an upload can be read.
pub type Stored = String;

pub struct Connection {
    stream: BufReader<TcpStream>,
    target: Target,
}

struct Answer {
    status: u16,
    length: u64,
    chunked: bool,
    retry_after: bool,
}

/// How an upload that may be refused went.
pub struct Attempt {
    pub status: u16,
    pub retry_after: bool,
    pub stored: Option<Stored>,
}

/// The bytes that are sent: no compressor or clever file system makes them smaller.
pub struct Pattern(Vec<u8>);

impl Pattern {
    pub fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = (0..BLOCK / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(words.collect())
    }

    /// As much of a body as one block holds from `at` on.
    fn from(&self, at: u64, len: u64) -> &[u8] {
        let start = (at % BLOCK as u64) as usize;
        let end = BLOCK.min(start.saturating_add((len - at) as usize));
        &self.0[start..end]
    }
}

impl Connection {
    pub fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target.addr, SILENCE)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(BLOCK, stream), target: target.clone() })
    }

    fn head(&self, method: &str, path: &str, length: Option<u64>) -> String {
        let length = length.map(|length| format!("Content-Length: {length}\r\n"));
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}{}\r\n",
            self.target.addr,
            self.target.headers,
            length.unwrap_or_default()
        )
    }

    fn upload(&mut self, name: &str, len: u64, pattern: &Pattern) -> Result<Stored> {
        let path = format!("{}{name}", self.target.prefix);
        let mut first = self.head("PUT", &path, Some(len)).into_bytes();
        let mut sent = 0;
        if len <= 64 << 10 {
            // A small request travels in one piece, as a client's would.
            first.extend_from_slice(pattern.from(0, len));
            sent = len;
        }
        let mut wrote = self.stream.get_mut().write_all(&first);
        while wrote.is_ok() && sent < len {
            let block = pattern.from(sent, len);
            wrote = self.stream.get_mut().write_all(block);
            sent += block.len() as u64;
        }
        // A refusal may stand in the socket although the body could not be sent to its end.
        let answer = self.answer().context("no answer to an upload")?;
        let body = self.short_body(&answer)?;
        ensure!((200..300).contains(&answer.status), "an upload got {}: {body}", answer.status);
        wrote.context("the upload was cut")?;
        if !self.target.answers_with_id {
            return Ok(path);
        }
        let body: serde_json::Value = serde_json::from_str(&body)?;
        let id = body["id"].as_str().context("the answer names no id")?;
        Ok(format!("/v1/files/{id}/content"))
    }

    /// Reads a file; each block goes to `see` with its offset.
    pub fn download(
        &mut self,
        path: &str,
        see: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let head = self.head("GET", path, None);
        self.stream.get_mut().write_all(head.as_bytes())?;
        let answer = self.answer()?;
        ensure!(answer.status == 200 && !answer.chunked, "a download got {}", answer.status);
        let mut read = 0;
        while read < answer.length {
            let block = self.stream.fill_buf()?;
            let taken = block.len().min((answer.length - read) as usize);
            ensure!(taken > 0, "a download ended after {read} of {} bytes", answer.length);
            see(read, &block[..taken])?;
            self.stream.consume(taken);
            read += taken as u64;
        }
        Ok(read)
    }

    /// An upload that may be refused: its status, and where it can be read if it was taken.
    pub fn attempt(&mut self, len: u64, pattern: &Pattern) -> Result<Attempt> {
        let path = format!("{}a?ttl=4m", self.target.prefix);
        let head = self.head("PUT", &path, Some(len));
        let mut sent = self.stream.get_mut().write_all(head.as_bytes());
        let mut at = 0;
        while sent.is_ok() && at < len {
            let block = pattern.from(at, len);
            sent = self.stream.get_mut().write_all(block);
            at += block.len() as u64;
        }
        let answer = self.answer().context("no answer to an upload")?;
        let body: serde_json::Value = serde_json::from_str(&self.short_body(&answer)?)?;
        let stored = body["id"].as_str().map(|id| format!("/v1/files/{id}"));
        Ok(Attempt { status: answer.status, retry_after: answer.retry_after, stored })
    }

    pub fn delete(&mut self, path: &str) -> Result<()> {
        let head = self.head("DELETE", path, None);
        self.stream.get_mut().write_all(head.as_bytes())?;
        let answer = self.answer()?;
        self.short_body(&answer)?;
        ensure!(answer.status == 200, "a delete got {}", answer.status);
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(16 << 10).read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the connection ended in a head");
        Ok(line.trim_end().to_owned())
    }

    fn answer(&mut self) -> Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.context("no HTTP answer")?;
        let mut answer = Answer { status, length: 0, chunked: false, retry_after: false };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else { return Ok(answer) };
            match (name, value.trim()) {
                ("content-length", value) => answer.length = value.parse()?,
                ("transfer-encoding", "chunked") => answer.chunked = true,
                ("retry-after", _) => answer.retry_after = true,
                _ => {}
            }
        }
    }

    fn short_body(&mut self, answer: &Answer) -> Result<String> {
        let mut body = Vec::new();
        if !answer.chunked {
            ensure!(answer.length < 1 << 20, "an answer of {} bytes", answer.length);
            (&mut self.stream).take(answer.length).read_to_end(&mut body)?;
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        loop {
            let size = u64::from_str_radix(&self.line()?, 16)?;
            ensure!(size + (body.len() as u64) < 1 << 20, "an answer over 1 MiB");
            (&mut self.stream).take(size).read_to_end(&mut body)?;
            self.line()?;
            if size == 0 {
                return Ok(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }
}

/// Runs `work` on as many threads as there are connections, and joins what they return.
fn on_each<T: Send>(
    target: &Target,
    connections: usize,
    work: impl Fn(usize, Connection) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let open = (0..connections).map(|at| {
            scope.spawn(move || Connection::open(target).and_then(|opened| work(at, opened)))
        });
        let running: Vec<_> = open.collect();
        let ended = running.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a connection's thread panicked"),
        });
        ended.collect()
    })
}

/// One upload of `bytes` on each connection.
pub fn upload_many(target: &Target, connections: usize, bytes: u64) -> Result<Vec<Stored>> {
    upload_each(target, connections, 1, bytes)
}

/// `each` uploads of `bytes`, one after the other, on each connection.
pub fn upload_each(
    target: &Target,
    connections: usize,
    each: usize,
    bytes: u64,
) -> Result<Vec<Stored>> {
    let pattern = Pattern::new();
    let stored = on_each(target, connections, |at, mut connection| {
        let uploads =
            (0..each).map(|n| connection.upload(&format!("{at}-{n}.bin"), bytes, &pattern));
        uploads.collect::<Result<Vec<Stored>>>()
    })?;
    Ok(stored.into_iter().flatten().collect())
}

/// As [`upload_each`], each file deleted before the next is sent.
pub fn churn(target: &Target, connections: usize, each: usize, bytes: u64) -> Result<()> {
    let pattern = Pattern::new();
    on_each(target, connections, |at, mut connection| {
        for n in 0..each {
            let stored = connection.upload(&format!("{at}-{n}.bin"), bytes, &pattern)?;
            connection.delete(stored.trim_end_matches("/content"))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// The one stored file, read whole on each connection.
pub fn download(target: &Target, stored: &[Stored], connections: usize, bytes: u64) -> Result<()> {
    let path = stored.first().context("nothing to download")?;
    let read = on_each(target, connections, |_, mut connection| {
        connection.download(path, &mut |_, _| Ok(()))
    })?;
    ensure!(read.iter().all(|read| *read == bytes), "a download had another length");
    Ok(())
}

/// Compares a stored file with what was sent.
pub fn compare(target: &Target, path: &str, bytes: u64) -> Result<()> {
    let pattern = Pattern::new();
    let mut see = |at: u64, block: &[u8]| {
        let mut done = 0;
        while done < block.len() {
            let want = pattern.from(at + done as u64, bytes);
            let same = want.len().min(block.len() - done);
            ensure!(block[done..done + same] == want[..same], "other bytes came back");
            done += same;
        }
        Ok(())
    };
    let read = Connection::open(target)?.download(path, &mut see)?;
    ensure!(read == bytes, "{read} bytes came back of {bytes}");
    Ok(())
}

/// Deletes what was stored, by its content path.
pub fn delete_all<'a>(target: &Target, stored: impl Iterator<Item = &'a Stored>) -> Result<()> {
    let mut connection = Connection::open(target)?;
    for path in stored {
        connection.delete(path.trim_end_matches("/content"))?;
    }
    Ok(())
}
