//! Draining: nothing new is taken in, reads go on, and the end comes with the last file.

use std::process::Child;

use crate::harness::{Client, Shell, TestGateway, Wire, eventually, key_of, noise};

/// `dayfly drain`, started.
fn drain(gateway: &TestGateway) -> Child {
    let shell = Shell::new(&format!("http://{}", gateway.public), &key_of("acme"));
    let process = gateway.process().to_string();
    shell.command(&["drain", "--pid", &process]).spawn().unwrap()
}

fn nothing_new_is_taken(client: &Client) {
    eventually("nothing new is taken in", || {
        let answer = client.post("/v1/files", b"late");
        if answer.status == 503 {
            return Some(());
        }
        // It came before the signal, and must not be waited for.
        let id = answer.expect(201).text("id");
        client.delete(format!("/v1/files/{id}")).expect(200);
        None
    });
}

#[track_caller]
fn saw_it_out(drain: Child, gateway: &mut TestGateway) {
    gateway.ends_well();
    let said = drain.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8(said.stdout).unwrap().ends_with("it has ended\n"));
}

#[test]
fn a_draining_gateway_serves_what_it_has_and_ends_with_its_last_file() {
    let mut gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(300_000);
    let long = client.upload("?ttl=1h", &bytes);
    let short = client.upload("?ttl=4s", b"soon over");
    let asked = drain(&gateway);
    nothing_new_is_taken(&client);
    client.download(&long).expect(200).is_body(&bytes);
    gateway.comes_to("dayfly_live_files", 1.0);
    client.get(Client::content(&short)).problem(410, "expired");
    client.download(&long).expect(200).is_body(&bytes);
    assert!(Wire::try_open(gateway.public).is_ok(), "it lives as long as its last file");
    client.delete(format!("/v1/files/{long}")).expect(200);
    saw_it_out(asked, &mut gateway);
}

#[test]
fn an_upload_that_was_under_way_is_finished_and_lives_out_its_life() {
    let mut gateway = TestGateway::start();
    let client = gateway.client();
    let bytes = noise(20_000);
    let ask = client.ask("POST", "/v1/files?ttl=1h").header("Expect", "100-continue");
    let mut sender = ask.begin(Some(20_000));
    assert_eq!(sender.head().status, 100);
    let asked = drain(&gateway);
    nothing_new_is_taken(&client);
    sender.send(&bytes).unwrap();
    assert_eq!(sender.head().status, 201);
    let list = client.get("/v1/files").expect(200).json();
    let id = list["files"][0]["id"].as_str().unwrap();
    client.download(id).expect(200).is_body(&bytes);
    client.delete(format!("/v1/files/{id}")).expect(200);
    saw_it_out(asked, &mut gateway);
}
