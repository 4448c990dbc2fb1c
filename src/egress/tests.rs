//! The client against small servers on loopback that answer as told.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;

fn egress(insecure_loopback: bool) -> Egress {
    Egress::new(Arc::new(SystemClock), Tasks::default(), insecure_loopback)
}

/// Answers the next connection with `bytes`, then keeps it open until it is told to let go.
async fn server(bytes: &'static [u8]) -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (let_go, gone) = tokio::sync::oneshot::channel();
    Tasks::default().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(bytes).await;
        let _ = gone.await;
    });
    (at, let_go)
}

async fn ask(at: SocketAddr, stall: Duration) -> Result<Vec<u8>, EgressError> {
    let (origin, _) = Origin::parse(&format!("http://{at}"), true).unwrap();
    let request = Request::get("/x").body(nothing()).unwrap();
    let patience = Patience { head: Duration::from_secs(20), stall };
    let answer = egress(true).send(Reach::Public, &origin, request, patience).await?;
    read(answer.into_body(), 100).await
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (to, _open) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let head = format!("HTTP/1.1 302 Found\r\nlocation: http://{to}/\r\ncontent-length: 0\r\n\r\n");
    let (at, _open) = server(head.leak().as_bytes()).await;
    let (origin, _) = Origin::parse(&format!("http://{at}"), true).unwrap();
    let request = Request::get("/").body(nothing()).unwrap();
    let egress = egress(true);
    let answer = egress.send(Reach::Operator, &origin, request, Patience::default()).await.unwrap();
    assert_eq!(answer.status(), 302);
}

#[tokio::test]
async fn a_whole_answer_is_read_and_one_too_long_is_not() {
    let (at, _open) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(ask(at, LONG).await.unwrap(), b"hello");
    const TOO_LONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n\
        0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890\
        1234567890";
    let (at, _open) = server(TOO_LONG).await;
    assert_eq!(ask(at, LONG).await.unwrap_err(), EgressError::TooLong);
}

#[tokio::test]
async fn what_stalls_or_breaks_off_is_an_error_and_never_a_short_answer() {
    let (at, _open) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
    assert_eq!(ask(at, Duration::from_millis(50)).await.unwrap_err(), EgressError::Timeout);
    let (at, let_go) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
    drop(let_go);
    assert_eq!(ask(at, LONG).await.unwrap_err(), EgressError::Cut);
    let (at, let_go) = server(b"SSH-2.0-nothing to see\r\n").await;
    drop(let_go);
    assert_eq!(ask(at, LONG).await.unwrap_err(), EgressError::Cut);
}

#[tokio::test]
async fn the_public_reach_does_not_enter_the_house() {
    // Nobody need listen: the address is judged before anything is sent.
    for url in ["https://127.0.0.1:9", "https://localhost:9", "https://[::1]:9", "https://10.0.0.1"]
    {
        let (origin, _) = Origin::parse(url, false).unwrap();
        let request = Request::get("/").body(nothing()).unwrap();
        let sent = egress(false).send(Reach::Public, &origin, request, Patience::default()).await;
        assert_eq!(sent.err(), Some(EgressError::Forbidden), "{url}");
    }
    // With loopback allowed for tests, a name that leads there is still refused.
    let (origin, _) = Origin::parse("https://localhost:9", true).unwrap();
    let request = Request::get("/").body(nothing()).unwrap();
    let sent = egress(true).send(Reach::Public, &origin, request, Patience::default()).await;
    assert_eq!(sent.err(), Some(EgressError::Forbidden));
}

#[tokio::test]
async fn a_server_without_a_certificate_is_not_spoken_to() {
    let (at, _open) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (origin, _) = Origin::parse(&format!("https://{at}"), false).unwrap();
    let request = Request::get("/").body(nothing()).unwrap();
    let sent = egress(false).send(Reach::Operator, &origin, request, Patience::default()).await;
    assert_eq!(sent.err(), Some(EgressError::Tls));
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(ask(at, LONG).await.unwrap_err(), EgressError::Unreachable);
}
