//! The victim: the stages as the gateway composes them, over a local spool, seeded entropy and a
//! clock moved by hand. It does what it is told, line by line.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use dayfly::body::Pool;
use dayfly::budget::Budget;
use dayfly::clock::{VirtualClock, Wall};
use dayfly::crypto::RUN_BYTES;
use dayfly::deliver::Delivery;
use dayfly::disk::Spool;
use dayfly::egress::Egress;
use dayfly::entropy::{Entropy, EntropyError, SeededEntropy, SystemMachine};
use dayfly::file::TenantId;
use dayfly::intake::Digester;
use dayfly::keyring::{Keys, MemoryKeyring};
use dayfly::pipeline::{Parts, Pipeline, Upload};
use dayfly::policy::Terms;
use dayfly::receipt::Evidence;
use dayfly::region::Region;
use dayfly::secret::Slab;
use dayfly::shred::Shredder;
use dayfly::store::{LocalStore, MemoryStore};
use dayfly::table::{LiveFile, Table};
use dayfly::tasks::{Shutdown, Tasks};
use dayfly::vault::Vault;
use futures_util::{StreamExt, stream};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

pub const NAME: &str = "dayfly-victim-";
pub const SEED: u64 = 24;
pub const TENANT: &str = "acme";
pub const REGION: &str = "eu-central-1";

const MEMORY: u64 = 256 << 20;

/// What the `number`th file is made of, over and over.
pub fn word(number: usize) -> [u8; 8] {
    let mut mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed.to_be_bytes()
}

/// Seeded entropy that remembers how much was drawn, and nothing of what.
struct Watched {
    seeded: SeededEntropy,
    drawn: Mutex<Vec<usize>>,
}

impl Entropy for Watched {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.drawn.lock().unwrap().push(out.len());
        let filled = self.seeded.fill(out);
        // Its hash leaves on the stack what getrandom(2) would not.
        zeroize::zeroize_stack::<{ 16 << 10 }>();
        filled
    }
}

struct Victim {
    pipeline: Arc<Pipeline>,
    keys: Arc<Keys>,
    clock: VirtualClock,
    entropy: Arc<Watched>,
    region: Region,
    files: Vec<Arc<LiveFile>>,
    held: Option<Delivery>,
    put: usize,
}

/// memfd_secret fails from here on, as on a kernel that has none: locked pages are then readable.
fn without_memfd_secret() {
    let rules = BTreeMap::from([(libc::SYS_memfd_secret, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, here).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

impl Victim {
    fn new(spool: &std::path::Path) -> Self {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let seeded = SeededEntropy::new(SEED);
        let entropy = Arc::new(Watched { seeded, drawn: Mutex::default() });
        let (shared, drawn) = (Arc::new(clock.clone()), entropy.clone());
        let slab = Slab::lock().unwrap();
        println!("\n> pages {}", slab.kind().as_str());
        let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
        let keys = Arc::new(Keys::new(shared.clone(), drawn.clone(), epochs, slab));
        let region: Region = REGION.parse().unwrap();
        let pool = Pool::new(Budget::of(MEMORY), RUN_BYTES);
        let store = LocalStore::new(region, Spool::open(spool).unwrap(), MEMORY, shared.clone());
        // Nothing is small enough to stay in memory.
        let memory = MemoryStore::new(region, 0);
        let vault =
            Vault::new(shared.clone(), drawn.clone(), keys.clone(), pool, memory, Arc::new(store));
        let (vault, table) = (Arc::new(vault), Arc::new(Table::default()));
        let retention = Duration::from_hours(720);
        let evidence = Arc::new(Evidence::new(shared.clone(), drawn.clone(), retention).unwrap());
        let (shredder, cleaner) = Shredder::new(
            shared.clone(),
            keys.clone(),
            table.clone(),
            vault.clone(),
            evidence.clone(),
        );
        let tasks = Tasks::default();
        tasks.spawn(cleaner.run());
        let egress_clock = shared.clone();
        let pipeline = Arc::new(Pipeline::new(Parts {
            clock: shared,
            entropy: drawn,
            keys: keys.clone(),
            table,
            vault,
            evidence,
            shredder,
            tasks: tasks.clone(),
            shutdown: Shutdown::default(),
            machine: Arc::new(SystemMachine::listen()),
            egress: Egress::new(egress_clock, tasks.clone(), false),
            jobs: 1,
            workers: 1,
            runs: 1,
            min_rate: 0,
        }));
        tasks.spawn(pipeline.clone().sweep_forever());
        let (files, held) = (Vec::new(), None);
        Self { pipeline, keys, clock, entropy, region, files, held, put: 0 }
    }

    async fn put(&mut self, ttl: u64, bytes: usize) {
        let terms = Terms {
            region: self.region,
            ttl: Duration::from_secs(ttl),
            max_bytes: MEMORY,
            max_live_bytes: MEMORY,
        };
        let frames = word(self.put).repeat(bytes.div_ceil(8));
        self.put += 1;
        let frames: Vec<_> =
            frames[..bytes].chunks(6000).map(Bytes::copy_from_slice).map(Ok).collect();
        let upload = Upload {
            input: Box::pin(stream::iter(frames)),
            declared: Some(bytes as u64),
            name: Some("a name.bin".to_owned()),
            declared_type: None,
            downloads: None,
            digester: Digester::default(),
        };
        let tenant = TenantId::of(TENANT);
        let sealed = self.pipeline.seal(tenant, &terms, upload).await.unwrap();
        let file = self.pipeline.publish(sealed).unwrap();
        let (id, commitment) = (file.id.as_bytes(), &file.segments[0].commitment);
        let record = &file.record.as_ref().unwrap().as_slice()[..120];
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        println!("> {} {} {}", hex(id), hex(commitment), hex(record));
        self.files.push(file);
    }

    fn open(&self, file: &Arc<LiveFile>) -> Delivery {
        self.pipeline.deliver(file, 0..file.size(), None).unwrap().0
    }

    async fn read_all(&self) {
        for file in &self.files {
            let mut body = self.open(file);
            while let Some(bytes) = body.next().await {
                drop(bytes.unwrap());
            }
            drop(self.pipeline.record(file).unwrap());
        }
    }

    /// Waits until the background has done its work.
    async fn cleaned(&self) {
        while self.keys.files_alive() > 0 || self.pipeline.pending_deletes() > 0 {
            self.moment().await;
        }
    }

    /// Others have their turn, and some time: the background pauses by this clock.
    async fn moment(&self) {
        self.clock.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }

    async fn obey(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["put", count, ttl, bytes] => {
                for _ in 0..count.parse().unwrap() {
                    self.put(ttl.parse().unwrap(), bytes.parse().unwrap()).await;
                }
            }
            ["read"] => self.read_all().await,
            ["stream"] => {
                let mut body = self.open(&self.files[0]);
                drop(body.next().await.unwrap().unwrap());
                self.held = Some(body);
            }
            ["unstream"] => self.held = None,
            ["delete"] => {
                for file in self.files.drain(..) {
                    self.pipeline.delete(&file).unwrap();
                }
                self.cleaned().await;
            }
            ["expire"] => {
                self.files.clear();
                self.clock.advance(Duration::from_hours(1));
                self.cleaned().await;
                // The bucket's key lies in the same pages, and goes with it.
                while self.keys.secrets_held() > 0 {
                    self.moment().await;
                }
            }
            ["drawn"] => {
                let drawn = self.entropy.drawn.lock().unwrap();
                let lengths: Vec<String> = drawn.iter().map(ToString::to_string).collect();
                println!("> {}", lengths.join(" "));
            }
            _ => panic!("{line}"),
        }
        println!("> done");
    }
}

pub fn main() {
    let name = std::env::args().next().unwrap();
    let Some(pages) = name.strip_prefix(NAME) else { return };
    if pages == "mlock" {
        without_memfd_secret();
    }
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut victim = Victim::new(&home.path().join("spool"));
        println!("> done");
        for line in std::io::stdin().lock().lines() {
            victim.obey(&line.unwrap()).await;
        }
    });
}
