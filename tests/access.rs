//! Is every mistake about whom an API lets in found by the drill that must find it, and by no accident; and does the right server pass?

mod common;

use common::{Bench, Started, assert_no_panic, run};
use dbstress::access::{AccessRecord, Drill, DrillRecord, Subject};
use dbstress::pg::admin::literal;
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;

/// As much as is enough to see it, and no limits of time: they are for machines that do nothing else.
const SMALL: &str = "--requests 30,60,90 --duration 500ms --connections 4 --pairs 12 --untimed";

/// Examines the bench's database: exit code, record, everything that was said.
fn access(bench: &Bench, arguments: &str) -> (i32, AccessRecord, String) {
    let path = bench.export();
    let (code, out, err) = run(&mut bench.dbstress(&format!("{arguments} {SMALL} --summary-export {}", path.display())));
    assert_no_panic(&out, &err);
    let record = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    (code, serde_json::from_str(&record).unwrap(), format!("{out}{err}"))
}

/// Everything that a drill could leave behind: ledger, keys, appointments, authorisations, scratch tables and roles.
async fn left_behind(bench: &Bench) -> i64 {
    let mut session = bench.database.session().await;
    session
        .integer(
            "SELECT (SELECT count(*) FROM dbstress.unit_ledger) + (SELECT count(*) FROM dbstress.idempotency_key) \
               + (SELECT count(*) FROM dbstress.appointment) + (SELECT count(*) FROM dbstress.treatment_session) \
               + (SELECT count(*) FROM dbstress.authorisation WHERE number LIKE 'ACCESS-%') \
               + (SELECT count(*) FROM pg_namespace WHERE nspname = 'dbstress_access') \
               + (SELECT count(*) FROM pg_roles r JOIN pg_database d ON r.rolname IN ('dbstress_owner_' || d.oid, 'dbstress_tenant_' || d.oid) \
                  WHERE d.datname = current_database())",
        )
        .await
        .unwrap()
}

/// The right server passes, each drill having failed before with each of its mistakes; and the database is as before.
async fn passes(subject: Subject) {
    let bench = Bench::new().await;
    let (code, record, said) = access(&bench, subject.name());
    assert_eq!((code, record.verdict), (0, Verdict::Pass), "{said}");
    let drills: Vec<Drill> = record.drills.iter().map(|drill| drill.drill).collect();
    assert_eq!(drills, subject.drills().collect::<Vec<_>>(), "{said}");
    for drill in &record.drills {
        assert!(drill.criteria.len() > 1 && drill.criteria.iter().all(|criterion| criterion.verdict == Verdict::Pass), "{said}");
    }
    let mistakes: usize = subject.drills().map(|drill| drill.mistakes().len()).sum();
    assert_eq!(record.controls.len(), mistakes, "{said}");
    for control in &record.controls {
        assert!(control.is_caught(), "{} with {:?}: {said}", control.drill, control.mistake);
    }
    assert!(said.contains("PASS") && said.contains(&format!("again: dbstress {}", subject.name())), "{said}");
    assert_eq!(left_behind(&bench).await, 0, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_its_limits_passes_and_none_of_the_mistakes_does() {
    passes(Subject::RateLimit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_in_whom_it_should_passes_and_none_of_the_mistakes_does() {
    passes(Subject::Auth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_are_kept_apart_pass_and_none_of_the_mistakes_does() {
    if common::not_applicable("row-level security is tried as roles that are made for it, and this role may make none") {
        return;
    }
    passes(Subject::Tenants).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_that_is_asked_for_is_violated_and_named_and_nothing_of_it_stays() {
    if common::not_applicable("row-level security is tried as roles that are made for it, and this role may make none") {
        return;
    }
    let bench = Bench::new().await;
    for (arguments, drill, what) in [
        ("rate-limit --bug limit-off-by-one --drill exact", Drill::Exact, "first rejection, request"),
        ("auth --bug any-signature", Drill::InvalidTokens, "bad signature: 200"),
        ("tenants --bug no-tenant-check", Drill::Isolation, "rows of others, and not refused"),
        ("tenants --bug session-level-set", Drill::SessionState, "was given a session of organisation"),
    ] {
        let (code, record, said) = access(&bench, arguments);
        assert_eq!((code, record.verdict), (1, Verdict::Violated), "{arguments}: {said}");
        let [done] = &record.drills[..] else { panic!("{arguments}: {said}") };
        assert!(done.drill == drill && done.is_caught(), "{arguments}: {said}");
        for what in ["a known mistake was made on purpose", what] {
            assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(what), "`{what}` is missing from: {said}");
        }
        assert_eq!(left_behind(&bench).await, 0, "{arguments}: {said}");
    }
    let (code, record, said) = access(&bench, "tenants --self-test --drill row-security,session-state,keys");
    assert_eq!((code, record.verdict, record.drills.len()), (0, Verdict::Pass, 6), "{said}");
    assert!(
        record.drills.iter().all(DrillRecord::is_caught) && said.contains("every mistake was caught by its drill (6 of 6)"),
        "{said}"
    );
    let (code, out, err) = run(&mut bench.dbstress("verify"));
    assert_eq!(code, 0, "rows of tenants belong to them as before: {out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_somebody_started_is_examined_as_it_is() {
    let bench = Bench::new().await;
    let listening = |limits: &str| Started::new(bench.dbstress(&format!("serve --listen 127.0.0.1:0 --for 5m {limits}")));
    let limited = listening("--limit all=25/3s");
    let url = address(&limited).await;
    let (code, record, said) = access(&bench, &format!("rate-limit --target {url} --drill exact,recovery,apart,at-once"));
    assert_eq!((code, record.verdict, record.target.as_deref()), (0, Verdict::Pass, Some(&*url)), "{said}");
    // What it does not have cannot be examined.
    let (code, record, said) = access(&bench, &format!("rate-limit --target {url} --drill brute-force"));
    assert_eq!((code, record.verdict), (3, Verdict::Inconclusive), "{said}");
    assert!(said.contains("no limit of logins is declared"), "{said}");
    limited.signal(Signal::SIGTERM);
    limited.ended().await;

    let wrong = listening("--bug role-ignored");
    let url = address(&wrong).await;
    let (code, record, said) = access(&bench, &format!("auth --target {url} --drill roles,expiry"));
    assert_eq!((code, record.verdict), (1, Verdict::Violated), "{said}");
    assert_eq!(record.drills.iter().map(|drill| drill.verdict).collect::<Vec<_>>(), [Verdict::Pass, Verdict::Violated], "{said}");
    assert_eq!(left_behind(&bench).await, 0, "{said}");
    // It lets everything through: nobody can be rejected for the noise of another.
    let (code, record, said) = access(&bench, &format!("tenants --target {url} --drill neighbour"));
    assert_eq!((code, record.verdict), (3, Verdict::Inconclusive), "{said}");
    assert!(said.contains("declares no limit that a loud one could use up"), "{said}");

    let other = Bench::new().await;
    let (code, _, err) = run(&mut other.dbstress(&format!("tenants --target {url}")));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("is not at work on"), "{err}");
    wrong.signal(Signal::SIGTERM);
    wrong.ended().await;
}

/// Where a server listens, as it says.
async fn address(server: &Started) -> String {
    server.says("listening on ").await;
    let said = server.said();
    let url = said.split("listening on ").nth(1).and_then(|rest| rest.split_whitespace().next());
    url.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_leaves_nothing_behind_and_is_no_pass() {
    let bench = Bench::new().await;
    let started = Started::new(bench.dbstress(&format!("tenants {SMALL}")));
    started.says("control of isolation").await;
    started.signal(Signal::SIGINT);
    let (code, out, err) = started.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert!(out.contains("INCONCLUSIVE") && out.contains("of 6 drills were done"), "{out}");
    assert_eq!(left_behind(&bench).await, 0, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_make_no_roles_leaves_the_policies_open() {
    let bench = Bench::new().await;
    let name = &bench.database.options.database;
    let role = format!("access_{name}");
    let mut session = bench.database.superuser().await;
    let may_make = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = {} AND (rolsuper OR rolcreaterole)",
        literal(&bench.database.options.user)
    );
    let is_restricted = session.integer(&may_make).await.unwrap() == 0;
    // Whoever connects to this database is only that role, and may not make others.
    let grants = format!(
        "CREATE ROLE {role} NOSUPERUSER NOCREATEROLE; GRANT ALL ON DATABASE \"{name}\" TO {role}; \
         GRANT USAGE ON SCHEMA dbstress TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA dbstress TO {role}; \
         GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}; ALTER DATABASE \"{name}\" SET role = '{role}'"
    );
    if !is_restricted {
        session.execute(&grants).await.unwrap();
    }
    let (code, out, err) = run(&mut bench.dbstress("tenants --drill row-security --quiet"));
    let drop = format!("ALTER DATABASE \"{name}\" RESET role; DROP OWNED BY {role}; DROP ROLE {role}");
    if !is_restricted {
        session.execute(&drop).await.unwrap();
    }
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("not run: roles and tables cannot be made here"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_mistyped_is_guessed_and_what_cannot_be_is_refused_with_the_cure() {
    let empty = common::database().await;
    let place = common::Place::new();
    for (arguments, hint) in [
        ("rate-limit --drill brute-froce", "did you mean `brute-force`?"),
        ("auth --bug acepts-expired", "did you mean `accepts-expired`?"),
        ("auth --drill exact", "dbstress rate-limit --drill exact"),
        ("tenants --bug limit-off-by-one", "dbstress rate-limit --bug limit-off-by-one --drill exact,at-once,brute-force"),
        ("auth --bug any-signature --target http://127.0.0.1:1", "cannot be used with"),
        ("auth --slack 0", "a factor is a number"),
        ("auth", "dbstress seed"),
    ] {
        let (code, _, err) = run(&mut common::on(&place, &empty.options, arguments));
        assert_eq!(code, 2, "{arguments}: {err}");
        assert!(err.contains(hint), "{arguments}: {err}");
    }
    for subject in Subject::ALL {
        let (code, out, _) =
            run(&mut place.dbstress(&[subject.name(), "--list", "--database-url", "postgres://nobody@127.0.0.1:1/nowhere"]));
        assert_eq!(code, 0);
        assert!(subject.drills().all(|drill| out.contains(drill.name())), "{out}");
    }
}
