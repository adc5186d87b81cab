//! Is what a client is told about the end of a transaction what the database holds, even if the session is ended in the middle of it?

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Place;
use dbstress::audit::Breach;
use dbstress::outcome::{Abort, Certainty, Signal, Sqlstate, Stage, certainty};
use dbstress::pg::admin::Session;
use dbstress::pg::cluster::{self, Settings};
use dbstress::pg::load::{Connection, Ending, Isolation, Protocol};
use dbstress::pg::{ConnectOptions, Host, Place as ServerPlace, SslMode};
use dbstress::run::Request;
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// How long the endings are looked for, and how many of each.
const PATIENCE: Duration = Duration::from_secs(300);
const ENOUGH: usize = 5;

/// Sessions are terminated while they commit, until both endings were seen: nothing was heard of the COMMIT but that the session is over; and
/// the COMMIT was acknowledged in the last words of a session that is over. Whoever does not read the tag takes the second for the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_terminated_at_commit_leaves_an_unknown_and_never_a_lie() {
    if common::not_applicable("the server is started with other settings for it") {
        return;
    }
    // A COMMIT that is really written takes a while, in which it can be met.
    let place = Place::new();
    let settings = Settings { server: Vec::new(), ..place.settings() };
    let server = cluster::start(&settings, &|_| {}).await.unwrap();
    let mut admin = Session::connect(&server.options, "test").await.unwrap();
    admin.execute("CREATE TABLE public.marker (id bigint PRIMARY KEY)").await.unwrap();
    let (mut acknowledged, mut refused, mut unknown, mut last_words) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let began = Instant::now();
    let mut id = 0_i64;
    while unknown.len() < ENOUGH || last_words < ENOUGH {
        let seen = format!("{} never answered, {last_words} in last words, of {id}", unknown.len());
        assert!(began.elapsed() < PATIENCE, "{seen}");
        id += 1;
        let mut connection = Connection::open(&server.options, "race", &[Isolation::ReadCommitted]).await.unwrap();
        let insert = connection.prepare("INSERT INTO public.marker VALUES ($1)").await.unwrap();
        let pid = connection.ask("SELECT pg_backend_pid()").await.unwrap().unwrap();
        connection.begin(Isolation::ReadCommitted).await.unwrap();
        connection.execute(&insert, |p| p.integer(id)).await.unwrap();
        let committing = tokio::spawn(async move { (connection.commit().await, connection.is_open()) });
        // How far the COMMIT has come by then differs from time to time.
        let head_start = Duration::from_micros(u64::try_from(id % 20).unwrap() * 100);
        let sent = Instant::now();
        while sent.elapsed() < head_start {
            tokio::task::yield_now().await;
        }
        admin.text(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
        let (ending, is_open) = committing.await.unwrap();
        match ending {
            Ending::Committed => {
                acknowledged.push(id);
                last_words += usize::from(!is_open);
            }
            Ending::NotCommitted(failure) => refused.push((id, failure)),
            Ending::Unknown => unknown.push(id),
        }
    }
    let present = async |admin: &mut Session, id: i64| {
        admin.integer(&format!("SELECT count(*) FROM public.marker WHERE id = {id}")).await.unwrap() == 1
    };
    for id in acknowledged {
        assert!(present(&mut admin, id).await, "{id} was acknowledged and is lost");
    }
    for (id, failure) in refused {
        assert!(!present(&mut admin, id).await, "{id} was called a definite failure ({failure:?}) and is there");
    }
    drop(admin);
}

#[tokio::test]
async fn what_the_server_answers_to_commit_is_taken_at_its_word() {
    let database = common::database().await;
    let mut admin = database.session().await;
    admin
        .execute(
            "CREATE TABLE public.marker (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO public.marker VALUES (1)",
        )
        .await
        .unwrap();
    let mut connection = Connection::open(&database.options, "test", &[Isolation::ReadCommitted]).await.unwrap();
    let insert = connection.prepare("INSERT INTO public.marker VALUES ($1)").await.unwrap();
    let divide = connection.prepare("SELECT 1 / $1::integer").await.unwrap();

    // A transaction in which a statement failed: the server calls its COMMIT done, with the tag ROLLBACK and no error.
    connection.begin(Isolation::ReadCommitted).await.unwrap();
    connection.execute(&insert, |p| p.integer(2)).await.unwrap();
    connection.execute(&divide, |p| p.integer(0)).await.unwrap_err();
    assert!(matches!(connection.commit().await, Ending::NotCommitted(_)));

    // A deferred constraint speaks up at COMMIT: an error, and the session goes on.
    connection.begin(Isolation::ReadCommitted).await.unwrap();
    connection.execute(&insert, |p| p.integer(1)).await.unwrap();
    match connection.commit().await {
        Ending::NotCommitted(failure) => assert_eq!(failure.abort, Abort::UniqueViolation),
        other => panic!("{other:?}"),
    }

    // A statement that is its own COMMIT: CommandComplete comes first, the deferred error after it.
    match connection.execute_alone(&insert, |p| p.integer(1)).await {
        Err(Ending::NotCommitted(failure)) => assert_eq!(failure.abort, Abort::UniqueViolation),
        other => panic!("{other:?}"),
    }
    assert!(connection.execute_alone(&insert, |p| p.integer(3)).await.is_ok());

    connection.begin(Isolation::ReadCommitted).await.unwrap();
    connection.execute(&insert, |p| p.integer(4)).await.unwrap();
    assert_eq!(connection.commit().await, Ending::Committed);
    let there = admin.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM public.marker").await.unwrap();
    assert_eq!(there.as_deref(), Some("1,3,4"));
    assert_eq!(certainty(Stage::Commit, Signal::Error(Sqlstate::new("08007"))), Certainty::Unknown);
}

/// What a proxy says that lies about COMMIT.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// That it was done, where it has been rolled back instead.
    Done,
    /// That the server refused it with 40001, where it was done.
    Refused,
}

/// One of so many COMMITs of something written is lied about.
const LIES: u64 = 7;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

/// Reads a message whole: its type, unless it is the first of a client, its length and its body.
async fn read_message(from: &mut (impl AsyncRead + Unpin), is_first: bool) -> Option<Vec<u8>> {
    let head = if is_first { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize;
    message.resize(head - 4 + length, 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some(message)
}

/// A proxy before the server of `options` that tells the truth but for this lie; where it listens.
async fn lying(options: &ConnectOptions, lie: Lie) -> ServerPlace {
    trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
    impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = ServerPlace { host: Host::Tcp("127.0.0.1".into()), port: listener.local_addr().unwrap().port() };
    let (server, port) = (options.host.clone(), options.port);
    let commits = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server: Box<dyn Stream> = match &server {
                Host::Tcp(host) => Box::new(TcpStream::connect((host.as_str(), port)).await.unwrap()),
                Host::Socket(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await.unwrap()),
            };
            let (mut from_client, mut to_client) = tokio::io::split(client);
            let (mut from_server, mut to_server) = tokio::io::split(server);
            let is_lying = Arc::new(AtomicBool::new(false));
            let (lies, commits) = (is_lying.clone(), commits.clone());
            tokio::spawn(async move {
                let (mut is_first, mut has_written) = (true, false);
                while let Some(mut asked) = read_message(&mut from_client, is_first).await {
                    is_first = false;
                    has_written |= String::from_utf8_lossy(&asked).contains("INSERT INTO dbstress.unit_ledger");
                    let is_commit = asked == message(b'Q', b"COMMIT\0") && std::mem::take(&mut has_written);
                    if is_commit && commits.fetch_add(1, Ordering::SeqCst) % LIES == LIES - 1 {
                        lies.store(true, Ordering::SeqCst);
                        if lie == Lie::Done {
                            asked = message(b'Q', b"ROLLBACK\0");
                        }
                    }
                    if to_server.write_all(&asked).await.is_err() {
                        break;
                    }
                }
                let _ = to_server.shutdown().await;
            });
            tokio::spawn(async move {
                while let Some(mut said) = read_message(&mut from_server, false).await {
                    if said[0] == b'C' && is_lying.swap(false, Ordering::SeqCst) {
                        said = match lie {
                            Lie::Done => message(b'C', b"COMMIT\0"),
                            Lie::Refused => message(b'E', b"SERROR\0VERROR\0C40001\0Mcould not serialize access\0\0"),
                        };
                    }
                    if to_client.write_all(&said).await.is_err() {
                        break;
                    }
                }
                let _ = to_client.shutdown().await;
            });
        }
    });
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_lies_about_commits_is_found_out() {
    for lie in [Lie::Done, Lie::Refused] {
        let database = common::seeded().await;
        let plan = common::plan("contention", |plan, booking| {
            plan.load = common::rounds(8, 20);
            plan.protocol = Protocol::Simple;
            booking.strategies = vec![Strategy::ForUpdate];
        });
        let (_stop, interrupt) = tokio::sync::watch::channel(false);
        let options = ConnectOptions { ssl_mode: SslMode::Disable, ..database.options.clone() };
        let place = Place::new();
        let request = Request {
            plan,
            via: Some(lying(&options, lie).await),
            options,
            target: None,
            command_name: "contention",
            command: "dbstress contention".into(),
            verify: "dbstress verify".into(),
            disposable: None,
            accepts_uncontrolled: false,
            server: None,
            state: place.0.clone(),
            interrupt,
        };
        let record = dbstress::run::run(request, |_| {}).await.unwrap();
        assert_eq!(record.verdict, Verdict::Violated, "{lie:?}: {:?}", record.reasons);
        let breaches = &record.turns[0].audit.breaches;
        let found = match lie {
            Lie::Done => breaches.contains_key(&Breach::AcknowledgedLost),
            // It is tried again then, and done twice.
            Lie::Refused => breaches.contains_key(&Breach::Duplicated) || breaches.contains_key(&Breach::AbortedPresent),
        };
        assert!(found, "{lie:?}: {breaches:?}");
    }
}
