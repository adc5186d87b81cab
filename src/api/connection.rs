//! How is a connection served, from its first request to its last?

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower_service::Service as _;

use super::metrics::Metrics;
use super::problem::Refused;
use crate::contract::Code;

/// How long the head of a request may take to arrive, and how long a connection may be kept without one.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Longer heads are none.
const MOST_HEAD: usize = 64 << 10;
/// More headers are too many.
const MOST_HEADERS: usize = 100;

/// Counts one while it lives.
struct Counted<'m>(&'m AtomicI64);

impl<'m> Counted<'m> {
    fn new(of: &'m AtomicI64) -> Self {
        of.fetch_add(1, Relaxed);
        Self(of)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Serves `stream` until it ends, or, once `stopping` turns true, until what is under way is answered.
pub(super) async fn serve(stream: TcpStream, router: Router, metrics: &Metrics, mut stopping: watch::Receiver<bool>) {
    let _counted = Counted::new(&metrics.connections);
    // Without it small answers wait for the client's acknowledgement. Where it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(router.clone(), metrics, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MOST_HEAD)
        .max_headers(MOST_HEADERS)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        _ = stopping.wait_for(|stopping| *stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if ended.is_err() {
        metrics.broken.fetch_add(1, Relaxed);
    }
}

async fn answer(mut router: Router, metrics: &Metrics, request: Request<Incoming>) -> Result<Response, Infallible> {
    let _counted = Counted::new(&metrics.in_flight);
    let began = Instant::now();
    match AssertUnwindSafe(router.call(request)).catch_unwind().await {
        Ok(answered) => answered,
        Err(_) => {
            metrics.panics.fetch_add(1, Relaxed);
            metrics.answered(None, Code::Internal.status(), began.elapsed());
            Ok(Refused::plain(Code::Internal).answer().response())
        }
    }
}
