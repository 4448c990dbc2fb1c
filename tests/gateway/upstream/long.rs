//! A body longer than any memory, through a service of the operator's.

use std::io::Write;
use std::path::PathBuf;

use super::{Service, echo};
use crate::harness::{TestGateway, is_long_tier, noise, skip, tell};

/// What a gateway's resident memory may ever have been, bytes.
const MOST: u64 = 96 << 20;

/// The most resident memory the gateway has had so far.
fn peak(gateway: &TestGateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn five_gibibytes_pass_through_a_service_in_constant_memory() {
    let release = std::env::var_os("DAYFLY_RELEASE_BIN").map(PathBuf::from);
    if !is_long_tier() || release.is_none() {
        return skip("5 GiB through a service: the long tier, with a release build");
    }
    let service = Service::new(echo);
    let limits = "{ time = \"25s\", output = \"6GiB\" }";
    let setup = service.setup().set("processors.own", "limits", limits);
    let gateway = setup.set("log", "level", "\"error\"").program(release).start();
    let client = gateway.client();
    let (length, piece) = (5u64 << 30, noise(1 << 20));
    let mut wire = client.ask("POST", "/v1/process/own").begin(Some(length));
    let mut sender = wire.sender();
    let mut most_budget: f64 = 0.0;
    std::thread::scope(|scope| {
        let sent = piece.as_slice();
        scope.spawn(move || {
            for _ in 0..length >> 20 {
                sender.write_all(sent).unwrap();
            }
        });
        assert_eq!(wire.head().status, 200);
        let (mut at, mut told) = (0u64, 0u64);
        loop {
            let chunk = wire.chunk().expect("the message is whole");
            if chunk.is_empty() {
                break;
            }
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                let from = usize::try_from(at % piece.len() as u64).unwrap();
                let (now, later) = rest.split_at(rest.len().min(piece.len() - from));
                assert!(now == &piece[from..from + now.len()], "the bytes differ at {at}");
                at += now.len() as u64;
                rest = later;
            }
            if at >> 28 > told {
                told = at >> 28;
                most_budget = most_budget.max(gateway.metric("dayfly_budget_used_bytes"));
            }
        }
        assert_eq!(at, length);
    });
    assert_eq!(gateway.metric("dayfly_live_bytes").to_bits(), 0, "nothing is stored");
    let peak = peak(&gateway);
    tell(&format!(
        "5 GiB through a service: {} MiB at most, {} KiB of the budget",
        peak >> 20,
        most_budget as u64 >> 10
    ));
    assert!(peak <= MOST && most_budget <= f64::from(8 << 20), "{} MiB", peak >> 20);
    gateway.is_empty_again();
}
