//! What has been answered, how fast, and what went wrong? In Prometheus's text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::desk::How;
use super::route::Route;
use crate::outcome::Abort;

/// The statuses that are answered.
const STATUSES: [u16; 17] = [200, 201, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 503, 504];
/// Upper bounds of the buckets of times, microseconds.
const BOUNDS_US: [u64; 12] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];
/// What no route stands for.
const NO_ROUTE: usize = Route::ALL.len();
const ROUTES: usize = NO_ROUTE + 1;

#[derive(Default)]
struct OfRoute {
    /// By place in [`STATUSES`], those of no place at the end.
    answers: [AtomicU64; STATUSES.len() + 1],
    /// By bucket, longer ones at the end.
    times: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// The counters of a server, shared by its threads.
pub struct Metrics {
    routes: [OfRoute; ROUTES],
    /// Attempts that failed and were made again, by place in [`Abort::ALL`].
    failed: [AtomicU64; Abort::ALL.len()],
    /// Requests that are being answered.
    pub in_flight: AtomicI64,
    /// Connections that are open.
    pub connections: AtomicI64,
    /// Handlers that broke down.
    pub panics: AtomicU64,
    /// Requests that could not be understood as HTTP, or ended in the middle.
    pub broken: AtomicU64,
    /// Passwords that were compared with a hash, of an account or of none.
    pub compared: AtomicU64,
    /// Entries of the audit trail that were written.
    pub audited: AtomicU64,
    /// Those that are waiting to be.
    pub audit_waiting: AtomicI64,
}

/// What was answered, in sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// 2xx.
    pub done: u64,
    /// 4xx.
    pub refused: u64,
    /// 5xx.
    pub failed: u64,
}

impl Metrics {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self {
            routes: std::array::from_fn(|_| OfRoute::default()),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
            in_flight: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            panics: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            audited: AtomicU64::new(0),
            audit_waiting: AtomicI64::new(0),
        }
    }

    /// An answer of `route`, or of none, after so long.
    pub fn answered(&self, route: Option<Route>, status: u16, took: Duration) {
        let of = &self.routes[route.map_or(NO_ROUTE, |route| route as usize)];
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        of.answers[place].fetch_add(1, Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        of.times[bucket].fetch_add(1, Relaxed);
        of.sum_us.fetch_add(us, Relaxed);
    }

    /// Attempts failed so, and were made again.
    pub fn tried_again(&self, failed: &[(How, u32)]) {
        for ((abort, _), times) in failed {
            if let Some(place) = Abort::ALL.iter().position(|known| known == abort) {
                self.failed[place].fetch_add(u64::from(*times), Relaxed);
            }
        }
    }

    /// What was answered, in sum.
    pub fn answers(&self) -> Answers {
        let mut sum = Answers::default();
        for of in &self.routes {
            for (place, count) in of.answers.iter().enumerate() {
                let count = count.load(Relaxed);
                match STATUSES.get(place) {
                    Some(200..300) => sum.done += count,
                    Some(400..500) => sum.refused += count,
                    _ => sum.failed += count,
                }
            }
        }
        sum
    }

    /// As Prometheus reads it. What was never answered is left out.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(8 << 10);
        head(&mut out, "dbstress_requests_total", "counter", "Answers, by route and status.");
        for (route, of) in self.named() {
            for (place, count) in of.answers.iter().enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    let status = STATUSES.get(place).map_or("other".into(), ToString::to_string);
                    let _ = writeln!(out, "dbstress_requests_total{{{route},status=\"{status}\"}} {count}");
                }
            }
        }
        head(&mut out, "dbstress_request_duration_seconds", "histogram", "From the head of a request to its answer, by route.");
        for (route, of) in self.named() {
            let times: Vec<u64> = of.times.iter().map(|count| count.load(Relaxed)).collect();
            let count: u64 = times.iter().sum();
            if count == 0 {
                continue;
            }
            let mut below = 0;
            for (bound, times) in BOUNDS_US.iter().zip(&times) {
                below += times;
                let _ = writeln!(out, "dbstress_request_duration_seconds_bucket{{{route},le=\"{}\"}} {below}", *bound as f64 / 1e6);
            }
            let _ = writeln!(out, "dbstress_request_duration_seconds_bucket{{{route},le=\"+Inf\"}} {count}");
            let sum = of.sum_us.load(Relaxed) as f64 / 1e6;
            let _ = writeln!(out, "dbstress_request_duration_seconds_sum{{{route}}} {sum}");
            let _ = writeln!(out, "dbstress_request_duration_seconds_count{{{route}}} {count}");
        }
        head(
            &mut out,
            "dbstress_attempts_failed_total",
            "counter",
            "Attempts at a transaction that failed and were made again, by reason.",
        );
        for (abort, count) in Abort::ALL.iter().zip(&self.failed) {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "dbstress_attempts_failed_total{{reason=\"{}\"}} {count}", abort.short());
            }
        }
        for (name, help, value) in [
            ("dbstress_panics_total", "Handlers that broke down.", self.panics.load(Relaxed)),
            (
                "dbstress_broken_total",
                "Connections that ended in the middle of a request, or were not HTTP.",
                self.broken.load(Relaxed),
            ),
            ("dbstress_passwords_compared_total", "Passwords that were compared with a hash.", self.compared.load(Relaxed)),
            ("dbstress_audit_entries_total", "Entries of the audit trail that were written.", self.audited.load(Relaxed)),
        ] {
            head(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {value}");
        }
        for (name, help, value) in [
            ("dbstress_requests_in_flight", "Requests that are being answered.", self.in_flight.load(Relaxed)),
            ("dbstress_connections", "Connections that are open.", self.connections.load(Relaxed)),
            (
                "dbstress_audit_waiting",
                "Entries of the audit trail that are waiting to be written.",
                self.audit_waiting.load(Relaxed),
            ),
        ] {
            head(&mut out, name, "gauge", help);
            let _ = writeln!(out, "{name} {value}");
        }
        out
    }

    fn named(&self) -> impl Iterator<Item = (String, &OfRoute)> {
        let names = Route::ALL.iter().map(|route| format!("method=\"{}\",route=\"{}\"", route.method(), route.path()));
        names.chain(std::iter::once("method=\"\",route=\"none\"".to_owned())).zip(&self.routes)
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_is_counted_by_route_and_status_and_timed() {
        let metrics = Metrics::new();
        metrics.answered(Some(Route::Reserve), 201, Duration::from_micros(900));
        metrics.answered(Some(Route::Reserve), 409, Duration::from_millis(30));
        metrics.answered(None, 404, Duration::ZERO);
        metrics.answered(Some(Route::Health), 599, Duration::from_secs(9));
        metrics.tried_again(&[((Abort::SerializationFailure, None), 3)]);
        let text = metrics.text();
        for line in [
            "dbstress_requests_total{method=\"POST\",route=\"/v1/authorisations/{id}/reserve\",status=\"201\"} 1",
            "dbstress_requests_total{method=\"\",route=\"none\",status=\"404\"} 1",
            "dbstress_request_duration_seconds_bucket{method=\"POST\",route=\"/v1/authorisations/{id}/reserve\",le=\"0.001\"} 1",
            "dbstress_request_duration_seconds_bucket{method=\"POST\",route=\"/v1/authorisations/{id}/reserve\",le=\"+Inf\"} 2",
            "dbstress_attempts_failed_total{reason=\"40001\"} 3",
            "dbstress_panics_total 0",
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
        assert_eq!(metrics.answers(), Answers { done: 1, refused: 2, failed: 1 });
    }

    #[test]
    fn every_status_that_a_route_can_answer_has_a_counter() {
        for code in Route::ALL.iter().flat_map(|route| route.codes()) {
            assert!(STATUSES.contains(&code.status()), "{code:?}");
        }
    }
}
