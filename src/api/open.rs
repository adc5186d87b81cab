//! What may anybody ask? Whether it is there, what it is, what it has counted; and to be let in.

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::problem::Answer;
use super::route::Route;
use super::sent;
use super::turn::{Api, Turn};
use crate::contract::{About, LoggedIn, Login};

/// Whether it is there.
#[derive(utoipa::ToSchema)]
pub(super) struct Health {
    /// `ok`.
    #[expect(dead_code, reason = "only described: the answer is always the same bytes")]
    status: String,
}

/// Is it there? Asks nobody, not even the database.
#[utoipa::path(get, path = "/v1/health", tag = "server", responses((status = 200, description = "It is.", body = Health)))]
pub(super) async fn health(State(api): State<Api>) -> Response {
    let turn = Turn::new(api, Route::Health);
    turn.end(Ok(Answer::json(StatusCode::OK, br#"{"status":"ok"}"#.as_slice()))).await
}

/// What it says of itself: its database, its dataset, how rows are protected, what is let through.
#[utoipa::path(get, path = "/v1/about", tag = "server", responses((status = 200, description = "This.", body = About)))]
pub(super) async fn about(State(api): State<Api>) -> Response {
    let body = api.shared.about.clone();
    Turn::new(api, Route::About).end(Ok(Answer::json(StatusCode::OK, body))).await
}

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "server", responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value)))]
pub(super) async fn description(State(api): State<Api>) -> Response {
    let body = api.shared.description.clone();
    Turn::new(api, Route::OpenApi).end(Ok(Answer::json(StatusCode::OK, body))).await
}

/// What it has counted.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses((status = 200, description = "Prometheus's text format.", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let text = api.shared.metrics.text().into_bytes();
    let answer = Answer { status: StatusCode::OK, body: text.into(), headers: HeaderMap::new() };
    let answer = answer.with(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Turn::new(api, Route::Metrics).end(Ok(answer)).await
}

/// A token for an account and its password. An unknown account and a wrong password are answered alike.
#[utoipa::path(
    post,
    path = "/v1/login",
    tag = "server",
    request_body = Login,
    responses((status = 200, description = "Let in.", body = LoggedIn))
)]
pub(super) async fn login(State(api): State<Api>, request: Request) -> Response {
    let mut turn = Turn::new(api, Route::Login);
    let (head, body) = request.into_parts();
    let done = match sent::json::<Login>(&head.headers, body).await {
        Ok(login) => turn.login(login).await,
        Err(refused) => Err(refused),
    };
    turn.end(done).await
}
