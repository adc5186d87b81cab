//! What if the wire breaks, and who knows then what really happened? A proxy before PostgreSQL that reads along and breaks it on purpose.
//!
//! It knows where messages begin and which of them is a COMMIT, so that it can lose exactly that, or exactly the answer to it, and say
//! afterwards what the server never saw or what it had answered. Load connections go through it; whoever resolves their outcomes does not.

mod frames;
mod hub;
mod link;
mod session;
mod stream;
mod text;

use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::pg::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

pub use text::CLAIMS;

use hub::{Hub, Order};
use stream::Stream;

/// How long to wait when the system has no descriptor for another connection.
const BREATH: Duration = Duration::from_millis(10);

/// A proxy between load connections and their server. Everything of it ends when it is dropped: its sessions are closed, its thread has ended.
#[derive(Debug)]
pub struct Proxy {
    options: ConnectOptions,
    /// Where disturbances are ordered; closed, it ends the thread.
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
    begun: Arc<AtomicU64>,
}

/// What can happen to a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Both sides of a session are closed at once with a reset, in the middle of whatever goes on. A session in a transaction is chosen at
    /// random; if none comes by in time, any. A server on a Unix socket, which knows no reset, sees the end instead.
    Reset,
    /// Of a session, chosen as for a reset, nothing is passed on in either direction any more, and nobody is told: the server's side may
    /// hold its locks until both sides are closed after `hold`.
    HalfOpen {
        /// For how long.
        hold: Duration,
    },
    /// All that the sessions say and hear, in both directions, arrives later, in the same order. Of delays that overlap the longest counts.
    Delay {
        /// By how much.
        by: Duration,
        /// For how long.
        hold: Duration,
    },
    /// A COMMIT of a transaction that wrote is not passed on, nor anything after it; both sides are closed. A statement that changes rows
    /// outside a transaction counts as its own COMMIT.
    RequestLost,
    /// A COMMIT of a transaction that wrote is passed on, and its answer is not, or only a part of it that says nothing; then both sides
    /// are closed. A statement that changes rows outside a transaction counts as its own COMMIT.
    ResponseLost,
}

/// A disturbance that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// When it took effect; of a COMMIT, when the connection was cut.
    pub at: Instant,
    /// What the session called itself when it connected; of a delay, the prefix of all that it concerns.
    pub application_name: String,
    /// What became of the COMMIT.
    pub truth: Truth,
}

/// What became of a COMMIT, as seen from the server's side of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It was not passed on: the transaction is rolled back.
    NeverSent,
    /// The server has committed: it answered with the tag COMMIT; to a statement that is its own COMMIT, with ReadyForQuery and no error.
    Committed,
    /// The server has not committed: it answered with the tag ROLLBACK or an error, and was ready for more.
    NotCommitted,
    /// The server did not answer either: its connection ended, or it took more than 10 seconds. Both are possible.
    Unanswered,
    /// It did not strike at a COMMIT.
    Elsewhere,
}

impl Proxy {
    /// Listens on 127.0.0.1, on a port that the system chooses, with a thread of its own. Whether `upstream` can be connected to
    /// is left to those who connect.
    ///
    /// # Errors
    /// Usage, if `upstream` demands encryption: what is encrypted cannot be told apart. Inconclusive, if the system has no port or no thread.
    pub async fn start(upstream: &ConnectOptions) -> Result<Self> {
        if let SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull = upstream.ssl_mode {
            return Err(Error::usage(
                "the wire cannot be disturbed where it is encrypted, because no COMMIT can be told from the rest",
            )
            .cure("connect with sslmode=disable"));
        }
        let failed = |error: std::io::Error| Error::inconclusive("the proxy between load and server does not start").because(error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (orders, receiver) = unbounded_channel();
        let begun = Arc::new(AtomicU64::new(0));
        let (to, count) = (upstream.clone(), begun.clone());
        let serving = move || run(runtime, move || Hub::new(to, count), listener, receiver);
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(serving);
        let options = ConnectOptions {
            host: Host::Tcp(Ipv4Addr::LOCALHOST.to_string()),
            port,
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            ..upstream.clone()
        };
        Ok(Self { options, orders: Some(orders), thread: Some(thread.map_err(failed)?), begun })
    }

    /// How to connect through it: the server's options with another place, without encryption.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// How many times clients have asked for a transaction, with a statement of its own. Each has been counted when the server has it.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Brings a disturbance about on one session whose `application_name` begins with `prefix` (a delay: on all of them), waiting at most
    /// `patience` for an occasion; returns when it has taken effect. `None`: no occasion came, and none will be taken any more.
    ///
    /// Strikes at COMMITs cut alternately between messages and within one. Dropped, it takes no occasion that has not come yet.
    pub async fn disturb(&self, what: Disturbance, prefix: &str, patience: Duration) -> Option<Strike> {
        let (reply, strike) = oneshot::channel();
        let order = Order { what, prefix: prefix.into(), patience, reply, number: 0 };
        self.orders.as_ref()?.send(order).ok()?;
        strike.await.ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has ended as well.
            let _ = thread.join();
        }
    }
}

fn run(runtime: Runtime, hub: impl FnOnce() -> Hub, listener: TcpListener, orders: UnboundedReceiver<Order>) {
    LocalSet::new().block_on(&runtime, serve(Rc::new(hub()), listener, orders));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
}

async fn serve(hub: Rc<Hub>, listener: TcpListener, mut orders: UnboundedReceiver<Order>) {
    // Fails only outside a runtime.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    // Without it answers come later, but they come.
                    let _ = client.set_nodelay(true);
                    tokio::task::spawn_local(link::serve(hub.clone(), Stream::Tcp(client)));
                }
                Err(_) => tokio::time::sleep(BREATH).await,
            },
            order = orders.recv() => match order {
                Some(order) => hub.take(order),
                None => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0bob\0";

    /// A proxy, and both ends of a connection through it after the client's first words: the client's, the server's.
    async fn ends() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = ConnectOptions {
            host: Host::Tcp(Ipv4Addr::LOCALHOST.to_string()),
            port: listener.local_addr().unwrap().port(),
            user: "bob".into(),
            password: None,
            database: String::new(),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            counted: Default::default(),
            same: Default::default(),
        };
        let proxy = Proxy::start(&upstream).await.unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.options().port)).await.unwrap();
        // As it comes, in pieces, and with a question before it.
        for byte in [b"\0\0\0\x08\x04\xd2\x16\x2f", STARTUP].concat() {
            client.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(client.read_u8().await.unwrap(), b'N');
        let mut server = listener.accept().await.unwrap().0;
        let mut heard = [0; STARTUP.len()];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, STARTUP);
        (proxy, client, server)
    }

    #[tokio::test]
    async fn what_a_client_says_before_it_ends_arrives_and_so_does_the_answer() {
        let (_proxy, mut client, mut server) = ends().await;
        let long = vec![7; 1 << 20];
        let said = async {
            client.write_all(&long).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        tokio::join!(said, async { server.read_to_end(&mut heard).await.unwrap() });
        assert_eq!(heard, long);
        server.write_all(&long).await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, long);
    }

    #[tokio::test]
    async fn what_the_server_says_last_is_not_lost_to_what_the_client_still_says() {
        let (_proxy, client, mut server) = ends().await;
        let (mut reader, mut writer) = client.into_split();
        // More than fits anywhere, and nobody reads it.
        let talker = tokio::spawn(async move { while writer.write_all(&[7; 1 << 16]).await.is_ok() {} });
        server.write_all(b"last words").await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        talker.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_makes_no_sense_is_closed_and_the_proxy_goes_on() {
        let (proxy, _client, _server) = ends().await;
        let to = (Ipv4Addr::LOCALHOST, proxy.options().port);
        let mut stranger = TcpStream::connect(to).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(stranger.read(&mut [0]).await.unwrap_or(0), 0);
        let mut client = TcpStream::connect(to).await.unwrap();
        client.write_all(b"\0\0\0\x08\x04\xd2\x16\x30").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'N');
    }

    #[tokio::test]
    async fn a_session_that_has_not_begun_is_not_struck() {
        let (proxy, _client, mut server) = ends().await;
        assert_eq!(proxy.disturb(Disturbance::Reset, "", Duration::ZERO).await, None);
        server.write_all(b"Z\0\0\0\x05T").await.unwrap();
        let strike = proxy.disturb(Disturbance::Reset, "", Duration::from_secs(60)).await.unwrap();
        assert_eq!(strike.truth, Truth::Elsewhere);
        let reset = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
