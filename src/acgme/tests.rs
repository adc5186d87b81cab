//! Do the rules find what was planted, and nothing else? What is expected is written by hand, never computed.

use super::evaluate::{Evaluator, Roster, all_windows, of_person, supervisors_required};
use super::rules::{FirstYear, Formula, RuleSet};
use super::timeline::{Span, Timeline};
use super::{Absence, *};
use crate::random::Random;

use Rule::*;
use Severity::{Violation, Warning};

/// 2026-01-05.
const MONDAY: i64 = 9501;
const PERIOD: (Minute, Minute) = (MONDAY * DAY, (MONDAY + 28) * DAY);
const OFF: [i64; 4] = [6, 13, 20, 27];
const NONE: [(Rule, Severity, i64); 0] = [];

/// The time of that hour on a day, counted from the Monday.
fn at(day: i64, hour: i64) -> Minute {
    (MONDAY + day) * DAY + hour * HOUR
}

fn sets() -> [RuleSet; 3] {
    [RuleSet::cpr(), RuleSet::rs_dec25(), RuleSet::rs_head()]
}

/// A person's schedule, to be changed.
#[derive(Debug, Clone)]
struct Plan {
    person: Person,
    period: Option<(Minute, Minute)>,
    duties: Vec<Duty>,
    absences: Vec<Absence>,
    attendances: Vec<Attendance>,
}

impl Plan {
    fn idle(kind: PersonKind) -> Self {
        let person = Person { id: 7, kind };
        Self { person, period: Some(PERIOD), duties: Vec::new(), absences: Vec::new(), attendances: Vec::new() }
    }

    fn resident() -> Self {
        Self::idle(PersonKind::Resident(Some(2)))
    }

    /// Morning and afternoon of the four weeks, without these days.
    fn without(off: &[i64]) -> Self {
        (0..28).filter(|day| !off.contains(day)).fold(Self::resident(), |plan, day| plan.am(day).pm(day))
    }

    fn usual() -> Self {
        Self::without(&OFF)
    }

    /// The usual weeks, with more days off.
    fn usual_without(days: &[i64]) -> Self {
        Self::without(&[&OFF, days].concat())
    }

    fn year(mut self, year: Option<u8>) -> Self {
        self.person.kind = PersonKind::Resident(year);
        self
    }

    fn faculty(mut self) -> Self {
        self.person.kind = PersonKind::Faculty;
        self
    }

    fn duty(mut self, kind: DutyKind, start: Minute, end: Minute) -> Self {
        self.duties.push(Duty { start, end, kind });
        self
    }

    fn am(self, day: i64) -> Self {
        self.duty(DutyKind::HalfDay, at(day, 7), at(day, 13))
    }

    fn pm(self, day: i64) -> Self {
        self.duty(DutyKind::HalfDay, at(day, 13), at(day, 19))
    }

    fn night(self, kind: DutyKind, day: i64) -> Self {
        self.duty(kind, at(day, 19), at(day + 1, 7))
    }

    fn call(self, day: i64) -> Self {
        self.night(DutyKind::Overnight, day)
    }

    fn calls(self, days: impl IntoIterator<Item = i64>) -> Self {
        days.into_iter().fold(self, Self::call)
    }

    fn absent(mut self, first: i64, last: i64, is_blocking: bool) -> Self {
        self.absences.push(Absence { start: at(first, 0), end: at(last + 1, 0), is_blocking });
        self
    }

    fn roster(&self) -> Roster<'_> {
        Roster {
            person: self.person,
            period: self.period,
            duties: &self.duties,
            absences: &self.absences,
            attendances: &self.attendances,
        }
    }

    fn found(&self, rules: &RuleSet) -> Vec<Finding> {
        of_person(rules, &self.roster())
    }

    /// The only finding of a rule, as it is.
    fn one(&self, rules: &RuleSet, rule: Rule) -> Finding {
        let found: Vec<Finding> = self.found(rules).into_iter().filter(|finding| finding.rule == rule).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].subject, Subject::Person(7));
        found[0]
    }

    fn has(&self, rules: &RuleSet, rule: Rule) -> bool {
        self.found(rules).iter().any(|finding| finding.rule == rule)
    }

    /// What is expected under `cpr`, `rs-dec25`, `rs-head`.
    #[track_caller]
    fn expect(&self, expected: [&[(Rule, Severity, i64)]; 3]) {
        for (rules, expected) in sets().iter().zip(expected) {
            let found: Vec<_> = self.found(rules).iter().map(|f| (f.rule, f.severity, f.measured)).collect();
            assert_eq!(found, expected, "{}", rules.name);
        }
    }
}

fn window(finding: Finding) -> (Minute, Minute) {
    (finding.start, finding.end)
}

/// Only one rule, so that others say nothing.
fn only(change: impl FnOnce(&mut RuleSet)) -> RuleSet {
    let mut rules = RuleSet {
        name: "one",
        weekly_hours: None,
        days_in_a_row: None,
        free_days: None,
        continuous_hours: None,
        rest: None,
        calls: None,
        nights_in_a_row: None,
        supervision: None,
        first_year: None,
        absence: false,
        double_booking: false,
        capacity: false,
        post_night: false,
    };
    change(&mut rules);
    rules
}

#[test]
fn each_set_has_its_rules() {
    let ids = |rules: RuleSet| rules.rules().into_iter().map(Rule::id).collect::<Vec<_>>().join(" ");
    assert_eq!(ids(RuleSet::cpr()), "AC-1 AC-2b AC-3 AC-4 AC-5 AC-7 AC-8 AC-9 AC-10 AC-11");
    assert_eq!(ids(RuleSet::rs_dec25()), "AC-1 AC-2a AC-6 AC-7 AC-8 AC-9 AC-10 AC-11");
    assert_eq!(ids(RuleSet::rs_head()), "AC-1 AC-2a AC-3 AC-4 AC-5 AC-7 AC-9 AC-10 AC-11 AC-12");
    assert_eq!(only(|_| {}).rules(), []);
}

#[test]
fn a_set_is_found_by_its_name() {
    for (name, rules) in RuleSet::NAMES.into_iter().zip(sets()) {
        assert_eq!(RuleSet::named(name).unwrap(), rules);
        assert_eq!(rules.name, name);
    }
    let error = RuleSet::named("rs-dec24").unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Usage);
    assert_eq!(
        error.to_string(),
        "there is no set of rules \"rs-dec24\"\n  cure:  did you mean rs-dec25? There are cpr, rs-dec25, rs-head."
    );
    assert_eq!(RuleSet::named("").unwrap_err().to_string().lines().last(), Some("  cure:  There are cpr, rs-dec25, rs-head."));
}

// The planted cases, by their names.

#[test]
fn the_usual_weeks_break_nothing() {
    for weekday in 0..7 {
        for year in [None, Some(1), Some(2), Some(3)] {
            let off: Vec<i64> = (0..4).map(|week| 7 * week + weekday).collect();
            Plan::without(&off).year(year).expect([&NONE; 3]);
        }
    }
    Plan::resident().expect([&NONE; 3]);
}

#[test]
fn pl_1_hours_of_four_weeks() {
    Plan::usual().calls([5, 12, 19]).expect([&[(WeeklyHours, Violation, 81 * 240)]; 3]);
    Plan::usual().calls([5, 12]).expect([&[(WeeklyHours, Warning, 78 * 240)]; 3]);
    let extended = |hours: &[(i64, i64)]| {
        let stay = |plan: Plan, (day, hours): &(i64, i64)| plan.duty(DutyKind::Extension, at(*day, 19), at(*day, 19 + hours));
        hours.iter().fold(Plan::usual().calls([5, 12]), stay)
    };
    extended(&[(1, 4), (8, 4)]).expect([&[(WeeklyHours, Warning, 19200)]; 3]);
    extended(&[(1, 4), (8, 4), (15, 1)]).expect([&[(WeeklyHours, Violation, 19260)]; 3]);
    let finding = Plan::usual().calls([5, 12]).one(&RuleSet::cpr(), WeeklyHours);
    assert_eq!((window(finding), finding.limit), ((at(0, 0), at(28, 0)), 19200));
}

#[test]
fn pl_2_days_in_a_row_are_not_free_days() {
    let run = Plan::without(&[7, 13, 20, 27]);
    run.expect([&NONE, &[(DaysInARow, Violation, 7)], &[(DaysInARow, Violation, 7)]]);
    let finding = run.one(&RuleSet::rs_head(), DaysInARow);
    assert_eq!((window(finding), finding.limit), ((at(0, 0), at(7, 0)), 6));
    let hours = (WeeklyHours, Warning, 78 * 240);
    let run = [hours, (DaysInARow, Violation, 13)];
    Plan::without(&[13, 27]).expect([&[hours, (FreeDays, Violation, 2)], &run, &run]);
    let finding = Plan::without(&[13, 27]).one(&RuleSet::cpr(), FreeDays);
    assert_eq!((window(finding), finding.limit), (PERIOD, 4));
}

#[test]
fn pl_3_hours_in_one_go() {
    let long = (ContinuousHours, Violation, 30 * 60);
    let plan = Plan::usual_without(&[3]).call(2).am(3);
    plan.expect([&[long], &NONE, &[long]]);
    let finding = plan.one(&RuleSet::rs_head(), ContinuousHours);
    assert_eq!((window(finding), finding.limit), ((at(2, 7), at(3, 13)), 28 * 60));
    Plan::usual_without(&[2, 3]).pm(2).call(2).am(3).expect([&NONE; 3]);
    let handed_over = (ContinuousHours, Warning, 28 * 60);
    let plan = Plan::usual_without(&[3]).call(2).duty(DutyKind::Handover, at(3, 7), at(3, 11));
    plan.expect([&[handed_over], &NONE, &[handed_over]]);
    assert_eq!(plan.one(&RuleSet::cpr(), ContinuousHours).limit, 24 * 60);
}

#[test]
fn pl_4_rest() {
    let plan = Plan::usual_without(&[3, 4]).calls([2, 3]);
    plan.expect([&[(Rest, Violation, 720)], &NONE, &NONE]);
    let finding = plan.one(&RuleSet::cpr(), Rest);
    assert_eq!((window(finding), finding.limit), ((at(3, 7), at(3, 19)), 14 * 60));
    let plan = Plan::usual_without(&[2, 3]).call(2).pm(3);
    plan.expect([&[(Rest, Warning, 360)], &NONE, &[(Rest, Violation, 360)]]);
    assert_eq!(plan.one(&RuleSet::cpr(), Rest).limit, 8 * 60);
    assert_eq!(plan.one(&RuleSet::rs_head(), Rest).limit, 10 * 60);
}

/// Calls on these days, without day work then and on the day after.
fn on_call(days: &[i64]) -> Plan {
    let off: Vec<i64> = days.iter().flat_map(|day| [*day, day + 1]).collect();
    Plan::usual_without(&off).calls(days.iter().copied())
}

#[test]
fn pl_5_calls() {
    let eleven = on_call(&[0, 2, 4, 7, 9, 12, 14, 17, 20, 23, 26]);
    let found = (CallFrequency, Violation, 11);
    eleven.expect([&[found], &NONE, &[found]]);
    let finding = eleven.one(&RuleSet::cpr(), CallFrequency);
    assert_eq!((window(finding), finding.limit), ((at(0, 0), at(28, 0)), 10));
    on_call(&[0, 3, 6, 9, 12, 15, 18, 21, 24]).expect([&NONE; 3]);
    let third = on_call(&[0, 3, 6, 9, 12, 15, 18, 21, 24, 27]);
    third.expect([&NONE, &NONE, &[(CallFrequency, Violation, 10)]]);
    assert_eq!(third.one(&RuleSet::rs_head(), CallFrequency).limit, 9);
}

#[test]
fn pl_6_nights_in_a_row() {
    let run = (DaysInARow, Violation, 7);
    let seven = Plan::usual_without(&[7, 8, 9, 10, 11, 12, 14]).calls(7..14);
    seven.expect([&NONE, &[run, (NightsInARow, Violation, 7)], &[run]]);
    let finding = seven.one(&RuleSet::rs_dec25(), NightsInARow);
    assert_eq!((window(finding), finding.limit), ((at(7, 0), at(14, 0)), 6));
    Plan::usual_without(&[7, 8, 9, 10, 11, 12]).calls(7..13).expect([&NONE; 3]);
}

#[test]
fn pl_8_moonlighting() {
    let plan = Plan::usual_without(&[3]).duty(DutyKind::Moonlighting, at(3, 8), at(3, 14));
    plan.clone().year(Some(1)).expect([&[(FirstYear, Violation, 360)], &NONE, &NONE]);
    let twice = plan.clone().duty(DutyKind::Moonlighting, at(3, 15), at(3, 16)).year(Some(1));
    let finding = twice.one(&RuleSet::cpr(), FirstYear);
    assert_eq!((window(finding), finding.measured, finding.limit), ((at(3, 8), at(3, 16)), 420, 0));
    for year in [None, Some(2), Some(3)] {
        plan.clone().year(year).expect([&NONE; 3]);
    }
    Plan::usual().year(Some(1)).expect([&NONE; 3]);
}

#[test]
fn pl_9_absence() {
    let plan = Plan::usual_without(&[2, 3, 4]).am(3);
    plan.clone().absent(2, 4, false).expect([&NONE; 3]);
    plan.clone().absent(2, 4, true).expect([&[(Absence, Violation, 360)]; 3]);
    plan.clone().absent(4, 5, true).absent(2, 3, false).faculty().expect([&[(Absence, Violation, 720)]; 3]);
    let finding = plan.absent(2, 4, true).one(&RuleSet::cpr(), Absence);
    assert_eq!((window(finding), finding.limit), ((at(2, 0), at(5, 0)), 0));
}

#[test]
fn pl_10_double_booking() {
    Plan::usual().am(3).expect([&[(DoubleBooking, Violation, 360)]; 3]);
    Plan::usual().am(3).faculty().expect([&[(DoubleBooking, Violation, 360)]; 3]);
    let finding = Plan::usual().am(3).pm(9).one(&RuleSet::cpr(), DoubleBooking);
    assert_eq!((window(finding), finding.measured, finding.limit), ((at(3, 7), at(9, 19)), 720, 0));
    let early = |plan: Plan| plan.duty(DutyKind::Overnight, at(5, 15), at(6, 7));
    let plan = early(Plan::usual_without(&[5]).pm(5));
    plan.expect([&[(DoubleBooking, Violation, 240)]; 3]);
    assert_eq!(window(plan.one(&RuleSet::cpr(), DoubleBooking)), (at(5, 15), at(5, 19)));
    // With the morning before it, 28 hours are begun on that day.
    let booked = (DoubleBooking, Violation, 240);
    early(Plan::usual()).expect([&[booked], &[(FirstYear, Violation, 28 * 60), booked], &[booked]]);
}

#[test]
fn pl_12_the_day_after_the_nights() {
    let nights = |day_after: fn(Plan) -> Plan| {
        day_after((7..10).fold(Plan::usual_without(&[7, 8, 9, 10]), |plan, day| plan.night(DutyKind::NightFloat, day)))
    };
    nights(|plan| plan).expect([&NONE; 3]);
    let morning = nights(|plan| plan.am(10));
    morning.expect([&NONE, &NONE, &[(PostNight, Violation, 360)]]);
    let finding = morning.one(&RuleSet::rs_head(), PostNight);
    assert_eq!((window(finding), finding.limit), ((at(10, 0), at(11, 0)), 0));
    nights(|plan| plan.am(10).pm(10)).expect([&[(Rest, Violation, 720)], &NONE, &[(PostNight, Violation, 720)]]);
    nights(|plan| plan.pm(10)).expect([&[(Rest, Warning, 360)], &NONE, &[(Rest, Violation, 360), (PostNight, Violation, 360)]]);
    // A call is duty as well.
    assert_eq!(nights(|plan| plan.call(10)).one(&RuleSet::rs_head(), PostNight).measured, 720);
}

// Boundaries.

#[test]
fn hours_at_their_limits() {
    let rules = only(|rules| rules.weekly_hours = RuleSet::cpr().weekly_hours);
    let work = |minutes: Minute| Plan::resident().duty(DutyKind::HalfDay, at(0, 0), at(0, 0) + minutes).found(&rules);
    let one = |minutes: Minute| work(minutes).first().map(|f| (f.severity, f.measured, f.limit));
    assert_eq!(one(18239), None);
    assert_eq!(one(18240), Some((Warning, 18240, 19200)));
    assert_eq!(one(19200), Some((Warning, 19200, 19200)));
    assert_eq!(one(19201), Some((Violation, 19201, 19200)));
    // The largest is the worst, of warnings too, then the earliest.
    let rising = Plan::resident()
        .duty(DutyKind::HalfDay, at(0, 0), at(0, 0) + 18300)
        .duty(DutyKind::HalfDay, at(28, 0), at(28, 0) + 18400)
        .duty(DutyKind::HalfDay, at(56, 0), at(56, 0) + 18400);
    let finding = rising.one(&rules, WeeklyHours);
    assert_eq!((finding.start, finding.measured), (at(28, 0), 18400));
}

#[test]
fn windows_begin_on_days_of_duty_and_cut_what_reaches_beyond() {
    let rules = only(|rules| rules.weekly_hours = Some(rules::WeeklyHours { limit: 0, warning: 0 }));
    let plan = Plan::resident().call(0).call(27).call(28);
    let all: Vec<_> = all_windows(&rules, &plan.roster()).iter().map(|f| (f.start, f.measured)).collect();
    // The night from day 27 is cut at midnight in the first window; nothing begins on day 1.
    assert_eq!(all, [(at(0, 0), 720 + 300), (at(27, 0), 1440), (at(28, 0), 420 + 720)]);
}

#[test]
fn hours_in_one_go_at_their_limits() {
    let rules = only(|rules| rules.continuous_hours = RuleSet::cpr().continuous_hours);
    let one = |work: Minute, handovers: &[(Minute, Minute)]| {
        let plan = Plan::resident().duty(DutyKind::HalfDay, at(1, 7), at(1, 7) + work);
        let over = |plan: Plan, (from, to): &(Minute, Minute)| plan.duty(DutyKind::Handover, at(1, 7) + from, at(1, 7) + to);
        handovers.iter().fold(plan, over).found(&rules).first().map(|f| (f.severity, f.measured, f.limit))
    };
    assert_eq!(one(1440, &[]), None);
    assert_eq!(one(1441, &[]), Some((Violation, 1441, 1440)));
    assert_eq!(one(1440, &[(1440, 1441)]), Some((Warning, 1441, 1440)));
    assert_eq!(one(1440, &[(1440, 1680)]), Some((Warning, 1680, 1440)));
    assert_eq!(one(1440, &[(1440, 1681)]), Some((Violation, 1681, 1680)));
    assert_eq!(one(1500, &[(1500, 1620)]), Some((Violation, 1500, 1440)));
    // Handing over twice at once covers a minute once.
    assert_eq!(one(1500, &[(1500, 1560), (1500, 1560)]), Some((Violation, 1500, 1440)));
    // Of two, the one that exceeds its own limit by more: 27 hours without a handover against 29 with one.
    let plan = Plan::resident().duty(DutyKind::HalfDay, at(1, 0), at(2, 3)).duty(DutyKind::HalfDay, at(5, 0), at(6, 0)).duty(
        DutyKind::Handover,
        at(6, 0),
        at(6, 5),
    );
    assert_eq!(plan.one(&rules, ContinuousHours).measured, 27 * 60);
}

#[test]
fn touching_is_one_period_and_a_minute_between_is_two() {
    let rules = RuleSet::cpr();
    let second = |start: Minute| Plan::resident().am(1).duty(DutyKind::Extension, start, at(1, 20)).found(&rules);
    assert_eq!(second(at(1, 13)), []);
    let found = second(at(1, 13) + 1);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule, found[0].severity, found[0].measured), (Rest, Warning, 1));
}

#[test]
fn rest_at_its_limits() {
    let gap = |rules: &RuleSet, kind: DutyKind, length: Minute, gap: Minute| {
        let end = at(1, 7) + length;
        let plan = Plan::resident().duty(kind, at(1, 7), end).duty(DutyKind::HalfDay, end + gap, end + gap + 60);
        let rules = only(|only| only.rest = rules.rest);
        plan.found(&rules).first().map(|f| (f.severity, f.measured, f.limit))
    };
    let (cpr, head, work, call) = (RuleSet::cpr(), RuleSet::rs_head(), DutyKind::HalfDay, DutyKind::Weekend);
    assert_eq!(gap(&cpr, work, 1440, 840), None);
    assert_eq!(gap(&cpr, work, 1440, 839), Some((Violation, 839, 840)));
    assert_eq!(gap(&cpr, call, 1439, 839), None);
    assert_eq!(gap(&cpr, work, 1439, 480), None);
    assert_eq!(gap(&cpr, work, 1439, 479), Some((Warning, 479, 480)));
    assert_eq!(gap(&cpr, work, 1440, 479), Some((Violation, 479, 840)));
    assert_eq!(gap(&head, work, 1440, 600), None);
    assert_eq!(gap(&head, work, 1440, 599), Some((Violation, 599, 600)));
    assert_eq!(gap(&head, work, 1439, 1), None);
    for kind in [DutyKind::Overnight, DutyKind::Weekend, DutyKind::NightFloat] {
        assert_eq!(gap(&head, kind, 60, 600), None);
        assert_eq!(gap(&head, kind, 60, 599), Some((Violation, 599, 600)));
    }
    for kind in [DutyKind::Extension, DutyKind::Handover, DutyKind::Moonlighting] {
        assert_eq!(gap(&head, kind, 60, 1), None);
    }
    // A violation is worse than a warning with less rest, and of violations the shorter rest is worse.
    let end = at(3, 0) + 1440;
    let plan = Plan::resident().am(1).duty(work, at(1, 14), at(1, 15)).duty(work, at(3, 0), end).duty(work, end + 700, end + 2200);
    let plan = plan.duty(work, end + 2800, end + 2810);
    let finding = plan.one(&cpr, Rest);
    assert_eq!((finding.severity, finding.measured, finding.start), (Violation, 600, end + 2200));
}

#[test]
fn free_days_are_counted_only_where_the_programme_is_known() {
    let rules = RuleSet::cpr();
    let mut plan = Plan::without(&[13, 27]);
    plan.period = None;
    assert!(!plan.has(&rules, FreeDays));
    plan.period = Some((PERIOD.0, PERIOD.1 - DAY));
    assert!(!plan.has(&rules, FreeDays));
    // Two windows, of which the second ends with a day more that is free and begins with one less that is not.
    plan.period = Some((PERIOD.0, PERIOD.1 + DAY));
    let all = all_windows(&rules, &plan.roster());
    let free: Vec<_> = all.iter().filter(|f| f.rule == FreeDays).map(|f| (f.start, f.end, f.measured)).collect();
    assert_eq!(free, [(at(0, 0), at(28, 0), 2), (at(1, 0), at(29, 0), 3)]);
    // A gap at an edge counts from the edge: 24 hours are a day, a minute less is none.
    let edge = |start: Minute| {
        let plan = Plan::resident().duty(DutyKind::HalfDay, start, at(24, 0)).duty(DutyKind::HalfDay, at(24, 1), at(25, 0));
        plan.found(&only(|rules| rules.free_days = Some(4))).first().map(|f| f.measured)
    };
    assert_eq!(edge(at(1, 0)), None);
    assert_eq!(edge(at(1, 0) - 1), Some(3));
    // Nobody who does nothing lacks free days; gaps of any length give as many as fit.
    assert!(!Plan::resident().has(&rules, FreeDays));
}

#[test]
fn runs_go_over_the_ends_of_months_and_over_the_epoch() {
    let rules = RuleSet::rs_head();
    // 27 January to 2 February.
    let seven = |first: i64| (first..first + 7).fold(Plan::resident(), Plan::am);
    let finding = seven(22).one(&rules, DaysInARow);
    assert_eq!((window(finding), finding.measured), ((at(22, 0), at(29, 0)), 7));
    let finding = seven(-MONDAY - 3).one(&rules, DaysInARow);
    assert_eq!((window(finding), finding.measured), ((-3 * DAY, 4 * DAY), 7));
    assert!(!(22..28).fold(Plan::resident(), Plan::am).has(&rules, DaysInARow));
    // What goes on past midnight does not make the next day a day of duty.
    let nights = [1, 2, 3, 4, 5, 6].into_iter().fold(Plan::resident(), Plan::call);
    assert!(!nights.has(&rules, DaysInARow));
    // The longest is the worst, then the first.
    let twice = (0..7).chain(8..16).chain(17..25).fold(Plan::resident(), Plan::am);
    let finding = twice.one(&rules, DaysInARow);
    assert_eq!((window(finding), finding.measured), ((at(8, 0), at(16, 0)), 8));
}

#[test]
fn calls_are_counted_from_a_call_to_four_weeks_later() {
    let rules = only(|rules| rules.calls = Some(2));
    let days = |days: &[i64]| Plan::resident().calls(days.iter().copied());
    assert_eq!(days(&[0, 5, 28]).found(&rules), []);
    let finding = days(&[0, 5, 27]).one(&rules, CallFrequency);
    assert_eq!((window(finding), finding.measured), ((at(0, 0), at(28, 0)), 3));
    let finding = days(&[0, 10, 30, 31, 32, 33, 38]).one(&rules, CallFrequency);
    assert_eq!((finding.start, finding.measured), (at(10, 0), 5));
    let finding = days(&[0, 10, 30, 31, 32, 33, 38, 39]).one(&rules, CallFrequency);
    assert_eq!((finding.start, finding.measured), (at(30, 0), 6));
    // Two calls on one day are two, a night shift is none.
    let weekend = |plan: Plan, day: i64| plan.duty(DutyKind::Weekend, at(day, 7), at(day + 1, 7));
    assert_eq!(weekend(days(&[3, 9]), 3).one(&rules, CallFrequency).measured, 3);
    assert_eq!(days(&[3, 9]).night(DutyKind::NightFloat, 12).found(&rules), []);
}

#[test]
fn nights_in_a_row_are_calls_and_night_shifts_but_not_weekends() {
    let rules = only(|rules| rules.nights_in_a_row = Some(6));
    let mixed = (0..7)
        .fold(Plan::resident(), |plan, day| plan.night(if day % 2 == 0 { DutyKind::Overnight } else { DutyKind::NightFloat }, day));
    assert_eq!(mixed.one(&rules, NightsInARow).measured, 7);
    let weekend = (0..6).fold(Plan::resident(), Plan::call).duty(DutyKind::Weekend, at(6, 7), at(7, 7));
    assert_eq!(weekend.found(&rules), []);
}

#[test]
fn hours_begun_on_a_day_depend_on_the_year() {
    let rules = only(|rules| rules.first_year = RuleSet::rs_dec25().first_year);
    let day = |year: Option<u8>, minutes: Minute| {
        let plan = Plan::resident().year(year).am(1).duty(DutyKind::Extension, at(1, 13), at(1, 7) + minutes);
        // What begins on the next day is another day's.
        plan.duty(DutyKind::HalfDay, at(2, 7), at(2, 19)).found(&rules).first().map(|f| (window(*f), f.measured, f.limit))
    };
    let window = (at(1, 0), at(2, 0));
    assert_eq!(day(Some(1), 960), None);
    assert_eq!(day(Some(1), 961), Some((window, 961, 960)));
    for year in [None, Some(2), Some(3)] {
        assert_eq!(day(year, 1440), None);
        assert_eq!(day(year, 1441), Some((window, 1441, 1440)));
    }
    assert_eq!(only(|rules| rules.first_year = Some(FirstYear::NoMoonlighting)).rules(), [FirstYear]);
}

#[test]
fn absence_is_cut_at_midnight() {
    let rules = only(|rules| rules.absence = true);
    let plan = Plan::resident().call(1).absent(2, 3, true);
    assert_eq!(plan.one(&rules, Absence).measured, 420);
    let until_midnight = Plan::resident().duty(DutyKind::HalfDay, at(1, 18), at(2, 0));
    assert_eq!(until_midnight.clone().absent(2, 3, true).found(&rules), []);
    assert_eq!(until_midnight.absent(0, 1, true).one(&rules, Absence).measured, 360);
    // The worst of several; a minute on duty twice is a minute.
    let several = Plan::resident().am(1).am(5).am(5).pm(5).absent(1, 2, true).absent(5, 5, true);
    let finding = several.one(&rules, Absence);
    assert_eq!((window(finding), finding.measured), ((at(5, 0), at(6, 0)), 720));
    assert_eq!(all_windows(&rules, &several.roster()).len(), 2);
    // Of two that begin together and hold the same duty, the one that ends first.
    let finding = Plan::resident().am(1).absent(1, 4, true).absent(1, 2, true).one(&rules, Absence);
    assert_eq!(window(finding), (at(1, 0), at(3, 0)));
}

#[test]
fn a_stretch_within_another_is_double_booked() {
    let rules = only(|rules| rules.double_booking = true);
    let long = Plan::resident().duty(DutyKind::Weekend, at(1, 7), at(2, 7));
    let finding = long.clone().am(1).pm(1).one(&rules, DoubleBooking);
    assert_eq!((window(finding), finding.measured), ((at(1, 7), at(1, 19)), 720));
    // Three at once count twice.
    let finding = long.clone().am(1).am(1).one(&rules, DoubleBooking);
    assert_eq!((window(finding), finding.measured), ((at(1, 7), at(1, 13)), 720));
    assert_eq!(long.am(2).found(&rules), []);
}

#[test]
fn faculty_is_asked_only_for_absence_and_double_booking() {
    // Too much of everything, and on one day twice.
    let plan = (0..28).fold(Plan::resident(), |plan, day| plan.am(day).pm(day).night(DutyKind::NightFloat, day)).am(4).faculty();
    for rules in sets() {
        let found: Vec<Rule> = plan.clone().absent(1, 2, true).found(&rules).iter().map(|f| f.rule).collect();
        assert_eq!(found, [Absence, DoubleBooking]);
    }
}

// Half days.

#[test]
fn the_formulas_of_supervision_disagree_on_most_combinations() {
    let required =
        |first, others| [Formula::Sum, Formula::Units, Formula::Max].map(|formula| supervisors_required(formula, first, others));
    assert_eq!(required(0, 0), [0, 0, 0]);
    assert_eq!(required(1, 0), [1, 1, 1]);
    assert_eq!(required(0, 1), [1, 1, 1]);
    assert_eq!(required(1, 1), [2, 1, 1]);
    assert_eq!(required(2, 4), [2, 2, 1]);
    assert_eq!(required(3, 5), [4, 3, 2]);
    assert_eq!(required(8, 12), [7, 7, 4]);
    let all: Vec<[u32; 3]> = (0..=8).flat_map(|first| (0..=12).map(move |others| required(first, others))).collect();
    assert_eq!(all.len(), 117);
    assert_eq!(all.iter().filter(|[sum, units, max]| sum != units || units != max).count(), 96);
    assert!(all.iter().all(|[sum, units, max]| max <= units && units <= sum));
    assert!(all.iter().skip(1).all(|required| required.iter().all(|n| *n >= 1)));
}

const ROOM: Template = Template { id: 3, max_residents: Some(8), is_supervised: true };

fn attend(block: i64, template: Template, role: Role) -> Attendance {
    let (day, start) = (block / 2, if block % 2 == 0 { 7 } else { 13 });
    Attendance { block, template, role, start: at(day, start), end: at(day, start + 6) }
}

fn attending(id: i64, kind: PersonKind, attendances: &[Attendance]) -> Plan {
    let mut plan = Plan::idle(kind);
    plan.person.id = id;
    plan.attendances = attendances.to_vec();
    plan
}

fn evaluate(rules: &RuleSet, people: &[Plan]) -> Vec<Finding> {
    let mut evaluator = Evaluator::new(rules.clone());
    people.iter().for_each(|plan| evaluator.person(&plan.roster()));
    evaluator.finish()
}

fn resident(year: u8) -> PersonKind {
    PersonKind::Resident(Some(year))
}

#[test]
fn pl_7_supervision_as_the_formula_says() {
    let people = [
        attending(1, resident(1), &[attend(5, ROOM, Role::Primary)]),
        attending(2, resident(2), &[attend(5, ROOM, Role::Primary)]),
        attending(3, PersonKind::Faculty, &[attend(5, ROOM, Role::Supervising)]),
    ];
    let missing = Finding {
        rule: Supervision,
        subject: Subject::Block(5),
        start: at(2, 13),
        end: at(2, 19),
        measured: 1,
        limit: 2,
        severity: Violation,
    };
    assert_eq!(evaluate(&RuleSet::cpr(), &people), [missing]);
    assert_eq!(evaluate(&RuleSet::rs_dec25(), &people), [missing]);
    assert_eq!(evaluate(&RuleSet::rs_head(), &people), []);
    let alone = Finding { measured: 0, limit: 1, ..missing };
    assert_eq!(evaluate(&RuleSet::rs_head(), &people[..2]), [alone]);
    assert_eq!(evaluate(&only(|rules| rules.supervision = Some(Formula::Max)), &people), []);
}

#[test]
fn who_counts_in_a_half_day() {
    let rules = only(|rules| rules.supervision = Some(Formula::Sum));
    let needs = |people: &[Plan]| evaluate(&rules, people).first().map(|f| (f.measured, f.limit));
    let there = |id, kind, role| attending(id, kind, &[attend(4, ROOM, role)]);
    let first = |id| there(id, resident(1), Role::Primary);
    // Two of the first year, one of them of an unknown year, need one; a third needs another.
    assert_eq!(needs(&[first(1), there(2, PersonKind::Resident(None), Role::Primary)]), Some((0, 1)));
    assert_eq!(needs(&[first(1), there(2, PersonKind::Resident(None), Role::Primary), first(3)]), Some((0, 2)));
    // Faculty at work does not supervise, nor does a resident, who does not need it then either.
    assert_eq!(needs(&[first(1), there(2, PersonKind::Faculty, Role::Primary)]), Some((0, 1)));
    assert_eq!(needs(&[first(1), there(2, resident(3), Role::Supervising)]), Some((0, 1)));
    assert_eq!(needs(&[there(2, resident(3), Role::Supervising)]), None);
    // Supervising anywhere in the half day is enough, in another it is not, and twice is once.
    let elsewhere = Template { id: 9, max_residents: None, is_supervised: false };
    assert_eq!(needs(&[first(1), attending(2, PersonKind::Faculty, &[attend(4, elsewhere, Role::Supervising)])]), None);
    assert_eq!(needs(&[first(1), attending(2, PersonKind::Faculty, &[attend(6, ROOM, Role::Supervising)])]), Some((0, 1)));
    let twice = attending(9, PersonKind::Faculty, &[attend(4, ROOM, Role::Supervising), attend(4, elsewhere, Role::Supervising)]);
    assert_eq!(needs(&[first(1), first(2), first(3), twice.clone()]), Some((1, 2)));
    // A resident put down twice is one, and needs nobody where nobody is needed.
    let doubled = |id| attending(id, resident(1), &[attend(4, ROOM, Role::Primary), attend(4, ROOM, Role::Primary)]);
    assert_eq!(needs(&[doubled(1), doubled(2), twice]), None);
    assert_eq!(needs(&[attending(1, resident(1), &[attend(4, elsewhere, Role::Primary)])]), None);
}

#[test]
fn pl_11_capacity() {
    let rules = only(|rules| rules.capacity = true);
    let present = |n: i64, template: Template| -> Vec<Plan> {
        (0..n).map(|id| attending(id, resident(2), &[attend(5, template, Role::Primary)])).collect()
    };
    let nine = present(9, ROOM);
    assert_eq!(evaluate(&rules, &nine[..8]), []);
    let full = Finding {
        rule: Capacity,
        subject: Subject::Place(5, 3),
        start: at(2, 13),
        end: at(2, 19),
        measured: 9,
        limit: 8,
        severity: Violation,
    };
    assert_eq!(evaluate(&rules, &nine), [full]);
    assert_eq!(evaluate(&rules, &present(9, Template { max_residents: None, ..ROOM })), []);
    // Nothing but residents at work fills a place, each once; and half days and places are told apart.
    let mut people = nine[..8].to_vec();
    people[0].attendances.push(attend(5, ROOM, Role::Primary));
    people.push(attending(20, resident(2), &[attend(5, ROOM, Role::Supervising)]));
    people.push(attending(21, PersonKind::Faculty, &[attend(5, ROOM, Role::Primary)]));
    people.push(attending(22, resident(2), &[attend(4, ROOM, Role::Primary)]));
    people.push(attending(23, resident(2), &[attend(5, Template { id: 4, ..ROOM }, Role::Primary)]));
    assert_eq!(evaluate(&rules, &people), []);
    // Whoever is in two places fills both.
    people.push(attending(
        24,
        resident(1),
        &[attend(5, Template { id: 2, ..ROOM }, Role::Primary), attend(5, ROOM, Role::Primary)],
    ));
    assert_eq!(evaluate(&rules, &people), [full]);
    // Findings are in the order of the rules, then of their subjects.
    let mut people = present(9, Template { max_residents: Some(0), is_supervised: true, id: 8 });
    people.iter_mut().for_each(|plan| plan.attendances.push(attend(0, ROOM, Role::Primary)));
    let found: Vec<_> = evaluate(&RuleSet::cpr(), &people).iter().map(|f| (f.rule, f.subject)).collect();
    let blocks = [(Supervision, Subject::Block(0)), (Supervision, Subject::Block(5))];
    assert_eq!(found, [blocks[0], blocks[1], (Capacity, Subject::Place(0, 3)), (Capacity, Subject::Place(5, 8))]);
}

/// A whole programme without a fault: 100 residents, each with a day of the week off, and as many supervisors as are needed.
fn programme() -> Vec<Plan> {
    let mut people: Vec<Plan> = Vec::new();
    for id in 0..100 {
        let year = if id < 40 { 1 } else { 2 + u8::from(id >= 75) };
        let template = Template { id: id % 20, max_residents: Some(8), is_supervised: true };
        let days = (0..28).filter(|day| day % 7 != id % 7);
        let half_days: Vec<Attendance> =
            days.flat_map(|day| [2 * day, 2 * day + 1]).map(|b| attend(b, template, Role::Primary)).collect();
        people.push(attending(id, resident(year), &half_days));
    }
    people.extend((100..140).map(|id| attending(id, PersonKind::Faculty, &[])));
    for block in 0..56 {
        let there = |years: std::ops::Range<i64>| years.filter(|id| id % 7 != block / 2 % 7).count() as i64;
        let required = (there(0..40) + 1) / 2 + (there(40..100) + 3) / 4;
        assert!((30..=31).contains(&required));
        for n in 0..required {
            let supervisor = 100 + (31 * block + n) % 40;
            people[supervisor as usize].attendances.push(attend(block, ROOM, Role::Supervising));
        }
    }
    for plan in &mut people {
        let duty = |a: &Attendance| Duty { start: a.start, end: a.end, kind: DutyKind::HalfDay };
        plan.duties = plan.attendances.iter().map(duty).collect();
    }
    people
}

#[test]
fn a_whole_programme_breaks_nothing_until_somebody_is_missing() {
    let mut people = programme();
    assert_eq!(people.iter().map(|plan| plan.duties.len()).sum::<usize>(), 6496);
    for rules in sets() {
        assert_eq!(evaluate(&rules, &people), [], "{}", rules.name);
    }
    let gone = people.iter_mut().find(|plan| plan.attendances.iter().any(|a| a.block == 20 && a.role == Role::Supervising));
    gone.unwrap().attendances.retain(|a| a.block != 20);
    for rules in sets() {
        let found = evaluate(&rules, &people);
        assert_eq!(found.len(), 1, "{}", rules.name);
        assert_eq!((found[0].rule, found[0].subject), (Supervision, Subject::Block(20)));
        assert_eq!(found[0].measured, found[0].limit - 1);
    }
}

// Whatever the schedule.

/// Duty of forty days, in whole hours, with overlaps.
fn any_plan(random: &mut Random) -> Plan {
    let kinds = [
        DutyKind::HalfDay,
        DutyKind::HalfDay,
        DutyKind::Overnight,
        DutyKind::Weekend,
        DutyKind::NightFloat,
        DutyKind::Extension,
        DutyKind::Handover,
        DutyKind::Moonlighting,
    ];
    let mut plan = Plan::idle(resident(1 + random.below(3) as u8));
    for _ in 0..random.below(250) {
        let start = at(random.below(40) as i64, random.below(24) as i64);
        let hours = 1 + random.below(14) as i64;
        plan = plan.duty(kinds[random.below(8) as usize], start, start + hours * HOUR);
    }
    let first = random.below(30) as i64;
    plan.absent(first, first + random.below(9) as i64, random.below(2) == 0)
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for n in (1..items.len()).rev() {
        items.swap(n, random.below(n as u64 + 1) as usize);
    }
}

#[test]
fn windows_are_what_counting_hour_by_hour_says() {
    let mut random = Random::seeded(1);
    for _ in 0..300 {
        let plan = any_plan(&mut random);
        let mut cover = [0i64; 60 * 24];
        for duty in &plan.duties {
            for hour in (duty.start - at(0, 0)) / HOUR..(duty.end - at(0, 0)) / HOUR {
                cover[hour as usize] += 1;
            }
        }
        let timeline = Timeline::new(7, &plan.duties);
        for _ in 0..40 {
            let from = random.below(1000) as usize;
            let to = from + random.below((cover.len() - from) as u64) as usize;
            let window = Span { start: at(0, from as i64), end: at(0, to as i64) };
            let hours = &cover[from..to];
            assert_eq!(timeline.minutes_within(window), 60 * hours.iter().filter(|n| **n > 0).count() as i64);
            let free: usize = hours.split(|n| *n > 0).map(|gap| gap.len() / 24).sum();
            assert_eq!(timeline.free_days_within(window), free as i64, "{from} to {to} of {plan:?}");
        }
        let double = all_windows(&only(|rules| rules.double_booking = true), &plan.roster());
        let expected = cover.iter().position(|n| *n > 1).map(|first| {
            let last = cover.iter().rposition(|n| *n > 1).unwrap();
            let surplus: i64 = cover.iter().map(|n| (n - 1).max(0)).sum();
            (at(0, first as i64), at(0, last as i64 + 1), surplus * HOUR)
        });
        assert_eq!(double.first().map(|f| (f.start, f.end, f.measured)), expected);
    }
}

#[test]
fn the_worst_is_one_of_all_and_no_order_changes_it() {
    let mut random = Random::seeded(2);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let plan = any_plan(&mut random);
        let mut other = plan.clone();
        shuffle(&mut other.duties, &mut random);
        for rules in sets() {
            let (worst, all) = (plan.found(&rules), all_windows(&rules, &plan.roster()));
            assert_eq!(worst, other.found(&rules));
            assert_eq!(all, all_windows(&rules, &other.roster()));
            assert!(worst.is_sorted() && all.is_sorted());
            let of = |rule: Rule| all.iter().filter(move |f| f.rule == rule);
            for finding in &worst {
                assert!(of(finding.rule).any(|f| f == finding));
                assert!(of(finding.rule).all(|f| f.severity >= finding.severity));
            }
            let rules_of = |found: &[Finding]| found.iter().map(|f| f.rule).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(rules_of(&worst), rules_of(&all));
            assert_eq!(worst.len(), rules_of(&worst).len());
            seen.extend(rules_of(&worst));
        }
    }
    // All about one person was found at some time, or this showed nothing.
    assert_eq!(seen.len(), Rule::ALL.len() - 2, "{seen:?}");
}

#[test]
fn the_order_of_people_does_not_matter() {
    let mut random = Random::seeded(3);
    let mut people = programme();
    // Everybody but a few supervisors, and one crowded place.
    people.truncate(120);
    for plan in &mut people[..30] {
        plan.attendances.push(attend(7, ROOM, Role::Primary));
        plan.duties.push(Duty { start: at(6, 0), end: at(6, 13), kind: DutyKind::Extension });
    }
    let expected = sets().map(|rules| evaluate(&rules, &people));
    assert!(expected.iter().all(|found| found.len() > 56));
    for _ in 0..3 {
        shuffle(&mut people, &mut random);
        assert_eq!(sets().map(|rules| evaluate(&rules, &people)), expected);
    }
}

#[test]
fn a_stretch_that_ends_before_it_begins_is_none() {
    let plan = Plan::resident().duty(DutyKind::HalfDay, at(1, 7), at(1, 7)).duty(DutyKind::Overnight, at(2, 7), at(1, 7));
    assert_eq!(Timeline::new(7, &plan.duties).stretches, []);
    for rules in sets() {
        assert_eq!(plan.clone().absent(0, 5, true).found(&rules), []);
    }
}
