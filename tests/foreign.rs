//! Is an API that anybody may have written asked as the scenario says, and never passed for more than was shown?

mod common;
#[path = "../examples/seat_service.rs"]
#[allow(dead_code, missing_docs, reason = "the program that it is besides")]
mod service;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use common::{Place, TestDatabase, run};
use dbstress::outcome::{Abort, OutcomeClass};
use dbstress::record::RunRecord;
use dbstress::token::{Key, now};
use dbstress::verdict::Verdict;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &[u8] = b"of the seat service";

/// What a run came to.
struct Ended {
    code: i32,
    said: String,
}

impl Ended {
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.said);
        common::assert_no_panic(&self.said, "");
        self
    }

    /// It said all of these somewhere, wherever lines were broken.
    #[track_caller]
    fn saying(self, words: &[&str]) -> Self {
        let said = self.said.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(said.contains(word), "`{word}` is not in:\n{}", self.said);
        }
        self
    }
}

/// A place for scenarios, and perhaps a database.
struct Bench {
    database: Option<TestDatabase>,
    place: Place,
}

impl Bench {
    /// With nothing but a place.
    fn bare() -> Self {
        Self { database: None, place: Place::new() }
    }

    /// With a database, and the files of the example.
    async fn of_seats() -> Self {
        let database = common::database().await;
        database.names_are_public().await;
        let bench = Self { database: Some(database), place: Place::new() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/seats");
        std::fs::create_dir_all(bench.place.0.join("invariants")).unwrap();
        for entry in ["safe.toml", "racy.toml", "schema.sql", "seats.csv", "accounts.csv", "invariants/no-seat-booked-twice.sql"] {
            std::fs::copy(source.join(entry), bench.place.0.join(entry)).unwrap();
        }
        bench
    }

    /// The service of the example, on the database; its URL.
    async fn seats(&self, limit: Option<u64>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let database = self.database.as_ref().unwrap().url();
        tokio::spawn(async move { service::serve(listener, &database, SECRET, limit).await.unwrap() });
        url
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.place.0.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.place.0.join(name)).unwrap()
    }

    /// `dbstress run ARGUMENTS`, in the directory of the scenarios.
    async fn run(&self, arguments: &str) -> Ended {
        let mut command = self.place.dbstress(&["run"]);
        command.args(arguments.split_whitespace()).args(["--summary-export", "r.json"]).current_dir(&self.place.0);
        // Whoever needs no database asks none: this one cannot be asked.
        let url = self.database.as_ref().map_or_else(|| "postgresql://nobody@127.0.0.1:1/none".to_owned(), TestDatabase::url);
        command.env("DATABASE_URL", url);
        let (code, out, err) = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
        Ended { code, said: out + &err }
    }

    fn record(&self) -> RunRecord {
        RunRecord::from_json(&self.read("r.json")).unwrap()
    }
}

/// Serves this on loopback; its URL.
async fn serving(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

/// A scenario whose load is over soon.
fn scenario(head: &str, rest: &str) -> String {
    format!("summary = \"a test\"\nworkload = \"http\"\n{head}\n[load]\nvus = 4\niterations = 200\nduration = \"20s\"\n{rest}\n")
}

/// Iterations of an operation that ended so.
fn count(record: &RunRecord, operation: &str, class: OutcomeClass) -> u64 {
    let found = record.turns[0].operations.iter().find(|o| o.name == operation).unwrap();
    found.outcomes.get(&class).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_that_locks_passes_and_the_one_that_only_looks_is_caught_before_and_after() {
    let bench = Bench::of_seats().await;
    let url = bench.seats(None).await;
    bench.run(&format!("safe.toml --target {url} --duration 3s")).await.with(0).saying(&[
        "PASS (GO)",
        "control before: racy caught",
        "control after: racy caught",
        "2 rules held (no-seat-booked-twice, bookings-as-answered)",
    ]);
    let record = bench.record();
    assert!(count(&record, "book", OutcomeClass::Refused) > 0 && count(&record, "cancel", OutcomeClass::Committed) > 0);
    assert_eq!(record.turns[0].counts.of(OutcomeClass::Aborted), 0, "{:?}", record.turns[0].counts);
    let checks = &record.turns[0].counts.checks["look"];
    assert!(checks.len() == 2 && checks.values().all(|held| held.held > 0 && held.failed == 0), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_that_only_looks_is_caught_with_seats_and_bookings() {
    let bench = Bench::of_seats().await;
    let url = bench.seats(None).await;
    bench.run(&format!("racy.toml --target {url} --duration 5s")).await.with(1).saying(&[
        "VIOLATED (NO-GO)",
        "what broke no-seat-booked-twice:",
        "expected 1 booking at most, found",
        "what broke bookings-as-answered: 1 row",
        "expected equal to",
    ]);
    let kept = "SELECT count(*) FROM (SELECT FROM booking GROUP BY seat_id HAVING count(*) > 1) AS seat";
    let mut session = bench.database.as_ref().unwrap().session().await;
    assert!(session.integer(kept).await.unwrap() > 0, "broken rows are kept: somebody will want to look at them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_let_in_is_told_with_every_cause_before_anything_is_measured() {
    let bench = Bench::of_seats().await;
    let url = bench.seats(Some(100)).await;
    let key = Key::new(SECRET);
    let good = service::sign(&key, "ann@1", 1, now() + 600).unwrap();
    let well = service::sign(&key, "bob@2", 2, now() + 600).unwrap();
    let late = service::sign(&key, "bob@2", 2, now() - 600).unwrap();
    let forged = service::sign(&Key::new(b"another"), "cid@3", 3, now() + 600).unwrap();
    let soon = service::sign(&key, "dot@1", 1, now() + 20).unwrap();
    bench.write(
        "tokens.csv",
        &format!(
            "role,organisation,token\ncustomer,1,{good}\nlate,2,{well}\nlate,2,{late}\nforger,3,{forged}\nstranger,2,{good}\nshort,1,{soon}\n"
        ),
    );
    let own = bench.read("safe.toml");
    let (head, rest) = own.split_once("[http.auth]").unwrap();
    let (_, rest) = rest.split_once("# Customers of a venue").unwrap();
    let head = head.replace("file = \"racy.toml\"", "none = true");
    let auth = "[http.auth]\ntokens = \"tokens.csv\"\nprobe = \"/venues/${account.organisation}\"\n";
    bench.write("mine.toml", &format!("{head}{auth}# Customers of a venue{rest}"));
    bench.run(&format!("mine.toml --target {url} --duration 60s")).await.with(3).saying(&[
        "the token has expired",
        "(late of organisation 2)",
        "the token is not trusted",
        "(forger of organisation 3)",
        "not organisation 2's",
        "(stranger of organisation 2)",
        "a token expires in",
        "a limit is in the way: 100 requests, 99 of them left within 15m",
    ]);
    let record = bench.record();
    assert!(record.turns.is_empty() && record.controls.is_empty() && record.verdict == Verdict::Inconclusive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_turned_away_under_load_ends_it_unless_the_scenario_says_that_this_may_be() {
    let bench = Bench::bare();
    let asked = Arc::new(AtomicU64::new(0));
    let app = Router::new().route(
        "/a",
        get({
            let asked = asked.clone();
            move || {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                async move { if n < 20 { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS } }
            }
        }),
    );
    let url = serving(app).await;
    let of = |step: &str| scenario("thresholds = [\"failed.rate<99%\"]", &format!("[[operation]]\nname = \"a\"\nsteps = [{step}]"));
    bench.write("mine.toml", &of("{ path = \"/a\" }"));
    bench.run(&format!("mine.toml --target {url}")).await.with(3).saying(&[
        "429 rate limited",
        "was answered 429",
        "a lower --rate",
    ]);
    assert!(asked.load(Ordering::Relaxed) < 150, "the load was ended");
    asked.store(0, Ordering::Relaxed);
    bench.write("mine.toml", &of("{ path = \"/a\", outcomes = { 429 = \"rate-limited\" } }"));
    bench.run(&format!("mine.toml --target {url}")).await.with(0);
    assert!(bench.record().turns[0].counts.failed(Abort::RateLimited) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_fails_is_never_silently_green() {
    let bench = Bench::bare();
    let asked = Arc::new(AtomicU64::new(0));
    let app = Router::new().route(
        "/a",
        get(move || {
            let odd = asked.fetch_add(1, Ordering::Relaxed) % 2 == 1;
            async move { Json(if odd { json!({ "id": 1 }) } else { json!({ "error": "no" }) }) }
        }),
    );
    let url = serving(app).await;
    let of = |thresholds: &str| {
        let steps =
            "[[operation]]\nname = \"a\"\nsteps = [{ path = \"/a\", checks = [{ pointer = \"/id\", type = \"integer\" }] }]";
        scenario(&format!("thresholds = [{thresholds}]"), steps)
    };
    bench.write("mine.toml", &of("\"response:p(50)<10s\""));
    bench
        .run(&format!("mine.toml --target {url}"))
        .await
        .with(3)
        .saying(&["no operation failed for reasons of its own", "expectation not met"]);
    bench.write("mine.toml", &of("\"checks.rate>98%\""));
    let missed = bench.run(&format!("mine.toml --target {url}")).await.saying(&["checks:rate>0.98"]);
    assert_eq!(bench.record().verdict, Verdict::Missed, "{}", missed.said);
    bench.write("mine.toml", &of("\"a.checks.rate>10%\", \"checks.rate>10%\""));
    bench.run(&format!("mine.toml --target {url}")).await.with(0);
    let held = bench.record().turns[0].counts.checked(Some("a"));
    assert_eq!((held.held, held.failed), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_read_only_sends_nothing_that_writes() {
    let bench = Bench::bare();
    let asked = Arc::new(AtomicU64::new(0));
    let app = Router::new().fallback({
        let asked = asked.clone();
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            async { "ok" }
        }
    });
    let url = serving(app).await;
    let operations = "[[operation]]\nname = \"a\"\nsteps = [{ path = \"/a\" }]\n[[operation]]\nname = \"b\"\nsteps = [{ path = \"/a\" }, { method = \"DELETE\", path = \"/b\" }]";
    bench.write("mine.toml", &scenario("thresholds = [\"failed.rate<1%\"]", operations));
    bench.run(&format!("mine.toml --target {url} --read-only")).await.with(2).saying(&["--read-only: `b` sends DELETE"]);
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nothing was sent");
    bench.run(&format!("mine.toml --target {url}")).await.with(0);
    assert!(asked.load(Ordering::Relaxed) >= 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_answered_leaves_a_rule_open_and_what_was_answered_wrongly_breaks_it() {
    let bench = Bench::bare();
    let (added, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // One in ten is done and answered 500; of those that are acknowledged under /lossy, one in ten is not done.
    let add = |is_lossy: bool| {
        let (added, asked) = (added.clone(), asked.clone());
        move || {
            let is_tenth = asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(10);
            if !(is_lossy && is_tenth) {
                added.fetch_add(1, Ordering::Relaxed);
            }
            async move { if is_tenth && !is_lossy { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CREATED } }
        }
    };
    let n = {
        let added = added.clone();
        move || async move { Json(json!({ "n": added.load(Ordering::Relaxed) })) }
    };
    let url = serving(Router::new().route("/add", post(add(false))).route("/lossy", post(add(true))).route("/n", get(n))).await;
    let of = |path: &str, rule: &str| {
        let rest = format!(
            "[[operation]]\nname = \"add\"\nsteps = [{{ method = \"POST\", path = \"{path}\" }}]\n\
             [control]\nnone = true\n[[invariant]]\nname = \"as-answered\"\npath = \"/n\"\npointer = \"/n\"\n{rule}"
        );
        scenario("", &rest)
    };
    let equals = "equals = \"before + committed(add)\"";
    bench.write("mine.toml", &of("/add", equals));
    bench
        .run(&format!("mine.toml --target {url} --accept-uncontrolled"))
        .await
        .with(3)
        .saying(&["requests were not answered, and it depends"]);
    assert_eq!(count(&bench.record(), "add", OutcomeClass::Unknown), 20);
    // Whatever became of them, it is so many at the least.
    bench.write("mine.toml", &of("/add", "at_least = \"before\""));
    bench.run(&format!("mine.toml --target {url} --accept-uncontrolled")).await.with(0);
    bench.run(&format!("mine.toml --target {url}")).await.with(3).saying(&["not proven able to fail"]);
    bench.write("mine.toml", &of("/lossy", equals));
    bench
        .run(&format!("mine.toml --target {url} --accept-uncontrolled"))
        .await
        .with(1)
        .saying(&["what broke as-answered: 1 row", "expected equal to"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_and_answered_with_a_redirect_or_no_status_at_all_breaks_no_rule() {
    let bench = Bench::bare();
    let added = Arc::new(AtomicU64::new(0));
    let n = added.clone();
    let add = move |axum::extract::Path(status): axum::extract::Path<u16>| async move {
        added.fetch_add(1, Ordering::Relaxed);
        StatusCode::from_u16(status).unwrap()
    };
    let app = Router::new()
        .route("/add/{status}", post(add))
        .route("/n", get(move || async move { Json(json!({ "n": n.load(Ordering::Relaxed) })) }));
    let url = serving(app).await;
    let of = |status: u16, outcomes: &str| {
        let rest = format!(
            "[[operation]]\nname = \"add\"\nsteps = [{{ method = \"POST\", path = \"/add/{status}\"{outcomes} }}]\n\
             [[invariant]]\nname = \"as-answered\"\npath = \"/n\"\npointer = \"/n\"\nequals = \"before + committed(add)\""
        );
        scenario("", &rest)
    };
    for status in [302, 303, 304, 600, 999] {
        bench.write("mine.toml", &of(status, ""));
        let words = format!("POST /add/{status} was answered {status}");
        bench.run(&format!("mine.toml --target {url} --iterations 20 --accept-uncontrolled")).await.with(3).saying(&[
            "requests were not answered, and it depends",
            "outcomes = { 303 = \"committed\" }",
            &words,
        ]);
        assert_eq!(count(&bench.record(), "add", OutcomeClass::Unknown), 20, "{status}");
    }
    for status in [303, 999] {
        bench.write("mine.toml", &of(status, &format!(", outcomes = {{ {status} = \"committed\" }}")));
        bench.run(&format!("mine.toml --target {url} --iterations 20 --accept-uncontrolled")).await.with(0);
    }
}

/// Answers each request with `answer`, on a connection of its own that it closes: as HTTP/1.0 has it, or `Connection: close`.
async fn closing(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") && socket.read_buf(&mut read).await.is_ok_and(|n| n > 0) {}
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_each_connection_after_its_answer_costs_no_attempts() {
    let bench = Bench::bare();
    let step = "[[operation]]\nname = \"a\"\nsteps = [{ method = \"POST\", path = \"/a\" }, { method = \"POST\", path = \"/b\" }]";
    bench.write("mine.toml", &scenario("thresholds = [\"failed.count==0\"]", step));
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\n{}",
    ] {
        let url = closing(answer).await;
        bench.run(&format!("mine.toml --target {url}")).await.with(0);
        let record = bench.record();
        let counts = &record.turns[0].counts;
        assert_eq!(counts.of(OutcomeClass::Committed), 200, "{answer}: {counts:?}");
        assert_eq!(counts.attempts.keys().copied().collect::<Vec<_>>(), [1], "{answer}: {:?}", counts.attempts);
        assert_eq!(counts.failed(Abort::ConnectionLost), 0, "{answer}");
        let connects = record.turns[0].connect.as_ref().unwrap().samples;
        assert!(connects >= 400, "each request had a connection of its own: {connects}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_is_asked_where_the_load_goes_holds_beforehand_and_is_about_what_was_done() {
    let bench = Bench::bare();
    let counting = || {
        let added = Arc::new(AtomicU64::new(0));
        let (reset, n) = (added.clone(), added.clone());
        let add = || async move {
            added.fetch_add(1, Ordering::Relaxed);
            StatusCode::CREATED
        };
        let reset = || async move {
            reset.store(0, Ordering::Relaxed);
            StatusCode::NO_CONTENT
        };
        let n = || async move { Json(json!({ "n": n.load(Ordering::Relaxed), "seven": 7 })) };
        Router::new().route("/add", post(add)).route("/reset", post(reset)).route("/n", get(n)).route("/no", post(|| async {}))
    };
    let (here, there) = (serving(counting()).await, serving(counting()).await);
    let of = |target: &str, path: &str, control: &str, rule: &str, weight: u32| {
        let head =
            format!("[http]\ntarget = \"{target}\"\nsetup = [{{ path = \"/reset\", method = \"POST\" }}]\n[control]\n{control}");
        let rest = format!(
            "[[operation]]\nname = \"look\"\nsteps = [{{ path = \"/n\" }}]\n\
             [[operation]]\nname = \"add\"\nweight = {weight}\nsteps = [{{ method = \"POST\", path = \"{path}\" }}]\n\
             [[invariant]]\nname = \"as-answered\"\npath = \"/n\"\n{rule}"
        );
        scenario(&head, &rest)
    };
    let counted = "pointer = \"/n\"\nequals = \"committed(add)\"";
    // The same, elsewhere: what is counted here knows nothing of it, and would seem to be broken.
    bench.write("twin.toml", &of(&there, "/add", "none = true", counted, 1));
    bench.write("mine.toml", &of(&here, "/add", "file = \"twin.toml\"", counted, 1));
    bench
        .run("mine.toml")
        .await
        .with(2)
        .saying(&["the control twin asks", "what it breaks would be looked for where it broke nothing"]);
    // Here, and wrongly: it is caught. But nothing says anything of what was never done.
    bench.write("twin.toml", &of(&here, "/no", "none = true", counted, 1));
    bench.run("mine.toml").await.with(0);
    bench.write("mine.toml", &of(&here, "/add", "file = \"twin.toml\"", counted, 0));
    bench.run("mine.toml").await.with(3).saying(&["required: what the claimed rules count was done", "never: add"]);
    // It was so before anybody asked for anything.
    bench.write("mine.toml", &of(&here, "/add", "none = true", "pointer = \"/seven\"\nat_most = \"6\"", 1));
    bench
        .run("mine.toml --accept-uncontrolled")
        .await
        .with(3)
        .saying(&["did not hold, or could not be checked, before the run began"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_requests_share_values_and_each_iteration_has_its_own() {
    let bench = Bench::bare();
    let wrong = Arc::new(AtomicU64::new(0));
    let seen = wrong.clone();
    let app = Router::new()
        .route(
            "/carts",
            post(|Json(body): Json<serde_json::Value>| async move {
                (StatusCode::CREATED, Json(json!({ "cart": { "id": body["n"] } })))
            }),
        )
        .route(
            "/carts/{id}/items",
            post(
                move |axum::extract::Path(id): axum::extract::Path<i64>,
                      headers: axum::http::HeaderMap,
                      Json(body): Json<serde_json::Value>| {
                    let is_right = body["of"] == json!(id)
                        && body["uuid"].as_str().is_some_and(|uuid| uuid.len() == 36)
                        && headers.get("x-cart").is_some_and(|cart| cart.to_str().is_ok_and(|cart| cart == id.to_string()))
                        && headers.get("x-load-test").is_some();
                    wrong.fetch_add(u64::from(!is_right), Ordering::Relaxed);
                    async { StatusCode::CREATED }
                },
            ),
        );
    let url = serving(app).await;
    bench.write("rows.json", r#"[{"name": "a/b"}, {"name": "c"}]"#);
    let rest = r#"
[parameters]
n = { sequence = { start = 1000 } }
[data.people]
file = "rows.json"
order = "sequential"
[[operation]]
name = "buy"
steps = [
    { path = "/carts?by=${people.name}", json = { n = "${n}" }, capture = { cart = "/cart/id" }, think = "1ms" },
    { path = "/carts/${cart}/items", headers = { x-cart = "${cart}" }, json = { of = "${cart}", uuid = "${uuid}" }, checks = [{ header = "date" }] },
]
"#;
    bench.write("mine.toml", &scenario("thresholds = [\"failed.count==0\", \"checks.rate>=1\"]", rest));
    bench.run(&format!("mine.toml --target {url}")).await;
    let record = bench.record();
    assert_eq!(count(&record, "buy", OutcomeClass::Committed), 200, "{:?}", record.turns[0].counts);
    assert_eq!(seen.load(Ordering::Relaxed), 0, "every request had its values");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_baseline_is_measured_on_a_reference_server_that_is_started_for_it() {
    let bench = Bench { database: Some(common::residency(None).await), place: Place::new() };
    bench
        .run("baseline --think 0s --threshold response:p(95)<1h")
        .await
        .saying(&["the reference server listens on http://127.0.0.1:"]);
    let record = bench.record();
    let turn = &record.turns[0];
    assert_eq!((turn.counts.iterations(), turn.counts.of(OutcomeClass::Committed)), (600, 600), "{:?}", turn.counts);
    assert!(turn.thresholds.len() == 6 && turn.counts.checked(None).failed == 0, "{:?}", turn.thresholds);
    let users =
        bench.run("concurrent-users --think 0s --vus 8 --iterations 200 --no-thresholds --accept-uncontrolled").await.with(0);
    let record = bench.record();
    for operation in ["administer", "coordinate", "supervise", "look-up"] {
        assert!(count(&record, operation, OutcomeClass::Committed) > 0, "{operation}: {}", users.said);
    }
    bench.run("behaviour-mix").await.with(2).saying(&["holds the dataset residency, and this is asked of the clinic"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mix_orders_units_of_the_clinic_and_the_rules_are_examined() {
    let bench = Bench { database: Some(common::seeded().await), place: Place::new() };
    bench.run("behaviour-mix --think 0s --vus 8 --iterations 300 --no-thresholds --accept-uncontrolled").await.with(0);
    let record = bench.record();
    assert!(count(&record, "order", OutcomeClass::Committed) > 0, "{:?}", record.turns[0].counts);
    assert!(
        record.turns[0].invariants.iter().any(|checked| checked.name == "units-within-total"),
        "{:?}",
        record.turns[0].invariants
    );
}
