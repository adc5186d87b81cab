//! Is somebody where they cannot be: at work while absent, or at work twice? About residents and faculty alike; the programme's own rules.

use super::hours::length;
use super::timeline::{Measure, Span, Timeline};
use super::{Absence, Finding, Minute, Rule};

/// AC-9: no duty during an absence that blocks: minutes of duty within it > 0. Each absence is taken by itself.
pub(super) fn absence(absences: &[Absence], duty: &Timeline, found: &mut Vec<Finding>) {
    for absence in absences.iter().filter(|absence| absence.is_blocking) {
        let window = Span { start: absence.start, end: absence.end };
        let minutes = duty.minutes_within(window);
        if minutes > 0 {
            found.push(duty.finding(Rule::Absence, window, Measure::violation(minutes, 0)));
        }
    }
}

/// AC-10: nobody is in two places at once: Σ minutes of the stretches − minutes of their union > 0. The window reaches from the earliest instant that
/// two stretches cover to the latest.
pub(super) fn double_booking(duty: &Timeline, found: &mut Vec<Finding>) {
    let written: Minute = duty.stretches.iter().map(length).sum();
    let worked: Minute = duty.periods.iter().copied().map(Span::minutes).sum();
    // Each stretch overlaps most with the one before it that ends last.
    let mut window: Option<Span> = None;
    let mut latest = Minute::MIN;
    for stretch in &duty.stretches {
        if stretch.start < latest {
            let end = stretch.end.min(latest);
            window = Some(window.map_or(Span { start: stretch.start, end }, |w| Span { start: w.start, end: w.end.max(end) }));
        }
        latest = latest.max(stretch.end);
    }
    if let Some(window) = window {
        found.push(duty.finding(Rule::DoubleBooking, window, Measure::violation(written - worked, 0)));
    }
}
