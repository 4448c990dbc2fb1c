//! The load: uploads by tus over plain sockets, one thread a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const SILENCE: Duration = Duration::from_secs(60);
const BLOCK: usize = 256 << 10;

/// Where uploads are created.
#[derive(Clone)]
pub struct Target {
    pub authority: String,
    pub path: &'static str,
    /// Whole header lines, each with its end.
    pub headers: String,
}

/// An answer's status, place and body's length.
struct Answer {
    status: u16,
    location: Option<String>,
}

impl Target {
    fn ask(&self, method: &str, path: &str, lines: &str, body: u64) -> Result<Answer> {
        let stream = TcpStream::connect(&self.authority)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n\
             Content-Type: application/offset+octet-stream\r\nContent-Length: {body}\r\n{}{lines}\r\n",
            self.authority, self.headers
        );
        (&stream).write_all(head.as_bytes())?;
        let block = vec![0xa5; BLOCK];
        let mut left = body;
        while left > 0 {
            let piece = BLOCK.min(usize::try_from(left)?);
            (&stream).write_all(&block[..piece])?;
            left -= piece as u64;
        }
        read(stream)
    }

    /// Creates an upload together with its bytes.
    pub fn create(&self, bytes: u64, lines: &str) -> Result<String> {
        let lines = format!("Upload-Length: {bytes}\r\n{lines}");
        let answer = self.ask("POST", self.path, &lines, bytes)?;
        ensure!(answer.status == 201, "an upload got {}", answer.status);
        let place = answer.location.context("no Location")?;
        let path = place
            .split_once("://")
            .map_or(place.as_str(), |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        Ok(path.to_owned())
    }

    /// Joins parts.
    pub fn join(&self, parts: &[String]) -> Result<String> {
        let lines = format!("Upload-Concat: final;{}\r\n", parts.join(" "));
        let answer = self.ask("POST", self.path, &lines, 0)?;
        ensure!(answer.status == 201, "a join got {}", answer.status);
        answer.location.context("no Location")
    }

    pub fn delete(&self, path: &str) -> Result<()> {
        let answer = self.ask("DELETE", path, "", 0)?;
        ensure!(answer.status == 204, "a delete got {}", answer.status);
        Ok(())
    }

    /// So many uploads at once; how long all took.
    pub fn together(
        &self,
        count: usize,
        bytes: u64,
        lines: &str,
    ) -> Result<(Duration, Vec<String>)> {
        let start = Instant::now();
        let made: Vec<Result<String>> = std::thread::scope(|scope| {
            let sent: Vec<_> =
                (0..count).map(|_| scope.spawn(|| self.create(bytes, lines))).collect();
            sent.into_iter().map(|one| one.join().expect("a sender ends")).collect()
        });
        let took = start.elapsed();
        Ok((took, made.into_iter().collect::<Result<_>>()?))
    }
}

fn read(stream: TcpStream) -> Result<Answer> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("no answer")?.parse()?;
    let mut location = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("location") {
            location = Some(value.trim().to_owned());
        }
    }
    let _ = stream.read_to_end(&mut Vec::new());
    Ok(Answer { status, location })
}
