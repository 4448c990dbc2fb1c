//! kill −9 at named points: no plaintext on the raw device, and nothing of before is served.
//!
//! One disk goes through one gateway after the other, as a real one would: each is brought to a
//! point of its work from outside, by what is sent, read and asked, and is killed there.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{
    Answer, Client, Disk, Marker, Setup, TestGateway, Wire, eventually, is_long_tier, search, skip,
    tell,
};

mod points;

use points::{Point, points};

/// To be ready again after a kill. The middle one of all starts counts: machines are shared.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Every how many-th point runs in the default tier.
const STEP: usize = 9;
const DISK_BYTES: u64 = 64 << 20;

/// A gateway at work, what it was given, and the connections that must stay open until the kill.
pub struct Scene {
    pub gateway: TestGateway,
    pub client: Client,
    pub content: Marker,
    pub name: Marker,
    pub ids: Vec<String>,
    pub held: Vec<Wire>,
}

impl Scene {
    fn new(gateway: TestGateway, point: &str, seed: usize) -> Self {
        let content = Marker::new(&format!("{point} {seed}: content"));
        let name = Marker::new(&format!("{point} {seed}: name"));
        let client = gateway.client();
        Self { gateway, client, content, name, ids: Vec::new(), held: Vec::new() }
    }

    /// Uploads, and remembers the id.
    pub fn upload(&mut self, query: &str, size: usize) -> String {
        let name = self.name.letters(48);
        let id = self.client.upload(&format!("?name={name}{query}"), &self.content.text(size));
        self.ids.push(id.clone());
        id
    }

    /// Reads the answer to an upload, and remembers the id.
    pub fn answered(&mut self, wire: &mut Wire) {
        let made = Answer::read(wire, "POST /v1/files").expect(201).json();
        let file = made.get("files").map_or(&made, |files| &files[0]);
        self.ids.push(file["id"].as_str().unwrap().to_owned());
    }

    /// Round trips that differ by seed, so that the kill comes at different moments of the work.
    fn wait_a_little(&self, seed: usize) {
        for _ in 0..[0, 2, 1, 6][seed % 4] {
            self.gateway.operator().get("/metrics").expect(200);
        }
    }
}

/// The processes below `parent` by id, and when each was started.
fn family(parent: u32) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        all.extend(alive(process).map(|(above, started)| (process, above, started)));
    }
    let mut found = vec![(parent, String::new())];
    let mut at = 0;
    while let Some((above, _)) = found.get(at).cloned() {
        let below = all.iter().filter(|(_, parent, _)| *parent == above);
        found.extend(below.map(|(process, _, started)| (*process, started.clone())));
        at += 1;
    }
    found.split_off(1)
}

/// A running process's parent, and when it was started; `None` if it has ended.
fn alive(process: u32) -> Option<(u32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let ended = matches!(words[0], "Z" | "X");
    (!ended).then(|| (words[1].parse().unwrap(), words[19].to_owned()))
}

/// Kills the gateway, and waits for its zygote and its workers to go after it.
fn kill(gateway: &mut TestGateway) {
    let family = family(gateway.process());
    assert!(!family.is_empty(), "a gateway has a zygote");
    gateway.kill();
    for (process, started) in family {
        eventually("the workers die with the gateway", || {
            let same = alive(process).is_some_and(|(_, now)| now == started);
            (!same).then_some(())
        });
    }
}

/// What a crash must leave: a device without a window of the text, and no name in the spool.
#[track_caller]
fn leaves_nothing(disk: &Disk, spool: &Path, markers: &[Marker]) {
    let found = search(markers, &disk.settled(), 0, "the device");
    assert!(found.is_empty(), "plaintext rests on the device: {found:?}");
    let named: Vec<_> = std::fs::read_dir(spool).unwrap().flatten().collect();
    assert!(named.is_empty(), "the spool shows names: {named:?}");
}

/// Nothing of before the crash can be had from its successor.
#[track_caller]
fn knows_nothing(gateway: &TestGateway, ids: &[String]) {
    let client = gateway.client();
    for id in ids {
        for path in [format!("/v1/files/{id}"), Client::content(id), format!("/v1/receipts/{id}")] {
            client.get(&path).problem(404, "not-found");
            client.ask("HEAD", &path).send().expect(404);
        }
        client.delete(format!("/v1/files/{id}")).problem(404, "not-found");
    }
    let list = client.get("/v1/files").expect(200).json();
    assert_eq!(list["files"].as_array().unwrap().len(), 0, "{list}");
}

/// Brings the gateway to the point, kills it there, and starts the next one on the same disk.
fn crash(point: &Point, seed: usize, gateway: TestGateway, disk: &Disk) -> (TestGateway, Duration) {
    let spool = disk.place().join("spool");
    let setup = gateway.setup.clone();
    let mut scene = Scene::new(gateway, &point.name, seed);
    (point.reach)(&mut scene);
    scene.wait_a_little(seed);
    let markers = [scene.content.clone(), scene.name.clone()];
    if seed % 2 == 1 {
        // What waits to be written gets to the device: a file that is freed first may never.
        leaves_nothing(disk, &spool, &markers);
    }
    kill(&mut scene.gateway);
    leaves_nothing(disk, &spool, &markers);
    let start = Instant::now();
    let next = setup.start();
    let took = start.elapsed();
    knows_nothing(&next, &scene.ids);
    leaves_nothing(disk, &spool, &markers);
    (next, took)
}

#[test]
fn a_kill_at_any_point_leaves_no_plaintext_and_nothing_to_serve() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut disk = match Disk::new(dir.path(), DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("kill −9 (root and loop devices needed): {why}")),
    };
    let all = points();
    assert!(all.len() >= 60, "only {} points", all.len());
    let (step, seeds) = if is_long_tier() { (1, 0..4) } else { (STEP, 1..2) };
    let setup = Setup::new().set("vault.local", "max", "\"32MiB\"");
    let mut gateway = setup.spool(&disk.place().join("spool")).start();
    let mut starts = Vec::new();
    let mut crashed = 0;
    for seed in seeds {
        for point in all.iter().step_by(step) {
            let at = format!("{}, seed {seed}", point.name);
            let told = std::panic::AssertUnwindSafe(|| crash(point, seed, gateway, &disk));
            let took;
            (gateway, took) = match std::panic::catch_unwind(told) {
                Ok(next) => next,
                Err(failure) => {
                    skip(&format!("the rest, after a failure at: {at}"));
                    std::panic::resume_unwind(failure);
                }
            };
            starts.push(took);
            crashed += 1;
        }
    }
    drop(gateway);
    starts.sort_unstable();
    let (middle, longest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    tell(&format!("{crashed} crashes; ready after {middle:?}, {longest:?} at the most"));
    assert!(middle < READY_WITHIN, "ready after {middle:?}");
    if step > 1 {
        skip(&format!("{} of {} points; all of them: DAYFLY_TIER=long", crashed, all.len()));
    }
    // The search is no better than what it can find: plaintext in the spool, and its freed blocks.
    let marker = Marker::new("control");
    let control = disk.place().join("spool/control");
    std::fs::write(&control, marker.text(100_000)).unwrap();
    let markers = [marker];
    assert!(!search(&markers, &disk.settled(), 0, "the device").is_empty(), "it would be found");
    std::fs::remove_file(&control).unwrap();
    assert!(!search(&markers, &disk.raw(), 0, "the device").is_empty(), "and after a delete");
}
