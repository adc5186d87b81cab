//! A small service of somebody else's: seats of venues, which are booked over HTTP and kept in PostgreSQL. What `examples/seats` asks.
//!
//! `DATABASE_URL=… cargo run --example seat_service`; `LISTEN` is the address (127.0.0.1:8972), `LIMIT` how many requests an account has in fifteen
//! minutes (no limit). The tables are made by `examples/seats/schema.sql`.
//!
//! `POST /seats/{id}/book` locks the seat first. `POST /racy/seats/{id}/book` looks and then books, as one writes it when one does not think of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use dbstress::token::{Claims, Key, now};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::net::TcpListener;

/// Requests of an account are counted in windows of this length.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How long the one that looks and then books takes between the two.
const BETWEEN: Duration = Duration::from_millis(20);
/// Everybody's password.
const PASSWORD: &str = "open sesame";
/// How long a token is good, seconds.
const LIFETIME: i64 = 900;

/// What handlers share.
#[derive(Clone)]
struct Service {
    pool: PgPool,
    key: Key,
    /// Requests that an account has in a window; `None`: as many as it likes.
    limit: Option<u64>,
    windows: Arc<Mutex<HashMap<String, (Instant, u64)>>>,
}

/// Serves until it is dropped.
///
/// # Errors
/// When the database does not answer, or nobody can be listened to.
pub async fn serve(
    listener: TcpListener,
    database: &str,
    secret: &[u8],
    limit: Option<u64>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // A URL without a host, whose socket is in its query, is none for the driver.
    let database = database.replacen("@/", "@localhost/", 1);
    let pool = PgPoolOptions::new().max_connections(10).connect(&database).await?;
    let service = Service { pool, key: Key::new(secret), limit, windows: Arc::default() };
    let inside = Router::new()
        .route("/seats/{id}", get(seat))
        .route("/seats/{id}/book", post(book))
        .route("/seats/{id}/cancel", post(cancel))
        .route("/racy/seats/{id}/book", post(book_without_lock))
        .route("/venues/{id}", get(venue))
        .route("/bookings", get(bookings))
        .layer(middleware::from_fn_with_state(service.clone(), let_in));
    let app = Router::new().route("/login", post(login)).merge(inside).with_state(service);
    Ok(axum::serve(listener, app).await?)
}

/// Why something was not done: a status, and a code that programs look at.
struct Problem(StatusCode, &'static str);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "code": self.1 }))).into_response()
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        eprintln!("{error}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "BROKEN")
    }
}

#[derive(Deserialize)]
struct Login {
    login: String,
    password: String,
}

#[derive(Serialize, sqlx::FromRow)]
struct Seat {
    id: i64,
    venue_id: i64,
    booked: bool,
}

/// `NAME@N` is somebody of venue N.
async fn login(State(service): State<Service>, Json(asked): Json<Login>) -> Result<Response, Problem> {
    let refused = || Problem(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS");
    let venue = asked.login.split_once('@').and_then(|(_, venue)| venue.parse().ok()).ok_or_else(refused)?;
    if asked.password != PASSWORD {
        return Err(refused());
    }
    let token =
        sign(&service.key, &asked.login, venue, now() + LIFETIME).ok_or(Problem(StatusCode::INTERNAL_SERVER_ERROR, "BROKEN"))?;
    Ok(Json(serde_json::json!({ "token": token })).into_response())
}

/// A token for `login` of a venue, good until `exp`, seconds since 1970.
pub fn sign(key: &Key, login: &str, venue: i64, exp: i64) -> Option<String> {
    key.sign(&Claims { sub: login.to_owned(), role: "customer".into(), org: Some(venue), actor: None, iat: exp - LIFETIME, exp })
        .ok()
}

/// Lets in who has a good token, as often as the limit allows.
async fn let_in(State(service): State<Service>, headers: HeaderMap, mut request: Request, next: Next) -> Response {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(claims) = token.and_then(|token| service.key.verify::<Claims>(token).ok()) else {
        return Problem(StatusCode::UNAUTHORIZED, "INVALID_TOKEN").into_response();
    };
    let counted = service.limit.map(|limit| {
        let mut windows = service.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, count) = windows.entry(claims.sub.clone()).or_insert_with(|| (Instant::now(), 0));
        if began.elapsed() >= WINDOW {
            (*began, *count) = (Instant::now(), 0);
        }
        *count += 1;
        (limit, *count, (WINDOW - began.elapsed()).as_secs() + 1)
    });
    request.extensions_mut().insert(claims);
    let is_over = counted.is_some_and(|(limit, count, _)| count > limit);
    let mut response =
        if is_over { Problem(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY").into_response() } else { next.run(request).await };
    if let Some((limit, count, left)) = counted {
        for (name, value) in
            [("ratelimit-limit", limit), ("ratelimit-remaining", limit.saturating_sub(count)), ("ratelimit-reset", left)]
        {
            response.headers_mut().insert(name, value.into());
        }
    }
    response.map(Body::new)
}

/// A seat of a venue whose token it is.
fn of(claims: &Claims, seat: Option<Seat>) -> Result<Seat, Problem> {
    let seat = seat.ok_or(Problem(StatusCode::NOT_FOUND, "NO_SUCH_SEAT"))?;
    if claims.org == Some(seat.venue_id) { Ok(seat) } else { Err(Problem(StatusCode::FORBIDDEN, "OTHER_VENUE")) }
}

const SEAT: &str =
    "SELECT s.id, s.venue_id, EXISTS (SELECT FROM booking b WHERE b.seat_id = s.id) AS booked FROM seat s WHERE s.id = $1";

async fn seat(
    State(service): State<Service>,
    Extension(claims): Extension<Claims>,
    Path(id): Path<i64>,
) -> Result<Json<Seat>, Problem> {
    Ok(Json(of(&claims, sqlx::query_as(SEAT).bind(id).fetch_optional(&service.pool).await?)?))
}

async fn book(
    State(service): State<Service>,
    Extension(claims): Extension<Claims>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let mut tx = service.pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    // At a level that keeps one snapshot, the look below would be at the bookings of before the wait, whatever was locked.
    sqlx::query("SELECT FROM seat WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *tx).await?;
    // A statement of its own: one that had waited for the lock would still see the bookings of before the wait.
    let seat = of(&claims, sqlx::query_as(SEAT).bind(id).fetch_optional(&mut *tx).await?)?;
    if seat.booked {
        return Err(Problem(StatusCode::CONFLICT, "TAKEN"));
    }
    let booking: i64 = sqlx::query_scalar("INSERT INTO booking (seat_id, customer) VALUES ($1, $2) RETURNING id")
        .bind(id)
        .bind(&claims.sub)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "booking": booking, "seat": id }))).into_response())
}

async fn book_without_lock(
    State(service): State<Service>,
    Extension(claims): Extension<Claims>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let seat = of(&claims, sqlx::query_as(SEAT).bind(id).fetch_optional(&service.pool).await?)?;
    if seat.booked {
        return Err(Problem(StatusCode::CONFLICT, "TAKEN"));
    }
    // Something else is looked up, as services do; and meanwhile somebody else looks too.
    tokio::time::sleep(BETWEEN).await;
    let booking: i64 = sqlx::query_scalar("INSERT INTO booking (seat_id, customer) VALUES ($1, $2) RETURNING id")
        .bind(id)
        .bind(&claims.sub)
        .fetch_one(&service.pool)
        .await?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "booking": booking, "seat": id }))).into_response())
}

async fn cancel(
    State(service): State<Service>,
    Extension(claims): Extension<Claims>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    of(&claims, sqlx::query_as(SEAT).bind(id).fetch_optional(&service.pool).await?)?;
    let deleted = sqlx::query("DELETE FROM booking WHERE seat_id = $1").bind(id).execute(&service.pool).await?.rows_affected();
    if deleted == 0 { Err(Problem(StatusCode::CONFLICT, "NOT_BOOKED")) } else { Ok(StatusCode::NO_CONTENT.into_response()) }
}

async fn venue(
    State(service): State<Service>,
    Extension(claims): Extension<Claims>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    if claims.org != Some(id) {
        return Err(Problem(StatusCode::FORBIDDEN, "OTHER_VENUE"));
    }
    let seats: i64 = sqlx::query_scalar("SELECT count(*) FROM seat WHERE venue_id = $1").bind(id).fetch_one(&service.pool).await?;
    Ok(Json(serde_json::json!({ "id": id, "seats": seats })).into_response())
}

async fn bookings(State(service): State<Service>) -> Result<Response, Problem> {
    let bookings: i64 = sqlx::query_scalar("SELECT count(*) FROM booking").fetch_one(&service.pool).await?;
    Ok(Json(serde_json::json!({ "bookings": bookings })).into_response())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let variable = |name: &str| std::env::var(name).ok();
    let database = variable("DATABASE_URL").ok_or("DATABASE_URL says where the seats are")?;
    let listener = TcpListener::bind(variable("LISTEN").as_deref().unwrap_or("127.0.0.1:8972")).await?;
    let limit = variable("LIMIT").map(|limit| limit.parse()).transpose()?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    serve(listener, &database, &rand::random::<[u8; 32]>(), limit).await
}
