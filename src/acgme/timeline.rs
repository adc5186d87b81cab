//! What does the duty of one person look like, put in order? Prefix sums answer what a window asks, in logarithmic time.

use super::{DAY, Duty, Finding, Minute, Rule, Severity, Subject};

/// A time without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// When it begins.
    pub(super) start: Minute,
    /// When it is over.
    pub(super) end: Minute,
}

impl Span {
    /// How long it is.
    pub(super) fn minutes(self) -> Minute {
        self.end - self.start
    }
}

/// What was measured, against what, and how much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    /// Minutes, or a number.
    pub(super) measured: i64,
    /// In the same unit.
    pub(super) limit: i64,
    /// How much it matters.
    pub(super) severity: Severity,
}

impl Measure {
    /// A rule is broken.
    pub(super) fn violation(measured: i64, limit: i64) -> Self {
        Self { measured, limit, severity: Severity::Violation }
    }

    /// A rule is kept, and not by much; or advice is not.
    pub(super) fn warning(measured: i64, limit: i64) -> Self {
        Self { measured, limit, severity: Severity::Warning }
    }
}

/// The duty of one person.
#[derive(Debug)]
pub(super) struct Timeline {
    subject: Subject,
    /// As written down, by their beginnings.
    pub(super) stretches: Vec<Duty>,
    /// Their union: periods of duty, with a gap between any two.
    pub(super) periods: Vec<Span>,
    /// Minutes of the periods before this one, and of all at the end.
    minutes: Vec<Minute>,
    /// Free days in the gaps before this period.
    free: Vec<i64>,
}

impl Timeline {
    /// Puts duty in order. A stretch that does not begin before it ends is none.
    pub(super) fn new(person: i64, duties: &[Duty]) -> Self {
        let mut stretches: Vec<Duty> = duties.iter().filter(|duty| duty.start < duty.end).copied().collect();
        stretches.sort_unstable_by_key(|duty| (duty.start, duty.end, duty.kind));
        let periods = union(&stretches);
        let (mut minutes, mut free) = (Vec::with_capacity(periods.len() + 1), Vec::with_capacity(periods.len()));
        minutes.push(0);
        for (n, period) in periods.iter().enumerate() {
            minutes.push(minutes[n] + period.minutes());
            free.push(if n == 0 { 0 } else { free[n - 1] + (period.start - periods[n - 1].end) / DAY });
        }
        Self { subject: Subject::Person(person), stretches, periods, minutes, free }
    }

    /// A finding about this person.
    pub(super) fn finding(&self, rule: Rule, window: Span, measure: Measure) -> Finding {
        let Measure { measured, limit, severity } = measure;
        Finding { rule, subject: self.subject, start: window.start, end: window.end, measured, limit, severity }
    }

    /// The stretches that begin in a window.
    pub(super) fn begun(&self, window: Span) -> &[Duty] {
        let first = self.stretches.partition_point(|duty| duty.start < window.start);
        let after = self.stretches.partition_point(|duty| duty.start < window.end);
        &self.stretches[first..after]
    }

    /// The days on which a stretch begins, counted from 2000-01-01.
    pub(super) fn dates(&self) -> Vec<i64> {
        dates(self.stretches.iter())
    }

    /// Minutes of duty within a window.
    pub(super) fn minutes_within(&self, window: Span) -> Minute {
        self.minutes_before(window.end) - self.minutes_before(window.start)
    }

    fn minutes_before(&self, time: Minute) -> Minute {
        let over = self.periods.partition_point(|period| period.end <= time);
        self.minutes[over] + self.periods.get(over).map_or(0, |period| (time - period.start).max(0))
    }

    /// Times of 24 hours without duty within a window, none overlapping another: of each gap as many as fit. The window cuts the gaps.
    pub(super) fn free_days_within(&self, window: Span) -> i64 {
        let first = self.periods.partition_point(|period| period.end <= window.start);
        let after = self.periods.partition_point(|period| period.start < window.end);
        if first >= after {
            return window.minutes() / DAY;
        }
        let last = after - 1;
        let before = (self.periods[first].start - window.start).max(0) / DAY;
        let behind = (window.end - self.periods[last].end).max(0) / DAY;
        before + (self.free[last] - self.free[first]) + behind
    }
}

/// The union of stretches that are in the order of their beginnings; touching ones are joined.
pub(super) fn union<'a>(stretches: impl IntoIterator<Item = &'a Duty>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for duty in stretches {
        match spans.last_mut() {
            Some(span) if duty.start <= span.end => span.end = span.end.max(duty.end),
            _ => spans.push(Span { start: duty.start, end: duty.end }),
        }
    }
    spans
}

/// The days on which stretches begin, each once, of stretches in the order of their beginnings.
pub(super) fn dates<'a>(stretches: impl IntoIterator<Item = &'a Duty>) -> Vec<i64> {
    let mut dates: Vec<i64> = stretches.into_iter().map(|duty| duty.start.div_euclid(DAY)).collect();
    dates.dedup();
    dates
}

/// Maximal runs of consecutive days, first and last, of ascending days.
pub(super) fn runs(dates: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    dates.chunk_by(|day, next| *next == day + 1).map(|run| (run[0], run[0] + run.len() as i64 - 1))
}

/// The days from the first to the last.
pub(super) fn days(first: i64, last: i64) -> Span {
    Span { start: first * DAY, end: (last + 1) * DAY }
}
