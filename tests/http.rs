//! What does the client know of a request that was not answered? Servers that answer as they are told to, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dbstress::http::{Address, Answer, Body, Broken, Client, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server for one connection.
async fn server<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        // Nobody else is let in.
        drop(listener);
        serve(socket).await;
    });
    Address::of(address)
}

/// Reads one request, which has no body.
async fn request(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).await.unwrap(), 1, "the client went away");
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

fn get(address: &Address, path: &str) -> Request<Body> {
    Request::get(address.path(path)).header("host", address.authority()).body(Body::default()).unwrap()
}

async fn ask(client: &mut Client, address: &Address, path: &str) -> Result<Answer, Broken> {
    // A client that waits for ever for what never comes would hang the test.
    tokio::time::timeout(Duration::from_secs(60), client.send(get(address, path))).await.expect("no end")
}

#[tokio::test]
async fn a_connection_is_used_again_and_bodies_come_whole() {
    let address = server(async |mut socket| {
        let first = request(&mut socket).await;
        assert!(first.starts_with("GET /one HTTP/1.1\r\n") && first.contains("host: 127.0.0.1:"), "{first}");
        socket.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\nx-said: yes\r\n\r\nfour").await.unwrap();
        request(&mut socket).await;
        for part in ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "4\r\ndefg\r\n", "0\r\n\r\n"] {
            socket.write_all(part.as_bytes()).await.unwrap();
            socket.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    })
    .await;
    let mut client = Client::connect(&address).await.unwrap();
    let one = ask(&mut client, &address, "/one").await.unwrap();
    assert_eq!((one.status, one.header("x-said"), &one.body), (201, Some("yes"), &Bytes::from_static(b"four")));
    assert_eq!(ask(&mut client, &address, "/two").await.unwrap().body, Bytes::from_static(b"abcdefg"));
    assert_eq!(ask(&mut client, &address, "/three").await.unwrap().status, 204);
}

#[tokio::test]
async fn what_was_sent_and_not_answered_may_have_arrived() {
    // Read, and the connection closed; cut off inside the answer; reset.
    for (answer, is_reset) in [("", false), ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false), ("", true)] {
        let address = server(async move |mut socket| {
            request(&mut socket).await;
            socket.write_all(answer.as_bytes()).await.unwrap();
            if is_reset {
                socket.set_zero_linger().unwrap();
            }
        })
        .await;
        let mut client = Client::connect(&address).await.unwrap();
        let broken = ask(&mut client, &address, "/").await.unwrap_err();
        assert!(broken.may_have_arrived, "{answer}: {broken}");
        assert!(!client.is_open());
    }
}

#[tokio::test]
async fn what_was_never_sent_did_not_arrive() {
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    let address = server(async move |mut socket| {
        request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        socket.shutdown().await.unwrap();
        // The end of the stream has reached the client's socket when the client's own end has come back here.
        closed.send(()).unwrap();
        let _ = socket.read(&mut [0]).await;
    })
    .await;
    let mut client = Client::connect(&address).await.unwrap();
    assert_eq!(ask(&mut client, &address, "/").await.unwrap().status, 200);
    is_closed.await.unwrap();
    // Loopback delivers in order and at once: the end is there before anything that is sent now.
    let broken = ask(&mut client, &address, "/").await.unwrap_err();
    assert!(!broken.may_have_arrived, "{broken}");

    // Nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::of(listener.local_addr().unwrap());
    drop(listener);
    assert!(!Client::connect(&address).await.err().unwrap().may_have_arrived);
}

/// How a server ends an answer and its connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// It says so, and leaves it to the client to close.
    Said,
    /// HTTP/1.0, without a word.
    OldProtocol,
    /// The body is all that comes until the end.
    OfStream,
    /// The connection is to be used again, and is closed while nobody does.
    Idle,
}

impl End {
    const ALL: [Self; 4] = [Self::Said, Self::OldProtocol, Self::OfStream, Self::Idle];

    fn answer(self) -> &'static str {
        match self {
            Self::Said => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            Self::OldProtocol => "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Self::OfStream => "HTTP/1.1 200 OK\r\n\r\nok",
            Self::Idle => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closes_after_an_answer_is_replaced_without_a_word() {
    for end in End::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::of(listener.local_addr().unwrap());
        let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                request(&mut socket).await;
                socket.write_all(end.answer().as_bytes()).await.unwrap();
                if end != End::Said {
                    socket.shutdown().await.unwrap();
                }
                closed.send(()).unwrap();
                // Until the client closes its side: nothing else is ever sent on it.
                assert_eq!(socket.read(&mut [0]).await.unwrap_or_default(), 0, "{end:?}: it was used again");
            }
        });
        let mut client = Client::connect(&address).await.unwrap();
        for n in 0..3 {
            let answer = ask(&mut client, &address, "/").await.unwrap_or_else(|broken| panic!("{end:?} {n}: {broken}"));
            assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]), "{end:?}");
            is_closed.recv().await.unwrap();
        }
        assert_eq!(client.reconnected().len(), 2, "{end:?}: a connection for each request");
        assert!(client.reconnected().is_empty(), "told once");
    }
}

#[tokio::test]
async fn what_was_written_is_not_sent_again_on_another_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::of(listener.local_addr().unwrap());
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            // The first is answered, the second is read and never answered.
            request(&mut socket).await;
            count.fetch_add(1, Ordering::SeqCst);
            socket.write_all(End::Idle.answer().as_bytes()).await.unwrap();
            request(&mut socket).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut client = Client::connect(&address).await.unwrap();
    ask(&mut client, &address, "/").await.unwrap();
    let broken = ask(&mut client, &address, "/").await.unwrap_err();
    assert!(broken.may_have_arrived, "{broken}");
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}
