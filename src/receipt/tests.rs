//! Evidence as a whole: over a clock moved by hand, through restarts and crashes.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tlog_tiles::{Checkpoint, Hash, HashReader, check_tree, prove_tree};

use super::*;
use crate::clock::VirtualClock;
use crate::entropy::SystemEntropy;
use crate::file::{Deadline, Reason};
use crate::keyring::{Keys, MemoryKeyring};
use crate::secret::Slab;

mod crashes;
mod verdicts;

const START: u64 = 1_800_000_000;

/// A gateway's evidence, and the keys it speaks of.
struct Office {
    evidence: Option<Arc<Evidence>>,
    keys: Keys,
    clock: VirtualClock,
    home: TempDir,
    slab: Slab,
    retention: Duration,
    access: Access,
}

fn acme() -> TenantId {
    TenantId::of("acme")
}

impl Office {
    fn new() -> Self {
        Self::with(Duration::from_hours(720), Access::Public)
    }

    fn with(retention: Duration, access: Access) -> Self {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(START)));
        let shared = Arc::new(clock.clone());
        let slab = Slab::lock().unwrap();
        let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
        let keys = Keys::new(shared, Arc::new(SystemEntropy), epochs, slab.clone());
        let home = tempfile::tempdir().unwrap();
        let mut office = Self { evidence: None, keys, clock, home, slab, retention, access };
        office.start().unwrap();
        office
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn start(&mut self) -> Result<(), EvidenceError> {
        self.start_in(&self.dir())
    }

    /// Begins a run; the one before was closed, or has crashed.
    fn start_in(&mut self, dir: &Path) -> Result<(), EvidenceError> {
        self.evidence = None;
        let options = Options {
            retention: self.retention,
            access: self.access,
            region: "eu-test-1".parse().unwrap(),
            build: "dayfly test",
            accepted_limits: vec!["swap".to_owned()],
            state: Some(StateDir::open(dir)?),
            log_key_file: None,
            slab: self.slab.clone(),
        };
        let clock = Arc::new(self.clock.clone());
        self.evidence = Some(Arc::new(Evidence::open(clock, Arc::new(SystemEntropy), options)?));
        Ok(())
    }

    fn evidence(&self) -> &Evidence {
        self.evidence.as_ref().unwrap()
    }

    /// Accepts a file; what destroys it later is given back.
    fn accept(&self, ttl: u64) -> (FileId, crate::keyring::FileKeys) {
        let accepted = self.unwritten(ttl);
        self.evidence().write_out();
        accepted
    }

    /// As [`Office::accept`], but nobody was told yet.
    fn unwritten(&self, ttl: u64) -> (FileId, crate::keyring::FileKeys) {
        let now = self.clock.now();
        let deadline = Deadline::fix(now, Duration::from_secs(ttl)).unwrap();
        let file = FileId::draw(&SystemEntropy).unwrap();
        let keys = self.keys.create(file, deadline).unwrap();
        let said = Acceptance {
            file,
            tenant: acme(),
            region: "eu-test-1".parse().unwrap(),
            accepted_at: now.wall,
            expires_at: deadline.expires_at(),
            epoch: deadline.epoch(),
            keyring: keys.keeper(),
            commitments: vec![[9; 32]],
            blobs: vec!["local"],
            handed_to: Vec::new(),
        };
        self.evidence().accept(said).unwrap();
        (file, keys)
    }

    fn destroy(&self, keys: &crate::keyring::FileKeys, reason: Reason) {
        let proof = self.keys.destroy(keys, reason);
        self.evidence().finish(&proof).unwrap();
        self.evidence().write_out();
        self.evidence().answered(proof.file(), 0, Answer::Deleted);
    }

    async fn minute(&self) {
        self.clock.advance(checkpoint::EVERY);
        self.evidence().tick().await;
    }

    fn reason(&self, file: FileId) -> Option<Reason> {
        self.evidence().get(file, acme())?.destroyed.map(|end| end.reason())
    }

    fn log_key(&self) -> String {
        self.evidence().log_key()
    }

    fn checkpoint(&self) -> (u64, Hash) {
        let note = self.evidence().checkpoint_note();
        let text = verify::checked(&note, self.log_key().trim()).unwrap();
        let checkpoint = Checkpoint::from_bytes(text.as_bytes()).unwrap();
        (checkpoint.size(), *checkpoint.hash())
    }

    /// How many leaves of each kind the log shows everybody.
    fn kinds(&self) -> [usize; 5] {
        let mut kinds = [0; 5];
        for index in 0..self.checkpoint().0 {
            let bundle = self.evidence().tile(None, index / 256, (index % 256 + 1) as u32).unwrap();
            let leaf = &bundle[bundle.len() - 33..];
            kinds[usize::from(leaf[0])] += 1;
        }
        kinds
    }

    fn proof_json(&self, file: FileId) -> Option<String> {
        let proof = self.evidence().proof(file, acme()).ok()?;
        Some(json(&proof))
    }
}

/// Whether what wants minutes is asked for.
#[expect(clippy::disallowed_methods, reason = "tests are asked for by tier, not configured")]
fn is_long_tier() -> bool {
    std::env::var("DAYFLY_TIER").as_deref() == Ok("long")
}

fn json(proof: &Proof) -> String {
    let (blind, path) = proof.base64();
    serde_json::json!({
        "note": proof.note, "kind": proof.kind, "blind": blind, "index": proof.index,
        "path": path, "checkpoint": proof.checkpoint,
    })
    .to_string()
}

fn judged(file: &str, key: &str) -> Verdict {
    verify(file.as_bytes(), Some(key))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_signed_at_once_and_proven_with_the_next_checkpoint() {
    let office = Office::new();
    let (file, keys) = office.accept(3600);
    let (evidence, key) = (office.evidence(), office.log_key());
    let live = evidence.note(file, acme()).unwrap();
    assert_eq!(judged(&live, &key), Verdict::NotShownLogged);
    assert_eq!(verify(live.as_bytes(), None), Verdict::KeyNotPinned);
    assert!(matches!(evidence.proof(file, acme()), Err(NoProof::NotYet(1..=62))));
    assert_eq!(office.kinds(), [1, 0, 0, 0, 0], "the boot leaf is there from the start");
    office.minute().await;
    assert_eq!(office.kinds(), [1, 1, 0, 0, 0]);
    let accepted = office.proof_json(file).unwrap();
    assert_eq!(judged(&accepted, &key), Verdict::Proven);
    office.destroy(&keys, Reason::Deleted);
    assert!(matches!(evidence.proof(file, acme()), Err(NoProof::NotYet(_))));
    let done = evidence.note(file, acme()).unwrap();
    assert!(done.contains("state final\n") && done.contains("reason deleted\n"), "{done}");
    assert_eq!(judged(&done, &key), Verdict::NotShownLogged);
    office.minute().await;
    assert_eq!(office.kinds(), [1, 1, 1, 0, 0]);
    assert_eq!(judged(&office.proof_json(file).unwrap(), &key), Verdict::Proven);
    assert_eq!(judged(&accepted, &key), Verdict::Proven, "an earlier proof stays good");
    assert_eq!(evidence.note(file, acme()).unwrap(), done, "asked for early, it is the same note");
    assert!(evidence.get(file, TenantId::of("other")).is_none());
    assert!(evidence.note(file, TenantId::of("other")).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_knows_what_was_answered() {
    let mut office = Office::new();
    let (gone, keys) = office.accept(3600);
    office.destroy(&keys, Reason::Downloaded);
    let (stopped, keys) = office.accept(3600);
    office.minute().await;
    let note = office.evidence().note(gone, acme()).unwrap();
    office.destroy(&keys, Reason::Shutdown);
    office.evidence().close().await;
    let (size, key) = (office.checkpoint().0, office.log_key());
    office.clock.advance(Duration::from_secs(7));
    office.start().unwrap();
    assert_eq!(office.log_key(), key);
    assert_eq!(office.reason(gone), Some(Reason::Downloaded));
    assert_eq!(office.reason(stopped), Some(Reason::Shutdown));
    assert_eq!(office.evidence().note(gone, acme()).unwrap(), note);
    assert_eq!(judged(&office.proof_json(gone).unwrap(), &key), Verdict::Proven);
    assert_eq!(judged(&office.proof_json(stopped).unwrap(), &key), Verdict::Proven);
    assert!(office.evidence().get(gone, TenantId::of("other")).is_none());
    assert_eq!(office.checkpoint().0, size + 1, "another boot leaf");
    office.minute().await;
    assert_eq!(office.kinds(), [2, 2, 2, 0, 0], "nothing is logged twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_close_with_their_counts_and_gaps_are_overdue() {
    let office = Office::new();
    let kept: Vec<_> = (0..3).map(|_| office.accept(600)).collect();
    office.minute().await;
    office.destroy(&kept[0].1, Reason::Deleted);
    office.destroy(&kept[1].1, Reason::Expired);
    for _ in 0..18 {
        office.minute().await;
    }
    assert_eq!((office.kinds()[3], office.evidence().overdue()), (0, 0), "not late yet");
    office.minute().await;
    office.minute().await;
    assert_eq!((office.kinds()[3], office.evidence().overdue()), (1, 1), "one is missing");
    office.destroy(&kept[2].1, Reason::Expired);
    assert_eq!(office.evidence().overdue(), 0);
    office.minute().await;
    assert_eq!(office.kinds()[3], 2, "the account is corrected");
    let closing: Vec<String> = (0..office.checkpoint().0)
        .filter_map(|index| office.evidence().public_note_at(index))
        .filter(|note| note.kind == Kind::Closing as u8)
        .inspect(|note| assert_eq!(judged(&json(note), &office.log_key()), Verdict::Proven))
        .map(|note| note.note)
        .collect();
    let all = closing.join("");
    assert!(all.contains("accepted 3\ndestroyed 2\n"), "{all}");
    assert!(all.contains("accepted 3\ndestroyed 3\n"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_an_epoch_counts_in_the_minute_that_holds_its_end() {
    let office = Office::new();
    let (file, _) = office.accept(90);
    let row = office.evidence().kept().rows[&file].clone();
    let bucket = buckets::Bucket::of(&row);
    let end = row.expires_at.unix_seconds();
    assert!(bucket.length == 60 && bucket.end >= end && bucket.end - end < 60, "{bucket:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_ends_with_its_retention_and_its_key_some_days_later() {
    let mut office = Office::with(Duration::from_hours(72), Access::Public);
    let (file, keys) = office.accept(3600);
    office.destroy(&keys, Reason::Deleted);
    office.minute().await;
    let sealed = {
        let ledger = office.evidence().ledger.as_ref().unwrap();
        ledger.archive.row(&ledger.key(file, acme())).unwrap().unwrap()
    };
    office.clock.advance(Duration::from_hours(71));
    assert!(office.evidence().get(file, acme()).is_some());
    office.clock.advance(Duration::from_hours(1));
    assert!(office.evidence().get(file, acme()).is_none(), "on the second");
    office.minute().await;
    let ledger = office.evidence().ledger.as_ref().unwrap();
    assert!(ledger.archive.row(&ledger.key(file, acme())).unwrap().is_none(), "it is taken out");
    assert!(ledger.unseal(&sealed).is_some(), "its day's key lives on");
    office.clock.advance(Duration::from_hours(48));
    office.minute().await;
    let ledger = office.evidence().ledger.as_ref().unwrap();
    assert!(ledger.unseal(&sealed).is_none(), "what the file system kept of it opens no more");
    for _ in 0..60 {
        office.clock.advance(Duration::from_hours(1));
        office.minute().await;
    }
    assert!(office.evidence().log_policy().contains("\nminimum-index 3\n"), "pruned");
    office.start().unwrap();
    assert!(office.evidence().get(file, acme()).is_none());
    office.minute().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retention_nothing_is_kept_and_the_log_still_counts() {
    let mut office = Office::with(Duration::ZERO, Access::Public);
    let (gone, keys) = office.accept(3600);
    let (crashed, _) = office.accept(3600);
    office.destroy(&keys, Reason::Deleted);
    assert!(office.evidence().get(gone, acme()).is_none());
    assert!(office.evidence().get(crashed, acme()).is_some(), "while it lives it has a receipt");
    office.minute().await;
    assert_eq!(office.kinds(), [1, 2, 1, 0, 0]);
    let (promised, _) = office.accept(3600);
    office.start().unwrap();
    for file in [gone, crashed, promised] {
        assert!(office.evidence().get(file, acme()).is_none());
    }
    office.minute().await;
    assert_eq!(office.kinds(), [2, 3, 1, 0, 0], "what was promised is logged, and once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_of_a_store_amends_what_was_signed() {
    let office = Office::new();
    let (file, keys) = office.accept(3600);
    let proof = office.keys.destroy(&keys, Reason::Deleted);
    office.evidence().finish(&proof).unwrap();
    office.minute().await;
    let pending = office.proof_json(file).unwrap();
    assert!(pending.contains("blob local pending"), "{pending}");
    office.evidence().answered(file, 0, Answer::Deleted);
    office.minute().await;
    let amended = office.proof_json(file).unwrap();
    assert!(amended.contains("blob local deleted") && amended.contains("revision 1"), "{amended}");
    for json in [pending, amended] {
        assert_eq!(judged(&json, &office.log_key()), Verdict::Proven);
    }
    assert_eq!(office.kinds(), [1, 1, 1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_log_receipts_are_signed_all_the_same() {
    let mut office = Office::with(Duration::from_hours(720), Access::Off);
    let (file, keys) = office.accept(3600);
    assert!(office.evidence().acknowledge(&[file], true).await.unwrap().is_empty());
    office.destroy(&keys, Reason::Deleted);
    office.minute().await;
    assert_eq!(office.evidence().proof(file, acme()), Err(NoProof::Unknown));
    let note = office.evidence().note(file, acme()).unwrap();
    assert_eq!(judged(&note, &office.log_key()), Verdict::NotShownLogged);
    office.start().unwrap();
    assert_eq!(office.evidence().note(file, acme()).unwrap(), note);
    assert!(!office.dir().join("tree").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_trail_is_kept_apart_by_tenant_and_forgotten_with_its_key() {
    let mut office = Office::new();
    let other = TenantId::of("other");
    let audit = |office: &Office| Audit::new(office.evidence.clone().unwrap());
    let note = |office: &Office, tenant, action| {
        let who = crate::policy::Who { key: "k1".to_owned(), grant: None };
        audit(office).note(tenant, who, action, None);
    };
    for action in [Action::FileCreate, Action::FileRead, Action::FileShorten, Action::FileDelete] {
        note(&office, acme(), action);
    }
    office.minute().await;
    note(&office, acme(), Action::Process);
    note(&office, other, Action::JobCancel);
    // Written down before it is answered, and with it what waited; then a kill.
    note(&office, acme(), Action::TenantSuspend);
    let (file, keys) = office.accept(3600);
    office.destroy(&keys, Reason::Erased);
    let (alive, _) = office.accept(3600);
    office.start().unwrap();
    note(&office, acme(), Action::TenantResume);
    let (page, next) = audit(&office).list(acme(), None, 4).unwrap();
    let actions = |page: &[Line]| page.iter().map(|line| line.action.as_str()).collect::<Vec<_>>();
    let expected = ["tenant.resume", "tenant.suspend", "process.run", "file.delete"];
    assert_eq!(actions(&page), expected);
    let (rest, next) = audit(&office).list(acme(), next, 2).unwrap();
    assert_eq!(actions(&rest), ["file.shorten", "file.read"]);
    assert_eq!(actions(&audit(&office).list(acme(), next, 9).unwrap().0), ["file.create"]);
    office.evidence().forget_tenant(acme()).await.unwrap();
    assert!(audit(&office).list(acme(), None, 100).unwrap().0.is_empty());
    assert!(office.evidence().get(file, acme()).is_none());
    office.minute().await;
    office.start().unwrap();
    assert!(office.evidence().get(file, acme()).is_none());
    assert!(office.evidence().get(alive, acme()).is_none(), "it had ended when it was forgotten");
    assert!(audit(&office).list(acme(), None, 100).unwrap().0.is_empty());
    assert_eq!(actions(&audit(&office).list(other, None, 9).unwrap().0), ["job.cancel"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_pen_is_followed_by_another_that_says_so() {
    let office = Office::new();
    let (before, keys) = office.accept(3600);
    let key = office.log_key();
    let old = office.evidence().note(before, acme()).unwrap();
    office.keys.condemn(crate::keyring::Suspicion::SameSalt);
    assert!(office.evidence().note(before, acme()).is_none(), "nobody can say that it lives");
    let (after, _alive) = office.accept(3600);
    office.destroy(&keys, Reason::KeyLost);
    office.minute().await;
    let pen = |note: &str| {
        let line = note.lines().find(|line| line.starts_with("boot|pen ")).unwrap();
        line.to_owned()
    };
    let said = [before, after].map(|file| office.evidence().note(file, acme()).unwrap());
    assert!(pen(&said[0]) == pen(&said[1]) && pen(&said[0]) != pen(&old), "another pen");
    for file in [before, after] {
        assert_eq!(judged(&office.proof_json(file).unwrap(), &key), Verdict::Proven);
    }
    assert_eq!(office.kinds(), [2, 2, 1, 0, 0], "it has a boot leaf of its own");
    let promised = office.evidence().acknowledge(&[after], true).await.unwrap();
    assert_eq!(promised.len(), 1);
    assert!(office.evidence().acknowledge(&[before], true).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_together_are_written_together() {
    let office = Office::new();
    let evidence = office.evidence.clone().unwrap();
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let (file, _) = office.unwritten(3600);
            let evidence = evidence.clone();
            async move { evidence.acknowledge(&[file], true).await.unwrap().remove(0) }
        })
        .collect();
    let promises = futures_util::future::join_all(asking).await;
    let signatures: std::collections::BTreeSet<_> =
        promises.iter().map(|promise| promise.rsplit(' ').next().unwrap()).collect();
    assert_eq!(signatures.len(), 2, "32 places, and the rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_shuffled() {
    let office = Office::new();
    let files: Vec<FileId> = (0..40).map(|_| office.accept(3600).0).collect();
    office.minute().await;
    let index = |file| office.evidence().get(file, acme()).unwrap().log_index.unwrap();
    let order: Vec<u64> = files.into_iter().map(index).collect();
    let sorted: Vec<u64> = (1..=40).collect();
    assert_ne!(order, sorted, "one chance in 40! to be unlucky");
    let mut again = order;
    again.sort_unstable();
    assert_eq!(again, sorted);
}
