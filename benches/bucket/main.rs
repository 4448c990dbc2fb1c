//! What a sealed upload into a bucket costs, beside boto3 putting the same bytes in the clear.
//!
//! Both speak to a server on loopback that throws bodies away: 8 of 256 MiB at once. CPU is the
//! sender's own, per GiB; memory is its peak. `cargo bench --bench bucket` needs boto3, which
//! `tests/run` does not install: `target/python/bin/pip install boto3`. DAYFLY_BENCH_BIN names
//! another build of the gateway, DAYFLY_BENCH_MIB a smaller body.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench stands outside the gateway: it starts it, and measures it"
)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where, and stops")]
#![expect(clippy::print_stdout, reason = "its report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

#[path = "../../tests/gateway/harness/bucket.rs"]
#[expect(dead_code, reason = "only its discarding half is of use here")]
mod bucket;

/// Bodies at once.
const BODIES: usize = 8;
/// The secret of the bench's one key, and its SHA-256.
const SECRET: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SHA256: &str = "6c1b3dc7a706b9dc81352a6716b9c666c608d8626272c64b914ab05572fc6e84";

/// The peer: the same bytes, in the clear. It prints CPU seconds and its peak in KiB.
const BOTO3: &str = r#"
import io, os, resource, sys, threading
import boto3
from botocore.config import Config
endpoint, mode, mib, bodies = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = boto3.client("s3", endpoint_url=endpoint, region_name="eu-central-1",
    aws_access_key_id="test", aws_secret_access_key="test",
    config=Config(s3={"addressing_style": "path"}, max_pool_connections=100))

class Stream(io.RawIOBase):
    "Bytes that come once, as from a client; a gateway has no file."
    def __init__(self, left): self.left, self.piece = left, b"x" * (1 << 20)
    def readable(self): return True
    def read(self, n=-1):
        n = min(self.left, n if n >= 0 else self.left)
        self.left -= n
        return self.piece[:n] if n <= len(self.piece) else self.piece * (n >> 20) + self.piece[:n & 0xfffff]

def put(i):
    if mode == "put_object":
        client.put_object(Bucket="bucket", Key=f"plain-{i}", Body=b"x" * (mib << 20))
    else:
        client.upload_fileobj(Stream(mib << 20), "bucket", f"plain-{i}")
threads = [threading.Thread(target=put, args=(i,)) for i in range(bodies)]
[t.start() for t in threads]
[t.join() for t in threads]
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"#;

struct Cost {
    cpu_seconds: f64,
    peak_mib: f64,
    seconds: f64,
}

fn main() {
    let mib: usize = std::env::var("DAYFLY_BENCH_MIB").map_or(256, |mib| mib.parse().unwrap());
    let gib = (mib * BODIES) as f64 / 1024.0;
    println!("{BODIES} bodies of {mib} MiB at once, into a server that discards them");
    let tell = |who: &str, cost: &Cost| {
        let (cpu, rate) = (cost.cpu_seconds / gib, gib * 1024.0 / cost.seconds);
        let peak = cost.peak_mib;
        println!("{who:<22} {cpu:6.2} CPU-s/GiB {peak:7.0} MiB at most {rate:6.0} MiB/s");
    };
    tell("dayfly, sealed", &gateway(mib));
    for mode in ["upload_fileobj", "put_object"] {
        match boto3(mode, mib) {
            Some(cost) => tell(&format!("boto3 {mode}"), &cost),
            None => println!("boto3 is not installed: see the head of this file"),
        }
    }
}

fn gateway(mib: usize) -> Cost {
    let server = bucket::Bucket::discarding();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "test").unwrap();
    let config = dir.path().join("dayfly.toml");
    let (secret, endpoint) = (secret.display(), server.endpoint());
    let toml = format!(
        "region = \"eu-central-1\"\nallow_insecure_loopback = true\n\
         [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n\
         [vault]\nstore = \"s3\"\n[vault.s3]\nbucket = \"bucket\"\nendpoint = \"{endpoint}\"\n\
         access_key_id_file = \"{secret}\"\nsecret_access_key_file = \"{secret}\"\n\
         [regions.eu-central-1]\n[tenants.a]\nregions = [\"eu-central-1\"]\n\
         [accept]\nswap = true\nkdump = true\nno_landlock = true\nno_seccomp = true\n\
         no_namespaces = true\n\
         [[keys]]\nid = \"k\"\ntenant = \"a\"\nroles = [\"client\"]\nsha256 = \"{SHA256}\"\n"
    );
    std::fs::write(&config, toml).unwrap();
    let own = env!("CARGO_BIN_EXE_dayfly").to_owned();
    let program = std::env::var("DAYFLY_BENCH_BIN").unwrap_or(own);
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(&config).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let public = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
    let public: SocketAddr = public.expect("a ready line").parse().unwrap();
    let (before, start) = (cpu(child.id()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..BODIES {
            scope.spawn(|| upload(public, mib));
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let cost = Cost { cpu_seconds: cpu(child.id()) - before, peak_mib: peak(child.id()), seconds };
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    cost
}

fn upload(to: SocketAddr, mib: usize) {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer dfk_k_{SECRET}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        mib << 20
    );
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..mib {
        stream.write_all(&piece).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// User and system time of a process, seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// The most memory a process has had, MiB.
fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn boto3(mode: &str, mib: usize) -> Option<Cost> {
    let home = std::env::var("DAYFLY_PYTHON")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/target/python").to_owned());
    let server = bucket::Bucket::discarding();
    let mut command = Command::new(format!("{home}/bin/python"));
    let (mib, bodies) = (mib.to_string(), BODIES.to_string());
    command.args(["-c", BOTO3, &server.endpoint(), mode, &mib, &bodies]);
    let start = Instant::now();
    let said = command.output().ok()?;
    let seconds = start.elapsed().as_secs_f64();
    let said = String::from_utf8(said.stdout).ok()?;
    let mut numbers = said.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    let (cpu_seconds, kib) = (numbers.next()?, numbers.next()?);
    Some(Cost { cpu_seconds, peak_mib: kib / 1024.0, seconds })
}
