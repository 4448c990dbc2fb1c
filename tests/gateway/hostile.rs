//! Hostile clients over raw sockets: each is answered or closed in its time, and costs little.

mod crowd;
mod frames;
mod smuggling;

use crate::harness::{Setup, TestGateway};

/// A gateway that waits for nobody long.
fn impatient() -> TestGateway {
    Setup::new().set("limits", "header_timeout", "\"1s\"").start()
}

/// It is whole, and serves.
#[track_caller]
fn is_unharmed(gateway: &TestGateway) {
    let client = gateway.client();
    let id = client.upload("", b"next");
    client.download(&id).expect(200).is_body(b"next");
    client.delete(format!("/v1/files/{id}")).expect(200);
    gateway.is_empty_again();
    gateway.comes_to("dayfly_connections", 1.0);
}
