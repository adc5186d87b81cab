//! Is there time off? Days in a row, free days, rest between two periods. Each rule lists every window that it finds.

use super::rules::{FOUR_WEEKS, RestBetween};
use super::timeline::{Measure, Span, Timeline, days, runs};
use super::{DAY, DutyKind, Finding, Minute, Rule};

/// AC-2a: no more than six days of duty in a row (the programme's reading of one day in seven): the length of a run of consecutive dates on which
/// duty begins > 6.
pub(super) fn in_a_row(limit: i64, duty: &Timeline, found: &mut Vec<Finding>) {
    for (first, last) in runs(&duty.dates()) {
        let length = last - first + 1;
        if length > limit {
            found.push(duty.finding(Rule::DaysInARow, days(first, last), Measure::violation(length, limit)));
        }
    }
}

/// AC-2b: one day in seven free, averaged over four weeks (CPR VI.F.2): in the 28 days from each day of the programme, Σ ⌊gap ÷ 24 h⌋ < 4.
/// Only windows that lie within the programme count: before and after it nothing is known.
pub(super) fn free(limit: i64, programme: (Minute, Minute), duty: &Timeline, found: &mut Vec<Finding>) {
    let (begin, end) = programme;
    let mut window = Span { start: begin, end: begin + FOUR_WEEKS };
    while window.end <= end {
        let free = duty.free_days_within(window);
        if free < limit {
            found.push(duty.finding(Rule::FreeDays, window, Measure::violation(free, limit)));
        }
        window = Span { start: window.start + DAY, end: window.end + DAY };
    }
}

/// AC-4: rest between two periods of duty. 14 hours after 24 hours of in-house call must be, 8 hours should be (CPR VI.F.2); the programme asks for
/// 10 hours after a call or 24 hours. What is measured is the gap.
pub(super) fn rest(limits: RestBetween, duty: &Timeline, found: &mut Vec<Finding>) {
    for pair in duty.periods.windows(2) {
        let (before, gap) = (pair[0], Span { start: pair[0].end, end: pair[1].start });
        let measure = if gap.minutes() < limits.after_long && is_long(limits, before, duty) {
            Measure::violation(gap.minutes(), limits.after_long)
        } else if let Some(advised) = limits.advised
            && gap.minutes() < advised
        {
            Measure::warning(gap.minutes(), advised)
        } else {
            continue;
        };
        found.push(duty.finding(Rule::Rest, gap, measure));
    }
}

fn is_long(limits: RestBetween, period: Span, duty: &Timeline) -> bool {
    let is_call = |kind| matches!(kind, DutyKind::Overnight | DutyKind::Weekend | DutyKind::NightFloat);
    period.minutes() >= limits.long || limits.calls_are_long && duty.begun(period).iter().any(|stretch| is_call(stretch.kind))
}
