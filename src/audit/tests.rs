//! A right run has no finding; each kind of wrong, planted in it, is found under its own name.

use super::*;
use crate::history::Asking;
use crate::outcome::{Abort, Outcome, Refusal};

const RUN: i32 = 3;
const AUTHORISATION: i64 = 900;

/// A round of four VUs asking for 20 of 50: two win, two are refused after the second winner committed.
fn round() -> (Expectation, Subject) {
    let applied = |version: i64| Applied { version, total: 50, used: 0, scheduled: 20 * version as i32 };
    let record = |vu: u16, outcome, commit_sent, finished, applied| Record {
        n: 0,
        vu,
        kind: OperationKind::Reserve,
        asking: None,
        outcome,
        attempts: 1,
        conflicts: 0,
        is_attack: false,
        authorisation: AUTHORISATION,
        units: 20,
        scheduled: 0,
        started: 1,
        last_attempt: 2,
        commit_sent,
        finished,
        applied,
        began: 0,
    };
    let refused = Outcome::Refused(Refusal::InsufficientUnits);
    let records = vec![
        record(0, Outcome::Committed, 100, 110, applied(1)),
        record(1, Outcome::Committed, 200, 210, applied(2)),
        record(2, refused, 0, 300, Applied::default()),
        record(3, refused, 0, 310, Applied::default()),
    ];
    let entry = |vu: u16, version: i64| Entry {
        op: OpId::new(RUN, vu, 0),
        attempt: 1,
        kind: Some(OperationKind::Reserve),
        units: 20,
        applied: applied(version),
        began: 10,
        wrote: 100 * version,
        decided: 0,
    };
    let ledger = vec![entry(1, 2), entry(0, 1)];
    let expectation =
        Expectation { contest_units: Some(20), vus: 4, issued: (0..4).map(|vu| (vu, 1)).collect(), ..Expectation::default() };
    (expectation, Subject { authorisation: AUTHORISATION, run: RUN, contest: String::new(), last: applied(2), ledger, records })
}

fn examine(change: impl FnOnce(&mut Expectation, &mut Subject)) -> Audit {
    let (mut expectation, mut subject) = round();
    change(&mut expectation, &mut subject);
    let mut audit = Audit::default();
    audit.examine(&expectation, subject);
    audit
}

fn kinds(audit: &Audit) -> Vec<Breach> {
    audit.breaches.keys().copied().collect()
}

#[test]
fn a_right_round_has_no_finding_and_every_operation_its_class() {
    let audit = examine(|_, _| {});
    assert_eq!(kinds(&audit), []);
    assert!(audit.incomplete.is_empty());
    assert_eq!((audit.rounds, audit.versions, audit.refusals_judged), (1, 2, 2));
    assert_eq!(audit.classes, Classes { acknowledged_present: 2, refused: 2, ..Classes::default() });
    let exposure = Exposure { handovers: 1, contested: 1, conflicts: 0, overtaken: 0, blocks: 1, contested_blocks: 1 };
    assert_eq!(audit.exposure, exposure);
    assert_eq!(audit.exposure.bound(), Some(3.0));
}

#[test]
fn a_handover_is_contested_only_if_the_server_saw_both_at_once() {
    let audit = examine(|_, s| s.ledger[0].began = 101);
    assert_eq!(audit.exposure, Exposure { handovers: 1, contested: 0, blocks: 1, ..Exposure::default() });
    assert_eq!(audit.exposure.bound(), None, "50 clients that never met have shown nothing");
}

#[test]
fn an_attempt_that_the_server_turned_down_is_contention_too() {
    let audit = examine(|_, s| {
        s.ledger[0].began = 101;
        s.records[1].conflicts = 3;
    });
    assert_eq!(audit.exposure, Exposure { handovers: 1, conflicts: 3, blocks: 1, contested_blocks: 1, ..Exposure::default() });
}

#[test]
fn a_lost_update_names_both_operations() {
    let audit = examine(|_, s| {
        s.ledger[0].applied.scheduled = 20;
        s.records[1].applied.scheduled = 20;
        s.last.scheduled = 20;
    });
    assert!(kinds(&audit).contains(&Breach::LostUpdate));
    let finding = audit.findings.iter().find(|f| f.breach == Breach::LostUpdate).unwrap();
    assert_eq!(finding.operations, ["3.0.0", "3.1.0"]);
}

#[test]
fn overbooking_is_found_at_its_version_even_if_it_healed() {
    let audit = examine(|e, s| {
        e.contest_units = None;
        for (vu, version, kind, scheduled) in [(2, 3, OperationKind::Reserve, 60), (3, 4, OperationKind::Release, 40)] {
            let applied = Applied { version, total: 50, used: 0, scheduled };
            s.ledger.push(Entry {
                op: OpId::new(RUN, vu, 0),
                attempt: 1,
                kind: Some(kind),
                units: 20,
                applied,
                began: 0,
                wrote: 400,
                decided: 0,
            });
            let record = &mut s.records[usize::from(vu)];
            (record.outcome, record.kind, record.applied) = (Outcome::Committed, kind, applied);
            (record.commit_sent, record.finished) = (250 + u64::from(vu), 260 + u64::from(vu));
        }
        s.last = Applied { version: 4, total: 50, used: 0, scheduled: 40 };
    });
    assert_eq!(kinds(&audit), [Breach::Overbooked]);
    assert!(
        audit.findings[0].detail.contains("version 3") && audit.findings[0].detail.contains("60 of 50"),
        "{:?}",
        audit.findings
    );
}

#[test]
fn every_disagreement_between_client_and_ledger_has_its_class() {
    let lost = examine(|_, s| {
        s.ledger.remove(0);
        s.last = s.ledger[0].applied;
    });
    assert_eq!((kinds(&lost), lost.classes.acknowledged_lost, lost.skipped), (vec![Breach::AcknowledgedLost], 1, 1));

    let refused = examine(|_, s| s.records[1].outcome = Outcome::Refused(Refusal::InsufficientUnits));
    assert!(kinds(&refused).contains(&Breach::RefusedPresent) && refused.classes.refused_present == 1);

    let aborted = examine(|_, s| s.records[1].outcome = Outcome::Aborted(Abort::Deadline));
    assert!(kinds(&aborted).contains(&Breach::AbortedPresent) && aborted.classes.aborted_present == 1);

    let phantom = examine(|e, s| {
        e.issued.insert(1, 0);
        s.records.remove(1);
        e.vus = 3;
    });
    assert!(kinds(&phantom).contains(&Breach::Phantom) && phantom.classes.phantom == 1);

    let told = examine(|_, s| s.records[0].applied.scheduled = 10);
    assert_eq!(kinds(&told), [Breach::Misreported]);
}

#[test]
fn an_unknown_is_committed_absent_or_unresolved_but_never_guessed() {
    let committed = examine(|_, s| s.records[1].outcome = Outcome::Unknown);
    assert_eq!((kinds(&committed), committed.classes.unknown_committed), (vec![], 1));

    let fence = |s: &mut Subject| {
        s.records[1].outcome = Outcome::Unknown;
        s.records[1].applied = Applied::default();
        s.ledger.remove(0);
        s.last = s.ledger[0].applied;
        s.records[2].outcome = Outcome::Aborted(Abort::Deadline);
        s.records[3].outcome = Outcome::Aborted(Abort::Deadline);
    };
    let absent = examine(|_, s| {
        fence(s);
        let mut line = s.ledger[0];
        (line.op, line.kind, line.applied) = (OpId::new(RUN, 1, 0), None, Applied::default());
        s.ledger.push(line);
    });
    assert_eq!((kinds(&absent), absent.classes.unknown_absent, absent.rounds_short), (vec![], 1, 1));

    let unresolved = examine(|_, s| fence(s));
    assert_eq!((kinds(&unresolved), unresolved.classes.unknown_unresolved), (vec![], 1));
    assert_eq!(unresolved.incomplete.len(), 1);
}

#[test]
fn what_was_seen_on_the_wire_must_be_what_the_database_holds() {
    let present = |truth: Truth, at: u64| {
        let audit = examine(|e, s| {
            s.records[1].outcome = Outcome::Unknown;
            e.truths.add(1, at, truth);
        });
        (kinds(&audit), audit.truths_met)
    };
    assert_eq!(present(Truth::Committed, 205), (vec![], 1));
    assert_eq!(present(Truth::NeverSent, 205), (vec![Breach::AbortedPresent], 0));
    assert_eq!(present(Truth::NotCommitted, 205), (vec![Breach::AbortedPresent], 0));
    assert_eq!(present(Truth::Unanswered, 205), (vec![], 0));
    assert_eq!(present(Truth::NeverSent, 199), (vec![], 0), "that was another COMMIT of the same virtual user");

    let absent = |truth: Truth| {
        let audit = examine(|e, s| {
            s.records[1].outcome = Outcome::Unknown;
            s.records[1].applied = Applied::default();
            let mut line = s.ledger.remove(0);
            s.last = s.ledger[0].applied;
            (line.kind, line.applied) = (None, Applied::default());
            s.ledger.push(line);
            s.records[2].outcome = Outcome::Aborted(Abort::Deadline);
            s.records[3].outcome = Outcome::Aborted(Abort::Deadline);
            e.truths.add(1, 205, truth);
        });
        (kinds(&audit), audit.truths_met)
    };
    assert_eq!(absent(Truth::NeverSent), (vec![], 1));
    assert_eq!(absent(Truth::Committed), (vec![Breach::AcknowledgedLost], 0), "the server had said so");
}

/// Two requests with one key of which the second came after its lifetime, with another body; the first was not answered at first, asked again
/// and was told that the key is another body's.
#[test]
fn who_asks_again_for_a_key_that_has_lapsed_may_meet_another_body() {
    let refused = |change: fn(&mut Subject)| {
        let audit = examine(|e, s| {
            e.contest_units = None;
            e.lifetimes = Some(Lifetimes { lifetime: 60, late: 61 });
            s.records.truncate(2);
            s.records[0].outcome = Outcome::Refused(Refusal::KeyMismatch);
            s.records[0].attempts = 2;
            s.records[0].applied = Applied::default();
            s.records[1].asking = Some(Asking::Late);
            s.records[1].units = 10;
            s.ledger[0].decided = 61;
            s.ledger[0].units = 10;
            s.ledger[0].applied.scheduled = 30;
            s.records[1].applied = s.ledger[0].applied;
            s.last = s.ledger[0].applied;
            change(s);
        });
        (kinds(&audit), audit.classes.lapsed_present)
    };
    assert_eq!(refused(|_| {}), (vec![], 1));
    assert_eq!(refused(|s| s.records[0].attempts = 1).0, [Breach::RefusedPresent], "it was answered, and wrongly");
    let within = refused(|s| s.ledger[0].decided = 59);
    assert!(within.0.contains(&Breach::RefusedPresent) && within.0.contains(&Breach::KeyAppliedTwice), "{within:?}");
}

#[test]
fn one_operation_applied_by_two_attempts_is_found() {
    let audit = examine(|_, s| {
        let mut again = s.ledger[0];
        again.attempt = 2;
        again.applied = Applied { version: 3, total: 50, used: 0, scheduled: 60 };
        s.last = again.applied;
        s.ledger.push(again);
    });
    assert_eq!(kinds(&audit), [Breach::Overbooked, Breach::Duplicated]);
}

#[test]
fn a_write_that_left_no_line_is_found() {
    assert_eq!(kinds(&examine(|_, s| s.last.scheduled = 50)), [Breach::WriteOutsideLedger]);
    let gap = examine(|_, s| {
        s.ledger[0].applied.version = 3;
        s.records[1].applied.version = 3;
        s.last.version = 3;
    });
    assert_eq!(kinds(&gap), [Breach::WriteOutsideLedger]);
}

#[test]
fn too_many_winners_and_too_few_are_told_apart() {
    let many = examine(|e, s| {
        e.contest_units = Some(30);
        s.last.total = 50;
    });
    assert!(kinds(&many).contains(&Breach::TooManyWinners));

    let spurious = examine(|_, s| {
        s.ledger.remove(0);
        s.last = s.ledger[0].applied;
        s.records[1].outcome = Outcome::Refused(Refusal::InsufficientUnits);
        s.records[1].applied = Applied::default();
    });
    assert_eq!(kinds(&spurious), [Breach::UnjustifiedRefusal], "one winner, room for two, three refused");

    let missing = examine(|_, s| {
        s.records.pop();
    });
    assert_eq!(missing.incomplete.len(), 1, "a VU that is not in the history is no evidence");
}

#[test]
fn a_refusal_is_wrong_only_if_every_version_in_force_had_room() {
    let early = |e: &mut Expectation, s: &mut Subject| {
        e.contest_units = None;
        s.records[2].finished = 150; // version 2, which has no room for 20 more, is not sent before 200
    };
    assert_eq!(kinds(&examine(early)), [Breach::UnjustifiedRefusal]);
    let just_in_time = examine(|e, s| {
        early(e, s);
        s.records[2].finished = 200;
    });
    assert_eq!(kinds(&just_in_time), []);
    let reason = examine(|e, s| {
        e.contest_units = None;
        s.records[2].outcome = Outcome::Refused(Refusal::Inactive);
    });
    assert_eq!(kinds(&reason), [Breach::UnjustifiedRefusal], "nothing was exhausted");
}

#[test]
fn a_stranger_must_be_refused_and_nobody_else_as_one() {
    let let_in = examine(|_, s| s.records[0].is_attack = true);
    assert!(kinds(&let_in).contains(&Breach::CrossedTenant));
    let turned_away = examine(|e, s| {
        e.contest_units = None;
        s.records[2].is_attack = true;
        s.records[2].outcome = Outcome::Refused(Refusal::WrongOrganisation);
    });
    assert_eq!(kinds(&turned_away), []);
    let own = examine(|e, s| {
        e.contest_units = None;
        s.records[2].outcome = Outcome::Refused(Refusal::WrongOrganisation);
    });
    assert_eq!(kinds(&own), [Breach::UnjustifiedRefusal]);
}

#[test]
fn version_order_must_follow_real_time() {
    let audit = examine(|_, s| {
        s.records[0].last_attempt = 250; // began after version 2 was acknowledged at 210, and got version 1
        s.records[0].commit_sent = 255;
        s.records[0].finished = 260;
    });
    assert_eq!(kinds(&audit), [Breach::OutOfOrder]);
}

#[test]
fn only_the_first_findings_are_kept_and_all_are_counted() {
    let mut audit = Audit::default();
    for _ in 0..30 {
        let (expectation, mut subject) = round();
        subject.last.scheduled = 7;
        audit.examine(&expectation, subject);
    }
    assert_eq!(audit.findings.len(), KEPT);
    assert_eq!(audit.breaches[&Breach::WriteOutsideLedger], 30);
}

/// Five reservations, one after the other, versions 1 to 5, answered at 110, 210 and so on; those of `lost` are gone from the ledger.
fn after_a_crash(lost: &[i64], outages: &[(u64, u64)]) -> Audit {
    let (mut expectation, mut subject) = round();
    expectation.contest_units = None;
    expectation.outages = outages.iter().map(|(from, until)| Outage { from: *from, until: *until }).collect();
    let applied = |version: i64| Applied { version, total: 500, used: 0, scheduled: 20 * version as i32 };
    let (record, entry) = (subject.records[0], subject.ledger[0]);
    subject.records.clear();
    subject.ledger.clear();
    for version in 1..=5 {
        let (n, at) = (version as u32, 100 * version as u64);
        subject.records.push(Record { n, commit_sent: at, finished: at + 10, applied: applied(version), ..record });
        if !lost.contains(&version) {
            subject.ledger.push(Entry { op: OpId::new(RUN, 0, n), applied: applied(version), ..entry });
        }
    }
    expectation.issued = [(0, 6)].into();
    subject.last = subject.ledger.last().unwrap().applied;
    let mut audit = Audit::default();
    audit.examine(&expectation, subject);
    audit
}

#[test]
fn what_a_crash_took_is_the_end_of_the_history() {
    let lost = after_a_crash(&[4, 5], &[(600, 900)]).lost.unwrap();
    assert_eq!(lost, Lost { operations: 2, authorisations: 1, unexplained: 0, span_ms: 190e-6, survivors: 0 });
    assert_eq!(after_a_crash(&[], &[(600, 900)]).lost, None);
}

#[test]
fn what_survived_a_lost_operation_makes_it_a_hole() {
    let lost = after_a_crash(&[3], &[(600, 900)]).lost.unwrap();
    assert_eq!((lost.operations, lost.survivors), (1, 2));
}

#[test]
fn versions_that_were_lost_are_given_again_after_the_crash() {
    // Versions 4 and 5 were answered after the server was back; 3 was lost before.
    let lost = after_a_crash(&[3], &[(350, 390)]).lost.unwrap();
    assert_eq!((lost.operations, lost.unexplained, lost.survivors), (1, 0, 0));
    let lost = after_a_crash(&[3, 5], &[(350, 390), (550, 560)]).lost.unwrap();
    assert_eq!((lost.operations, lost.unexplained, lost.survivors), (2, 0, 0));
}

#[test]
fn what_is_lost_without_a_crash_is_not_explained_by_one() {
    let lost = after_a_crash(&[2, 5], &[(350, 390)]).lost.unwrap();
    // 2 is followed by 3, which was answered before the crash; 5 was answered after it.
    assert_eq!((lost.operations, lost.unexplained, lost.survivors), (2, 1, 1));
}

const DAY: i64 = 24 * 3600;

/// A key of which VU 0 had it done, VU 1 and 2 were told, VU 3 had another body, and VU 1 asked once more after the lifetime.
fn key() -> (Expectation, Subject) {
    let (mut expectation, mut subject) = round();
    expectation.lifetimes = Some(Lifetimes { lifetime: DAY, late: DAY + 1 });
    expectation.issued.insert(1, 2);
    let first = subject.records[0].applied;
    for record in &mut subject.records {
        record.asking = Some(Asking::First);
    }
    for n in [1, 2] {
        subject.records[n].outcome = Outcome::Replayed;
        subject.records[n].applied = first;
    }
    subject.records[2].asking = Some(Asking::HangUp);
    let mismatch = &mut subject.records[3];
    (mismatch.asking, mismatch.units) = (Some(Asking::OtherBody), 10);
    mismatch.outcome = Outcome::Refused(Refusal::KeyMismatch);
    let late =
        Record { n: 1, asking: Some(Asking::Late), outcome: Outcome::Committed, applied: subject.last, ..subject.records[1] };
    subject.records.push(Record { last_attempt: 400, commit_sent: 410, finished: 420, ..late });
    // In the ledger the later one comes first.
    subject.ledger[0].op = OpId::new(RUN, 1, 1);
    subject.ledger[0].decided = DAY + 1;
    (expectation, subject)
}

fn examine_key(change: impl FnOnce(&mut Subject)) -> Audit {
    let (expectation, mut subject) = key();
    change(&mut subject);
    let mut audit = Audit::default();
    audit.examine(&expectation, subject);
    audit
}

#[test]
fn a_key_with_one_effect_in_each_lifetime_has_no_finding() {
    let audit = examine_key(|_| {});
    assert_eq!(kinds(&audit), [], "{:?}", audit.findings);
    assert_eq!((audit.keys, audit.key_lifetimes, audit.key_effects, audit.rounds), (1, 2, 2, 0));
    assert_eq!(audit.classes, Classes { acknowledged_present: 2, replayed: 2, refused: 1, ..Classes::default() });
    // An attempt of one that was replayed in the end may be the one that did it.
    let audit = examine_key(|s| {
        s.ledger[1].op = OpId::new(RUN, 2, 0);
        s.records[0].outcome = Outcome::Replayed;
    });
    assert_eq!((kinds(&audit), audit.classes.replayed, audit.classes.replayed_own), (vec![], 2, 1));
}

#[test]
fn two_effects_in_a_lifetime_name_operations_and_attempts() {
    let audit = examine_key(|s| s.ledger[0].decided = DAY - 1);
    assert!(kinds(&audit).contains(&Breach::KeyAppliedTwice), "{:?}", audit.findings);
    let finding = audit.findings.iter().find(|f| f.breach == Breach::KeyAppliedTwice).unwrap();
    assert_eq!(finding.operations, ["3.0.0", "3.1.1"]);
    assert!(finding.detail.contains("3.0.0 attempt 1 at version 1, 3.1.1 attempt 1 at version 2"), "{finding:?}");
    assert_eq!((audit.key_lifetimes, audit.key_effects), (1, 2));
    // Whoever comes back from a later lifetime to an earlier one has not begun a new one.
    let back = examine_key(|s| (s.ledger[0].decided, s.ledger[1].decided) = (0, DAY + 1));
    assert!(kinds(&back).contains(&Breach::KeyAppliedTwice), "{:?}", back.findings);
}

#[test]
fn two_attempts_of_one_operation_are_two_effects_of_its_key() {
    let audit = examine_key(|s| {
        s.records.pop();
        s.ledger[0] = Entry { op: s.ledger[1].op, attempt: 2, decided: 0, ..s.ledger[0] };
    });
    assert_eq!(kinds(&audit), [Breach::Duplicated, Breach::KeyAppliedTwice]);
}

#[test]
fn an_answer_is_what_an_effect_of_the_key_came_to() {
    let told = examine_key(|s| s.records[1].applied.scheduled = 30);
    assert_eq!(kinds(&told), [Breach::ReplayDiffers]);
    let of_another_body = examine_key(|s| s.records[1].units = 10);
    assert_eq!(kinds(&of_another_body), [Breach::WrongBody]);
    let of_the_lifetime_before = examine_key(|s| {
        s.records[4].outcome = Outcome::Replayed;
        s.records[4].applied = s.records[0].applied;
        s.ledger[0].op = OpId::new(RUN, 3, 0);
        s.records[3].outcome = Outcome::Committed;
        (s.records[3].units, s.records[3].asking, s.records[3].applied) = (20, Some(Asking::Late), s.last);
    });
    assert_eq!(kinds(&of_the_lifetime_before), [Breach::ReplayDiffers], "{:?}", of_the_lifetime_before.findings);
}

#[test]
fn an_answer_without_any_effect_is_lost() {
    let nothing = |s: &mut Subject| {
        s.ledger.clear();
        s.last = Applied { version: 0, total: 50, used: 0, scheduled: 0 };
        s.records.truncate(2);
    };
    let audit = examine_key(nothing);
    assert_eq!(kinds(&audit), [Breach::AcknowledgedLost]);
    assert_eq!(audit.breaches[&Breach::AcknowledgedLost], 2, "the one that had it done, and the one that was told so");
}

#[test]
fn a_mismatch_needs_an_effect_of_another_body() {
    let audit = examine_key(|s| s.records[3].units = 20);
    assert_eq!(kinds(&audit), [Breach::UnjustifiedRefusal]);
}

/// A contest with room for one, which the first of three wins; the second wanted something else, the third the same.
fn contest() -> (Expectation, Subject) {
    let (expectation, mut subject) = round();
    subject.contest = "rest".into();
    subject.last = Applied { total: 1, ..Applied::default() };
    subject.records.truncate(3);
    subject.ledger.retain(|entry| entry.op.vu() == 0);
    for record in &mut subject.records {
        (record.kind, record.units, record.applied, record.began) = (OperationKind::Call, 1, Applied::default(), 50);
    }
    for entry in &mut subject.ledger {
        (entry.kind, entry.units, entry.applied) = (Some(OperationKind::Call), 1, Applied::default());
    }
    subject.records[1].outcome = Outcome::Refused(Refusal::TooLittleRest);
    subject.records[2].outcome = Outcome::Refused(Refusal::AlreadySo);
    (Expectation { contest_units: Some(1), vus: 3, is_of_schedules: true, ..expectation }, subject)
}

fn contested(change: impl FnOnce(&mut Expectation, &mut Subject)) -> Audit {
    let (mut expectation, mut subject) = contest();
    change(&mut expectation, &mut subject);
    let mut audit = Audit::default();
    audit.examine(&expectation, subject);
    audit
}

/// Lets the second win too.
fn second_wins(subject: &mut Subject) {
    subject.records[1].outcome = Outcome::Committed;
    let entry = Entry { op: OpId::new(RUN, 1, 0), began: 90, wrote: 120, ..subject.ledger[0] };
    subject.ledger.push(entry);
}

#[test]
fn a_contest_of_schedules_is_judged_by_its_winners_and_has_no_versions() {
    let audit = contested(|_, _| {});
    assert_eq!(kinds(&audit), [], "{:?}", audit.findings);
    assert_eq!((audit.rounds, audit.versions, audit.refusals_judged), (1, 0, 0));
    assert_eq!(audit.contests["rest"], Contested { rounds: 1, broken: 0 });
    assert_eq!(audit.classes, Classes { acknowledged_present: 1, refused: 2, ..Classes::default() });

    let audit = contested(|_, subject| second_wins(subject));
    assert_eq!(kinds(&audit), [Breach::TooManyWinners]);
    assert_eq!(audit.contests["rest"], Contested { rounds: 1, broken: 1 });
    let finding = &audit.findings[0];
    assert_eq!((finding.authorisation, &finding.operations[..]), (AUTHORISATION, &["3.0.0".to_owned(), "3.1.0".to_owned()][..]));
    assert!(finding.detail.contains("rest with room for 1"), "{}", finding.detail);

    let lost = contested(|_, subject| subject.ledger.clear());
    assert_eq!(kinds(&lost), [Breach::AcknowledgedLost]);
}

#[test]
fn who_is_told_that_it_is_so_already_says_nothing_of_the_room() {
    let given_up = |change: fn(&mut Subject)| {
        contested(|_, subject| {
            subject.last.total = 2;
            subject.records[1].outcome = Outcome::Aborted(Abort::Deadline);
            change(subject);
        })
    };
    let audit = given_up(|_| {});
    assert_eq!((kinds(&audit), audit.rounds_short), (vec![], 1), "{:?}", audit.findings);
    let audit = given_up(|subject| subject.records[2].outcome = Outcome::Refused(Refusal::TooLittleRest));
    assert_eq!(kinds(&audit), [Breach::UnjustifiedRefusal]);
}

#[test]
fn who_was_refused_met_the_winner_if_the_server_saw_them_at_once() {
    // The line was written at 100.
    let exposure = contested(|_, _| {}).exposure;
    assert_eq!((exposure.overtaken, exposure.handovers, exposure.contested_blocks), (2, 0, 1));
    let later = contested(|_, subject| subject.records.iter_mut().for_each(|record| record.began = 100)).exposure;
    assert_eq!((later.overtaken, later.contested_blocks), (0, 0));
    let unknown = contested(|_, subject| subject.records.iter_mut().for_each(|record| record.began = 0)).exposure;
    assert_eq!((unknown.overtaken, unknown.contested_blocks), (0, 0), "the server was not asked");

    let both = contested(|_, subject| second_wins(subject)).exposure;
    assert_eq!((both.handovers, both.contested), (1, 1));
    let apart = contested(|_, subject| {
        second_wins(subject);
        subject.ledger[1].began = 100;
    });
    assert_eq!((apart.exposure.handovers, apart.exposure.contested), (1, 0));
}
