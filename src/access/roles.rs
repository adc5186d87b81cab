//! May each role do what it may, and nothing else?

use serde_json::{Value, json};

use super::call::{Ask, Caller};
use super::ground::{Extent, Ground, Tenant, everywhere};
use super::judge::Seen;
use super::mistake::Mistake;
use crate::Result;
use crate::contract::Code;
use crate::token::Claims;

/// The criterion of what a role may not do.
pub const FORBIDDEN: &str = "forbidden, and answered otherwise than with 403 ROLE";

/// What roles are tried at: what it is called here, and whether it changes something.
const ROUTES: [(&str, bool); 10] = [
    ("list", false),
    ("one", false),
    ("availability", false),
    ("reserve", true),
    ("consume", true),
    ("release", true),
    ("appoint", true),
    ("appointment", false),
    ("complete", true),
    ("cancel", true),
];

/// Who asks: what they are called here, what their token claims, whether they may look, and whether they may change something.
fn who(tenant: &Tenant) -> [(&'static str, Claims, bool, bool); 6] {
    let as_role = |role: &str| Claims { role: role.into(), ..tenant.practitioner() };
    [
        ("admin of all", everywhere(), true, true),
        ("admin", Claims { actor: Some(tenant.practitioner), ..tenant.admin() }, true, true),
        ("practitioner", tenant.practitioner(), true, true),
        ("viewer", tenant.viewer(), true, false),
        ("coordinator, of the residency", as_role("coordinator"), false, false),
        ("a role that there is not", as_role("root"), false, false),
    ]
}

/// Each role at each route.
pub async fn roles(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenant = ground.tenants[0].clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let booker = examined.token(&tenant.practitioner())?;
        let mut caller = examined.caller();
        // Units to release and to consume, whoever may.
        caller
            .ask(&Ask::post(format!("/v1/authorisations/{}/reserve", tenant.authorisation), json!({"units": 100})).with(&booker))
            .await?;
        let (mut kept_out, mut let_in, mut forbidden, mut allowed) = (Vec::new(), Vec::new(), 0, 0);
        for (name, claims, may_look, may_change) in who(&tenant) {
            let token = examined.token(&claims)?;
            let mut row = Vec::new();
            for (route, is_change) in ROUTES {
                // Nobody but a practitioner of the organisation makes appointments for it.
                if route == "appoint" && claims.org.is_none() {
                    continue;
                }
                let ask = asked(route, &tenant, &mut caller, &booker).await?.with(&token);
                let told = caller.ask(&ask).await?;
                row.push(format!("{route} {}", told.status));
                if if is_change { may_change } else { may_look } {
                    allowed += 1;
                    if !told.is_ok() {
                        kept_out.push(format!("{name}: {} {}", ask.words(), told.words()));
                    }
                } else {
                    forbidden += 1;
                    if told.status != Code::Role.status() || told.code() != Some(Code::Role) {
                        let_in.push(format!("{name}: {} {}", ask.words(), told.words()));
                    }
                }
            }
            seen.figure(format!("{name}: {}", row.join(", ")));
        }
        seen.none(FORBIDDEN, forbidden, let_in);
        seen.none("allowed, and not let in", allowed, kept_out);
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// The request of a route; the appointment that it is about is made for it, by somebody who may.
async fn asked(route: &str, tenant: &Tenant, caller: &mut Caller, booker: &str) -> Result<Ask> {
    let own = format!("/v1/authorisations/{}", tenant.authorisation);
    Ok(match route {
        "list" => super::valid::list(),
        "one" => Ask::get(own),
        "availability" => Ask::get(format!("{own}/availability")),
        "appoint" => appoint(tenant.authorisation),
        "appointment" => Ask::get(format!("/v1/appointments/{}", appointed(tenant, caller, booker).await?)),
        "complete" | "cancel" => {
            Ask::post(format!("/v1/appointments/{}/{route}", appointed(tenant, caller, booker).await?), Value::Null)
        }
        booking => Ask::post(format!("{own}/{booking}"), json!({"units": 1})),
    })
}

/// An appointment of an hour is wanted.
pub fn appoint(authorisation: i64) -> Ask {
    let hour = json!({"authorisation": authorisation, "starts_at": "2031-03-03T09:00:00Z", "ends_at": "2031-03-03T10:00:00Z"});
    Ask::post("/v1/appointments", hour)
}

/// The number of an appointment that is made for it.
///
/// # Errors
/// Inconclusive, when it is not made.
pub async fn appointed(tenant: &Tenant, caller: &mut Caller, booker: &str) -> Result<i64> {
    let told = caller.ask(&appoint(tenant.authorisation).with(booker)).await?;
    told.json().get("id").and_then(Value::as_i64).ok_or_else(|| {
        crate::Error::inconclusive(format!("organisation {} cannot make an appointment of its own: {}", tenant.id, told.words()))
    })
}
