//! How is a connection opened whose bytes are ours afterwards?
//!
//! The driver does what is long and no part of what is measured: TLS, its negotiation, and authentication with channel binding. It is lent
//! the stream for that and hands it back when the server is ready.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connect::config;
use crate::pg::{ConnectOptions, Host};

type Encrypted = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::Stream;

/// The bytes of a connection, after the server has said that it is ready.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<Encrypted>),
}

impl Stream {
    /// Reads what there is, at least a byte; 0 at the end.
    pub async fn read(&mut self, into: &mut bytes::BytesMut) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read_buf(into).await,
            Self::Tcp(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
        }
    }

    /// Writes all of it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes).await,
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Says that nothing more will be written, once everything has been.
    pub async fn close(&mut self) {
        // Who has gone already need not be told.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown().await,
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        };
    }

    /// Writes what can be written at once, for a goodbye that nobody waits for.
    pub fn write_now(&self, bytes: &[u8]) {
        // Whether it arrives makes no difference: the end of the stream says the same.
        let _ = match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(_) => Ok(0),
        };
    }
}

/// A connection whose server is ready.
pub(super) struct Opened {
    pub stream: Stream,
    /// What cancels its statements.
    pub cancel: CancelToken,
    /// The number of the process that serves it, as it was greeted with; `None` if there was none.
    pub greeted_by: Option<i32>,
}

/// Connects and authenticates.
///
/// # Errors
/// Of the socket, and the driver's, the server's refusal among them.
pub(super) async fn open(options: &ConnectOptions, application_name: &str, tls: MakeRustlsConnect) -> Result<Opened, Failed> {
    let config = config(options, application_name);
    match socket(options).await? {
        Socket::Unix(stream) => {
            let Returned { raw, cancel, greeted_by, .. } = lend(&config, stream, tokio_postgres::NoTls).await?;
            Ok(Opened { stream: Stream::Unix(raw.ok_or_else(Failed::kept)?), cancel, greeted_by })
        }
        Socket::Tcp(stream, host) => {
            let Returned { raw, encrypted, cancel, greeted_by } = lend(&config, stream, encryption(tls, host)).await?;
            let stream = match (encrypted, raw) {
                (Some(stream), _) => Stream::Tls(Box::new(stream)),
                (None, Some(stream)) => Stream::Tcp(stream),
                (None, None) => return Err(Failed::kept()),
            };
            Ok(Opened { stream, cancel, greeted_by })
        }
    }
}

/// Asks the server to cancel what the connection is doing. Whether it does, nobody says.
pub(super) async fn cancel(options: &ConnectOptions, token: &CancelToken, tls: MakeRustlsConnect) -> Result<(), Failed> {
    match socket(options).await? {
        Socket::Unix(stream) => token.cancel_query_raw(stream, tokio_postgres::NoTls).await,
        Socket::Tcp(stream, host) => token.cancel_query_raw(stream, encryption(tls, host)).await,
    }
    .map_err(Failed::Driver)
}

enum Socket<'h> {
    Unix(UnixStream),
    Tcp(TcpStream, &'h str),
}

async fn socket(options: &ConnectOptions) -> Result<Socket<'_>, Failed> {
    match &options.host {
        Host::Socket(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", options.port));
            UnixStream::connect(path).await.map(Socket::Unix)
        }
        Host::Tcp(host) => match TcpStream::connect((host.as_str(), options.port)).await {
            Ok(stream) => stream.set_nodelay(true).map(|()| Socket::Tcp(stream, host)),
            Err(error) => Err(error),
        },
    }
    .map_err(Failed::Socket)
}

fn encryption(mut tls: MakeRustlsConnect, host: &str) -> <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::TlsConnect {
    <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::make_tls_connect(&mut tls, host).unwrap_or_else(|never| match never {})
}

/// Why a connection was not opened.
#[derive(Debug)]
pub(super) enum Failed {
    Socket(io::Error),
    Driver(Error),
}

impl Failed {
    /// The driver did not hand the stream back: it never does anything else.
    fn kept() -> Self {
        Self::Socket(io::Error::other("the stream was lost in the handshake"))
    }
}

/// What came back.
struct Returned<S, T> {
    /// Unless it was encrypted.
    raw: Option<S>,
    /// If it was.
    encrypted: Option<T>,
    cancel: CancelToken,
    greeted_by: Option<i32>,
}

async fn lend<S, C>(config: &Config, stream: S, connector: C) -> Result<Returned<S, C::Stream>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: TlsConnect<S> + Send + 'static,
    C::Stream: Send + 'static,
    C::Future: Send + 'static,
{
    let (raw, encrypted) = (Loan::of(Some(stream)), Loan::of(None));
    let lender = Lender { connector, encrypted: encrypted.clone() };
    let (client, connection) = config.connect_raw(raw.clone(), lender).await.map_err(Failed::Driver)?;
    let cancel = client.cancel_token();
    // Neither says goodbye when it is dropped without having been driven.
    drop((client, connection));
    let greeted_by = encrypted.greeted_by().or_else(|| raw.greeted_by());
    Ok(Returned { raw: raw.hand_back(), encrypted: encrypted.hand_back(), cancel, greeted_by })
}

/// A stream that the driver uses and somebody else owns. The lock is never contended: only the handshake uses it.
struct Loan<S>(Arc<Mutex<Lent<S>>>);

struct Lent<S> {
    stream: Option<S>,
    /// The last that was read from it.
    heard: Vec<u8>,
}

/// BackendKeyData (process and key) and ReadyForQuery: what a greeting ends with. The driver keeps the numbers to itself.
const GREETING: usize = 19;

impl<S> Clone for Loan<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Loan<S> {
    fn of(stream: Option<S>) -> Self {
        Self(Arc::new(Mutex::new(Lent { stream, heard: Vec::new() })))
    }

    fn hand_back(&self) -> Option<S> {
        self.0.lock().ok()?.stream.take()
    }

    /// Read from the end: what comes before it is for the driver to make sense of.
    fn greeted_by(&self) -> Option<i32> {
        match self.0.lock().ok()?.heard[..] {
            [b'K', 0, 0, 0, 12, a, b, c, d, _, _, _, _, b'Z', 0, 0, 0, 5, _] => Some(i32::from_be_bytes([a, b, c, d])),
            _ => None,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut S) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.0.lock().ok().as_deref_mut() {
            Some(Lent { stream: Some(stream), .. }) => f(stream),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Loan<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let known = buf.filled().len();
        let read = self.with(|s| Pin::new(s).poll_read(cx, buf));
        if let Ok(mut lent) = self.0.lock() {
            lent.heard.extend_from_slice(&buf.filled()[known..]);
            let old = lent.heard.len().saturating_sub(GREETING);
            lent.heard.drain(..old);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Loan<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|s| Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|s| Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|s| Pin::new(s).poll_shutdown(cx))
    }
}

impl<S: TlsStream + Unpin> TlsStream for Loan<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.lock().ok().and_then(|s| s.stream.as_ref().map(TlsStream::channel_binding)).unwrap_or_else(ChannelBinding::none)
    }
}

/// Encrypts a lent stream and keeps a hand on the result.
struct Lender<C, T> {
    connector: C,
    encrypted: Loan<T>,
}

impl<S, C> TlsConnect<Loan<S>> for Lender<C, C::Stream>
where
    S: Send + 'static,
    C: TlsConnect<S> + Send + 'static,
    C::Stream: Send + 'static,
    C::Future: Send + 'static,
{
    type Stream = Loan<C::Stream>;
    type Error = Box<dyn std::error::Error + Sync + Send>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Loan<S>) -> Self::Future {
        Box::pin(async move {
            let raw = stream.hand_back().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            let encrypted = self.connector.connect(raw).await.map_err(Into::into)?;
            self.encrypted.0.lock().map_err(|_| io::Error::other("poisoned"))?.stream = Some(encrypted);
            Ok(self.encrypted)
        })
    }
}
