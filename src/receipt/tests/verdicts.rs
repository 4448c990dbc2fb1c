//! Tampering: what was changed is found, whatever was changed.

use super::*;

/// A day's proofs: an acceptance's, a destruction's, and both notes.
async fn papers(office: &Office) -> Vec<String> {
    let (file, keys) = office.accept(3600);
    let (live, _) = office.accept(3600);
    for _ in 0..5 {
        office.accept(3600);
    }
    office.destroy(&keys, Reason::Deleted);
    office.minute().await;
    let evidence = office.evidence();
    vec![
        evidence.note(live, acme()).unwrap(),
        evidence.note(file, acme()).unwrap(),
        office.proof_json(live).unwrap(),
        office.proof_json(file).unwrap(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_byte_is_found() {
    let office = Office::new();
    let key = office.log_key();
    for paper in papers(&office).await {
        let good = judged(&paper, &key);
        let expected =
            if paper.starts_with('{') { Verdict::Proven } else { Verdict::NotShownLogged };
        assert_eq!(good, expected);
        for at in (0..paper.len()).step_by(if is_long_tier() { 1 } else { 3 }) {
            for flip in [0x01, 0x20] {
                let mut changed = paper.clone().into_bytes();
                changed[at] ^= flip;
                let verdict = verify(&changed, Some(&key));
                let found = matches!(verdict, Verdict::Disproven | Verdict::Unreadable);
                assert!(found, "byte {at} ^ {flip}: {verdict:?}");
                assert!(verify(&changed, None).status() < 3 && verify(&changed, None).status() > 0);
            }
            let cut = verify(&paper.as_bytes()[..at], Some(&key));
            assert!(matches!(cut, Verdict::Disproven | Verdict::Unreadable), "cut at {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_and_none_are_told_apart() {
    let (office, other) = (Office::new(), Office::new());
    for paper in papers(&office).await {
        assert_eq!(judged(&paper, &other.log_key()), Verdict::Disproven);
        assert_eq!(judged(&paper, "not a key"), Verdict::Disproven);
        assert_eq!(verify(paper.as_bytes(), None), Verdict::KeyNotPinned);
        let twice = format!("{paper}{}\n", paper.lines().last().unwrap());
        assert!(matches!(
            judged(&twice, &office.log_key()),
            Verdict::Disproven | Verdict::Unreadable
        ));
    }
    for nothing in ["", "{}", "dayfly/v1 receipt\n", "hello\n\n\u{2014} a b\n"] {
        assert_eq!(judged(nothing, &office.log_key()), Verdict::Unreadable, "{nothing:?}");
    }
}
