//! What may be asked about the schedule of a residency?

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::{StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::clinic::{limit, look, one, page};
use super::desk::{Ask, Done};
use super::problem::{Answer, Refused};
use super::route::Route;
use super::sent::{self, Query};
use super::shape::{Assignments, Blocks, Compliance, People, Person, Rotations};
use super::turn::{Api, Turn, json, whole};
use crate::contract::{Assign, Call, Cancel, Changed, Code, Swap};
use crate::target::view::{Days, View};
use crate::workload::contest::{CallKind, Change, Contest, Proposal};

/// Nights that can be asked for: from 1900 to 2100, in days since 2000-01-01.
const NIGHTS: std::ops::RangeInclusive<i64> = -36_525..=36_525;

fn days(query: &mut Query<'_>) -> Result<Days, Refused> {
    let days = Days { from: query.day("from")?, to: query.day("to")? };
    if days.from.zip(days.to).is_some_and(|(from, to)| from > to) {
        return Err(Refused::new(Code::Invalid, "`from` is after `to`"));
    }
    Ok(days)
}

fn person(turn: &Turn, query: &mut Query<'_>) -> Result<Option<i64>, Refused> {
    match query.take("person")?.as_deref() {
        None => Ok(None),
        Some("me") => {
            let refused = || Refused::new(Code::Invalid, "`person=me` is nobody: the token is no person's");
            turn.actor().map(Some).ok_or_else(refused)
        }
        Some(number) => {
            let number = number.parse().ok().filter(|number| *number >= 0);
            number.map(Some).ok_or_else(|| Refused::new(Code::Invalid, "`person` is `me` or a number"))
        }
    }
}

/// People of the programme, in the order of their numbers.
#[utoipa::path(
    get,
    path = "/v1/people",
    tag = "residency",
    params(
        ("kind" = Option<String>, Query, description = "resident, faculty; else both."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many: 1 to 500, else 100."),
        ("after" = Option<i64>, Query, minimum = 0, description = "Those after this number: `next` of the page before."),
    ),
    responses((status = 200, description = "A page of them.", body = People))
)]
pub(super) async fn people(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::People, request, |_, uri| {
        let mut query = Query::of(uri);
        let kind = match query.take("kind")?.as_deref() {
            None => None,
            Some("resident") => Some("resident"),
            Some("faculty") => Some("faculty"),
            Some(_) => return Err(Refused::new(Code::Invalid, "`kind` is resident or faculty")),
        };
        let page = page(&mut query)?;
        query.end()?;
        Ok(View::People { kind, page })
    })
    .await
}

/// One person.
#[utoipa::path(
    get,
    path = "/v1/people/{id}",
    tag = "residency",
    params(("id" = i64, Path, description = "Their number.")),
    responses((status = 200, description = "This one.", body = Person))
)]
pub(super) async fn one_person(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Person, request, |_, uri| one(uri, View::Person)).await
}

/// Half days, in order.
#[utoipa::path(
    get,
    path = "/v1/blocks",
    tag = "residency",
    params(
        ("from" = Option<String>, Query, description = "From this day on, as 2026-06-01."),
        ("to" = Option<String>, Query, description = "Up to this day."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many: 1 to 500, else 100."),
    ),
    responses((status = 200, description = "These.", body = Blocks))
)]
pub(super) async fn blocks(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Blocks, request, |_, uri| {
        let mut query = Query::of(uri);
        let (days, limit) = (days(&mut query)?, limit(&mut query)?);
        query.end()?;
        Ok(View::Blocks { days, limit })
    })
    .await
}

/// What can be done in a half day.
#[utoipa::path(get, path = "/v1/rotations", tag = "residency", responses((status = 200, description = "All of it.", body = Rotations)))]
pub(super) async fn rotations(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Rotations, request, |_, uri| {
        Query::of(uri).end()?;
        Ok(View::Rotations)
    })
    .await
}

/// Who works in which half day.
#[utoipa::path(
    get,
    path = "/v1/assignments",
    tag = "residency",
    params(
        ("person" = Option<String>, Query, description = "Whose: a number, or `me`."),
        ("from" = Option<String>, Query, description = "From this day on, as 2026-06-01."),
        ("to" = Option<String>, Query, description = "Up to this day."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many: 1 to 500, else 100."),
        ("after" = Option<i64>, Query, minimum = 0, description = "Those after this number: `next` of the page before."),
    ),
    responses((status = 200, description = "A page of them.", body = Assignments))
)]
pub(super) async fn assignments(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Assignments, request, |turn, uri| {
        let mut query = Query::of(uri);
        let person = person(turn, &mut query)?;
        let (days, page) = (days(&mut query)?, page(&mut query)?);
        query.end()?;
        Ok(View::Assignments { person, days, page })
    })
    .await
}

/// What the rules of duty hours find in the schedule.
#[utoipa::path(
    get,
    path = "/v1/compliance",
    tag = "residency",
    params(
        ("from" = Option<String>, Query, description = "From this day on, as 2026-06-01."),
        ("to" = Option<String>, Query, description = "Up to this day."),
    ),
    responses((status = 200, description = "This.", body = Compliance))
)]
pub(super) async fn compliance(State(api): State<Api>, request: Request) -> Response {
    look(api, Route::Compliance, request, |_, uri| {
        let mut query = Query::of(uri);
        let days = days(&mut query)?;
        query.end()?;
        Ok(View::Compliance(days))
    })
    .await
}

/// Changes a schedule as the body says.
async fn change<T: DeserializeOwned + Send + 'static>(
    api: Api,
    route: Route,
    status: StatusCode,
    request: Request,
    proposal: fn(T, &Uri) -> Result<Proposal, Refused>,
) -> Response {
    whole(async move {
        let mut turn = Turn::new(api, route);
        let (head, body) = request.into_parts();
        let done = async {
            turn.admit(&head.headers).await?;
            let proposal = proposal(sent::json(&head.headers, body).await?, &head.uri)?;
            turn.change(status, proposal).await
        }
        .await;
        turn.end(done).await
    })
    .await
}

/// Somebody works in a half day.
#[utoipa::path(
    post,
    path = "/v1/assignments",
    tag = "residency",
    request_body = Assign,
    responses((status = 201, description = "They do.", body = Changed))
)]
pub(super) async fn assign(State(api): State<Api>, request: Request) -> Response {
    change(api, Route::Assign, StatusCode::CREATED, request, |Assign { programme, person, block, template }, _| {
        Ok(Proposal { programme, contest: Contest::Seats, change: Change::Assign { person, block, template } })
    })
    .await
}

/// Somebody does not work in a half day after all.
#[utoipa::path(
    post,
    path = "/v1/assignments/{id}/cancel",
    tag = "residency",
    params(("id" = i64, Path, description = "Number of the assignment.")),
    request_body = Cancel,
    responses((status = 200, description = "They do not.", body = Changed))
)]
pub(super) async fn cancel_assignment(State(api): State<Api>, request: Request) -> Response {
    change(api, Route::CancelAssignment, StatusCode::OK, request, |Cancel { programme, person, block }, uri| {
        let assignment = sent::id(uri)?;
        Ok(Proposal { programme, contest: Contest::Supervision, change: Change::Cancel { person, block, assignment } })
    })
    .await
}

/// Somebody is on call.
#[utoipa::path(
    post,
    path = "/v1/calls",
    tag = "residency",
    request_body = Call,
    responses((status = 201, description = "They are.", body = Changed))
)]
pub(super) async fn call(State(api): State<Api>, request: Request) -> Response {
    change(api, Route::Call, StatusCode::CREATED, request, |Call { programme, person, night, kind }, _| {
        let kind = [CallKind::Overnight, CallKind::Weekend].into_iter().find(|known| known.word() == kind);
        let kind = kind.ok_or_else(|| Refused::new(Code::Invalid, "`kind` is overnight or weekend"))?;
        if !NIGHTS.contains(&night) {
            return Err(Refused::new(Code::Invalid, "`night` is no number of days since 2000-01-01 within a century"));
        }
        Ok(Proposal { programme, contest: Contest::Hours, change: Change::Call { person, night, kind } })
    })
    .await
}

/// Somebody gets a half day of somebody else's.
#[utoipa::path(
    post,
    path = "/v1/swaps",
    tag = "residency",
    request_body = Swap,
    responses((status = 200, description = "They do.", body = Changed))
)]
pub(super) async fn swap(State(api): State<Api>, request: Request) -> Response {
    change(api, Route::Swap, StatusCode::OK, request, |Swap { programme, from, to, source, target }, _| {
        Ok(Proposal { programme, contest: Contest::Swap, change: Change::Swap { from, to, source, target } })
    })
    .await
}

impl Turn {
    async fn change(&mut self, status: StatusCode, proposal: Proposal) -> Result<Answer, Refused> {
        self.resource = match proposal.change {
            Change::Cancel { assignment, .. } => Some(assignment),
            Change::Swap { source, .. } => Some(source),
            Change::Assign { .. } | Change::Call { .. } => None,
        };
        self.of_programme(proposal.programme)?;
        match self.ask(Ask::Change(proposal)).await? {
            Done::Changed => json(status, &Changed { programme: proposal.programme }),
            _ => Err(Refused::plain(Code::Internal)),
        }
    }
}
