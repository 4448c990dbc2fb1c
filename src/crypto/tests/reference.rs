//! Against the independent reference in Python, where the shared folder has it.

use std::io::Write;
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test runs the reference")]
fn python(args: &[&str], input: &str) -> Option<Vec<u8>> {
    let mut command = Command::new("python3");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success().then_some(output.stdout)
}

fn reference() -> Option<String> {
    let script = shared("tools/vault_reference.py")?;
    if python(&["-c", "import cryptography"], "").is_none() {
        skipped("python3 with `cryptography` is not here");
        return None;
    }
    Some(script.to_str().unwrap().to_owned())
}

fn ask(script: &str, command: &str, case: &Case, more: &[(&str, &[u8])]) -> Option<Value> {
    let epoch_key = case.epoch_key.as_ref().map_or(&[][..], |key| key.expose());
    let mut asked = json!({
        "epoch_key": HEXLOWER.encode(epoch_key),
        "file_secret": HEXLOWER.encode(case.file_secret.expose()),
        "tenant": HEXLOWER.encode(case.tenant.as_bytes()),
        "header": HEXLOWER.encode(&case.header.to_bytes()),
    });
    for (name, bytes) in more {
        asked[name] = HEXLOWER.encode(bytes).into();
    }
    let answer = python(&[script, command], &asked.to_string())?;
    serde_json::from_slice(&answer).ok()
}

#[test]
fn what_is_sealed_here_opens_in_the_reference_and_the_reverse() {
    let Some(script) = reference() else { return };
    let mut short_lived = Case::vault_page();
    (short_lived.header.epoch, short_lived.epoch_key) = (Epoch::None, None);
    short_lived.header.role = Role::Output;
    for (case, len) in
        [(Case::vault_page(), 0), (short_lived, 16_384), (Case::vault_page(), 300_001)]
    {
        let here = case.seal(&text(len));
        let more = [("segment", &here.bytes[..]), ("commitment", &here.commitment[..])];
        let opened = ask(&script, "open", &case, &more).unwrap();
        assert_eq!(hex(opened["plaintext"].as_str().unwrap()), text(len));

        let sealed = ask(&script, "seal", &case, &[("plaintext", &text(len))]).unwrap();
        let bytes = hex(sealed["segment"].as_str().unwrap());
        let commitment = bytes[88..PREFIX_BYTES].try_into().unwrap();
        let there = Stored { bytes, plain_len: len as u64, commitment };
        assert_eq!(case.open(&there).unwrap(), text(len));

        let salt = &there.bytes[64..88];
        let again = case.sealer(Implementation::BULK, &Fixed::<24>(salt.try_into().unwrap()));
        assert_eq!(stored(collect(again, [Bytes::from(text(len))], None)), there, "byte for byte");
    }
}

#[test]
fn what_is_refused_here_the_reference_refuses_too() {
    let Some(script) = reference() else { return };
    let case = Case::vault_page();
    let mut damaged = case.seal(&text(20_000));
    damaged.bytes[17_000] ^= 1;
    assert_eq!(case.open(&damaged), Err(OpenError::Damaged));
    assert!(ask(&script, "open", &case, &[("segment", &damaged.bytes)]).is_none());
}
