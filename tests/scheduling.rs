//! Are the rules of a schedule kept when everybody changes it at once, by those who claim to, and is it found out when they are not? On a real
//! PostgreSQL.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Bench, Place as Folder, TestDatabase, on, rounds, run};
use dbstress::audit::Breach;
use dbstress::fault::Planned;
use dbstress::history::OpId;
use dbstress::invariant::{self, DEFAULT_SEARCH_PATH, Finding, When, run_all};
use dbstress::outcome::{OutcomeClass, Refusal};
use dbstress::pg::load::{Connection, Ending, Phase, Tx};
use dbstress::plan::Plan;
use dbstress::record::{Moment, RunRecord, TurnRecord};
use dbstress::report;
use dbstress::run::stock::Stock;
use dbstress::scenario::Contest;
use dbstress::strategy::{Decision, Hazard, Strategy};
use dbstress::verdict::Verdict;
use dbstress::workload::booking::Place;
use dbstress::workload::contest::{Change, Deck, Proposal, Round};
use dbstress::workload::scheduling::{Scheduling, Statements};

const VUS: u32 = 20;
const ROUNDS: u64 = 36;
/// Between reading and writing: long enough for everybody to have read.
const HOLD: Duration = Duration::from_millis(3);

fn plan(scenario: &str, strategies: &[Strategy]) -> Plan {
    common::scheduling(scenario, |plan, scheduling| {
        plan.load = rounds(VUS, ROUNDS);
        scheduling.strategies = strategies.to_vec();
        scheduling.hold = HOLD;
    })
}

async fn run_on(database: &TestDatabase, plan: Plan) -> RunRecord {
    common::run_plan(&database.options, &Folder::new(), plan).await
}

fn verify(database: &TestDatabase) -> (i32, String, String) {
    run(&mut on(&Folder::new(), &database.options, "verify"))
}

fn broken(turn: &TurnRecord, contest: Contest) -> u64 {
    let contested = turn.audit.contests[contest.name()];
    assert!(contested.rounds > 0, "{contest:?}");
    contested.broken
}

/// How many breaches of a rule there are.
fn breaches(turn: &TurnRecord, name: &str) -> i64 {
    let checked = turn.invariants.iter().find(|checked| checked.name == name).unwrap();
    match &checked.finding {
        Finding::Violated { total, .. } => *total,
        Finding::Holds { .. } => 0,
        other => panic!("{name}: {other:?}"),
    }
}

/// Every contest of `contests` was broken, and so were its rules; the others were not.
fn assert_breaks(turn: &TurnRecord, contests: &[Contest]) {
    for contest in Contest::ALL {
        let is_expected = contests.contains(&contest);
        assert_eq!(broken(turn, contest) > 0, is_expected, "{}: {contest:?}: {:?}", turn.name, turn.audit.contests);
        for name in contest.invariants() {
            assert_eq!(breaches(turn, name) > 0, is_expected, "{}: {name}", turn.name);
        }
    }
    let kinds: Vec<Breach> = turn.audit.breaches.keys().copied().collect();
    assert_eq!(kinds, [Breach::TooManyWinners], "{:?}", turn.audit.findings);
}

const OF_SKEW: [Contest; 5] = [Contest::Seats, Contest::Supervision, Contest::Hours, Contest::Rest, Contest::Double];

#[tokio::test]
async fn those_who_claim_to_be_safe_let_in_as_many_as_there_is_room_for() {
    let database = common::residency(None).await;
    let strategies: Vec<Strategy> = Strategy::safe(Hazard::WriteSkew).collect();
    let plan = plan("scheduling", &strategies);
    let deck = Deck::new(plan.rng_seed, &plan.scheduling().unwrap().contests);
    let room: u64 = (0..ROUNDS).map(|position| u64::from(deck.round(position).room)).sum();
    let record = run_on(&database, plan).await;
    let ran: Vec<&str> = record.turns.iter().map(|turn| turn.name.as_str()).collect();
    assert_eq!(ran, strategies.iter().map(|strategy| strategy.name()).collect::<Vec<_>>(), "{:?}", record.not_run);
    for turn in &record.turns {
        let name = &turn.name;
        assert!(turn.audit.breaches.is_empty() && turn.audit.incomplete.is_empty(), "{name}: {:?}", turn.audit);
        assert_eq!((turn.audit.rounds, turn.audit.rounds_short, turn.audit.versions), (ROUNDS, 0, 0), "{name}");
        assert_eq!(turn.counts.of(OutcomeClass::Committed), room, "{name}");
        assert_eq!(turn.audit.classes.acknowledged_present, room, "{name}");
        assert_eq!(turn.counts.of(OutcomeClass::Refused), ROUNDS * u64::from(VUS) - room, "{name}");
        let exposure = &turn.audit.exposure;
        assert!(exposure.contested_blocks >= 20 && exposure.blocks == ROUNDS, "{name}: {exposure:?}");
        for contest in Contest::ALL {
            assert_eq!(broken(turn, contest), 0, "{name}: {contest:?}");
            let refused = turn.counts.refused.get(&contest.refusal()).copied().unwrap_or(0);
            assert!(refused > 0, "{name}: nobody was refused for what {contest:?} is about: {:?}", turn.counts.refused);
        }
        // Who aborts for what others read is told apart from who was second to update a row.
        let gate = turn.gates.iter().find(|gate| gate.name.contains("dangerous structures"));
        assert_eq!(gate.is_some(), name == "serializable", "{name}");
        assert!(gate.is_none_or(|gate| gate.met), "{gate:?}");
    }
    // What protects may not have been seen at work where the machine is too slow to look; nothing else is open.
    let others: Vec<_> = record.turns.iter().flat_map(|t| &t.gates).filter(|g| !g.met && !g.name.contains("waiting")).collect();
    assert!(others.is_empty(), "{others:?}");
    for moment in [Moment::Before, Moment::After] {
        let caught: Vec<&str> = record.controls.iter().filter(|c| c.moment == moment && c.fired).map(|c| c.name.as_str()).collect();
        assert_eq!(caught, ["naive", "repeatable-read"], "{:?}", record.controls);
    }
    let (code, out, err) = verify(&database);
    assert_eq!(code, 0, "{out}{err}");
    let mut session = database.session().await;
    assert_eq!(session.text("SELECT to_regnamespace('dbstress_control')::text").await.unwrap(), None);
    let rows = "SELECT count(*) FROM dbstress.programme p WHERE run_id IS NOT NULL AND room = \
        (SELECT count(*) FROM dbstress.schedule_ledger l WHERE l.programme_id = p.id AND l.run_id = p.run_id)";
    let programmes = ROUNDS as i64 * strategies.len() as i64;
    assert_eq!(session.integer(rows).await.unwrap(), programmes, "each has as many lines as it has room");
    let all = "SELECT count(*) FROM dbstress.programme WHERE run_id IS NOT NULL";
    assert_eq!(session.integer(all).await.unwrap(), programmes, "what was not used is gone");

    // What was acknowledged and is gone is found, though no rule of the schedule is broken by it; and so is what nobody asked for.
    session
        .execute(
            "DELETE FROM dbstress.call_assignment WHERE id = (SELECT min(id) FROM dbstress.call_assignment WHERE id >= 1099511627776); \
             DELETE FROM dbstress.assignment WHERE id = (SELECT min(id) FROM dbstress.assignment WHERE id >= 1099511627776); \
             INSERT INTO dbstress.assignment (block_id, person_id, rotation_template_id, role) \
               SELECT l.block_id, l.person_id, t.id, 'supervising' FROM dbstress.schedule_ledger l \
               JOIN dbstress.rotation_template t ON t.programme_id = l.programme_id WHERE l.kind = 'cancel' ORDER BY l.op_id LIMIT 1",
        )
        .await
        .unwrap();
    let (code, out, err) = verify(&database);
    assert!(code == 1 && out.contains("changes-in-place (INV-R16) is violated"), "{out}{err}");
    let checked =
        run_all(&mut session, &[rule("changes-in-place")], &DEFAULT_SEARCH_PATH, When::Quiesced, Duration::from_secs(60)).await;
    let Finding::Violated { rows, .. } = &checked[0].finding else { panic!("{:?}", checked[0].finding) };
    let mut actual: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.actual.as_deref().map(|actual| actual.trim_end_matches(char::is_numeric).trim_end()))
        .collect();
    actual.sort_unstable();
    assert_eq!(actual, ["assignment", "gone", "gone", "there again"], "{rows:?}");
}

fn rule(name: &str) -> invariant::Invariant {
    invariant::built_in().unwrap().into_iter().find(|rule| rule.name == name).unwrap()
}

#[tokio::test]
async fn a_snapshot_does_not_keep_apart_what_writes_different_rows() {
    let database = common::residency(None).await;
    let record = run_on(&database, plan("scheduling", &[Strategy::RepeatableRead, Strategy::ForUpdate])).await;
    assert_eq!((record.verdict, record.turns.len()), (Verdict::Violated, 1), "{:?}", record.reasons);
    assert!(record.not_run[0].why.contains("seed --reset --dataset residency"), "{:?}", record.not_run);
    let turn = &record.turns[0];
    assert_breaks(turn, &OF_SKEW);
    let skews: Vec<_> = turn.audit.findings.iter().filter_map(|finding| finding.skew.as_ref()).collect();
    assert!(!skews.is_empty() && skews.iter().all(|s| s.second.began < s.first.wrote && s.first.op != s.second.op), "{skews:?}");
    let text = report::run::text(&record, None, 100, false);
    let shown = text.lines().take(24).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    assert!(shown.contains("each began before the other had committed"), "it is not on the first screen: {text}");
    assert!(text.contains("what repeatable-read let happen in programme") && !text.contains("authorisation"), "{text}");
    let (code, out, err) = verify(&database);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("within-capacity") && out.contains("rest-kept"), "{out}");
}

#[tokio::test]
async fn who_only_reads_and_writes_breaks_everything() {
    let database = common::residency(None).await;
    let record = run_on(&database, plan("scheduling", &[Strategy::Naive])).await;
    assert_eq!(record.verdict, Verdict::Violated);
    assert_breaks(&record.turns[0], &Contest::ALL);
}

#[tokio::test]
async fn a_constraint_on_overlaps_keeps_nobody_in_two_places_and_nothing_else() {
    let database = common::residency(None).await;
    let record = run_on(&database, plan("double-booking", &[Strategy::ExclusionConstraint])).await;
    let turn = &record.turns[0];
    assert!(turn.audit.breaches.is_empty() && breaches(turn, "nobody-in-two-places") == 0, "{:?}", turn.audit.findings);
    assert_eq!(turn.counts.of(OutcomeClass::Committed), ROUNDS);
    assert!(turn.counts.refused[&Refusal::DoubleBooked] > 0 && turn.audit.exposure.contested_blocks >= 20, "{turn:?}");
    assert!(record.controls.iter().all(|control| control.fired), "{:?}", record.controls);
    assert_eq!(record.controls.len(), 4);
    assert_eq!(verify(&database).0, 0);

    let record = run_on(&database, plan("scheduling", &[Strategy::ExclusionConstraint])).await;
    assert_eq!(record.verdict, Verdict::Violated);
    let others = [Contest::Seats, Contest::Supervision, Contest::Hours, Contest::Rest, Contest::Swap];
    assert_breaks(&record.turns[0], &others);
}

#[tokio::test]
async fn where_changes_vanish_without_a_word_nothing_is_shown() {
    let database = common::residency(None).await;
    let swallow = "CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
        CREATE TRIGGER swallow BEFORE INSERT ON dbstress.call_assignment FOR EACH ROW EXECUTE FUNCTION public.swallow()";
    let plan = plan("double-booking", &[Strategy::Advisory]);
    let record = common::run_sabotaged(&database.options, &Folder::new(), plan, swallow).await;
    let gate = record.turns[0].gates.iter().find(|gate| gate.name == "every change that was sent was made");
    assert!(gate.is_some_and(|gate| !gate.met), "{:?}", record.turns[0].gates);
    // And the trigger is found where it was put.
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    assert!(record.reasons.iter().any(|why| why.contains("constraints-in-place")), "{:?}", record.reasons);
}

/// What was acknowledged is taken back as it is committed, without a line in the ledger: half of each exchange, and every call.
#[tokio::test]
async fn half_an_exchange_and_a_change_that_is_silently_cancelled_are_found_out() {
    let database = common::residency(None).await;
    let trigger = |name: &str, table: &str, body: &str| {
        format!(
            "CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON dbstress.{table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
             EXECUTE FUNCTION public.{name}();"
        )
    };
    let halve = "UPDATE dbstress.assignment SET person_id = NEW.source_person_id WHERE id = NEW.source_assignment_id";
    let cancel = "DELETE FROM dbstress.call_assignment WHERE id = NEW.id";
    let sabotage = [trigger("halve", "swap", halve), trigger("cancel", "call_assignment", cancel)];
    let plan = plan("scheduling", &[Strategy::Advisory]);
    let record = common::run_sabotaged(&database.options, &Folder::new(), plan, &sabotage.concat()).await;
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    for rule in ["swaps-exchanged", "changes-in-place"] {
        assert!(breaches(&record.turns[0], rule) > 0, "{rule}: {:?}", record.turns[0].reasons);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_commit_that_was_not_answered_is_found_out() {
    let database = common::residency(None).await;
    let faults = ["response-lost@1ms..60s/20ms", "request-lost@11ms..60s/20ms"];
    let plan = common::scheduling("scheduling", |plan, scheduling| {
        plan.load = rounds(8, ROUNDS);
        plan.faults = faults.map(|fault| fault.parse::<Planned>().unwrap()).to_vec();
        scheduling.strategies = vec![Strategy::Advisory];
        scheduling.hold = HOLD;
    });
    let record = run_on(&database, plan).await;
    let turn = &record.turns[0];
    assert!(turn.audit.breaches.is_empty() && turn.audit.incomplete.is_empty(), "{:?}", turn.audit);
    let classes = &turn.audit.classes;
    let unknown = turn.counts.of(OutcomeClass::Unknown);
    assert!(unknown > 0, "{:?}", turn.faults);
    assert_eq!((classes.unknown_committed + classes.unknown_absent, classes.unknown_unresolved), (unknown, 0));
    assert!(classes.unknown_committed > 0 && classes.unknown_absent > 0, "{classes:?}");
    assert!(turn.audit.truths_met > 0, "{:?}", turn.audit);
    assert_eq!(verify(&database).0, 0);
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_with_its_reason() {
    let bench = Bench::new().await;
    let residency = common::residency(None).await;
    let place = Folder::new();
    let typed: [(&str, i32, &[&str]); 15] = [
        ("scheduling --strategy atomic", 2, &["--strategy: atomic", "no single UPDATE locks", "for-update-nowait"]),
        ("scheduling --strategy optimistic", 2, &["only read carry no version"]),
        ("scheduling --strategy check-constraint", 2, &["a CHECK sees one row"]),
        ("scheduling --strategy naive-set", 2, &["no counters"]),
        ("double-booking --strategy atomic", 2, &["no single UPDATE locks", "exclusion-constraint"]),
        ("contention --strategy exclusion-constraint", 2, &["no time that could overlap"]),
        ("scheduling --units 5", 2, &["--units: it is about bookings"]),
        ("scheduling --bug lock-and-read", 2, &["--bug: it is about bookings"]),
        ("scheduling --iterations 5", 2, &["--iterations", "rounds instead"]),
        ("scheduling --rate 5", 2, &["--rate", "everybody begins at once"]),
        ("scheduling --hold 1m", 2, &["--hold", "deadline"]),
        ("scheduling --vus 6 --rounds 5", 2, &["no contention", "supervision", "--vus above 6"]),
        ("double-booking --vus 1 --rounds 5", 2, &["no contention: 1 VU meets nobody"]),
        ("contention --vus 20 --rounds 5", 2, &["the dataset residency", "nothing to book", "seed --reset"]),
        ("run mine.toml", 2, &["mine.toml:3:", "nothing here could break within-capacity", "seats"]),
    ];
    let mine = "summary = \"mine\"\nworkload = \"scheduling\"\nclaims = [\"within-capacity\"]\n[scheduling.contests]\nrest = 1\n";
    std::fs::write(place.0.join("mine.toml"), mine).unwrap();
    for (arguments, code, words) in typed {
        let (found, out, err) = run(&mut on(&place, &residency.options, arguments));
        assert_eq!(found, code, "{arguments}: {out}{err}");
        for word in words {
            assert!(err.contains(word), "{arguments}: `{word}` is missing from: {err}");
        }
    }
    let (code, out, err) = run(&mut bench.dbstress("scheduling --vus 20 --rounds 5"));
    assert!(code == 2 && err.contains("the dataset clinic") && err.contains("seed --reset --dataset residency"), "{out}{err}");
    let runs = "SELECT count(*) FROM dbstress.run";
    assert_eq!(residency.session().await.integer(runs).await.unwrap(), 0);
}

/// Programmes of one contest, and whoever proposes changes to them, one after the other.
struct Desk {
    connection: Connection,
    statements: Statements,
    place: Place,
    strategy: Strategy,
    base: i64,
    deck: Deck,
    issued: AtomicU32,
}

impl Desk {
    async fn open(database: &TestDatabase, strategy: Strategy, contest: Contest, run: i32, programmes: u64) -> Self {
        let as_of = "2026-01-15 12:00:00".to_owned();
        let place = Place { schema: "dbstress", run, strategy: strategy.name(), as_of };
        let deck = Deck::new(42, &[(contest, 1.0)].into());
        let stock =
            Stock::of_programmes(database.session().await, &database.options, &place, deck.clone(), programmes).await.unwrap();
        let mut connection = Connection::open(&database.options, "dbstress/test", &[strategy.isolation()]).await.unwrap();
        let statements = Statements::prepare(&mut connection, &place).await.unwrap();
        let base = stock.base();
        Self { connection, statements, place, strategy, base, deck, issued: AtomicU32::new(0) }
    }

    /// The different changes that are proposed in the round at `position`.
    fn proposals(&self, position: u64) -> (Round, Vec<Proposal>) {
        let round = self.deck.round(position);
        let mut different: Vec<Proposal> = Vec::new();
        for vu in 0..32 {
            let proposal = round.propose(self.base + position as i64, vu);
            if !different.contains(&proposal) {
                different.push(proposal);
            }
        }
        (round, different)
    }

    async fn propose(&mut self, proposal: Proposal) -> Result<(), Refusal> {
        let op_id = OpId::new(self.place.run, 0, self.issued.fetch_add(1, Ordering::Relaxed));
        let operation = Scheduling { proposal, op_id, attempt: 1, statements: &self.statements };
        let phase = Phase::default();
        let mut tx = Tx::begin(&mut self.connection, self.strategy.isolation(), Duration::ZERO, &phase).await.unwrap();
        let decision = self.strategy.apply(&mut tx, &operation).await.unwrap();
        assert_eq!(tx.commit().await, Ending::Committed);
        assert!(phase.begun() > 0, "the server says when it began");
        match decision {
            Decision::Applied(_) => Ok(()),
            Decision::Refused(refusal) => Err(refusal),
        }
    }
}

#[tokio::test]
async fn each_change_is_legal_and_one_after_the_other_only_so_many_as_there_is_room_for() {
    let database = common::residency(None).await;
    let expressible = Strategy::ALL.into_iter().filter(|s| s.inexpressible(Hazard::WriteSkew).is_none());
    let mut number = 0;
    for strategy in expressible.collect::<Vec<_>>() {
        for contest in Contest::ALL {
            number += 1;
            let mut desk = Desk::open(&database, strategy, contest, number, 24).await;
            // Each alone, in a programme of its own.
            let most = desk.proposals(0).1.len() as u64;
            for position in 0..most {
                let (_, proposals) = desk.proposals(position);
                let alone = proposals[position as usize % proposals.len()];
                assert_eq!(desk.propose(alone).await, Ok(()), "{strategy:?}: {alone:?}");
            }
            // All of them, in one.
            for position in most..most + 4 {
                let (round, proposals) = desk.proposals(position);
                for (n, proposal) in proposals.iter().enumerate() {
                    let expected = if n < round.room as usize { Ok(()) } else { Err(contest.refusal()) };
                    assert_eq!(desk.propose(*proposal).await, expected, "{strategy:?}: {round:?}: {proposal:?}");
                }
                let again = match proposals[0].change {
                    // It is no longer whose it was.
                    Change::Swap { .. } => Refusal::NotHeld,
                    _ => Refusal::AlreadySo,
                };
                assert_eq!(desk.propose(proposals[0]).await, Err(again), "{strategy:?}: {round:?}");
            }
        }
    }
    let mut session = database.session().await;
    let of_residency: Vec<_> = invariant::built_in().unwrap().into_iter().filter(|i| i.is_about("residency")).collect();
    for checked in run_all(&mut session, &of_residency, &DEFAULT_SEARCH_PATH, When::Quiesced, Duration::from_secs(60)).await {
        assert!(matches!(checked.finding, Finding::Holds { .. } | Finding::Vacuous), "{}: {:?}", checked.name, checked.finding);
    }
}
