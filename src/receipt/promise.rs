//! Signed promises that acceptances will be in the log: one signature for those made together.
//!
//! Up to [`PLACES`] leaves stand at random places of a small tree, each blinded, the empty places
//! filled with noise; its root is signed. A promise shows one leaf's way up to the root. So whoever
//! holds one learns of the others neither their leaves nor how many there are.
//!
//! ```text
//! Dayfly-Promise: <leaf> <blind> <place> <path, joined by commas> <by> <signer> <signature>
//! node = SHA-256(0x00 || blind || leaf), above it SHA-256(0x01 || left || right)
//! text = "dayfly/v1 promise\nroot <root>\nby <time>\n"
//! ```
//! Hashes are base64. The signer is the pen that the receipt's boot note names.

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use super::tree::LeafBytes;
use crate::clock::Wall;
use crate::entropy::{Entropy, EntropyError, random};

/// Levels above the leaves, and places for leaves.
const LEVELS: usize = 5;
pub(super) const PLACES: usize = 1 << LEVELS;

type Node = [u8; 32];

/// A leaf to be promised.
pub(super) struct Promised {
    leaf: LeafBytes,
    blind: [u8; 32],
}

impl Promised {
    /// A row's salt blinds its leaf: it is its tenant's alone, like the promise.
    pub fn new(leaf: LeafBytes, salt: &[u8; 32]) -> Self {
        let blind = Sha256::new().chain_update(b"dayfly/v1 promise\0").chain_update(salt);
        Self { leaf, blind: blind.finalize().into() }
    }

    fn node(&self) -> Node {
        let node = Sha256::new().chain_update([0]).chain_update(self.blind);
        node.chain_update(self.leaf).finalize().into()
    }
}

/// Promises that stand together, and the places of their leaves.
pub(super) struct Together<'a> {
    promised: Vec<(u8, &'a Promised)>,
    /// Nothing where no way leads by.
    levels: [Vec<Option<Node>>; LEVELS + 1],
}

impl<'a> Together<'a> {
    /// At most [`PLACES`]; the others are left out.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn new(
        promised: impl Iterator<Item = &'a Promised>,
        entropy: &dyn Entropy,
    ) -> Result<Self, EntropyError> {
        let seed = random::<32>(entropy)?;
        let mut places: Vec<u8> = (0..PLACES as u8).collect();
        let draws = noise(&seed, LEVELS, PLACES);
        for (at, draw) in draws.iter().enumerate().skip(1) {
            // Some orders are a little likelier than others; a place tells nothing all the same.
            places.swap(at, usize::from(*draw) % (at + 1));
        }
        let promised: Vec<_> = places.into_iter().zip(promised).collect();
        let mut levels: [Vec<Option<Node>>; LEVELS + 1] = Default::default();
        levels[0] = vec![None; PLACES];
        for (place, one) in &promised {
            levels[0][usize::from(*place)] = Some(one.node());
        }
        for level in 0..LEVELS {
            let below = &mut levels[level];
            let pairs = below.chunks_exact_mut(2).enumerate();
            levels[level + 1] = pairs
                .map(|(at, two)| {
                    two.iter().any(Option::is_some).then(|| {
                        let mut side = 2 * at..;
                        let mut full = |node: &mut Option<Node>| {
                            let place = side.next().unwrap_or_default();
                            *node.get_or_insert_with(|| noise(&seed, level, place))
                        };
                        above(&[full(&mut two[0]), full(&mut two[1])])
                    })
                })
                .collect();
        }
        Ok(Self { promised, levels })
    }

    /// What is signed.
    pub fn text(&self, by: Wall) -> String {
        let root = self.levels[LEVELS].first().copied().flatten().unwrap_or_default();
        let root = BASE64.encode(&root);
        format!("dayfly/v1 promise\nroot {root}\nby {}\n", by.rfc3339())
    }

    /// Each promise as a line, in the order they were given; `signature` is the signed note's.
    pub fn lines(&self, by: Wall, signature: &str) -> impl Iterator<Item = String> {
        let by = by.rfc3339();
        self.promised.iter().map(move |(place, one)| {
            let mut line = String::with_capacity(640);
            BASE64.encode_append(&one.leaf, &mut line);
            line.push(' ');
            BASE64.encode_append(&one.blind, &mut line);
            line.push(' ');
            line.push_str(&place.to_string());
            let mut place = usize::from(*place);
            for (level, nodes) in self.levels[..LEVELS].iter().enumerate() {
                line.push(if level == 0 { ' ' } else { ',' });
                BASE64.encode_append(&nodes[place ^ 1].unwrap_or_default(), &mut line);
                place >>= 1;
            }
            line + " " + &by + " " + signature
        })
    }
}

fn above(two: &[Node]) -> Node {
    let mut hash = Sha256::new().chain_update([1]);
    two.iter().for_each(|node| hash.update(node));
    hash.finalize().into()
}

/// What nobody can tell from a node.
fn noise(seed: &[u8; 32], level: usize, place: usize) -> Node {
    Sha256::new().chain_update(seed).chain_update([level as u8, place as u8]).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use std::time::Duration;

    /// The root that a line leads to.
    fn root(line: &str) -> String {
        let [leaf, blind, place, path, ..] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).unwrap();
        let leaf = Promised {
            leaf: bytes(leaf).try_into().unwrap(),
            blind: bytes(blind).try_into().unwrap(),
        };
        let (mut node, mut place) = (leaf.node(), place.parse::<usize>().unwrap());
        for other in path.split(',') {
            let other: Node = bytes(other).try_into().unwrap();
            node = if place & 1 == 0 { above(&[node, other]) } else { above(&[other, node]) };
            place >>= 1;
        }
        assert_eq!(place, 0);
        BASE64.encode(&node)
    }

    #[test]
    fn every_promise_leads_to_the_root_and_shows_no_other() {
        let by = Wall::from_unix(Duration::from_secs(1_800_000_000));
        for count in [1, 2, 3, 17, PLACES] {
            let all: Vec<Promised> =
                (0..count).map(|n| Promised::new([n as u8; 33], &[n as u8; 32])).collect();
            let together = Together::new(all.iter(), &SystemEntropy).unwrap();
            let text = together.text(by);
            let lines: Vec<String> = together.lines(by, "pen signature").collect();
            assert_eq!(lines.len(), count);
            for (line, one) in lines.iter().zip(&all) {
                assert!(text.contains(&format!("\nroot {}\n", root(line))), "{line}");
                assert_eq!(line.split(' ').count(), 7);
                assert_eq!(
                    line.len(),
                    lines[0].len() + line.split(' ').nth(2).unwrap().len()
                        - lines[0].split(' ').nth(2).unwrap().len(),
                    "as long, however many"
                );
                for other in all.iter().filter(|other| other.leaf != one.leaf) {
                    assert!(!line.contains(&BASE64.encode(&other.leaf)));
                    assert!(!line.contains(&BASE64.encode(&other.blind)));
                }
            }
        }
    }

    #[test]
    fn a_lone_promise_stands_anywhere() {
        let one = Promised::new([1; 33], &[2; 32]);
        let by = Wall::from_unix(Duration::from_secs(1_800_000_000));
        let places: std::collections::BTreeSet<String> = (0..200)
            .map(|_| {
                let together = Together::new([&one].into_iter(), &SystemEntropy).unwrap();
                let line = together.lines(by, "s").next().unwrap();
                line.split(' ').nth(2).unwrap().to_owned()
            })
            .collect();
        assert!(places.len() > PLACES / 2, "{places:?}");
    }
}
