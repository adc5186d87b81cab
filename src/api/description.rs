//! Which routes are there, and what can each of them answer? As OpenAPI: the routes say what was asked for, the table of routes what else.

use axum::Router;
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::route::{Class, Route};
use super::turn::Api;
use super::{clinic, open, residency};
use crate::contract::{Code, Problem};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "dbstress serve", description = "The reference API: units of a clinic, and the schedule of a residency."),
    components(schemas(Problem, Code))
)]
struct Document;

/// Every route, and what is said of it.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(open::health))
        .routes(routes!(open::about))
        .routes(routes!(open::description))
        .routes(routes!(open::metrics))
        .routes(routes!(open::login))
        .routes(routes!(clinic::authorisations))
        .routes(routes!(clinic::authorisation))
        .routes(routes!(clinic::availability))
        .routes(routes!(clinic::reserve))
        .routes(routes!(clinic::release))
        .routes(routes!(clinic::consume))
        .routes(routes!(clinic::appoint))
        .routes(routes!(clinic::appointment))
        .routes(routes!(clinic::cancel_appointment))
        .routes(routes!(clinic::complete_appointment))
        .routes(routes!(residency::people))
        .routes(routes!(residency::one_person))
        .routes(routes!(residency::blocks))
        .routes(routes!(residency::rotations))
        .routes(routes!(residency::assignments, residency::assign))
        .routes(routes!(residency::compliance))
        .routes(routes!(residency::cancel_assignment))
        .routes(routes!(residency::call))
        .routes(routes!(residency::swap))
}

/// Leads requests to those who answer them.
pub(super) fn router() -> Router<Api> {
    routes().split_for_parts().0
}

/// The description, as JSON.
pub fn document() -> Value {
    let mut document = serde_json::to_value(routes().into_openapi()).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["components"]["securitySchemes"]["token"] = json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" });
    for route in Route::ALL {
        let operation = &mut document["paths"][route.path()][route.method().to_ascii_lowercase()];
        if matches!(route.class(), Class::Read | Class::Write) {
            operation["security"] = json!([{ "token": [] }]);
        }
        for code in route.codes() {
            let response = &mut operation["responses"][code.status().to_string()];
            let word = serde_json::to_value(code).unwrap_or_default();
            let word = word.as_str().unwrap_or_default();
            match response.get("description").and_then(Value::as_str) {
                Some(said) => response["description"] = format!("{said}, {word}").into(),
                None => *response = problem(code.status(), word),
            }
        }
    }
    document
}

fn problem(status: u16, word: &str) -> Value {
    let header = |about: &str| json!({ "description": about, "schema": { "type": "string" } });
    let mut headers = Map::new();
    match status {
        401 => drop(headers.insert("WWW-Authenticate".into(), header("Bearer"))),
        429 => {
            for name in ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After"] {
                headers.insert(name.into(), header("A whole number; of seconds, the last two."));
            }
        }
        503 => drop(headers.insert("Retry-After".into(), header("Seconds."))),
        _ => {}
    }
    json!({
        "description": word,
        "headers": headers,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let document = document();
        let described: usize = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, Route::ALL.len(), "{:?}", document["paths"].as_object().unwrap().keys());
        for route in Route::ALL {
            let operation = &document["paths"][route.path()][route.method().to_ascii_lowercase()];
            let responses = operation["responses"].as_object().unwrap();
            let good: Vec<&String> = responses.keys().filter(|status| status.starts_with('2')).collect();
            assert_eq!(good.len(), 1, "{route:?}: {responses:?}");
            for code in route.codes() {
                assert!(responses.contains_key(&code.status().to_string()), "{route:?}: {code:?}");
            }
            let takes_number = route.path().contains("{id}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            assert_eq!(parameters.iter().any(|parameter| parameter["in"] == "path"), takes_number, "{route:?}");
        }
    }

    #[test]
    fn what_is_referred_to_is_there() {
        let document = document();
        let mut left = vec![&document];
        let mut referred = 0;
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                        referred += 1;
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        assert!(referred > 100, "{referred}");
    }
}
