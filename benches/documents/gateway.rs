//! The gateway under measurement: the release program, and connections that are kept.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A server that says nothing for this long has failed.
const SILENCE: Duration = Duration::from_secs(60);

/// 52 characters, as a key's secret has. It opens a gateway that lives as long as this program.
const SECRET: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

/// A running gateway with its folder.
pub struct Gateway {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

/// One kept connection to it.
pub struct Connection {
    stream: BufReader<TcpStream>,
    addr: SocketAddr,
}

impl Gateway {
    pub fn start() -> Result<Self> {
        let dir = TempDir::new()?;
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(SECRET));
        let settings = format!(
            "region = \"local\"\n\
             [retention]\nlog = \"off\"\n\
             [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [log]\nlevel = \"warn\"\n\
             [vault]\nstore = \"memory\"\nkeyring = \"memory\"\n\
             [regions.local]\njurisdiction = \"none\"\n\
             [tenants.bench]\nregions = [\"local\"]\n\
             [[keys]]\nid = \"bench\"\ntenant = \"bench\"\nroles = [\"client\"]\nsha256 = \"{hash}\"\n\
             [accept]\nswap = true\nkdump = true\nplain_http = true\n"
        );
        let config = dir.path().join("dayfly.toml");
        fs::write(&config, settings)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
        command.arg("serve").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("dayfly cannot be started")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let addr = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let addr = addr.with_context(|| format!("no ready line, but {line:?}"))?.parse()?;
        std::thread::spawn(move || {
            let mut rest = [0; 4096];
            while stdout.read(&mut rest).is_ok_and(|read| read > 0) {}
        });
        Ok(Self { child, addr, _dir: dir })
    }

    pub fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&self.addr, SILENCE)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::with_capacity(256 << 10, stream), addr: self.addr })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(process) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(process, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Connection {
    /// The body of the answer to a POST of `body`, which must be a 200.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer dfk_bench_{SECRET}\r\n\
             Content-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let status = self.line()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:");
        }
        let mut answer = Vec::new();
        if chunked {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16)?;
                self.take(size, &mut answer)?;
                ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length, &mut answer)?;
        }
        let said = String::from_utf8_lossy(&answer);
        ensure!(status.contains(" 200 "), "{path} got {status}: {said}");
        Ok(answer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the connection was closed");
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }

    fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Result<()> {
        let read = (&mut self.stream).take(length as u64).read_to_end(into)?;
        ensure!(read == length, "the answer was cut");
        Ok(())
    }
}
