//! Does the proxy know the truth that its clients cannot know, and does it leave alone what it should?

mod common;

use std::pin::Pin;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, TestDatabase};
use dbstress::error::Kind;
use dbstress::outcome::Abort;
use dbstress::pg::admin::Session;
use dbstress::pg::load::{Connection, Ending, Failure, Isolation, Statement, Transaction};
use dbstress::pg::{ConnectOptions, SslMode};
use dbstress::proxy::{Disturbance, Proxy, Strike, Truth};

/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3600);

/// A database with a table, a proxy before it, and a way around the proxy.
struct Scene {
    proxy: Proxy,
    admin: Session,
    database: TestDatabase,
}

/// A load connection and what it writes with.
struct Client {
    connection: Connection,
    insert: Statement,
}

impl Scene {
    async fn new() -> Self {
        let database = common::database().await;
        database.names_are_public().await;
        let mut admin = database.session().await;
        admin
            .execute("CREATE TABLE entries (id bigint PRIMARY KEY, twin bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            .await
            .unwrap();
        Self { proxy: Proxy::start(&database.options).await.unwrap(), admin, database }
    }

    async fn client(&self, name: &str) -> Client {
        let mut connection = Connection::open(self.proxy.options(), name, &[Isolation::ReadCommitted]).await.unwrap();
        let insert = connection.prepare("INSERT INTO entries VALUES ($1)").await.unwrap();
        Client { connection, insert }
    }

    /// Orders a disturbance, and returns when the proxy has it. There must be a session.
    async fn order<'s>(&'s self, what: Disturbance, prefix: &'s str) -> Pin<Box<dyn Future<Output = Option<Strike>> + 's>> {
        let mut order: Pin<Box<dyn Future<Output = Option<Strike>>>> = Box::pin(self.proxy.disturb(what, prefix, FOREVER));
        let nothing = Disturbance::Delay { by: Duration::ZERO, hold: Duration::ZERO };
        tokio::select! {
            biased;
            strike = &mut order => panic!("{strike:?} before its occasion"),
            // Orders are taken in turn.
            strike = self.proxy.disturb(nothing, "", FOREVER) => assert_eq!(strike.unwrap().truth, Truth::Elsewhere),
        }
        order
    }

    async fn has(&mut self, id: i64) -> bool {
        self.admin.integer(&format!("SELECT count(*) FROM entries WHERE id = {id}")).await.unwrap() == 1
    }

    /// Whoever wrote it has rolled back: otherwise this waits, or fails.
    async fn assert_rolled_back(&mut self, id: i64) {
        assert!(!self.has(id).await, "{id} is there");
        self.admin.execute(&format!("INSERT INTO entries VALUES ({id})")).await.unwrap();
    }

    /// The state of a session, as the server sees it; empty if there is none.
    async fn state(&mut self, name: &str) -> String {
        let sql = format!("SELECT state FROM pg_stat_activity WHERE application_name = '{name}'");
        self.admin.text(&sql).await.unwrap().unwrap_or_default()
    }

    async fn until_state(&mut self, name: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.state(name).await != state {
            assert!(Instant::now() < deadline, "{name} is still not `{state}`");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Client {
    async fn begin(&mut self) {
        self.connection.begin(Isolation::ReadCommitted).await.unwrap();
    }

    async fn insert(&mut self, id: i64) -> Result<(), Failure> {
        self.connection.execute(&self.insert, |p| p.integer(id)).await.map(|_| ())
    }

    /// A transaction that writes, up to its COMMIT.
    async fn write(&mut self, id: i64) {
        self.begin().await;
        self.insert(id).await.unwrap();
    }

    async fn assert_lost(&mut self) {
        let failure = self.insert(-1).await.unwrap_err();
        assert_eq!((failure.abort, failure.server), (Abort::ConnectionLost, None));
        assert!(!self.connection.is_open());
    }
}

/// A COMMIT and the disturbance that waits for it.
async fn struck(client: &mut Client, order: impl Future<Output = Option<Strike>>) -> (Ending, Strike) {
    let (ending, strike) = tokio::join!(client.connection.commit(), order);
    (ending, strike.expect("it had its occasion"))
}

#[tokio::test]
async fn a_request_that_is_lost_has_never_been_made() {
    let mut scene = Scene::new().await;
    for id in 0..6 {
        let name = format!("vu{id}");
        let mut client = scene.client(&name).await;
        client.write(id).await;
        let (ending, strike) = struck(&mut client, scene.order(Disturbance::RequestLost, "vu").await).await;
        assert_eq!((ending, strike.truth, strike.application_name), (Ending::Unknown, Truth::NeverSent, name));
        client.assert_lost().await;
        scene.assert_rolled_back(id).await;
    }
}

#[tokio::test]
async fn a_response_that_is_lost_has_been_given() {
    let mut scene = Scene::new().await;
    for id in 0..6 {
        let name = format!("vu{id}");
        let mut client = scene.client(&name).await;
        client.write(id).await;
        let (ending, strike) = struck(&mut client, scene.order(Disturbance::ResponseLost, "vu").await).await;
        assert_eq!((ending, strike.truth, strike.application_name), (Ending::Unknown, Truth::Committed, name.clone()));
        assert!(scene.has(id).await);
        client.assert_lost().await;
        scene.until_state(&name, "").await;
    }
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_is_told_from_one_that_it_makes() {
    let mut scene = Scene::new().await;
    scene.admin.execute("INSERT INTO entries VALUES (1, 1)").await.unwrap();
    for id in 2..4 {
        let mut client = scene.client("vu").await;
        let twin = client.connection.prepare("INSERT INTO entries VALUES ($1, 1)").await.unwrap();
        client.begin().await;
        client.connection.execute(&twin, |p| p.integer(id)).await.unwrap();
        let (ending, strike) = struck(&mut client, scene.order(Disturbance::ResponseLost, "vu").await).await;
        assert_eq!((ending, strike.truth), (Ending::Unknown, Truth::NotCommitted));
        scene.assert_rolled_back(id).await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_proves_nothing() {
    let mut scene = Scene::new().await;
    let mut rival = scene.database.session().await;
    // With whose key this COMMIT is in doubt.
    rival.execute("BEGIN; INSERT INTO entries VALUES (0, 1)").await.unwrap();
    let mut client = scene.client("vu/ended").await;
    let twin = client.connection.prepare("INSERT INTO entries VALUES ($1, 1)").await.unwrap();
    client.begin().await;
    client.connection.execute(&twin, |p| p.integer(1)).await.unwrap();
    let mut order = scene.order(Disturbance::ResponseLost, "vu/ended").await;
    let mut watcher = scene.database.session().await;
    let terminated = async {
        let is_waiting = "FROM pg_stat_activity WHERE application_name = 'vu/ended' AND wait_event_type = 'Lock'";
        common::at_least(&mut watcher, 1, &format!("SELECT count(*) {is_waiting}")).await;
        watcher.execute(&format!("SELECT pg_terminate_backend(pid) {is_waiting}")).await.unwrap();
    };
    let (ending, strike, ()) = tokio::join!(client.connection.commit(), &mut order, terminated);
    assert_eq!((ending, strike.unwrap().truth), (Ending::Unknown, Truth::Unanswered));
    drop(order);
    scene.assert_rolled_back(1).await;

    // Nobody waits for ever; and what was not answered may be committed afterwards.
    let mut client = scene.client("vu/waits").await;
    let twin = client.connection.prepare("INSERT INTO entries VALUES ($1, 1)").await.unwrap();
    client.begin().await;
    client.connection.execute(&twin, |p| p.integer(2)).await.unwrap();
    let (ending, strike) = struck(&mut client, scene.order(Disturbance::ResponseLost, "vu/waits").await).await;
    assert_eq!((ending, strike.truth), (Ending::Unknown, Truth::Unanswered));
    assert!(!scene.has(2).await);
    rival.execute("ROLLBACK").await.unwrap();
    scene.until_state("vu/waits", "").await;
    assert!(scene.has(2).await);
}

#[tokio::test]
async fn a_statement_may_be_its_own_commit() {
    let mut scene = Scene::new().await;
    for id in 0..4 {
        let (what, truth) = match id % 2 {
            0 => (Disturbance::RequestLost, Truth::NeverSent),
            _ => (Disturbance::ResponseLost, Truth::Committed),
        };
        let mut client = scene.client("vu").await;
        let alone = client.connection.prepare("INSERT INTO entries VALUES ($1) RETURNING id, repeat('x', 100000)").await.unwrap();
        let order = scene.order(what, "vu").await;
        let (answer, strike) = tokio::join!(client.connection.execute_alone(&alone, |p| p.integer(id)), order);
        assert_eq!((answer, strike.unwrap().truth), (Err(Ending::Unknown), truth));
        assert_eq!(scene.has(id).await, truth == Truth::Committed);
    }
    let mut client = scene.client("vu").await;
    let order = scene.order(Disturbance::ResponseLost, "vu").await;
    let (answer, strike) = tokio::join!(client.connection.execute_alone(&client.insert, |p| p.integer(3)), order);
    assert_eq!((answer, strike.unwrap().truth), (Err(Ending::Unknown), Truth::NotCommitted), "that key is taken");
}

#[tokio::test]
async fn a_transaction_that_wrote_nothing_is_left_alone() {
    let mut scene = Scene::new().await;
    scene.admin.execute("INSERT INTO entries VALUES (1)").await.unwrap();
    let mut client = scene.client("vu").await;
    let connection = &mut client.connection;
    let read = connection.prepare("SELECT id FROM entries FOR UPDATE").await.unwrap();
    let miss = connection.prepare("WITH changed AS (UPDATE entries SET twin = 1 WHERE id = -1 RETURNING 1) SELECT 1 FROM changed");
    let miss = miss.await.unwrap();
    let order = scene.order(Disturbance::ResponseLost, "vu").await;
    for _ in 0..3 {
        connection.begin(Isolation::ReadCommitted).await.unwrap();
        assert_eq!(connection.execute(&read, |_| {}).await.unwrap().rows, 1);
        assert_eq!(connection.execute(&miss, |_| {}).await.unwrap().rows, 0);
        assert_eq!(connection.commit().await, Ending::Committed);
        connection.execute(&read, |_| {}).await.unwrap();
    }
    // Somebody else's is not struck either.
    let mut other = scene.client("admin").await;
    other.write(2).await;
    assert_eq!(other.connection.commit().await, Ending::Committed);
    client.write(3).await;
    let (ending, strike) = struck(&mut client, order).await;
    assert_eq!((ending, strike.truth), (Ending::Unknown, Truth::Committed));
    assert!(scene.has(3).await);
}

#[tokio::test]
async fn several_disturbances_wait_at_once_and_one_that_is_withdrawn_does_not() {
    let mut scene = Scene::new().await;
    let (mut one, mut two) = (scene.client("one").await, scene.client("two").await);
    one.write(1).await;
    two.write(2).await;
    let (first, second) = (scene.order(Disturbance::RequestLost, "one").await, scene.order(Disturbance::ResponseLost, "two").await);
    let (two, one) = (struck(&mut two, second).await, struck(&mut one, first).await);
    assert_eq!((one.0, one.1.truth, two.0, two.1.truth), (Ending::Unknown, Truth::NeverSent, Ending::Unknown, Truth::Committed));
    assert!(scene.has(2).await);
    scene.assert_rolled_back(1).await;

    let mut client = scene.client("vu").await;
    drop(scene.order(Disturbance::RequestLost, "vu").await);
    client.write(3).await;
    assert_eq!(client.connection.commit().await, Ending::Committed);
    // Nor does one whose patience is at its end.
    assert_eq!(scene.proxy.disturb(Disturbance::RequestLost, "vu", Duration::ZERO).await, None);
    client.write(4).await;
    assert_eq!(client.connection.commit().await, Ending::Committed);
    for what in [
        Disturbance::Reset,
        Disturbance::HalfOpen { hold: Duration::ZERO },
        Disturbance::Delay { by: Duration::ZERO, hold: Duration::ZERO },
    ] {
        assert_eq!(scene.proxy.disturb(what, "nobody", Duration::ZERO).await, None);
    }
}

#[tokio::test]
async fn a_reset_strikes_within_a_transaction_and_leaves_nothing_behind() {
    let mut scene = Scene::new().await;
    let mut idle = scene.client("vu/idle").await;
    for id in 0..6 {
        let mut client = scene.client("vu/busy").await;
        client.write(id).await;
        let strike = scene.proxy.disturb(Disturbance::Reset, "vu", FOREVER).await.unwrap();
        assert_eq!((&*strike.application_name, strike.truth), ("vu/busy", Truth::Elsewhere));
        client.assert_lost().await;
        scene.assert_rolled_back(id).await;
    }
    // It waits for a transaction, and where none comes it takes what there is.
    let order = scene.order(Disturbance::Reset, "vu").await;
    let begun = idle.connection.begin(Isolation::ReadCommitted);
    assert_eq!(tokio::join!(begun, order).1.unwrap().application_name, "vu/idle");
    idle.assert_lost().await;
    let mut idle = scene.client("vu/idle").await;
    assert_eq!(scene.proxy.disturb(Disturbance::Reset, "vu", Duration::ZERO).await.unwrap().application_name, "vu/idle");
    idle.assert_lost().await;
}

#[tokio::test]
async fn of_a_half_open_connection_neither_side_hears_anything() {
    let mut scene = Scene::new().await;
    let (mut client, mut other) = (scene.client("vu").await, scene.client("other").await);
    client.write(1).await;
    let strike = scene.proxy.disturb(Disturbance::HalfOpen { hold: FOREVER }, "vu", FOREVER).await.unwrap();
    assert_eq!((&*strike.application_name, strike.truth), ("vu", Truth::Elsewhere));
    tokio::select! {
        biased;
        answer = client.insert(2) => panic!("{answer:?} from nowhere"),
        () = async {
            for id in 10..20 {
                other.insert(id).await.unwrap();
            }
        } => {}
    }
    assert_eq!(scene.state("vu").await, "idle in transaction", "its server has heard neither the statement nor the end");
    // The client leaves, and still the server hears nothing.
    drop(client);
    other.insert(20).await.unwrap();
    assert_eq!(scene.state("vu").await, "idle in transaction");
    // What is left of it holds its locks.
    scene.admin.execute("SET lock_timeout = '10ms'").await.unwrap();
    let blocked = scene.admin.execute("INSERT INTO entries VALUES (1)").await.unwrap_err();
    assert_eq!(blocked.code.as_deref(), Some("55P03"));
    scene.admin.execute("RESET lock_timeout").await.unwrap();
    drop(scene.proxy);
    scene.proxy = Proxy::start(&scene.database.options).await.unwrap();
    scene.assert_rolled_back(1).await;

    let mut client = scene.client("vu").await;
    client.write(3).await;
    scene.proxy.disturb(Disturbance::HalfOpen { hold: Duration::from_millis(50) }, "vu", FOREVER).await.unwrap();
    client.assert_lost().await;
    scene.assert_rolled_back(3).await;
}

#[tokio::test]
async fn what_is_delayed_arrives_later_and_in_order() {
    let scene = Scene::new().await;
    let (mut slow, mut late, mut other) = (scene.client("slow").await, scene.client("late").await, scene.client("other").await);
    let by = Duration::from_millis(150);
    let strike = scene.proxy.disturb(Disturbance::Delay { by, hold: FOREVER }, "late", FOREVER).await.unwrap();
    assert_eq!((&*strike.application_name, strike.truth), ("late", Truth::Elsewhere));
    for n in 0..3 {
        let asked = Instant::now();
        assert_eq!(late.connection.ask(&format!("SELECT {n}")).await.unwrap().unwrap(), n.to_string());
        assert!(asked.elapsed() >= 2 * by, "both ways");
    }
    // More than is kept waiting at once.
    let long = "SELECT string_agg(n::text, ',') FROM generate_series(1, 400000) n";
    let answer = late.connection.ask(long).await.unwrap().unwrap();
    assert!(answer.split(',').map(|n| n.parse::<i32>().unwrap()).eq(1..=400_000));

    scene.proxy.disturb(Disturbance::Delay { by: FOREVER, hold: FOREVER }, "slow", FOREVER).await.unwrap();
    tokio::select! {
        biased;
        answer = slow.insert(1) => panic!("{answer:?} too early"),
        () = async {
            for id in 10..20 {
                other.insert(id).await.unwrap();
            }
        } => {}
    }
    assert!(!{ scene }.has(1).await);
}

#[tokio::test]
async fn a_cancel_request_reaches_its_statement() {
    let mut scene = Scene::new().await;
    let mut client = scene.client("vu").await;
    let sleep = client.connection.prepare("SELECT pg_sleep(3600)").await.unwrap();
    tokio::select! {
        biased;
        answer = client.connection.execute(&sleep, |_| {}) => panic!("{answer:?}"),
        () = scene.until_state("vu", "active") => {}
    }
    client.connection.discard().await;
    scene.until_state("vu", "").await;
}

#[tokio::test]
async fn what_the_server_says_last_arrives() {
    let mut scene = Scene::new().await;
    let mut client = scene.client("vu").await;
    client.write(1).await;
    scene.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vu'").await.unwrap();
    let failure = client.insert(2).await.unwrap_err();
    assert_eq!(failure.server.unwrap().code.as_str(), "57P01");
    client.assert_lost().await;
    scene.assert_rolled_back(1).await;
}

#[tokio::test]
async fn whoever_asks_for_encryption_hears_no_and_goes_on() {
    let scene = Scene::new().await;
    let options = ConnectOptions { ssl_mode: SslMode::Prefer, ..scene.proxy.options().clone() };
    let mut connection = Connection::open(&options, "vu", &[Isolation::ReadCommitted]).await.unwrap();
    assert_eq!(connection.ask("SELECT current_database()").await.unwrap().unwrap(), scene.database.options.database);
    let mut session = Session::connect(&options, "test").await.unwrap();
    assert_eq!(session.integer("SELECT 1").await.unwrap(), 1);
    for ssl_mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let refused = Proxy::start(&ConnectOptions { ssl_mode, ..scene.database.options.clone() }).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
        assert!(refused.to_string().contains("sslmode=disable"), "{refused}");
    }
}

#[tokio::test]
async fn when_it_is_dropped_everything_of_it_ends() {
    let mut scene = Scene::new().await;
    let mut client = scene.client("vu").await;
    client.write(1).await;
    let options = scene.proxy.options().clone();
    let Scene { proxy, admin, database } = scene;
    drop(proxy);
    client.assert_lost().await;
    assert!(Connection::open(&options, "vu", &[]).await.is_err());
    scene = Scene { proxy: Proxy::start(&database.options).await.unwrap(), admin, database };
    scene.assert_rolled_back(1).await;
}

#[tokio::test]
async fn a_server_with_a_password_is_reached_by_tcp_and_when_it_has_gone_the_proxy_says_so() {
    if common::not_applicable("it is about the private server") {
        return;
    }
    let place = Place::new();
    let running = place.start().await;
    let proxy = Proxy::start(&ConnectOptions { ssl_mode: SslMode::Disable, ..running.tcp.clone() }).await.unwrap();
    let open = async || Connection::open(proxy.options(), "vu", &[Isolation::ReadCommitted]).await;
    let mut connection = open().await.unwrap();
    assert_eq!(connection.ask("SELECT (inet_server_addr() IS NOT NULL)::text").await.unwrap().unwrap(), "true");
    let wrong = ConnectOptions { password: Some("wrong".into()), ..proxy.options().clone() };
    let refused = Connection::open(&wrong, "vu", &[]).await.err().unwrap().to_string();
    assert!(refused.contains("password"), "{refused}");

    connection.begin(Isolation::ReadCommitted).await.unwrap();
    assert_eq!(connection.transaction(), Transaction::Open);
    assert_eq!(common::run(&mut place.dbstress(&["db", "stop", "--force"])).0, 0);
    assert_eq!(connection.commit().await, Ending::Unknown);
    let refused = open().await.err().unwrap();
    assert!(!refused.message().contains("no answer"), "{refused}");
}
