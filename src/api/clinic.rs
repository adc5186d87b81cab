//! What may be asked about the units of a clinic?

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::{Ask, Done};
use super::problem::{Answer, Refused};
use super::route::Route;
use super::sent::{self, Query};
use super::shape::{Appointment, Authorisation, Authorisations, Availability};
use super::turn::{Api, Turn, whole};
use crate::contract::{Booked, Code, Units};
use crate::history::OperationKind;
use crate::target::view::{Page, View};
use crate::workload::appointment;

/// The longest appointment, seconds.
const LONGEST: i64 = 86_400;

/// An appointment that is wanted: `POST /v1/appointments`. The practitioner is the one of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Appoint {
    /// Whose units it takes: one for every 15 minutes begun.
    pub authorisation: i64,
    /// When it begins, as `2026-06-01T09:00:00Z`.
    pub starts_at: String,
    /// When it ends: later, and within a day.
    pub ends_at: String,
}

/// Looks at something, after who asks was let in.
pub(super) async fn look(
    api: Api,
    route: Route,
    request: Request,
    view: impl FnOnce(&Turn, &Uri) -> Result<View, Refused>,
) -> Response {
    let mut turn = Turn::new(api, route);
    let (head, body) = request.into_parts();
    // A body that nobody asked for is not read.
    drop(body);
    let done = match turn.admit(&head.headers).await {
        Ok(_) => match view(&turn, &head.uri) {
            Ok(view) => turn.see(view).await,
            Err(refused) => Err(refused),
        },
        Err(refused) => Err(refused),
    };
    turn.end(done).await
}

/// The one thing that the path names.
pub(super) fn one(uri: &Uri, view: impl FnOnce(i64) -> View) -> Result<View, Refused> {
    let id = sent::id(uri)?;
    Query::of(uri).end()?;
    Ok(view(id))
}

/// Which part of a list.
pub(super) fn page(query: &mut Query<'_>) -> Result<Page, Refused> {
    let after = query.number("after", 0, i64::MAX)?.unwrap_or(0);
    Ok(Page { after, limit: limit(query)? })
}

/// How much of a list.
pub(super) fn limit(query: &mut Query<'_>) -> Result<u16, Refused> {
    let limit = query.number("limit", 1, 500)?.unwrap_or(100);
    Ok(u16::try_from(limit).unwrap_or(500))
}

/// Authorisations that the token may see, in the order of their numbers.
#[utoipa::path(
    get,
    path = "/v1/authorisations",
    tag = "clinic",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many: 1 to 500, else 100."),
        ("after" = Option<i64>, Query, minimum = 0, description = "Those after this number: `next` of the page before."),
    ),
    responses((status = 200, description = "A page of them.", body = Authorisations))
)]
pub(super) async fn authorisations(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Authorisations, request, |_, uri| {
        let mut query = Query::of(uri);
        let page = page(&mut query)?;
        query.end()?;
        Ok(View::Authorisations(page))
    })
    .await
}

/// One authorisation.
#[utoipa::path(
    get,
    path = "/v1/authorisations/{id}",
    tag = "clinic",
    params(("id" = i64, Path, description = "Its number.")),
    responses((status = 200, description = "This one.", body = Authorisation))
)]
pub(super) async fn authorisation(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Authorisation, request, |_, uri| one(uri, View::Authorisation)).await
}

/// How many of its units are free.
#[utoipa::path(
    get,
    path = "/v1/authorisations/{id}/availability",
    tag = "clinic",
    params(("id" = i64, Path, description = "Its number.")),
    responses((status = 200, description = "So many.", body = Availability))
)]
pub(super) async fn availability(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Availability, request, |_, uri| one(uri, View::Availability)).await
}

async fn book(api: Api, route: Route, kind: OperationKind, request: Request) -> Response {
    whole(async move {
        let mut turn = Turn::new(api, route);
        let (head, body) = request.into_parts();
        let done = async {
            turn.admit(&head.headers).await?;
            let id = sent::id(&head.uri)?;
            turn.resource = Some(id);
            turn.key = sent::key(&head.headers)?.map(str::to_owned);
            let Units { units } = sent::json(&head.headers, body).await?;
            turn.book(kind, units, id).await
        }
        .await;
        turn.end(done).await
    })
    .await
}

/// Promises units. With an `Idempotency-Key`, once.
#[utoipa::path(
    post,
    path = "/v1/authorisations/{id}/reserve",
    tag = "clinic",
    params(
        ("id" = i64, Path, description = "Its number."),
        ("Idempotency-Key" = Option<String>, Header, max_length = 255, description = "Asked again with the same key it is done once."),
    ),
    request_body = Units,
    responses((status = 201, description = "Promised, and this is what that left.", body = Booked))
)]
pub(super) async fn reserve(State(api): State<Api>, request: Request) -> Response {
    book(api, Route::Reserve, OperationKind::Reserve, request).await
}

/// Gives promised units back. With an `Idempotency-Key`, once.
#[utoipa::path(
    post,
    path = "/v1/authorisations/{id}/release",
    tag = "clinic",
    params(
        ("id" = i64, Path, description = "Its number."),
        ("Idempotency-Key" = Option<String>, Header, max_length = 255, description = "Asked again with the same key it is done once."),
    ),
    request_body = Units,
    responses((status = 200, description = "Given back, and this is what that left.", body = Booked))
)]
pub(super) async fn release(State(api): State<Api>, request: Request) -> Response {
    book(api, Route::Release, OperationKind::Release, request).await
}

/// Uses promised units up. With an `Idempotency-Key`, once.
#[utoipa::path(
    post,
    path = "/v1/authorisations/{id}/consume",
    tag = "clinic",
    params(
        ("id" = i64, Path, description = "Its number."),
        ("Idempotency-Key" = Option<String>, Header, max_length = 255, description = "Asked again with the same key it is done once."),
    ),
    request_body = Units,
    responses((status = 200, description = "Used up, and this is what that left.", body = Booked))
)]
pub(super) async fn consume(State(api): State<Api>, request: Request) -> Response {
    book(api, Route::Consume, OperationKind::Consume, request).await
}

/// Makes an appointment, and reserves the units that it takes.
#[utoipa::path(
    post,
    path = "/v1/appointments",
    tag = "clinic",
    request_body = Appoint,
    responses((status = 201, description = "Made.", body = Appointment))
)]
pub(super) async fn appoint(State(api): State<Api>, request: Request) -> Response {
    whole(async move {
        let mut turn = Turn::new(api, Route::Appoint);
        let (head, body) = request.into_parts();
        let done = async {
            let caller = turn.admit(&head.headers).await?;
            let wanted: Appoint = sent::json(&head.headers, body).await?;
            turn.resource = Some(wanted.authorisation);
            let (Some(starts_at), Some(ends_at)) = (sent::instant(&wanted.starts_at), sent::instant(&wanted.ends_at)) else {
                return Err(Refused::new(Code::Invalid, "starts_at and ends_at are instants such as 2026-06-01T09:00:00Z"));
            };
            if ends_at <= starts_at || ends_at - starts_at > LONGEST {
                return Err(Refused::new(Code::Invalid, "an appointment ends after it begins, and within a day"));
            }
            let Some(practitioner) = caller.actor else {
                return Err(Refused::new(Code::Role, "an appointment is with a practitioner, and this token is nobody's"));
            };
            let authorisation = wanted.authorisation;
            let ask = appointment::Ask::Create { authorisation, practitioner, starts_at, ends_at };
            turn.appoint(StatusCode::CREATED, ask).await
        }
        .await;
        turn.end(done).await
    })
    .await
}

/// One appointment.
#[utoipa::path(
    get,
    path = "/v1/appointments/{id}",
    tag = "clinic",
    params(("id" = i64, Path, description = "Its number.")),
    responses((status = 200, description = "This one.", body = Appointment))
)]
pub(super) async fn appointment(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Appointment, request, |_, uri| one(uri, View::Appointment)).await
}

async fn conclude(api: Api, route: Route, ask: fn(i64) -> appointment::Ask, request: Request) -> Response {
    whole(async move {
        let mut turn = Turn::new(api, route);
        let (head, body) = request.into_parts();
        drop(body);
        let done = async {
            turn.admit(&head.headers).await?;
            let id = sent::id(&head.uri)?;
            turn.resource = Some(id);
            turn.appoint(StatusCode::OK, ask(id)).await
        }
        .await;
        turn.end(done).await
    })
    .await
}

/// It does not take place: what it had reserved is given back.
#[utoipa::path(
    post,
    path = "/v1/appointments/{id}/cancel",
    tag = "clinic",
    params(("id" = i64, Path, description = "Its number.")),
    responses((status = 200, description = "Cancelled.", body = Appointment))
)]
pub(super) async fn cancel_appointment(State(api): State<Api>, request: Request) -> Response {
    conclude(api, Route::CancelAppointment, appointment::Ask::Cancel, request).await
}

/// It took place: what it had reserved is used up, and there is a session of treatment.
#[utoipa::path(
    post,
    path = "/v1/appointments/{id}/complete",
    tag = "clinic",
    params(("id" = i64, Path, description = "Its number.")),
    responses((status = 200, description = "Completed.", body = Appointment))
)]
pub(super) async fn complete_appointment(State(api): State<Api>, request: Request) -> Response {
    conclude(api, Route::CompleteAppointment, appointment::Ask::Complete, request).await
}

impl Turn {
    /// Looks.
    ///
    /// # Errors
    /// Why there is nothing to see.
    pub(super) async fn see(&mut self, view: View) -> Result<Answer, Refused> {
        match self.ask(Ask::View(view)).await? {
            Done::Seen(seen) => Ok(Answer::json(StatusCode::OK, seen.into_bytes())),
            _ => Err(Refused::plain(Code::Internal)),
        }
    }

    async fn appoint(&mut self, status: StatusCode, ask: appointment::Ask) -> Result<Answer, Refused> {
        match self.ask(Ask::Appoint(ask)).await? {
            Done::Appointment(now) => Ok(Answer::json(status, now.into_bytes())),
            _ => Err(Refused::plain(Code::Internal)),
        }
    }
}
