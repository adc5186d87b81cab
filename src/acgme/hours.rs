//! Is it too much? Hours in four weeks, in one go, and what the first year may not do. Each rule lists every window that it finds.

use super::rules::{ContinuousHours, FOUR_WEEKS, FirstYear, WeeklyHours};
use super::timeline::{Measure, Span, Timeline, days, union};
use super::{DAY, Duty, DutyKind, Finding, Minute, Rule};

/// AC-1: 80 hours a week, averaged over four weeks (CPR VI.F.1): minutes of duty in the 28 days from each day of duty > 4 · 80 h. From 4 · 76 h on there
/// is a warning.
pub(super) fn weekly(limits: WeeklyHours, duty: &Timeline, found: &mut Vec<Finding>) {
    for date in duty.dates() {
        let window = Span { start: date * DAY, end: date * DAY + FOUR_WEEKS };
        let measured = duty.minutes_within(window);
        let measure = if measured > limits.limit {
            Measure::violation(measured, limits.limit)
        } else if measured >= limits.warning {
            Measure::warning(measured, limits.limit)
        } else {
            continue;
        };
        found.push(duty.finding(Rule::WeeklyHours, window, measure));
    }
}

/// AC-3: 24 hours of scheduled work without a gap, and up to four more to hand over and to learn (CPR VI.F.3): a period of duty > 28 h, or
/// > 24 h without what is covered by handing over. Longer than 24 h because of that is a warning.
pub(super) fn continuous(limits: ContinuousHours, duty: &Timeline, found: &mut Vec<Finding>) {
    for period in &duty.periods {
        let length = period.minutes();
        if length <= limits.scheduled {
            continue;
        }
        let handover = duty.begun(*period).iter().filter(|stretch| stretch.kind == DutyKind::Handover);
        let scheduled = length - union(handover).into_iter().map(Span::minutes).sum::<Minute>();
        let measure = if length > limits.in_all {
            Measure::violation(length, limits.in_all)
        } else if scheduled > limits.scheduled {
            Measure::violation(scheduled, limits.scheduled)
        } else {
            Measure::warning(length, limits.scheduled)
        };
        found.push(duty.finding(Rule::ContinuousHours, *period, measure));
    }
}

/// AC-8: residents of the first year do not moonlight (CPR VI.F.5): minutes of it > 0, or, in older rules of the programme, begin no more than
/// 16 hours of duty on a day, and all others no more than 24: minutes of the stretches that begin on a date, uncut.
pub(super) fn first_year(rule: FirstYear, year: Option<u8>, duty: &Timeline, found: &mut Vec<Finding>) {
    match rule {
        FirstYear::NoMoonlighting => {
            let extra = duty.stretches.iter().filter(|stretch| stretch.kind == DutyKind::Moonlighting);
            let minutes = extra.clone().map(length).sum();
            if year == Some(1)
                && let (Some(start), Some(end)) = (extra.clone().map(|s| s.start).min(), extra.map(|s| s.end).max())
            {
                found.push(duty.finding(Rule::FirstYear, Span { start, end }, Measure::violation(minutes, 0)));
            }
        }
        FirstYear::BegunOnADay { first_year, others } => {
            let limit = if year == Some(1) { first_year } else { others };
            for date in duty.dates() {
                let minutes = duty.begun(days(date, date)).iter().map(length).sum();
                if minutes > limit {
                    found.push(duty.finding(Rule::FirstYear, days(date, date), Measure::violation(minutes, limit)));
                }
            }
        }
    }
}

/// How long a stretch is, in minutes.
pub(super) fn length(stretch: &Duty) -> Minute {
    stretch.end - stretch.start
}
