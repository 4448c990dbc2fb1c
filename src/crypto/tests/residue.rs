//! Keys leave no copy behind on the stack that made them.

use super::super::derive::{SCHEDULE, SEGMENT, SegmentKeys, expand};
use super::*;

/// How far below its own frame the search looks, bytes: deeper than any call here reaches.
const DEPTH: usize = 256 << 10;

/// The bytes below this frame, as the calls before left them.
#[inline(never)]
fn dead_stack() -> Vec<u8> {
    let here = 0u8;
    let top = std::ptr::from_ref(&here) as usize;
    let start = top - DEPTH;
    let mut found = Vec::with_capacity(DEPTH);
    for at in (start..top - 4096).rev() {
        // SAFETY: this thread's stack is 2 MiB, all mapped, and this frame is near its top; the
        // bytes below are nobody's. Volatile, because the compiler knows of no object there.
        found.push(unsafe { std::ptr::with_exposed_provenance::<u8>(at).read_volatile() });
    }
    found.reverse();
    found
}

/// Runs `derivation` on a thread of its own and counts eight-byte pieces of `secrets` left behind.
fn left_behind(secrets: &[Vec<u8>], derivation: impl FnOnce() + Send) -> usize {
    let stack = std::thread::scope(|scope| {
        let search = || {
            derivation();
            dead_stack()
        };
        let builder = std::thread::Builder::new().stack_size(2 << 20);
        builder.spawn_scoped(scope, search).unwrap().join().unwrap()
    });
    let pieces = secrets.iter().flat_map(|secret| secret.chunks_exact(8));
    pieces.filter(|piece| stack.windows(8).any(|window| window == *piece)).count()
}

/// The secret itself, and as HMAC pads it.
fn shapes(secret: &[u8]) -> Vec<Vec<u8>> {
    [0, 0x36, 0x5c].iter().map(|pad| secret.iter().map(|byte| byte ^ pad).collect()).collect()
}

#[test]
fn no_secret_stays_on_the_stack_once_the_cipher_stands() {
    // Secrets that occur nowhere else in the test's binary.
    let mut case = Case::vault_page();
    let epoch_key: [u8; 32] = crate::entropy::random(&SystemEntropy).unwrap();
    let file_secret: [u8; 32] = crate::entropy::random(&SystemEntropy).unwrap();
    (case.epoch_key, case.file_secret) = (Some(secret(epoch_key)), secret(file_secret));
    let mut secrets = [shapes(&epoch_key), shapes(&file_secret)].concat();
    secrets.extend(shapes(case.key().expose()));
    let (salt, header) = ([3; 24], case.header.to_bytes());
    let (mut okm, info) = ([0; 44], [SCHEDULE, &salt, SEGMENT, &header, case.tenant.as_bytes()]);
    expand(case.key().expose(), &info, &mut okm);
    secrets.push(okm[..32].to_vec());
    for of in BOTH {
        let found = left_behind(&secrets, || {
            let keys = SegmentKeys::derive(case.key(), &salt, &header, &case.tenant, of);
            std::hint::black_box(keys.is_ok());
        });
        assert_eq!(found, 0, "{of:?}");
    }
}

#[test]
fn the_search_would_find_a_copy_left_behind() {
    let lost: [u8; 32] = crate::entropy::random(&SystemEntropy).unwrap();
    let found = left_behind(&shapes(&lost), || leave_behind(&lost));
    assert!(found > 0);
}

#[inline(never)]
fn leave_behind(secret: &[u8; 32]) {
    // Deep enough that nothing called afterwards writes over it.
    let mut deep = [0u8; 64 << 10];
    deep[..32].copy_from_slice(secret);
    std::hint::black_box(&mut deep);
}
