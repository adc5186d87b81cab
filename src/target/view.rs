//! What is shown to those who only look, and to whom?
//!
//! Whose it is is a condition of each statement, never a thing that is sorted out afterwards. Every answer is one row of one column: JSON that
//! the server writes.

use crate::pg::load::Parameters;
use crate::workload::appointment;

/// What somebody wants to look at. Days are numbers of days since 2000-01-01; a range is from its first to its last, and open without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Authorisations, in the order of their numbers.
    Authorisations(Page),
    /// One of them.
    Authorisation(i64),
    /// How many units of it are free.
    Availability(i64),
    /// An appointment.
    Appointment(i64),
    /// People of a kind (`resident`, `faculty`), or all, in the order of their numbers.
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
    /// Who works in which half day, in the order of the assignments' numbers.
    Assignments {
        /// Whose; `None`: everybody's.
        person: Option<i64>,
        /// Of which days.
        days: Days,
        /// Which of them.
        page: Page,
    },
    /// What the rules of duty hours find. No statement says it: it takes the schedule and the rules.
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

/// Days that no dataset begins before, and none ends after: what an open range is open to.
const EVER: [i32; 2] = [-36_525, 365_250];

impl Days {
    /// The first and the last, within what a date can be.
    pub fn ends(self) -> [i32; 2] {
        [self.from.unwrap_or(EVER[0]).clamp(EVER[0], EVER[1]), self.to.unwrap_or(EVER[1]).clamp(EVER[0], EVER[1])]
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Those after the one of this number.
    pub after: i64,
    /// At most so many.
    pub limit: u16,
}

/// What a statement depends on, besides its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    view: Shape,
    /// It is for those of one organisation.
    is_scoped: bool,
}

/// A view without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Authorisations,
    Authorisation,
    Availability,
    Appointment,
    People { of_kind: bool },
    Person,
    Blocks,
    Rotations,
    Assignments { of_person: bool },
}

/// A list: JSON of the rows of a query with a column `id`, in its order, and the number of the last if there may be more.
fn list(query: &str, order: &str, next: &str) -> String {
    format!(
        "SELECT json_build_object('items', coalesce(json_agg(x ORDER BY {order}), '[]'::json), 'next', {next})::text \
         FROM ({query}) x"
    )
}

/// The number to go on after; `limit` is the parameter that says how many are shown.
fn next(limit: &str) -> String {
    format!("CASE WHEN count(*) = {limit}::integer THEN max(x.id) END")
}

const AUTHORISATION: &str = "a.id, a.organisation_id AS organisation, a.total, a.used, a.scheduled, \
     a.total - a.used - a.scheduled AS available, a.status, a.version";
const PERSON: &str = "p.id, p.programme_id AS programme, p.given_name, p.family_name, p.email, p.kind, p.pgy";

impl View {
    /// What its statement depends on, for somebody of `organisation`; `None` if there is no statement for it.
    pub fn form(&self, organisation: Option<i64>) -> Option<Form> {
        let view = match self {
            Self::Authorisations(_) => Shape::Authorisations,
            Self::Authorisation(_) => Shape::Authorisation,
            Self::Availability(_) => Shape::Availability,
            Self::Appointment(_) => Shape::Appointment,
            Self::People { kind, .. } => Shape::People { of_kind: kind.is_some() },
            Self::Person(_) => Shape::Person,
            Self::Blocks { .. } => Shape::Blocks,
            Self::Rotations => Shape::Rotations,
            Self::Assignments { person, .. } => Shape::Assignments { of_person: person.is_some() },
            Self::Compliance(_) => return None,
        };
        Some(Form { view, is_scoped: organisation.is_some() })
    }

    /// Whether it is a list of whatever there is.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Authorisations(_) | Self::People { .. } | Self::Blocks { .. } | Self::Rotations | Self::Assignments { .. }
        )
    }

    /// The parameters of the statement of its form: whose it is first, if it is for those of one organisation.
    pub fn fill(&self, organisation: Option<i64>, p: &mut Parameters<'_>) {
        if let Some(organisation) = organisation {
            p.integer(organisation);
        }
        let page = |p: &mut Parameters<'_>, page: &Page| {
            p.integer(page.after);
            p.integer(page.limit);
        };
        let days = |p: &mut Parameters<'_>, days: &Days| days.ends().into_iter().for_each(|day| p.integer(day));
        match self {
            Self::Authorisations(of) => page(p, of),
            Self::Authorisation(id) | Self::Availability(id) | Self::Appointment(id) | Self::Person(id) => p.integer(*id),
            Self::People { kind, page: of } => {
                page(p, of);
                if let Some(kind) = kind {
                    p.text(kind);
                }
            }
            Self::Blocks { days: of, limit } => {
                days(p, of);
                p.integer(*limit);
            }
            Self::Rotations | Self::Compliance(_) => {}
            Self::Assignments { person, days: of, page: which } => {
                page(p, which);
                days(p, of);
                if let Some(person) = person {
                    p.integer(*person);
                }
            }
        }
    }
}

impl Form {
    /// Its statement.
    pub fn sql(self) -> String {
        // Whose it is comes first, the others after it.
        let first = usize::from(self.is_scoped);
        let n = |k: usize| format!("${}", first + k);
        let whose = |column: &str| if self.is_scoped { format!(" AND {column} = $1::bigint") } else { String::new() };
        let page = || (format!("{}::bigint", n(1)), n(2));
        let dated = |at: usize| {
            format!("b.date BETWEEN DATE '2000-01-01' + {}::integer AND DATE '2000-01-01' + {}::integer", n(at), n(at + 1))
        };
        match self.view {
            Shape::Authorisations => {
                let (after, limit) = page();
                let whose = whose("a.organisation_id");
                let query = format!(
                    "SELECT {AUTHORISATION} FROM dbstress.authorisation a WHERE a.id > {after}{whose} ORDER BY a.id LIMIT {limit}::integer"
                );
                list(&query, "x.id", &next(&limit))
            }
            Shape::Authorisation => format!(
                "SELECT row_to_json(x)::text FROM (SELECT {AUTHORISATION} FROM dbstress.authorisation a WHERE a.id = {}::bigint{}) x",
                n(1),
                whose("a.organisation_id")
            ),
            Shape::Availability => format!(
                "SELECT json_build_object('authorisation', a.id, 'available', a.total - a.used - a.scheduled, 'status', a.status)::text \
                 FROM dbstress.authorisation a WHERE a.id = {}::bigint{}",
                n(1),
                whose("a.organisation_id")
            ),
            Shape::Appointment => format!(
                "SELECT {} FROM dbstress.appointment p WHERE p.id = {}::bigint{}",
                appointment::json("p"),
                n(1),
                whose("p.organisation_id")
            ),
            Shape::People { of_kind } => {
                let (after, limit) = page();
                let whose = whose("p.programme_id");
                let of_kind = if of_kind { format!(" AND p.kind = {}::text", n(3)) } else { String::new() };
                let query = format!(
                    "SELECT {PERSON} FROM dbstress.person p WHERE p.id > {after}{whose}{of_kind} ORDER BY p.id LIMIT {limit}::integer"
                );
                list(&query, "x.id", &next(&limit))
            }
            Shape::Person => format!(
                "SELECT row_to_json(x)::text FROM (SELECT {PERSON} FROM dbstress.person p WHERE p.id = {}::bigint{}) x",
                n(1),
                whose("p.programme_id")
            ),
            Shape::Blocks => {
                let query = format!(
                    "SELECT b.id, b.programme_id AS programme, b.date, b.half, b.number, b.is_weekend, b.is_holiday \
                     FROM dbstress.block b WHERE {}{} ORDER BY b.date, b.half, b.id LIMIT {}::integer",
                    dated(1),
                    whose("b.programme_id"),
                    n(3)
                );
                list(&query, "x.date, x.half, x.id", "NULL")
            }
            Shape::Rotations => {
                let query = format!(
                    "SELECT t.id, t.programme_id AS programme, t.name, t.abbreviation, t.activity, t.max_residents, t.supervision_required \
                     FROM dbstress.rotation_template t WHERE true{} ORDER BY t.id LIMIT {ROTATIONS}",
                    whose("t.programme_id")
                );
                list(&query, "x.id", "NULL")
            }
            Shape::Assignments { of_person } => {
                let (after, limit) = page();
                let of_person = if of_person { format!(" AND a.person_id = {}::bigint", n(5)) } else { String::new() };
                let query = format!(
                    "SELECT a.id, b.programme_id AS programme, a.block_id AS block, b.date, b.half, a.person_id AS person, \
                       a.rotation_template_id AS rotation, a.role, a.version \
                     FROM dbstress.assignment a JOIN dbstress.block b ON b.id = a.block_id \
                     WHERE a.id > {after} AND {}{}{of_person} ORDER BY a.id LIMIT {limit}::integer",
                    dated(3),
                    whose("b.programme_id")
                );
                list(&query, "x.id", &next(&limit))
            }
        }
    }
}

/// Templates that are shown; a programme has about a dozen.
const ROTATIONS: u16 = 500;
