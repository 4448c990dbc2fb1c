//! Logs that are not the one that was signed for: each is found by both verifiers.
//!
//! The liar here holds the log key itself: every checkpoint is well signed, over another tree.

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::Value;

use super::{Log, State, judged, proof, restarted, with};

/// Signs checkpoints as the log does.
struct Liar {
    name: String,
    id: Vec<u8>,
    key: SigningKey,
}

impl Liar {
    fn with_key_of(state: &State) -> Self {
        let line = std::fs::read_to_string(state.dir().join("log.key")).unwrap();
        let line = line.trim().strip_prefix("PRIVATE+KEY+").unwrap();
        let [name, id, seed] = line.splitn(3, '+').collect::<Vec<_>>()[..] else { panic!() };
        let seed = BASE64.decode(seed.as_bytes()).unwrap();
        let key = SigningKey::from_bytes(seed[1..].try_into().unwrap());
        let id = data_encoding::HEXLOWER.decode(id.as_bytes()).unwrap();
        Self { name: name.to_owned(), id, key }
    }

    /// A checkpoint over these leaves.
    fn signs(&self, leaves: &[Vec<u8>]) -> String {
        let size = leaves.len() as u64;
        let root = Log::of(leaves.to_vec()).root_at(size);
        let text = format!("{}\n{size}\n{}\n", self.name, BASE64.encode(&root.0));
        let signature = [&self.id[..], &self.key.sign(text.as_bytes()).to_bytes()].concat();
        format!("{text}\n\u{2014} {} {}\n", self.name, BASE64.encode(&signature))
    }
}

#[test]
fn a_log_that_was_cut_forked_reordered_or_rolled_back_is_found_by_both_verifiers() {
    let state = State::new();
    let gateway = state.setup().start();
    let client = gateway.client();
    let early = client.upload("", b"early");
    client.delete(format!("/v1/files/{early}")).expect(200);
    let gateway = restarted(&state, gateway);
    let rolled_back = gateway.client().get("/log/checkpoint").expect(200).body_text();
    let client = gateway.client();
    let ids: Vec<String> = (0..5).map(|_| client.upload("", b"a file")).collect();
    for id in &ids {
        client.delete(format!("/v1/files/{id}")).expect(200);
    }
    let gateway = restarted(&state, gateway);
    let client = gateway.client();
    let key = state.paper("key", client.get("/log/key").expect(200).body_text().as_bytes());
    let good: Value = serde_json::from_str(&proof(&client, &ids[2])).unwrap();
    let (leaves, liar) = (Log::read(&client).leaves, Liar::with_key_of(&state));
    let index = good["index"].as_u64().unwrap() as usize;
    let verdict = |name: &str, checkpoint: &str| {
        let paper = state.paper(name, &with(&good, "checkpoint", checkpoint));
        judged(&paper, Some(&key))
    };
    assert_eq!(verdict("honest", &liar.signs(&leaves)), 0, "the liar can also tell the truth");
    let other = if index == 0 { 1 } else { index - 1 };
    let mut forked = leaves.clone();
    forked[other][7] ^= 1;
    let mut reordered = leaves.clone();
    reordered.swap(index, other);
    let mut elsewhere = leaves.clone();
    let far = (other + 2) % leaves.len();
    elsewhere.swap(other, far);
    let without = |gone: usize| [&leaves[..gone], &leaves[gone + 1..]].concat();
    let last = leaves.len() - 1;
    for (name, checkpoint) in [
        ("cut before it", liar.signs(&leaves[..index])),
        ("cut after it", liar.signs(&leaves[..last.max(index + 1)])),
        ("forked", liar.signs(&forked)),
        ("reordered, it too", liar.signs(&reordered)),
        ("reordered elsewhere", liar.signs(&elsewhere)),
        ("its destruction left out", liar.signs(&without(index))),
        ("another's destruction left out", liar.signs(&without(other))),
        ("rolled back", rolled_back.clone()),
        ("grown by an entry nobody made", liar.signs(&[&leaves[..], &leaves[..1]].concat())),
    ] {
        assert_eq!(verdict(name, &checkpoint), 1, "{name}");
    }
    // The same proofs over a place that the liar names are no better.
    for at in (0..leaves.len()).filter(|at| *at != index) {
        let paper = state.paper("moved", &with(&good, "index", at as u64));
        assert_eq!(judged(&paper, Some(&key)), 1, "as entry {at}");
    }
}
