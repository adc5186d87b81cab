//! How is one HTTP request sent, and what is known when no answer comes?
//!
//! A [`Client`] is one connection at a time, driven by whoever waits for its answer: no task of its own, no pool, no redirects, no cookies,
//! nothing that is sent again behind anybody's back. A connection that the server has closed after an answer, as HTTP/1.0, `Connection: close`
//! or an idle limit have it, is replaced by the next request, before anything of it was written.

mod address;
mod tls;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub use self::address::Address;
pub use hyper::header::{HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, Request, StatusCode};

/// What a request is made of.
pub type Body = Full<Bytes>;

/// More of a body than this is not read: an answer so long is a mistake.
const MOST: usize = 16 << 20;

/// One connection at a time.
pub struct Client {
    address: Address,
    sender: SendRequest<Body>,
    /// Moves bytes; `None` once it has ended.
    connection: Option<Moving>,
    /// How long it took to connect anew, each time since somebody asked.
    reconnected: Vec<Duration>,
}

type Moving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Answer {
    /// The text of a header, if there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Whether any of the request may have reached the server.
    pub may_have_arrived: bool,
    /// In words.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Broken {}

impl Broken {
    fn before(why: impl fmt::Display) -> Self {
        Self { may_have_arrived: false, why: why.to_string() }
    }

    fn after(why: impl fmt::Display) -> Self {
        Self { may_have_arrived: true, why: why.to_string() }
    }
}

impl Client {
    /// Connects, with TLS if the address says so.
    ///
    /// # Errors
    /// When nobody listens, or who listens cannot be trusted.
    pub async fn connect(address: &Address) -> Result<Self, Broken> {
        let (sender, connection) = open(address).await?;
        Ok(Self { address: address.clone(), sender, connection: Some(connection), reconnected: Vec::new() })
    }

    /// Whether its connection is open, as far as is known: that the other side has closed it is learnt by trying.
    pub fn is_open(&self) -> bool {
        self.connection.is_some() && !self.sender.is_closed()
    }

    /// Does not use the connection again: an answer is still to come that nobody waits for.
    pub fn abandon(&mut self) {
        self.connection = None;
    }

    /// How long it took each time that a connection was replaced which the server had closed, since this was last asked.
    pub fn reconnected(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.reconnected)
    }

    /// Sends a request, which has its `Host`, and reads the answer to its end.
    ///
    /// # Errors
    /// When there is no whole answer; whether the request may have arrived is said by [`Broken`].
    pub async fn send(&mut self, request: Request<Body>) -> Result<Answer, Broken> {
        let is_new = self.make_ready().await?;
        let response = match self.exchange(request).await {
            // It was closed between two requests, and that became known only now.
            Err((_, Some(unsent))) if !is_new => {
                self.reconnect().await?;
                self.exchange(*unsent).await
            }
            other => other,
        };
        let response = response.map_err(|(why, unsent)| match unsent {
            Some(_) => Broken::before(why),
            None => Broken::after(why),
        })?;
        let (head, body) = response.into_parts();
        let body = driven(&mut self.connection, read(body)).await?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sees to it that there is a connection to send on; whether it is a new one.
    async fn make_ready(&mut self) -> Result<bool, Broken> {
        let is_ready = self.connection.is_some() && driven(&mut self.connection, self.sender.ready()).await.is_ok();
        if !is_ready {
            self.reconnect().await?;
        }
        Ok(!is_ready)
    }

    async fn reconnect(&mut self) -> Result<(), Broken> {
        self.connection = None;
        let began = Instant::now();
        let (sender, connection) = open(&self.address).await?;
        (self.sender, self.connection) = (sender, Some(connection));
        driven(&mut self.connection, self.sender.ready()).await.map_err(Broken::before)?;
        self.reconnected.push(began.elapsed());
        Ok(())
    }

    /// The head of the answer; or why there is none, and the request if it was never written, not even in part.
    async fn exchange(&mut self, request: Request<Body>) -> Result<Response<Incoming>, (hyper::Error, Option<Box<Request<Body>>>)> {
        let answering = self.sender.try_send_request(request);
        driven(&mut self.connection, answering).await.map_err(|mut failed| {
            let unsent = failed.take_message().map(Box::new);
            (failed.into_error(), unsent)
        })
    }

    /// Sends a request and closes the connection: as soon as it is sent, or, if somebody `waits`, when the head of its answer has come.
    pub async fn hang_up_on(&mut self, request: Request<Body>, waits: bool) {
        if self.make_ready().await.is_ok() {
            let Self { sender, connection, .. } = self;
            let mut answering = pin!(sender.try_send_request(request));
            if waits {
                drop(driven(connection, answering).await);
            } else {
                let mut is_answered = false;
                for _ in 0..STEPS {
                    poll_fn(|cx| {
                        if let Some(running) = connection
                            && running.as_mut().poll(cx).is_ready()
                        {
                            *connection = None;
                        }
                        is_answered = is_answered || answering.as_mut().poll(cx).is_ready();
                        Poll::Ready(())
                    })
                    .await;
                    tokio::task::yield_now().await;
                }
            }
        }
        self.connection = None;
    }
}

async fn open(address: &Address) -> Result<(SendRequest<Body>, Moving), Broken> {
    let socket = TcpStream::connect((address.host(), address.port())).await.map_err(Broken::before)?;
    socket.set_nodelay(true).map_err(Broken::before)?;
    if address.is_tls() {
        let stream = tls::wrap(socket, address.host()).await.map_err(Broken::before)?;
        over(stream).await
    } else {
        over(socket).await
    }
}

async fn over(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> Result<(SendRequest<Body>, Moving), Broken> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Broken::before)?;
    // How it ended is told by the request that it ended.
    Ok((sender, Box::pin(async { drop(connection.await) })))
}

/// How often a connection goes on before it is closed on a request that was just sent: what is short is written when it goes on first.
const STEPS: u32 = 3;

/// Most bodies come in one piece, and are not copied then.
async fn read(mut body: Incoming) -> Result<Bytes, Broken> {
    let mut whole = Bytes::new();
    let mut more: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Broken::after)?.into_data() else { continue };
        if whole.is_empty() && more.is_none() {
            whole = data;
            continue;
        }
        let joined = more.get_or_insert_with(|| BytesMut::from(&whole[..]));
        if joined.len() + data.len() > MOST {
            return Err(Broken::after(format!("the answer is longer than {} MiB", MOST >> 20)));
        }
        joined.extend_from_slice(&data);
    }
    Ok(more.map_or(whole, BytesMut::freeze))
}

/// Waits for `future`, which goes on as the connection does.
async fn driven<F: Future>(connection: &mut Option<Moving>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Some(running) = connection
            && running.as_mut().poll(cx).is_ready()
        {
            *connection = None;
        }
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
