//! Crashes: what was written is known, and the log never contradicts itself.

#![expect(
    clippy::disallowed_methods,
    reason = "a crash is made from outside: its folder is copied, cut and changed"
)]

use super::*;
use crate::receipt::commitment::commit;
use crate::receipt::tree::Tree;

/// The tree in a state folder, as far as it goes.
fn tree(dir: &Path) -> Tree {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.join("tree")).unwrap();
    Tree::open(file, None).unwrap()
}

struct Hashes<'a>(&'a Tree);

impl HashReader for Hashes<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        indexes.iter().map(|index| Ok(self.0.stored(*index).unwrap())).collect()
    }
}

/// Every earlier checkpoint is a beginning of every later one.
fn are_consistent(checkpoints: &[(u64, Hash)], dir: &Path) {
    let tree = tree(dir);
    for (index, (size, root)) in checkpoints.iter().enumerate() {
        for (earlier, before) in &checkpoints[..index] {
            assert!(earlier <= size, "the log has shrunk");
            if *earlier > 0 {
                let proof = prove_tree(*size, *earlier, &Hashes(&tree)).unwrap();
                check_tree(&proof, *size, *root, *earlier, *before).unwrap();
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_lost_keys_have_receipts_and_others_keep_theirs() {
    let mut office = Office::new();
    let (deleted, keys) = office.accept(3600);
    let (early, _) = office.accept(3600);
    office.minute().await;
    let (alive, _) = office.accept(7200);
    office.evidence().hand(alive, &["tika".to_owned()]);
    office.destroy(&keys, Reason::Deleted);
    let seen = office.clock.now().wall;
    office.clock.advance(Duration::from_secs(1000));
    // The folder as a kill leaves it: nothing is closed.
    let (crashed, before) = (office.home.path().join("crashed"), office.checkpoint());
    copy(&office.dir(), &crashed);
    let salt = office.evidence().get(alive, acme()).unwrap().commitment_salt;
    office.start_in(&crashed).unwrap();
    assert_eq!(office.reason(deleted), Some(Reason::Deleted));
    for file in [early, alive] {
        assert_eq!(office.reason(file), Some(Reason::KeyLost));
    }
    let receipt = office.evidence().get(alive, acme()).unwrap();
    let end = receipt.destroyed.unwrap();
    assert_eq!(end.at(), office.clock.now().wall);
    assert_eq!(end.last_seen_alive(), Some(seen));
    assert_eq!(receipt.handed_to, ["tika"]);
    assert_eq!(receipt.commitment, commit(&salt, alive, &[]), "the acceptance's");
    office.minute().await;
    let note = office.evidence().note(alive, acme()).unwrap();
    for line in ["reason key-lost", "last-seen-alive ", "found ", "commitment-of acceptance"] {
        assert!(note.contains(line), "{line} in {note}");
    }
    let restated = office.evidence().note(deleted, acme()).unwrap();
    assert!(restated.contains("recorded-by earlier-run\n"), "{restated}");
    for file in [deleted, early, alive] {
        let json = office.proof_json(file).unwrap();
        assert_eq!(judged(&json, &office.log_key()), Verdict::Proven);
    }
    assert_eq!(office.kinds(), [2, 3, 3, 0, 0], "every promise is kept, once");
    are_consistent(&[before, office.checkpoint()], &crashed);
    assert_eq!(office.evidence().overdue(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_counted_through_restarts() {
    let mut office = Office::new();
    let kept: Vec<_> = (0..4).map(|_| office.accept(1200)).collect();
    office.destroy(&kept[0].1, Reason::Deleted);
    office.minute().await;
    office.destroy(&kept[1].1, Reason::Deleted);
    // One is filed, one is in the journal, two are lost: the folder as a kill leaves it.
    let crashed = office.home.path().join("crashed");
    copy(&office.dir(), &crashed);
    office.start_in(&crashed).unwrap();
    office.minute().await;
    office.evidence().close().await;
    office.start_in(&crashed).unwrap();
    office.clock.advance(Duration::from_secs(1200));
    office.minute().await;
    let size = office.checkpoint().0;
    let notes = (0..size).filter_map(|index| office.evidence().public_note_at(index));
    let closing: Vec<_> = notes.filter(|note| note.kind == Kind::Closing as u8).collect();
    assert_eq!(closing.len(), 1);
    assert!(closing[0].note.contains("accepted 4\ndestroyed 4\n"), "{}", closing[0].note);
}

/// Runs a little day in a fresh folder; tells which files were answered and how.
async fn a_day(office: &Office) -> (Vec<FileId>, Vec<FileId>) {
    let (mut deleted, mut alive) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for _ in 0..3 {
            let (file, keys) = office.accept(3600);
            if round == 1 {
                office.destroy(&keys, Reason::Deleted);
                deleted.push(file);
            } else {
                alive.push(file);
            }
        }
        if round < 2 {
            office.minute().await;
        }
    }
    (deleted, alive)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_torn_anywhere_never_forks_and_forgets_its_tail_alone() {
    let mut office = Office::new();
    let (deleted, alive) = a_day(&office).await;
    let before = office.checkpoint();
    let (whole, torn) = (office.home.path().join("whole"), office.home.path().join("torn"));
    copy(&office.dir(), &whole);
    let name = "journal-0000000001";
    let bytes = std::fs::read(whole.join(name)).unwrap();
    let step = if is_long_tier() { 1 } else { bytes.len() / 40 };
    let mut known_before = 0;
    for cut in (0..=bytes.len()).step_by(step).chain([bytes.len()]) {
        let _ = std::fs::remove_dir_all(&torn);
        copy(&whole, &torn);
        std::fs::write(torn.join(name), &bytes[..cut]).unwrap();
        office.start_in(&torn).unwrap();
        let known = |files: &[FileId]| files.iter().filter_map(|file| office.reason(*file)).count();
        let known = known(&deleted) + known(&alive);
        assert!(known >= known_before, "{known} at {cut}, {known_before} before");
        known_before = known;
        office.minute().await;
        are_consistent(&[before, office.checkpoint()], &torn);
        assert_eq!(office.evidence().overdue(), 0);
    }
    assert_eq!(known_before, deleted.len() + alive.len(), "a whole journal knows them all");
    assert_eq!(office.kinds(), [2, 9, 9, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_torn_anywhere_keeps_what_was_signed() {
    let mut office = Office::new();
    let (deleted, alive) = a_day(&office).await;
    let earlier = office.home.path().join("earlier");
    copy(&office.dir(), &earlier);
    let signed = office.checkpoint();
    office.minute().await;
    let later = std::fs::read(office.dir().join("tree")).unwrap();
    let begun = std::fs::metadata(earlier.join("tree")).unwrap().len() as usize;
    assert!(later.len() > begun);
    let torn = office.home.path().join("torn");
    let step = if is_long_tier() { 1 } else { 29 };
    for cut in (begun..=later.len()).step_by(step).chain([later.len()]) {
        // A kill while the next batch was written: nothing of it was signed.
        let _ = std::fs::remove_dir_all(&torn);
        copy(&earlier, &torn);
        std::fs::write(torn.join("tree"), &later[..cut]).unwrap();
        office.start_in(&torn).unwrap();
        let restarted = office.checkpoint();
        office.minute().await;
        are_consistent(&[signed, restarted, office.checkpoint()], &torn);
        for file in deleted.iter().chain(&alive) {
            let json = office.proof_json(*file).unwrap();
            assert_eq!(judged(&json, &office.log_key()), Verdict::Proven, "cut at {cut}");
        }
        let kinds = office.kinds();
        assert_eq!((kinds[1], kinds[0]), (9, 2), "cut at {cut}: no acceptance twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_the_signed_one_is_refused() {
    let mut office = Office::new();
    a_day(&office).await;
    let whole = office.home.path().join("whole");
    copy(&office.dir(), &whole);
    let refused = |office: &mut Office, change: &dyn Fn(&Path)| {
        let bad = office.home.path().join("bad");
        let _ = std::fs::remove_dir_all(&bad);
        copy(&whole, &bad);
        change(&bad);
        office.start_in(&bad).unwrap_err()
    };
    let truncated = refused(&mut office, &|dir| {
        let tree = std::fs::read(dir.join("tree")).unwrap();
        std::fs::write(dir.join("tree"), &tree[..tree.len() - 1]).unwrap();
    });
    assert!(matches!(truncated, EvidenceError::Tree(TreeError::Shorter)), "{truncated}");
    let changed = refused(&mut office, &|dir| {
        let mut tree = std::fs::read(dir.join("tree")).unwrap();
        let last = tree.len() - 1;
        tree[last] ^= 1;
        std::fs::write(dir.join("tree"), &tree).unwrap();
    });
    assert!(matches!(changed, EvidenceError::Tree(TreeError::Changed)), "{changed}");
    let forged = refused(&mut office, &|dir| {
        let note = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
        std::fs::write(dir.join("checkpoint"), note.replace("\n10\n", "\n9\n")).unwrap();
    });
    assert!(matches!(forged, EvidenceError::Checkpoint), "{forged}");
    let older = office.home.path().join("older");
    copy(&whole, &older);
    office.start_in(&whole).unwrap();
    office.minute().await;
    office.evidence = None;
    let rolled_back = refused(&mut office, &|dir| {
        for name in ["tree", "checkpoint"] {
            std::fs::copy(older.join(name), dir.join(name)).unwrap();
        }
    });
    assert!(matches!(rolled_back, EvidenceError::Tree(TreeError::Shorter)), "{rolled_back}");
    let foreign = refused(&mut office, &|dir| std::fs::remove_file(dir.join("log.key")).unwrap());
    assert!(matches!(foreign, EvidenceError::Foreign), "{foreign}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lives_do_not_keep_the_journal() {
    let office = Office::new();
    let (old, _) = office.accept(84_600);
    let ledger = office.evidence().ledger.as_ref().unwrap();
    let first = ledger.segment();
    for _ in 0..12 {
        // A segment's worth of what is soon over.
        let entry = journal::Entry::Rows(vec![0; 34 << 20]);
        ledger.journal.append(&[entry]).unwrap();
        office.minute().await;
    }
    assert!(ledger.segment() >= first + 12);
    let names = std::fs::read_dir(office.dir()).unwrap().flatten();
    let segments = names.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal"));
    assert!(segments.count() <= 8, "the old ones are gone");
    assert!(office.evidence().kept().rows[&old].segment > first + 2, "its row was moved");
}
