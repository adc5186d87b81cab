//! Are there too many nights, and is there a day to recover? Each rule lists every window that it finds. A night belongs to the date on which
//! it begins.

use super::hours::length;
use super::rules::FOUR_WEEKS;
use super::timeline::{Measure, Span, Timeline, dates, days, runs};
use super::{DAY, DutyKind, Finding, Rule};

/// AC-5: in-house call no more often than every third night, averaged over four weeks (CPR VI.F.7): calls that begin in the 28 days from each day with
/// one > 10, by the programme's rules > 9.
pub(super) fn calls(limit: i64, duty: &Timeline, found: &mut Vec<Finding>) {
    let is_call = |kind| matches!(kind, DutyKind::Overnight | DutyKind::Weekend);
    let calls: Vec<i64> =
        duty.stretches.iter().filter(|stretch| is_call(stretch.kind)).map(|stretch| stretch.start.div_euclid(DAY)).collect();
    let mut seen = None;
    let mut after = 0;
    for (n, date) in calls.iter().enumerate() {
        if seen == Some(date) {
            continue;
        }
        seen = Some(date);
        while calls.get(after).is_some_and(|later| *later < date + FOUR_WEEKS / DAY) {
            after += 1;
        }
        let count = (after - n) as i64;
        if count > limit {
            let window = Span { start: date * DAY, end: date * DAY + FOUR_WEEKS };
            found.push(duty.finding(Rule::CallFrequency, window, Measure::violation(count, limit)));
        }
    }
}

/// AC-6: no more than six nights in a row (CPR of 2011, VI.G.6, and still a rule of the programme): the length of a run of consecutive dates on
/// which a call or a night shift begins at 19:00 > 6.
pub(super) fn in_a_row(limit: i64, duty: &Timeline, found: &mut Vec<Finding>) {
    let is_night = |kind| matches!(kind, DutyKind::Overnight | DutyKind::NightFloat);
    for (first, last) in runs(&dates(duty.stretches.iter().filter(|stretch| is_night(stretch.kind)))) {
        let length = last - first + 1;
        if length > limit {
            found.push(duty.finding(Rule::NightsInARow, days(first, last), Measure::violation(length, limit)));
        }
    }
}

/// AC-12: the day after the last of a run of night shifts is for recovery (the programme's rule): minutes of the stretches that begin on it > 0.
pub(super) fn recovery(duty: &Timeline, found: &mut Vec<Finding>) {
    let shifts = dates(duty.stretches.iter().filter(|stretch| stretch.kind == DutyKind::NightFloat));
    for (_, last) in runs(&shifts) {
        let day = days(last + 1, last + 1);
        let minutes = duty.begun(day).iter().map(length).sum();
        if minutes > 0 {
            found.push(duty.finding(Rule::PostNight, day, Measure::violation(minutes, 0)));
        }
    }
}
