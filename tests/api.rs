//! Does the API answer what it says it does, to those whom it says it answers? In this process, on a real PostgreSQL. Every answer is compared with the
//! description that the API gives of itself.

mod common;
#[path = "common/api.rs"]
mod served;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use common::{Bench, Place, Started, TestDatabase, on, run};
use dbstress::api::Mistake;
use dbstress::bug::Bug;
use dbstress::contract::{Code, LoggedIn};
use dbstress::history::OpId;
use dbstress::http::{Address, Answer, Body, Client, Request};
use dbstress::invariant::{self, Checked, DEFAULT_SEARCH_PATH, Finding, When, run_all};
use dbstress::pg::admin::{Session, literal};
use dbstress::strategy::Strategy;
use dbstress::token::{self, Key, Secret};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use served::{Asker, Served, body, code, text};

/// Somebody who may book, and what: an authorisation that is active, with units to spare.
struct Ward {
    authorisation: i64,
    organisation: i64,
    /// One of it.
    practitioner: i64,
    /// Another organisation, and one of it.
    elsewhere: (i64, i64),
}

impl Ward {
    async fn of(session: &mut Session) -> Self {
        let row = &session
            .rows(
                "SELECT a.id, a.organisation_id, (SELECT min(id) FROM dbstress.practitioner p WHERE p.organisation_id = a.organisation_id), \
                   o.id, (SELECT min(id) FROM dbstress.practitioner p WHERE p.organisation_id = o.id) \
                 FROM dbstress.authorisation a JOIN dbstress.organisation o ON o.id <> a.organisation_id, dbstress.meta m \
                 WHERE a.status = 'ACTIVE' AND a.end_date > m.as_of::date + 30 AND a.total - a.used - a.scheduled >= 40 AND NOT a.guarded \
                 ORDER BY a.id, o.id LIMIT 1",
            )
            .await
            .unwrap()[0];
        let number = |n: usize| row[n].as_ref().unwrap().parse().unwrap();
        Self { authorisation: number(0), organisation: number(1), practitioner: number(2), elsewhere: (number(3), number(4)) }
    }

    fn path(&self, what: &str) -> String {
        format!("/v1/authorisations/{}/{what}", self.authorisation)
    }

    async fn practitioner(&self, served: &Served) -> Asker {
        served.asker("practitioner", Some(self.organisation), Some(self.practitioner)).await
    }

    async fn stranger(&self, served: &Served) -> Asker {
        served.asker("practitioner", Some(self.elsewhere.0), Some(self.elsewhere.1)).await
    }
}

fn units(units: i64) -> Value {
    json!({ "units": units })
}

async fn number(session: &mut Session, sql: &str) -> i64 {
    session.integer(sql).await.unwrap()
}

/// Somebody else holds the authorisation's row until the transaction ends.
async fn holds(database: &TestDatabase, authorisation: i64) -> Session {
    let mut session = database.session().await;
    session.execute("BEGIN").await.unwrap();
    session.execute(&format!("SELECT 1 FROM dbstress.authorisation WHERE id = {authorisation} FOR UPDATE")).await.unwrap();
    session
}

/// Waits until so many sessions of the API wait for a lock.
async fn waiting(session: &mut Session, least: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    common::at_least(session, least, sql).await;
}

#[tokio::test]
async fn anybody_may_ask_what_it_is_and_nobody_what_is_not_there() {
    let database = common::seeded().await;
    let served = Served::start(&database.options, |_| {}).await;
    let mut anybody = served.anybody().await;
    assert_eq!(anybody.get("/v1/health").await.body.as_ref(), br#"{"status":"ok"}"#);
    let about = body(&anybody.get("/v1/about").await);
    assert_eq!(about, serde_json::to_value(served.server.about()).unwrap());
    assert_eq!(
        (&about["service"], &about["dataset"], &about["strategy"]),
        (&json!("dbstress"), &json!("clinic"), &json!("serializable"))
    );
    assert_eq!(body(&anybody.get("/v1/openapi.json").await), dbstress::api::description::document());
    assert_eq!(anybody.ask("HEAD", "/v1/health", None).await.status, 200);
    for path in ["/", "/v1", "/v1/", "/v1/nothing", "/v1/health/", "/v2/health", "/v1/authorisations/1/2/3", "/v1/%00", "/v1/..%2f"]
    {
        assert_eq!(anybody.refused("GET", path, None).await, Code::NoSuchRoute, "{path}");
    }
    for (method, path) in [("POST", "/v1/health"), ("DELETE", "/v1/authorisations/1"), ("GET", "/v1/login"), ("PATCH", "/metrics")]
    {
        let answer = anybody.ask(method, path, None).await;
        assert_eq!(code(&answer), Code::MethodNotAllowed, "{method} {path}");
        let allowed = if path == "/v1/login" { "POST" } else { "GET,HEAD" };
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    let metrics = anybody.get("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let metrics = text(&metrics);
    for line in [
        "dbstress_requests_total{method=\"GET\",route=\"/v1/health\",status=\"200\"} 2",
        "dbstress_requests_total{method=\"\",route=\"none\",status=\"404\"} 9",
        "dbstress_requests_total{method=\"\",route=\"none\",status=\"405\"} 4",
        "dbstress_panics_total 0",
    ] {
        assert!(metrics.lines().any(|is| is == line), "{line}\n{metrics}");
    }
    let summary = served.stop().await;
    assert_eq!((summary.answers.failed, summary.panics), (0, 0));
}

#[tokio::test]
async fn units_are_booked_by_those_who_may_and_the_rows_say_so() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let served = Served::start(&database.options, |_| {}).await;
    let mut asker = ward.practitioner(&served).await;
    let path = |what: &str| ward.path(what);
    let view = format!("/v1/authorisations/{}", ward.authorisation);
    let before = body(&asker.get(&view).await);
    let reserved = asker.post(&path("reserve"), units(10)).await;
    assert_eq!(reserved.status, 201);
    assert_eq!(reserved.header("dbstress-attempts"), None, "only a run is told");
    let reserved = body(&reserved);
    assert_eq!(reserved["scheduled"].as_i64(), before["scheduled"].as_i64().map(|n| n + 10));
    assert_eq!(asker.post(&path("release"), units(3)).await.status, 200);
    let consumed = asker.post(&path("consume"), units(2)).await;
    assert_eq!(consumed.status, 200);
    let after = body(&asker.get(&view).await);
    assert_eq!(after["scheduled"].as_i64(), before["scheduled"].as_i64().map(|n| n + 10 - 3 - 2));
    assert_eq!(after["used"].as_i64(), before["used"].as_i64().map(|n| n + 2));
    assert_eq!(after["version"], body(&consumed)["version"]);
    let left = body(&asker.get(&path("availability")).await);
    assert_eq!((&left["available"], &left["authorisation"]), (&after["available"], &json!(ward.authorisation)));
    let run = served.server.about().sessions.strip_prefix("dbstress/serve-").unwrap().to_owned();
    let ledger = session
        .rows(&format!(
            "SELECT kind, units, organisation_id, actor_id FROM dbstress.unit_ledger WHERE run_id = {run} ORDER BY version"
        ))
        .await
        .unwrap();
    let line = |kind: &str, units: &str| {
        [kind, units, &ward.organisation.to_string(), &ward.practitioner.to_string()].map(|text| Some(text.to_owned())).to_vec()
    };
    assert_eq!(ledger, [line("reserve", "10"), line("release", "3"), line("consume", "2")]);

    // Everything that a rule refuses, and what no rule needs to be asked for.
    assert_eq!(asker.refused("POST", &path("reserve"), Some(units(1_000_000))).await, Code::InsufficientUnits);
    assert_eq!(asker.refused("POST", &path("release"), Some(units(1_000_000))).await, Code::NotScheduled);
    assert_eq!(asker.refused("POST", &path("consume"), Some(units(1_000_000))).await, Code::NotScheduled);
    let of = |status: &str| format!("UPDATE dbstress.authorisation SET status = '{status}' WHERE id = {}", ward.authorisation);
    session.execute(&of("PENDING")).await.unwrap();
    assert_eq!(asker.refused("POST", &path("reserve"), Some(units(1))).await, Code::Inactive);
    session.execute(&of("ACTIVE")).await.unwrap();
    let ended = format!(
        "UPDATE dbstress.authorisation SET start_date = '2000-01-01', end_date = '2000-01-02' WHERE id = {}",
        ward.authorisation
    );
    session.execute(&ended).await.unwrap();
    assert_eq!(asker.refused("POST", &path("reserve"), Some(units(1))).await, Code::Expired);
    assert_eq!(asker.refused("POST", "/v1/authorisations/9223372036854775807/reserve", Some(units(1))).await, Code::NotFound);
    assert_eq!(asker.refused("GET", "/v1/authorisations/9223372036854775807", None).await, Code::NotFound);
    for units in [0, -1, 1_000_001, i64::from(i32::MAX), i64::from(i32::MIN)] {
        assert_eq!(asker.refused("POST", &path("reserve"), Some(json!({ "units": units }))).await, Code::Invalid, "{units}");
    }
    for body in
        [json!({ "units": i64::MAX }), json!({ "units": "1" }), json!({}), json!({ "units": 1, "more": 1 }), json!([]), json!(null)]
    {
        assert_eq!(asker.refused("POST", &path("reserve"), Some(body.clone())).await, Code::Malformed, "{body}");
    }
    for id in ["x", "-1", "+1", "1.0", "99999999999999999999", "%31", "%ff", "%00"] {
        assert_eq!(asker.refused("POST", &format!("/v1/authorisations/{id}/reserve"), Some(units(1))).await, Code::Invalid, "{id}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_body_is_json_that_is_not_too_long_and_says_so() {
    let database = common::seeded().await;
    let ward = Ward::of(&mut database.session().await).await;
    let served = Served::start(&database.options, |_| {}).await;
    let path = ward.path("reserve");
    let raw = async |kind: Option<&str>, bytes: &[u8]| {
        let asker = ward.practitioner(&served).await;
        let mut asker = match kind {
            Some(kind) => asker.with("content-type", kind),
            None => asker,
        };
        code(&asker.send("POST", &path, Some(bytes.to_vec())).await)
    };
    let good = br#"{"units":1}"#;
    for kind in ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", ""] {
        assert_eq!(raw(Some(kind), good).await, Code::UnsupportedMediaType, "{kind}");
    }
    for bytes in [b"".as_slice(), b"{", br#"{"units":1"#, b"\xff\xfe", br#"{"units":1}{"#, br#"{"units":1,"units":2}"#, b"\0"] {
        assert_eq!(raw(None, bytes).await, Code::Malformed, "{bytes:?}");
    }
    let mut long = good.to_vec();
    long.resize((64 << 10) + 1, b' ');
    assert_eq!(raw(None, &long).await, Code::TooLarge);
    let mut asker = ward.practitioner(&served).await.with("content-type", "Application/JSON ; charset=utf-8");
    long.pop();
    assert_eq!(asker.send("POST", &path, Some(long)).await.status, 201, "64 KiB are not too long");
    let mut bare = ward.practitioner(&served).await;
    assert_eq!(code(&bare.send("POST", &path, None).await), Code::UnsupportedMediaType);
    served.stop().await;
}

#[tokio::test]
async fn what_is_asked_with_a_key_is_done_once() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let served = Served::start(&database.options, |_| {}).await;
    let mut asker = ward.practitioner(&served).await.with("idempotency-key", "one");
    let path = ward.path("reserve");
    let first = asker.post(&path, units(4)).await;
    let again = asker.post(&path, units(4)).await;
    assert_eq!((first.status, again.status, &first.body), (201, 201, &again.body));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), (None, Some("true")));
    assert_eq!(asker.refused("POST", &path, Some(units(5))).await, Code::KeyMismatch);
    assert_eq!(asker.post(&ward.path("release"), units(4)).await.header("idempotency-replayed"), None, "of another endpoint");
    let mut stranger = ward.stranger(&served).await.with("idempotency-key", "one");
    assert_eq!(stranger.refused("POST", &path, Some(units(4))).await, Code::WrongOrganisation, "of another organisation");
    let mut asker = asker.with("idempotency-key", "refused");
    assert_eq!(asker.refused("POST", &path, Some(units(999_999))).await, Code::InsufficientUnits);
    assert_eq!(asker.post(&path, units(1)).await.status, 201, "what was refused is not stored");
    for bad in ["a b", &"k".repeat(256)] {
        asker = asker.with("idempotency-key", bad);
        assert_eq!(asker.refused("POST", &path, Some(units(1))).await, Code::Invalid, "{bad}");
    }
    let lines = number(&mut session, "SELECT count(*) FROM dbstress.unit_ledger WHERE kind = 'reserve'").await;
    assert_eq!(lines, 2);

    // While it is under way, whoever asks with the same key is told so at once.
    let mut holder = holds(&database, ward.authorisation).await;
    let mut slow = ward.practitioner(&served).await.with("idempotency-key", "slow");
    let path_of_slow = path.clone();
    let slow = tokio::spawn(async move { slow.post(&path_of_slow, units(1)).await });
    waiting(&mut session, 1).await;
    let mut asker = asker.with("idempotency-key", "slow");
    let met = asker.ask("POST", &path, Some(units(1))).await;
    assert_eq!((code(&met), met.header("retry-after")), (Code::KeyInFlight, Some("0")));
    holder.execute("COMMIT").await.unwrap();
    assert_eq!(slow.await.unwrap().status, 201);
    assert_eq!(asker.post(&path, units(1)).await.header("idempotency-replayed"), Some("true"));

    // Whoever asks once with a key and once without means both, where it is nobody's test.
    let mut asker = asker.without("idempotency-key");
    assert_eq!(asker.post(&path, units(1)).await.status, 201);
    served.stop().await;
    let of_keys: Vec<_> = invariant::built_in().unwrap().into_iter().filter(|i| i.name == "no-unkeyed-duplicate").collect();
    let checked = run_all(&mut session, &of_keys, &DEFAULT_SEARCH_PATH, When::Quiesced, Duration::from_secs(60)).await;
    assert!(matches!(checked[..], [Checked { finding: Finding::Holds { examined: 1.. }, .. }]), "{checked:?}");
}

#[tokio::test]
async fn every_role_may_do_what_it_says_and_every_tenant_sees_its_own() {
    let database = common::seeded().await;
    let ward = Ward::of(&mut database.session().await).await;
    let served = Served::start(&database.options, |_| {}).await;
    let (path, view) = (ward.path("reserve"), format!("/v1/authorisations/{}", ward.authorisation));
    for (role, sees, books) in [
        ("admin", true, true),
        ("practitioner", true, true),
        ("viewer", true, false),
        ("coordinator", false, false),
        ("resident", false, false),
        ("emperor", false, false),
    ] {
        let mut asker = served.asker(role, Some(ward.organisation), None).await;
        let expected = |may, good| if may { good } else { 403 };
        assert_eq!(asker.get(&view).await.status, expected(sees, 200), "{role}");
        assert_eq!(asker.post(&path, units(1)).await.status, expected(books, 201), "{role}");
    }
    let mut stranger = ward.stranger(&served).await;
    assert_eq!(stranger.refused("POST", &path, Some(units(1))).await, Code::WrongOrganisation);
    assert!([403, 404].contains(&stranger.get(&view).await.status));
    assert!([403, 404].contains(&stranger.get(&ward.path("availability")).await.status));
    let mut after = 0;
    let mut seen = 0;
    loop {
        let page = body(&stranger.get(&format!("/v1/authorisations?limit=500&after={after}")).await);
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["organisation"] == json!(ward.elsewhere.0)), "{page}");
        seen += items.len();
        match page["next"].as_i64() {
            Some(next) => after = next,
            None => break,
        }
    }
    let sql = format!("SELECT count(*) FROM dbstress.authorisation WHERE organisation_id = {}", ward.elsewhere.0);
    assert_eq!(seen as i64, number(&mut database.session().await, &sql).await);
    let mut admin = served.asker("admin", None, None).await;
    assert_eq!(admin.get(&view).await.status, 200, "who belongs to none sees all");
    assert_eq!(admin.post(&path, units(1)).await.status, 201);
    for query in ["limit=0", "limit=501", "limit=x", "after=-1", "limit=1&limit=1", "other=1", "limit=99999999999999999999"] {
        assert_eq!(admin.refused("GET", &format!("/v1/authorisations?{query}"), None).await, Code::Invalid, "{query}");
    }
    for path in ["/v1/people", "/v1/people/1", "/v1/blocks", "/v1/rotations", "/v1/assignments", "/v1/compliance"] {
        assert_eq!(admin.refused("GET", path, None).await, Code::DatasetNotHere, "{path}");
    }
    for path in ["/v1/assignments", "/v1/assignments/1/cancel", "/v1/calls", "/v1/swaps"] {
        assert_eq!(admin.refused("POST", path, Some(json!({}))).await, Code::DatasetNotHere, "{path}");
    }
    served.stop().await;
}

#[tokio::test]
async fn who_has_an_account_is_let_in_for_a_while() {
    let database = common::seeded().await;
    let ward = Ward::of(&mut database.session().await).await;
    let served = Served::start(&database.options, |_| {}).await;
    let mut anybody = served.anybody().await;
    let login = format!("practitioner-{}@org-{}.example.com", ward.practitioner, ward.organisation);
    let right = json!({ "login": login, "password": served.secret.password() });
    let answer = anybody.post("/v1/login", right.clone()).await;
    let LoggedIn { token, expires_at, role, organisation } = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((role.as_str(), organisation), ("practitioner", Some(ward.organisation)));
    assert_eq!(token::expires(&token), Some(expires_at));
    assert!((expires_at - token::now() - 900).abs() <= 60, "a quarter of an hour");
    let mut asker = served.anybody().await.with("authorization", &format!("Bearer {token}"));
    assert_eq!(asker.post(&ward.path("reserve"), units(1)).await.status, 201);
    assert_eq!(asker.get("/v1/authorisations?limit=1").await.status, 200);
    for wrong in [
        json!({ "login": login, "password": "wrong" }),
        json!({ "login": "nobody@example.com", "password": served.secret.password() }),
        json!({ "login": "a\0b", "password": "" }),
        json!({ "login": "", "password": "\0" }),
    ] {
        let answer = anybody.ask("POST", "/v1/login", Some(wrong)).await;
        assert_eq!((code(&answer), answer.header("www-authenticate")), (Code::InvalidCredentials, Some("Bearer")));
    }
    for bad in [json!({ "login": login }), json!({ "login": 1, "password": "x" }), json!("x")] {
        assert_eq!(anybody.refused("POST", "/v1/login", Some(bad)).await, Code::Malformed);
    }
    let (now, org) = (token::now(), Some(ward.organisation));
    let another = Key::new(b"another secret");
    let claims = |exp| token::Claims { sub: "a".into(), role: "admin".into(), org, actor: None, iat: now, exp };
    let bearer = |token: String| format!("Bearer {token}");
    for (header, expected) in [
        (bearer(served.token_until("admin", org, None, now - 1)), Code::TokenExpired),
        (bearer(another.sign(&claims(now + 60)).unwrap()), Code::InvalidToken),
        (bearer("garbage".into()), Code::InvalidToken),
        (bearer("a.b.c".into()), Code::InvalidToken),
        (bearer("x".repeat(20_000)), Code::InvalidToken),
        ("Basic YTpi".into(), Code::NoToken),
    ] {
        let mut asker = served.anybody().await.with("authorization", &header);
        let answer = asker.ask("GET", "/v1/authorisations", None).await;
        assert_eq!((code(&answer), answer.header("www-authenticate")), (expected, Some("Bearer")), "{header:.60}");
        assert_eq!(asker.refused("POST", &ward.path("reserve"), Some(units(1))).await, expected);
    }
    assert_eq!(anybody.refused("GET", "/v1/authorisations", None).await, Code::NoToken);

    // A server that is started with another secret has another password, and its tokens are its own.
    let second = Served::start(&database.options, |_| {}).await;
    assert_eq!(second.anybody().await.refused("POST", "/v1/login", Some(right)).await, Code::InvalidCredentials);
    let mut old = second.anybody().await.with("authorization", &format!("Bearer {token}"));
    assert_eq!(old.refused("GET", "/v1/authorisations", None).await, Code::InvalidToken);
    second.stop().await;
    served.stop().await;
}

fn standing(answer: &Answer) -> [Option<u64>; 3] {
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]
        .map(|name| answer.header(name).map(|value| value.parse().unwrap()))
}

#[tokio::test]
async fn exactly_as_many_are_let_through_as_the_limit_says_over_all_threads() {
    let database = common::seeded().await;
    let ward = Ward::of(&mut database.session().await).await;
    let served = Served::start(&database.options, |settings| {
        settings.threads = 2;
        settings.limits = vec!["all=12/1h".parse().unwrap(), "write=2/1h".parse().unwrap(), "login=3/1h".parse().unwrap()];
    })
    .await;
    let limits = served.server.about().limits.clone();
    assert_eq!(
        limits.iter().map(|limit| (&*limit.route, limit.requests, limit.window_s)).collect::<Vec<_>>()[0],
        ("all", 12, 3600)
    );
    let mut good = 0;
    // So many connections that both threads have some.
    for n in 0..8 {
        let mut asker = ward.practitioner(&served).await;
        for _ in 0..2 {
            let answer = asker.get("/v1/authorisations?limit=1").await;
            let [limit, remaining, reset] = standing(&answer);
            assert_eq!(limit, Some(12));
            assert!((3_500..=3_600).contains(&reset.unwrap()), "{reset:?}");
            match answer.status {
                200 => {
                    good += 1;
                    assert_eq!(remaining, Some(12 - good), "{n}");
                    assert_eq!(answer.header("retry-after"), None);
                }
                _ => {
                    assert_eq!((code(&answer), remaining), (Code::RateLimited, Some(0)));
                    assert_eq!(answer.header("retry-after"), answer.header("ratelimit-reset"));
                }
            }
        }
    }
    assert_eq!(good, 12);
    let mut stranger = ward.stranger(&served).await;
    assert_eq!(standing(&stranger.get("/v1/authorisations").await)[1], Some(11), "another organisation has a window of its own");
    let path = ward.path("reserve");
    for remaining in [1, 0] {
        let answer = stranger.ask("POST", &path, Some(units(1))).await;
        assert_eq!((code(&answer), standing(&answer)[1]), (Code::WrongOrganisation, Some(remaining)), "the narrowest is told");
    }
    assert_eq!(stranger.refused("POST", &path, Some(units(1))).await, Code::RateLimited);
    assert_eq!(standing(&stranger.get("/v1/authorisations").await)[1], Some(8), "what was rejected has used up nothing");
    let mut anybody = served.anybody().await;
    for _ in 0..20 {
        let answer = anybody.get("/v1/health").await;
        assert_eq!((answer.status, standing(&answer)), (200, [None; 3]));
        assert_eq!(anybody.refused("GET", "/v1/authorisations", None).await, Code::NoToken, "nobody is counted");
    }
    for login in ["a@example.com", "b@example.com"] {
        let wrong = json!({ "login": login, "password": "wrong" });
        for _ in 0..3 {
            assert_eq!(anybody.refused("POST", "/v1/login", Some(wrong.clone())).await, Code::InvalidCredentials, "{login}");
        }
        assert_eq!(anybody.refused("POST", "/v1/login", Some(wrong)).await, Code::RateLimited, "{login}");
    }
    served.stop().await;

    let tiers = Served::start(&database.options, |settings| settings.limits = dbstress::api::limits::Rule::tiers()).await;
    let sql = format!("SELECT tier FROM dbstress.organisation WHERE id = {}", ward.organisation);
    let tier = database.session().await.text(&sql).await.unwrap().unwrap();
    let said = tiers.server.about().limits.iter().find(|limit| limit.tier.as_ref() == Some(&tier)).unwrap().requests;
    assert_eq!(standing(&ward.practitioner(&tiers).await.get("/v1/authorisations").await)[0], Some(said), "{tier}");
    tiers.stop().await;
}

/// Grants a run; its secret.
async fn grant(session: &mut Session) -> (i32, String) {
    let run = number(
        session,
        "INSERT INTO dbstress.run (record, command, workload, strategy, claims, rng_seed) VALUES ('r', 'c', 'booking', 's', '{}', 42) RETURNING id",
    )
    .await;
    let secret = Secret::random().password();
    let sql = "INSERT INTO dbstress.run_grant (secret_hash, run_id, schema_name) VALUES";
    session.execute(&format!("{sql} ({}, {run}, 'dbstress')", literal(&token::digest(&secret)))).await.unwrap();
    (run.try_into().unwrap(), secret)
}

#[tokio::test]
async fn a_run_names_its_operations_and_is_told_how_they_went() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let (run, secret) = grant(&mut session).await;
    let served = Served::start(&database.options, |_| {}).await;
    let path = ward.path("reserve");
    let operation = OpId::new(run, 3, 7);
    let asker = ward.practitioner(&served).await.with("dbstress-run", &secret);
    let mut asker = asker.with("dbstress-operation", &operation.0.to_string()).with("dbstress-attempt", "3");
    let answer = asker.post(&path, units(2)).await;
    assert_eq!((answer.status, answer.header("dbstress-attempts")), (201, Some("1")));
    assert_eq!((answer.header("dbstress-met"), answer.header("dbstress-failed")), (None, None));
    let line = &session.rows("SELECT op_id, attempt, run_id, vu FROM dbstress.unit_ledger").await.unwrap()[0];
    let expected = [operation.0, 2 * 64 + 1, i64::from(run), 3].map(|number| Some(number.to_string()));
    assert_eq!(line[..], expected);

    let mut others = asker.with("dbstress-operation", &OpId::new(run + 1, 3, 7).0.to_string());
    assert_eq!(others.refused("POST", &path, Some(units(2))).await, Code::Role);
    for (name, value) in
        [("dbstress-operation", "x"), ("dbstress-attempt", "0"), ("dbstress-attempt", "99999"), ("dbstress-later", "-1")]
    {
        let mut asker = ward.practitioner(&served).await.with("dbstress-run", &secret).with(name, value);
        assert_eq!(asker.refused("POST", &path, Some(units(2))).await, Code::Invalid, "{name}: {value}");
    }
    let mut thief = ward.practitioner(&served).await.with("dbstress-run", "not the secret");
    assert_eq!(thief.refused("POST", &path, Some(units(2))).await, Code::Role);
    assert_eq!(thief.refused("GET", "/v1/authorisations", None).await, Code::Role);
    // Without the secret the other headers are nothing.
    let mut plain =
        ward.practitioner(&served).await.with("dbstress-operation", &operation.0.to_string()).with("dbstress-attempt", "x");
    let answer = plain.post(&path, units(2)).await;
    assert_eq!((answer.status, answer.header("dbstress-attempts"), answer.header("dbstress-began")), (201, None, None));
    assert_eq!(number(&mut session, &format!("SELECT count(*) FROM dbstress.unit_ledger WHERE run_id = {run}")).await, 1);
    served.stop().await;
}

#[tokio::test]
async fn what_changes_something_is_in_the_trail_and_load_tests_are_told_from_others() {
    let database = common::seeded().await;
    let ward = Ward::of(&mut database.session().await).await;
    let served = Served::start(&database.options, |_| {}).await;
    let mut asker = ward.practitioner(&served).await;
    let path = ward.path("reserve");
    assert_eq!(asker.post(&path, units(1)).await.status, 201);
    asker = asker.with("x-load-test", "true");
    assert_eq!(asker.post(&path, units(1)).await.status, 201);
    assert_eq!(asker.ask("POST", &path, Some(units(999_999))).await.status, 409);
    assert_eq!(asker.get("/v1/authorisations").await.status, 200);
    assert_eq!(served.anybody().await.refused("POST", &path, Some(units(1))).await, Code::NoToken);
    for _ in 0..600 {
        asker.ask("POST", &ward.path("consume"), Some(units(0))).await;
    }
    let summary = served.stop().await;
    assert_eq!((summary.audited, summary.audit_lost), (603, 0), "more than a batch, all of them written by the end");
    let mut session = database.session().await;
    let trail = session
        .rows(
            "SELECT action, resource, resource_id, status, is_load_test, login, organisation_id, op_id IS NOT NULL FROM dbstress.audit_entry \
             WHERE action = 'reserve' ORDER BY id",
        )
        .await
        .unwrap();
    let entry = |status: &str, is_load_test: &str| {
        let id = ward.authorisation.to_string();
        let organisation = ward.organisation.to_string();
        ["reserve", "authorisation", &id, status, is_load_test, "practitioner@example.com", &organisation, "t"]
            .map(|text| Some(text.to_owned()))
            .to_vec()
    };
    assert_eq!(trail, [entry("201", "f"), entry("201", "t"), entry("409", "t")]);
    let in_ledger = "SELECT count(*) FROM dbstress.audit_entry e JOIN dbstress.unit_ledger l USING (op_id) WHERE e.status = 201";
    assert_eq!(number(&mut session, in_ledger).await, 2);
    assert_eq!(
        number(&mut session, "SELECT count(*) FROM dbstress.audit_entry WHERE action = 'consume' AND status = 422").await,
        600
    );

    let silent = Served::start(&database.options, |settings| settings.audit = false).await;
    assert_eq!(ward.practitioner(&silent).await.post(&path, units(1)).await.status, 201);
    assert_eq!(silent.stop().await.audited, 0);
    assert_eq!(number(&mut session, "SELECT count(*) FROM dbstress.audit_entry").await, 603);
}

#[tokio::test]
async fn what_is_under_way_is_finished_whoever_goes_away() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let served = Served::start(&database.options, |settings| settings.strategy = Strategy::ForUpdate).await;
    let path = ward.path("reserve");
    let mut holder = holds(&database, ward.authorisation).await;
    let mut gone = ward.practitioner(&served).await;
    let asked = path.clone();
    let asking = tokio::spawn(async move { gone.post(&asked, units(1)).await });
    waiting(&mut session, 1).await;
    // The client goes while its request is under way.
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let mut stays = ward.practitioner(&served).await;
    let mut idle = served.anybody().await;
    assert_eq!(idle.get("/v1/health").await.status, 200);
    let asked = path.clone();
    let asking = tokio::spawn(async move { stays.post(&asked, units(2)).await });
    waiting(&mut session, 2).await;
    let address = served.server.address();
    let stopping = tokio::spawn(served.stop());
    // It listens no more, and what is under way goes on.
    let at: SocketAddr = format!("{}:{}", address.host(), address.port()).parse().unwrap();
    common::eventually("nobody listens", || std::net::TcpStream::connect(at).is_err()).await;
    holder.execute("COMMIT").await.unwrap();
    assert_eq!(asking.await.unwrap().status, 201);
    let summary = stopping.await.unwrap();
    assert_eq!((summary.audited, summary.audit_lost), (2, 0), "also the one whose client has gone");
    assert_eq!(number(&mut session, "SELECT count(*) FROM dbstress.unit_ledger").await, 2);
    assert_eq!(number(&mut session, "SELECT count(*) FROM dbstress.run WHERE workload = 'api' AND ended IS NOT NULL").await, 1);
}

#[tokio::test]
async fn who_finds_no_session_in_time_is_told_to_come_back() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let served = Served::start(&database.options, |settings| {
        settings.strategy = Strategy::ForUpdate;
        settings.pool_size = 1;
        settings.retry_deadline = Duration::from_millis(500);
    })
    .await;
    let mut holder = holds(&database, ward.authorisation).await;
    let mut first = ward.practitioner(&served).await;
    let path = ward.path("reserve");
    let asking = tokio::spawn(async move { first.post(&path, units(1)).await });
    waiting(&mut session, 1).await;
    let mut second = ward.practitioner(&served).await;
    let answer = second.ask("GET", "/v1/authorisations?limit=1", None).await;
    assert_eq!((code(&answer), answer.header("retry-after")), (Code::Unavailable, Some("1")));
    assert_eq!(second.get("/v1/health").await.status, 200, "which asks nobody");
    holder.execute("COMMIT").await.unwrap();
    let first = asking.await.unwrap();
    assert!([201, 503].contains(&first.status), "{}", text(&first));
    served.stop().await;
}

#[tokio::test]
async fn appointments_take_units_and_give_them_back_once() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let served = Served::start(&database.options, |_| {}).await;
    let mut asker = ward.practitioner(&served).await;
    let wanted = |from: &str, to: &str| json!({ "authorisation": ward.authorisation, "starts_at": from, "ends_at": to });
    let (nine, ten) = ("2026-06-01T09:00:00Z", "2026-06-01T10:05:00Z");
    let made = asker.post("/v1/appointments", wanted(nine, ten)).await;
    assert_eq!(made.status, 201);
    let made = body(&made);
    assert_eq!((&made["reserved_units"], &made["status"], &made["starts_at"]), (&json!(5), &json!("SCHEDULED"), &json!(nine)));
    assert_eq!(made["practitioner"], json!(ward.practitioner));
    let at = format!("/v1/appointments/{}", made["id"]);
    assert_eq!(body(&asker.get(&at).await), made);
    let completed = body(&asker.post(&format!("{at}/complete"), json!(null)).await);
    assert_eq!(completed["status"], "COMPLETED");
    assert_eq!(asker.refused("POST", &format!("{at}/cancel"), None).await, Code::NotLive);
    assert_eq!(asker.refused("POST", &format!("{at}/complete"), None).await, Code::NotLive);
    let other = body(&asker.post("/v1/appointments", wanted(nine, ten)).await);
    let mut stranger = ward.stranger(&served).await;
    let at = format!("/v1/appointments/{}", other["id"]);
    assert!([403, 404].contains(&stranger.get(&at).await.status));
    assert!([403, 404].contains(&stranger.ask("POST", &format!("{at}/cancel"), None).await.status));
    assert_eq!(stranger.refused("POST", "/v1/appointments", Some(wanted(nine, ten))).await, Code::WrongOrganisation);
    assert_eq!(body(&asker.post(&format!("{at}/cancel"), json!(null)).await)["status"], "CANCELLED");
    assert_eq!(asker.refused("GET", "/v1/appointments/9223372036854775807", None).await, Code::NotFound);
    assert_eq!(asker.refused("POST", "/v1/appointments/9223372036854775807/cancel", None).await, Code::NotFound);
    for (from, to) in
        [(ten, nine), (nine, nine), (nine, "2026-06-02T09:00:01Z"), ("x", ten), ("2026-02-30T00:00:00Z", ten), (nine, "")]
    {
        assert_eq!(asker.refused("POST", "/v1/appointments", Some(wanted(from, to))).await, Code::Invalid, "{from} {to}");
    }
    let mut nobody = served.asker("admin", None, None).await;
    assert_eq!(nobody.refused("POST", "/v1/appointments", Some(wanted(nine, ten))).await, Code::Role, "it is with a practitioner");
    assert_eq!(number(&mut session, "SELECT count(*) FROM dbstress.treatment_session WHERE units = 5").await, 1);
    served.stop().await;
}

#[tokio::test]
async fn a_schedule_is_read_by_those_of_the_programme_and_changed_by_who_coordinates_it() {
    let database = common::residency(Some("PL-1")).await;
    let mut session = database.session().await;
    let served = Served::start(&database.options, |settings| settings.limits = vec!["all=10000/1h".parse().unwrap()]).await;
    let row = &session
        .rows(
            "SELECT b.programme_id, a.person_id, a.block_id, a.rotation_template_id FROM dbstress.assignment a \
             JOIN dbstress.block b ON b.id = a.block_id JOIN dbstress.person p ON p.id = a.person_id \
             WHERE p.kind = 'resident' AND a.role = 'primary' ORDER BY a.id LIMIT 1",
        )
        .await
        .unwrap()[0];
    let [programme, person, block, template]: [i64; 4] = std::array::from_fn(|n| row[n].as_ref().unwrap().parse().unwrap());
    // One supervisor more than are needed there, whom nobody misses.
    let row = &session
        .rows(&format!(
            "INSERT INTO dbstress.assignment (block_id, person_id, rotation_template_id, role) \
             SELECT {block}, p.id, {template}, 'supervising' FROM dbstress.person p \
             WHERE p.kind = 'faculty' AND p.programme_id = {programme} \
               AND NOT EXISTS (SELECT FROM dbstress.assignment a WHERE a.block_id = {block} AND a.person_id = p.id) \
             ORDER BY p.id LIMIT 1 RETURNING id, person_id"
        ))
        .await
        .unwrap()[0];
    let [assignment, spare]: [i64; 2] = std::array::from_fn(|n| row[n].as_ref().unwrap().parse().unwrap());
    let mut resident = served.asker("resident", Some(programme), Some(person)).await;
    let people = body(&resident.get("/v1/people?kind=resident&limit=3").await);
    assert_eq!(people["items"].as_array().unwrap().len(), 3);
    assert!(people["items"].as_array().unwrap().iter().all(|item| item["kind"] == "resident" && item["programme"] == programme));
    let next = body(&resident.get(&format!("/v1/people?kind=resident&limit=3&after={}", people["next"])).await);
    assert!(next["items"][0]["id"].as_i64() > people["items"][2]["id"].as_i64());
    assert_eq!(body(&resident.get(&format!("/v1/people/{person}")).await)["id"], person);
    let mine = body(&resident.get("/v1/assignments?person=me&limit=500").await);
    assert!(!mine["items"].as_array().unwrap().is_empty());
    assert!(mine["items"].as_array().unwrap().iter().all(|item| item["person"] == person));
    let day = mine["items"][0]["date"].as_str().unwrap().to_owned();
    let that_day = body(&resident.get(&format!("/v1/assignments?from={day}&to={day}&limit=500")).await);
    assert!(that_day["items"].as_array().unwrap().iter().all(|item| item["date"] == *day));
    let blocks = body(&resident.get(&format!("/v1/blocks?from={day}&to={day}")).await);
    assert_eq!(blocks["items"].as_array().unwrap().len(), 2, "a morning and an afternoon");
    assert!(!body(&resident.get("/v1/rotations").await)["items"].as_array().unwrap().is_empty());
    let found = body(&resident.get("/v1/compliance").await);
    assert!(found["violations"].as_i64() > Some(0), "{found}");
    for query in [
        "people?kind=patient",
        "people?limit=0",
        "blocks?from=x",
        "assignments?person=x",
        "assignments?person=-1",
        "compliance?a=b",
    ] {
        assert_eq!(resident.refused("GET", &format!("/v1/{query}"), None).await, Code::Invalid, "{query}");
    }
    assert_eq!(resident.refused("GET", "/v1/blocks?from=2026-06-02&to=2026-06-01", None).await, Code::Invalid);
    assert_eq!(resident.refused("GET", "/v1/people/9223372036854775807", None).await, Code::NotFound);
    assert_eq!(resident.refused("GET", "/v1/authorisations", None).await, Code::DatasetNotHere);
    assert_eq!(resident.refused("POST", "/v1/appointments", Some(json!({}))).await, Code::DatasetNotHere);

    let cancel = format!("/v1/assignments/{assignment}/cancel");
    let who = json!({ "programme": programme, "person": spare, "block": block });
    let assign = json!({ "programme": programme, "person": person, "block": block, "template": template });
    for role in ["resident", "faculty"] {
        let mut asker = served.asker(role, Some(programme), Some(person)).await;
        assert_eq!(asker.refused("POST", &cancel, Some(who.clone())).await, Code::Role, "{role}");
    }
    let mut elsewhere = served.asker("coordinator", Some(programme + 1), None).await;
    assert_eq!(elsewhere.refused("POST", &cancel, Some(who.clone())).await, Code::WrongOrganisation);
    let mut coordinator = served.asker("coordinator", Some(programme), None).await;
    assert_eq!(coordinator.refused("POST", "/v1/assignments", Some(assign.clone())).await, Code::AlreadySo);
    let cancelled = coordinator.post(&cancel, who.clone()).await;
    assert_eq!((cancelled.status, body(&cancelled)), (200, json!({ "programme": programme })));
    let again = coordinator.refused("POST", &cancel, Some(who)).await;
    assert!(again.refusal().is_some(), "{again:?}");
    let there = |person: i64| format!("SELECT count(*) FROM dbstress.assignment WHERE block_id = {block} AND person_id = {person}");
    assert_eq!(number(&mut session, &there(spare)).await, 0);
    session.execute(&format!("DELETE FROM dbstress.assignment WHERE block_id = {block} AND person_id = {person}")).await.unwrap();
    assert_eq!(coordinator.post("/v1/assignments", assign).await.status, 201);
    assert_eq!(number(&mut session, &there(person)).await, 1);
    let call = |night: i64, kind: &str| json!({ "programme": programme, "person": person, "night": night, "kind": kind });
    assert_eq!(coordinator.refused("POST", "/v1/calls", Some(call(9_600, "never"))).await, Code::Invalid);
    assert_eq!(coordinator.refused("POST", "/v1/calls", Some(call(i64::MAX, "overnight"))).await, Code::Invalid);
    // A night far from everything else, and by a run, which is told when its transaction began.
    let (_, secret) = grant(&mut session).await;
    let mut run = served.asker("coordinator", Some(programme), None).await.with("dbstress-run", &secret);
    let called = run.post("/v1/calls", call(20_000, "overnight")).await;
    assert_eq!((called.status, called.header("dbstress-attempts")), (201, Some("1")));
    assert!(called.header("dbstress-began").unwrap().parse::<i64>().unwrap() > 0);
    assert_eq!(coordinator.refused("POST", "/v1/calls", Some(call(20_000, "overnight"))).await, Code::AlreadySo);
    let swap = json!({ "programme": programme, "from": person, "to": person + 1, "source": 1, "target": null });
    let refused = coordinator.refused("POST", "/v1/swaps", Some(swap)).await;
    assert!(refused.refusal().is_some(), "{refused:?}");
    served.stop().await;
}

#[tokio::test]
async fn every_mistake_changes_the_answer_that_it_should() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    let (path, view) = (ward.path("reserve"), format!("/v1/authorisations/{}", ward.authorisation));
    let org = Some(ward.organisation);
    let token_of = |served: &Served, exp| served.token_until("practitioner", org, Some(ward.practitioner), exp);
    let bearer = |token: &str| format!("Bearer {token}");
    for mistake in [None].into_iter().chain(Mistake::OWN.map(Some)) {
        let makes = |is| mistake == Some(is);
        let served = Served::start(&database.options, |settings| settings.mistake = mistake).await;
        let status =
            async |token: &str| served.anybody().await.with("authorization", &bearer(token)).send("GET", &view, None).await.status;
        let wrong = |is: Mistake, usual: u16, mistaken: u16| if makes(is) { mistaken } else { usual };
        let now = token::now();
        let late = token_of(&served, now - 60);
        let others = Key::new(b"another").sign(&served_claims(org, now + 60)).unwrap();
        let unsigned = format!("{}.{}.", "eyJhbGciOiJub25lIn0", others.split('.').nth(1).unwrap());
        assert_eq!(status(&late).await, wrong(Mistake::AcceptsExpired, 401, 200), "{mistake:?}: expired");
        assert_eq!(status(&others).await, wrong(Mistake::AnySignature, 401, 200), "{mistake:?}: signed by another");
        let expected = if makes(Mistake::AnySignature) || makes(Mistake::AcceptsUnsigned) { 200 } else { 401 };
        assert_eq!(status(&unsigned).await, expected, "{mistake:?}: not signed");
        assert_eq!(status("garbage").await, wrong(Mistake::GarbageIs500, 401, 500), "{mistake:?}: garbage");
        let mut viewer = served.asker("viewer", org, None).await;
        assert_eq!(viewer.send("POST", &path, one()).await.status, wrong(Mistake::RoleIgnored, 403, 201), "{mistake:?}: a viewer");
        let mut stranger = ward.stranger(&served).await;
        let expected = if makes(Mistake::ErrorAsSuccess) { 200 } else { wrong(Mistake::NoTenantCheck, 403, 201) };
        assert_eq!(stranger.send("POST", &path, one()).await.status, expected, "{mistake:?}: a stranger");
        let sees = stranger.send("GET", &view, None).await;
        let is_seen = body(&sees).get("available").is_some();
        assert_eq!(is_seen, makes(Mistake::NoTenantCheck), "{mistake:?}: {}", text(&sees));
        let mut asker = ward.practitioner(&served).await;
        let refused = asker.send("POST", &path, Some(br#"{"units":999999}"#.to_vec())).await;
        assert_eq!(refused.status, wrong(Mistake::ErrorAsSuccess, 409, 200), "{mistake:?}: no units");
        let mut asker = asker.with("idempotency-key", mistake.map_or("none", Mistake::name));
        asker.send("POST", &path, one()).await;
        let replayed = asker.send("POST", &path, one()).await.header("idempotency-replayed").is_some();
        assert_eq!(replayed, !makes(Mistake::ForgetsKey), "{mistake:?}: a key");
        let mut asker = asker.without("idempotency-key");
        let lines = "SELECT count(*) FROM dbstress.unit_ledger";
        let before = number(&mut session, lines).await;
        for n in 0..32 {
            let path = if n % 2 == 0 { path.clone() } else { ward.path("release") };
            let done = asker.send("POST", &path, one()).await;
            assert!([200, 201].contains(&done.status), "{mistake:?}: {}", text(&done));
        }
        let lost = 32 - (number(&mut session, lines).await - before);
        assert_eq!(lost > 0, makes(Mistake::OkBeforeCommit), "{mistake:?}: {lost} of 32 are not there");
        let mut foreign = 0;
        for _ in 0..8 {
            stranger.send("GET", "/v1/authorisations?limit=5", None).await;
            let seen = body(&asker.send("GET", "/v1/authorisations?limit=5", None).await);
            foreign +=
                seen["items"].as_array().unwrap().iter().filter(|item| item["organisation"] != json!(ward.organisation)).count();
        }
        if !makes(Mistake::NoTenantCheck) {
            assert_eq!(foreign > 0, makes(Mistake::TenantLeftBehind), "{mistake:?}: {foreign} of others");
        }
        assert_eq!(served.server.about().strategy, "serializable", "{mistake:?}");
        let summary = served.stop().await;
        assert_eq!(summary.panics, u64::from(makes(Mistake::GarbageIs500)), "{mistake:?}");
    }
}

fn one() -> Option<Vec<u8>> {
    Some(br#"{"units":1}"#.to_vec())
}

fn served_claims(org: Option<i64>, exp: i64) -> token::Claims {
    token::Claims { sub: "a@example.com".into(), role: "practitioner".into(), org, actor: None, iat: 0, exp }
}

#[tokio::test]
async fn every_mistake_about_limits_lets_through_what_it_says() {
    let database = common::seeded().await;
    let ward = Ward::of(&mut database.session().await).await;
    let passed = async |asker: &mut Asker, n: u32| {
        let mut passed = 0;
        for _ in 0..n {
            passed += u32::from(asker.get("/v1/authorisations?limit=1").await.status == 200);
        }
        passed
    };
    for (mistake, of_30, of_another) in [
        (None, 3, 3),
        (Some(Mistake::LimitOffByOne), 4, 4),
        (Some(Mistake::LimitFailsOpen), 3 + 7, 3),
        (Some(Mistake::LimitShared), 3, 0),
        (Some(Mistake::LimitWithoutHeaders), 3, 3),
    ] {
        let served = Served::start(&database.options, |settings| {
            settings.mistake = mistake;
            settings.limits = vec!["read=3/1h".parse().unwrap()];
        })
        .await;
        let (mut asker, mut stranger) = (ward.practitioner(&served).await, ward.stranger(&served).await);
        assert_eq!(passed(&mut asker, 30).await, of_30, "{mistake:?}");
        assert_eq!(passed(&mut stranger, 9).await, of_another, "{mistake:?}");
        let rejected = stranger.get("/v1/authorisations").await;
        let is_told = mistake != Some(Mistake::LimitWithoutHeaders);
        assert_eq!(standing(&rejected).map(|value| value.is_some()), [is_told; 3], "{mistake:?}");
        assert_eq!((code(&rejected), rejected.header("retry-after").is_some()), (Code::RateLimited, is_told), "{mistake:?}");
        served.stop().await;
    }

    // Its window begins before that of the other, and ends after it.
    let short = |mistake| {
        Served::start(&database.options, move |settings| {
            settings.mistake = mistake;
            settings.limits = vec!["read=3/2s".parse().unwrap()];
        })
    };
    let (wrong, right) = (short(Some(Mistake::LimitNeverResets)).await, short(None).await);
    let (mut of_wrong, mut of_right) = (ward.practitioner(&wrong).await, ward.practitioner(&right).await);
    assert_eq!((passed(&mut of_wrong, 3).await, passed(&mut of_wrong, 1).await), (3, 0));
    while of_right.get("/v1/authorisations?limit=1").await.status == 200 {}
    let since = std::time::Instant::now();
    while of_right.get("/v1/authorisations?limit=1").await.status == 429 {
        assert!(since.elapsed() < common::PATIENCE, "the window does not end");
    }
    assert_eq!(passed(&mut of_wrong, 5).await, 0);
    wrong.stop().await;
    right.stop().await;
}

#[tokio::test]
async fn a_password_is_compared_also_where_there_is_no_account() {
    let database = common::seeded().await;
    for (mistake, compared) in [(None, 2), (Some(Mistake::TellsAccountsApart), 1)] {
        let served = Served::start(&database.options, |settings| settings.mistake = mistake).await;
        let mut anybody = served.anybody().await;
        for login in ["admin@example.com", "nobody@example.com"] {
            let wrong = json!({ "login": login, "password": "wrong" });
            assert_eq!(anybody.refused("POST", "/v1/login", Some(wrong)).await, Code::InvalidCredentials);
        }
        let metrics = text(&anybody.get("/metrics").await);
        let line = format!("dbstress_passwords_compared_total {compared}");
        assert!(metrics.lines().any(|is| is == line), "{mistake:?}: {metrics}");
        served.stop().await;
    }
}

#[tokio::test]
async fn rows_are_protected_unless_by_mistake() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let ward = Ward::of(&mut session).await;
    for (mistake, expected) in [(None, [201, 409]), (Some(Mistake::CheckThenAct), [201, 201])] {
        let last = format!("UPDATE dbstress.authorisation SET total = used + scheduled + 1 WHERE id = {}", ward.authorisation);
        session.execute(&last).await.unwrap();
        let served = Served::start(&database.options, |settings| settings.mistake = mistake).await;
        assert_eq!(served.server.about().strategy, "serializable", "what it says");
        let mut holder = holds(&database, ward.authorisation).await;
        let mut asking = Vec::new();
        for _ in 0..2 {
            let (mut asker, path) = (ward.practitioner(&served).await, ward.path("reserve"));
            asking.push(tokio::spawn(async move { asker.post(&path, units(1)).await.status }));
        }
        waiting(&mut session, 2).await;
        holder.execute("COMMIT").await.unwrap();
        let mut statuses = Vec::new();
        for asking in asking {
            statuses.push(asking.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, expected, "{mistake:?}");
        served.stop().await;
    }

    // A mistake of bookings is made by those who perform them, under the strategy that it is a mistake of.
    let raise = format!("UPDATE dbstress.authorisation SET total = used + scheduled + 100 WHERE id = {}", ward.authorisation);
    session.execute(&raise).await.unwrap();
    let served = Served::start(&database.options, |settings| settings.mistake = Some(Mistake::Booking(Bug::SpuriousRefusal))).await;
    let mut asker = ward.practitioner(&served).await;
    let mut refused = 0;
    for _ in 0..100 {
        match asker.post(&ward.path("reserve"), units(1)).await.status {
            201 => assert!([200, 409].contains(&asker.post(&ward.path("release"), units(1)).await.status)),
            _ => refused += 1,
        }
    }
    assert!(refused > 0, "there was always room");
    served.stop().await;
    let served = Served::start(&database.options, |settings| settings.mistake = Some(Mistake::Booking(Bug::EarlyUnlock))).await;
    assert_eq!(served.server.about().strategy, "advisory");
    served.stop().await;
}

/// The address in the line that is said when it listens.
fn address(said: &str) -> Address {
    let word = said.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    Address::parse(word).unwrap()
}

/// Waits until it listens; where.
async fn listens(server: &Started, said: impl Fn() -> String) -> Address {
    server.says("listening on http://").await;
    address(&said())
}

async fn post(address: &Address, path: &str, body: Value) -> Answer {
    let mut client = Client::connect(address).await.unwrap();
    let request = Request::post(path).header("host", address.authority()).header("content-type", "application/json");
    client.send(request.body(Body::new(serde_json::to_vec(&body).unwrap().into())).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_program_serves_until_it_is_told_to_stop_and_gives_no_secret_away() {
    let bench = Bench::new().await;
    let ward = Ward::of(&mut bench.database.session().await).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (exit, _, err) = run(&mut bench.dbstress(&format!("serve --listen {address}")));
    assert_eq!(exit, 2, "{err}");
    assert!(err.contains(&format!("somebody listens on {address} already")) && err.contains("--listen 127.0.0.1:0"), "{err}");
    let (exit, _, err) = run(&mut bench.dbstress("serve --listen 0.0.0.0:0 --for 1s"));
    assert!(exit == 2 && err.contains("--allow-remote"), "{err}");
    let (exit, _, err) = run(&mut bench.dbstress("token"));
    assert!(exit == 2 && err.contains("dbstress serve"), "no server has made accounts yet: {err}");
    let (exit, _, err) = run(&mut bench.dbstress("serve --listen 127.0.0.1:0 --bug limit-of-by-one"));
    assert!(exit == 2 && err.contains("limit-off-by-one"), "{err}");

    let server = Started::new(bench.dbstress("serve --listen 127.0.0.1:0 --threads 2 --pool-size 3 --limit all=1000/1m"));
    let address = listens(&server, || server.said()).await;
    let said = server.said();
    assert!(said.contains("· clinic · serializable · 3 sessions · 1 limit"), "{said}");
    let secret = Secret::kept(&bench.place.0).unwrap().unwrap();
    let login = json!({ "login": "admin@example.com", "password": secret.password() });
    let answer = post(&address, "/v1/login", login).await;
    let LoggedIn { token, .. } = serde_json::from_slice(&answer.body).unwrap();
    let (exit, minted, err) = run(&mut bench.dbstress(&format!("token --login viewer@org-{}.example.com", ward.organisation)));
    assert_eq!(exit, 0, "{err}");
    let mut client = Client::connect(&address).await.unwrap();
    for token in [&token, minted.trim()] {
        let request = Request::get("/v1/authorisations").header("host", "x").header("authorization", format!("Bearer {token}"));
        assert_eq!(client.send(request.body(Body::default()).unwrap()).await.unwrap().status, 200);
    }
    let (exit, list, err) = run(&mut bench.dbstress("token --list"));
    assert!(exit == 0 && list.contains("admin@example.com") && list.contains("viewer@org-"), "{list}{err}");
    let (exit, _, err) = run(&mut bench.dbstress("token --login admin@exampel.com"));
    assert!(exit == 2 && err.contains("did you mean `admin@example.com`?"), "{err}");
    server.signal(Signal::SIGTERM);
    let (exit, out, err) = server.ended().await;
    assert_eq!((exit, &*out), (0, ""), "{err}");
    assert!(err.contains("stopped after") && err.contains("requests done"), "{err}");
    common::assert_no_panic(&out, &err);
    let kept = std::fs::read_to_string(Path::new(&bench.place.0).join("api.secret")).unwrap();
    for hidden in [&token, minted.trim(), &secret.password(), kept.trim()] {
        assert!(!format!("{err}{list}").contains(hidden), "{err}{list}");
    }
    let (exit, _, err) = run(&mut bench.dbstress("serve --listen 127.0.0.1:0 --for 100ms --quiet"));
    assert!(exit == 0 && err.contains("listening on") && err.contains("stopped after"), "it stops by itself: {err}");
}

#[tokio::test]
async fn it_serves_nothing_but_a_dataset_of_its_own() {
    let place = Place::new();
    let database = common::database().await;
    let serve = || run(&mut on(&place, &database.options, "serve --listen 127.0.0.1:0 --for 1s"));
    let (exit, _, err) = serve();
    assert!(exit == 2 && err.contains("dbstress seed"), "{err}");
    let mut session = database.session().await;
    session.execute("CREATE TABLE theirs (n int)").await.unwrap();
    let (exit, _, err) = serve();
    assert!(exit == 2 && err.contains("1 relations that are not ours"), "{err}");
    assert_eq!(session.text("SELECT to_regnamespace('dbstress')::text").await.unwrap(), None);
}
