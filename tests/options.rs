//! Is what is said of a connection obeyed by every session, wherever it is said? And does nobody end up on another server than the one that was
//! named?

mod common;

use std::net::Ipv6Addr;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use common::{Place, TestDatabase, run};
use dbstress::cmd::Cli;
use dbstress::pg::admin::Session;
use dbstress::pg::load::{self, Connection, Isolation};
use dbstress::pg::{ConnectOptions, Conninfo, Host};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Variables and their values.
type Environment<'a> = &'a [(&'a str, &'a str)];

/// `dbstress ARGUMENTS` on whatever the environment names.
fn dbstress(place: &Place, arguments: &[&str], environment: Environment<'_>) -> Command {
    let mut command = place.dbstress(arguments);
    command.envs(environment.iter().copied()).current_dir(&place.0);
    command
}

/// Where a server is, by keyword.
fn parameters(options: &ConnectOptions) -> Vec<(&'static str, String)> {
    let ConnectOptions { user, database, port, .. } = options;
    let mut all = vec![("host", host(options)), ("port", port.to_string()), ("user", user.clone()), ("dbname", database.clone())];
    all.extend(options.password.clone().map(|password| ("password", password)));
    all
}

fn keywords(parameters: &[(&'static str, String)]) -> String {
    parameters.iter().map(|(name, value)| format!("{name}='{value}'")).collect::<Vec<_>>().join(" ")
}

fn host(options: &ConnectOptions) -> String {
    match &options.host {
        Host::Tcp(host) => host.clone(),
        Host::Socket(directory) => directory.display().to_string(),
    }
}

async fn marks(database: &TestDatabase) -> Vec<Option<String>> {
    let mut session = database.session().await;
    let rows = session.rows("DELETE FROM seen RETURNING mark").await.unwrap();
    session.close().await;
    let mut marks: Vec<Option<String>> = rows.into_iter().map(|row| row[0].clone()).collect();
    marks.dedup();
    marks
}

#[tokio::test]
async fn the_load_obeys_the_options_of_a_session_wherever_they_are_written() {
    let (database, place) = (common::database().await, Place::new());
    let options = &database.options;
    database.session().await.execute("CREATE TABLE seen (mark text)").await.unwrap();
    std::fs::write(place.0.join("mark.sql"), "INSERT INTO public.seen VALUES (current_setting('test.mark', true));\n").unwrap();
    let said = parameters(options);
    let lines: Vec<String> = said.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let service = format!("[of-test]\n{}options=-c test.mark=service\n", lines.concat());
    std::fs::write(place.0.join("services"), service).unwrap();
    let services = place.0.join("services").display().to_string();
    let (port, password) = (options.port.to_string(), options.password.clone().unwrap_or_default());
    let url = database.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}options=-c%20test.mark%3Durl");
    let host = host(options);
    let environment = [
        ("PGHOST", &*host),
        ("PGPORT", &port),
        ("PGUSER", &options.user),
        ("PGDATABASE", &options.database),
        ("PGPASSWORD", &password),
        ("PGOPTIONS", "-c test.mark=environment"),
    ];
    let keywords = format!("{} options='-c test.mark=keywords'", keywords(&said));
    let everywhere: [(&str, Option<&str>, Environment<'_>); 4] = [
        ("url", Some(&url), &[]),
        ("keywords", Some(&keywords), &[]),
        ("environment", None, &environment),
        ("service", None, &[("PGSERVICE", "of-test"), ("PGSERVICEFILE", &services)]),
    ];
    for (mark, url, environment) in everywhere {
        let mut arguments = vec!["run", "-f", "mark.sql", "--vus", "2", "--iterations", "20", "--duration", "20s"];
        arguments.extend(["--disposable", &*options.database]);
        arguments.extend(url.iter().flat_map(|url| ["--database-url", url]));
        let (_, out, err) = run(&mut dbstress(&place, &arguments, environment));
        assert_eq!(marks(&database).await, [Some(mark.to_owned())], "{out}{err}");
    }
    // The private server is told as well what is said of sessions alone.
    assert!(place.state().is_none());
}

#[tokio::test]
async fn each_kind_of_session_is_begun_with_the_options() {
    let database = common::database().await;
    let mut options = database.options.clone();
    let settings = [("test.mark", r"a b\c"), ("TimeZone", "Asia/Tokyo"), ("work_mem", "4321kB")];
    options.session.settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut admin = Session::connect(&options, "test").await.unwrap();
    let mut measured = Connection::open(&options, "dbstress/test", &[Isolation::ReadCommitted]).await.unwrap();
    let bulk = load::connect(&options, "dbstress/test").await.unwrap();
    for (name, value) in settings {
        let question = format!("SELECT current_setting('{name}')");
        // What dbstress asks on its own account keeps its own time zone.
        let of_admin = if name == "TimeZone" { "UTC" } else { value };
        assert_eq!(admin.text(&question).await.unwrap().as_deref(), Some(of_admin), "admin");
        assert_eq!(measured.ask(&question).await.unwrap().as_deref(), Some(value), "measured");
        assert_eq!(bulk.query_one(&question, &[]).await.unwrap().get::<_, &str>(0), value, "bulk");
    }
    admin.close().await;
}

#[tokio::test]
async fn each_kind_of_session_refuses_a_server_of_another_kind_than_was_asked_for() {
    let database = common::database().await;
    let name = &database.options.database;
    let read_only = |on: bool| format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = {on}");
    for (is_read_only, fits, not) in [(false, "read-write primary", "read-only standby"), (true, "read-only primary", "read-write")]
    {
        database
            .session()
            .await
            .execute(&format!("SET default_transaction_read_only = off; {}", read_only(is_read_only)))
            .await
            .unwrap();
        for (wanted, is_right) in fits.split(' ').map(|w| (w, true)).chain(not.split(' ').map(|w| (w, false))) {
            let mut options = database.options.clone();
            options.session.target =
                ConnectOptions::from_url(&format!("target_session_attrs={wanted}"), &|_| None).unwrap().session.target;
            let admin = Session::connect(&options, "test").await.map(drop);
            let measured = Connection::open(&options, "dbstress/test", &[]).await.map(drop);
            let bulk = load::connect(&options, "dbstress/test").await.map(drop);
            for (kind, opened) in [("admin", admin), ("measured", measured), ("bulk", bulk)] {
                let why = opened.err().map(|error| error.to_string());
                assert_eq!(why.is_none(), is_right, "{kind}, {wanted}, read-only {is_read_only}: {why:?}");
                assert!(why.is_none_or(|why| why.contains(&format!("target_session_attrs={wanted} was asked for"))));
            }
        }
    }
}

#[tokio::test]
async fn of_several_hosts_the_first_that_can_be_used_is_used_by_all_sessions() {
    let (database, place) = (common::seeded().await, Place::new());
    // Nobody is behind the first port.
    let several = |attributes: &str| {
        let mut said = parameters(&database.options);
        for (name, value) in &mut said {
            match *name {
                "host" => *value = format!("127.0.0.1,{value}"),
                "port" => *value = format!("1,{value}"),
                _ => {}
            }
        }
        format!("{} {attributes}", keywords(&said))
    };
    let verify = |url: &str| run(&mut dbstress(&place, &["verify", "--database-url", url], &[]));
    let (code, out, err) = verify(&several("target_session_attrs=read-write"));
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains(&format!("using {} of the hosts that were named", database.options)), "{err}");
    let (code, out, err) = verify(&several("target_session_attrs=prefer-standby"));
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = verify(&several("target_session_attrs=standby"));
    assert!(code == 3 && err.contains("none of the 2 hosts can be used") && err.contains("is no standby"), "{out}{err}");
    let (code, out, err) = verify(&several("dbname=no_such_database"));
    assert!(code == 2 && err.contains("there is no database `no_such_database`"), "{out}{err}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_the_time_that_was_allowed() {
    let place = Place::new();
    // Whoever connects is let in by the system, and hears nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://me@127.0.0.1:{port}/x?connect_timeout=1");
    let (code, _, err) = run(&mut dbstress(&place, &["verify", "--database-url", &url], &[]));
    assert!(code == 3 && err.contains("within 1 s"), "{err}");
    let port = port.to_string();
    let (code, _, err) = run(&mut dbstress(&place, &["verify"], &[("PGPORT", &*port), ("PGCONNECT_TIMEOUT", "2")]));
    assert!(code == 3 && err.contains("within 2 s"), "{err}");
}

#[test]
fn nobody_who_names_a_server_ends_up_on_the_private_one() {
    let place = Place::new();
    let services = place.0.join("services");
    std::fs::write(&services, "[gone]\nhost=127.0.0.1\nport=1\n").unwrap();
    let services = services.display().to_string();
    let named: [(Environment<'_>, i32, &[&str]); 6] = [
        (&[("PGSERVICE", "gone"), ("PGSERVICEFILE", &services)], 3, &["could not connect", "127.0.0.1:1/"]),
        (&[("PGSERVICE", "other"), ("PGSERVICEFILE", &services)], 2, &["there is no service `other`"]),
        (&[("PGSERVICE", "gone")], 2, &["there is no service `gone`", "PGSERVICEFILE"]),
        (&[("PGUSER", "me")], 2, &["PGUSER is set", "--managed"]),
        (&[("PGSSLMODE", "require")], 2, &["PGSSLMODE is set", "PGHOST"]),
        (&[("PGHOST", "127.0.0.1"), ("PGPORT", "1"), ("PGREQUIREPEER", "postgres")], 2, &["PGREQUIREPEER", "unset PGREQUIREPEER"]),
    ];
    for (environment, expected, words) in named {
        for arguments in [&["seed"][..], &["verify"], &["contention", "--duration", "1s"], &["suite"], &["pool"], &["serve"]] {
            // Nothing of the caller's home is looked at.
            let (code, out, err) = run(dbstress(&place, arguments, environment).env("HOME", &place.0));
            assert_eq!(code, expected, "{arguments:?} {environment:?}: {out}{err}");
            assert!(words.iter().all(|word| err.contains(word)), "{arguments:?}: {err}");
            assert!(place.status().is_none(), "{arguments:?} {environment:?} started a private server");
        }
    }
}

/// The command that was said to do it again.
fn again(out: &str) -> String {
    let said: Vec<&str> = out.split_whitespace().skip_while(|word| *word != "again:").skip(1).collect();
    said.join(" ")
}

#[test]
fn what_does_it_again_says_every_parameter_but_no_secret() {
    for (typed, said) in [
        ("postgres://me:pw@[::1]:5432/x?sslmode=require", "postgres://me@[::1]:5432/x?sslmode=require"),
        (
            "postgres://me:pw@h/x?target_session_attrs=read-write&options=-c%20a.b%3D1&sslrootcert=/ca.pem",
            "postgres://me@h/x?options=-c%20a.b%3D1&sslrootcert=/ca.pem&target_session_attrs=read-write",
        ),
        ("service=prod password=pw connect_timeout=3", "postgres:///?connect_timeout=3&service=prod"),
    ] {
        let cli = Cli::try_parse_from(["dbstress", "verify", "--database-url", typed]).unwrap();
        assert_eq!(cli.global.again().trim(), format!("--database-url '{said}'"));
        assert_eq!(Conninfo::parse(said).unwrap().url(), said);
    }
}

/// An IPv6 port that leads to the server; `None` on a machine without IPv6.
async fn over_ipv6(options: &ConnectOptions) -> Option<u16> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.ok()?;
    let port = listener.local_addr().unwrap().port();
    let options = options.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let options = options.clone();
            tokio::spawn(async move {
                let _ = match &options.host {
                    Host::Tcp(host) => {
                        let mut server = TcpStream::connect((host.as_str(), options.port)).await.unwrap();
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    }
                    Host::Socket(directory) => {
                        let path = Path::new(directory).join(format!(".s.PGSQL.{}", options.port));
                        let mut server = UnixStream::connect(path).await.unwrap();
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    }
                };
            });
        }
    });
    Some(port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_at_an_ipv6_address_is_reached_and_what_does_it_again_reaches_it_too() {
    let (database, place) = (common::database().await, Place::new());
    let Some(port) = over_ipv6(&database.options).await else { return };
    let ConnectOptions { user, password, database: name, .. } = &database.options;
    let mut url = format!("postgres://{user}@[::1]:{port}/{name}?sslmode=prefer&connect_timeout=30");
    for _ in 0..2 {
        let mut storm =
            dbstress(&place, &["cancel-storm", "--client", "tokio-postgres", "--requests", "1", "--database-url", &url], &[]);
        storm.envs(password.iter().map(|password| ("PGPASSWORD", password)));
        // One request is too few to show anything; that it could be made is enough here.
        let (code, out, err) = tokio::task::spawn_blocking(move || run(&mut storm)).await.unwrap();
        assert!(code == 3 && out.contains("20 are needed"), "{out}{err}");
        let again = again(&out);
        assert!(again.contains("sslmode=prefer") && again.contains("connect_timeout=30"), "{out}");
        url = again.split('\'').nth(1).unwrap().to_owned();
    }
}

/// Tables of one name may stand in several schemas; which one is meant, the connection says for every application.
#[tokio::test]
async fn a_scenario_that_names_no_schema_works_where_the_connection_leads() {
    let (database, place) = (common::database().await, Place::new());
    let tables =
        ["public", "\"odd schema\""].map(|schema| format!("CREATE TABLE {schema}.c (n int); INSERT INTO {schema}.c VALUES (0);"));
    database.session().await.execute(&format!("CREATE SCHEMA \"odd schema\"; {}", tables.concat())).await.unwrap();
    let scenario = "summary = \"a test\"\nworkload = \"sql\"\n[load]\nvus = 2\niterations = 20\nduration = \"20s\"\n\
                    [[operation]]\nname = \"add\"\nsql = \"UPDATE c SET n = n + 1\"\n";
    std::fs::write(place.0.join("add.toml"), scenario).unwrap();
    let url = database.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}options=-c%20search_path%3D%22odd%5C%20schema%22");
    let arguments = [
        "run",
        "add.toml",
        "--threshold",
        "committed.count>=20",
        "--disposable",
        &database.options.database,
        "--database-url",
        &url,
    ];
    let (code, out, err) = run(&mut dbstress(&place, &arguments, &[]));
    assert_eq!(code, 0, "{out}{err}");
    let mut session = database.session().await;
    assert_eq!(session.integer("SELECT n FROM \"odd schema\".c").await.unwrap(), 20);
    assert_eq!(session.integer("SELECT n FROM public.c").await.unwrap(), 0);
}
