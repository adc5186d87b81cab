//! What is shown to those who only look, and to whom?
//!
//! Whose it is is a condition of each statement, never a thing that is sorted out afterwards. Every answer is one row of one column: JSON that
//! the server writes.

/// What somebody wants to look at. Days are numbers of days since 2000-01-01; a range is from its first to its last, and open without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Authorisations, in the order of their numbers.
    Authorisations(Page),
    /// One of them.
    Authorisation(i64),
    /// How many units of it are free.
    Availability(i64),
    /// An appointment.
    Appointment(i64),
    /// People of a kind (`resident`, `faculty`), or all.
    People {
        /// Of which kind; `None`: of both.
        kind: Option<&'static str>,
        /// Which of them.
        page: Page,
    },
    /// One of them.
    Person(i64),
    /// Half days, in order.
    Blocks {
        /// Of which days.
        days: Days,
        /// At most so many.
        limit: u16,
    },
    /// What people do in half days.
    Rotations,
    /// Who works in which half day.
    Assignments {
        /// Whose; `None`: everybody's.
        person: Option<i64>,
        /// Of which days.
        days: Days,
        /// Which of them.
        page: Page,
    },
    /// What the rules of duty hours find.
    Compliance(Days),
}

/// Days, the last included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Days {
    /// The first, since 2000-01-01.
    pub from: Option<i32>,
    /// The last.
    pub to: Option<i32>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Those after the one of this number.
    pub after: i64,
    /// At most so many.
    pub limit: u16,
}
