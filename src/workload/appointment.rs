//! Make, cancel and complete appointments: the rules and the statements.

/// What somebody wants of an appointment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// That there is one; it takes a unit for every 15 minutes begun.
    Create {
        /// Of which authorisation.
        authorisation: i64,
        /// With whom.
        practitioner: i64,
        /// When it begins, seconds since 1970 in UTC.
        starts_at: i64,
        /// When it ends; later than it begins.
        ends_at: i64,
    },
    /// That it does not take place; what it had reserved is given back.
    Cancel(i64),
    /// That it took place; what it had reserved is used up.
    Complete(i64),
}
