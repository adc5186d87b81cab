//! Over what do people contend in a round, and which rows is that? Pure: everything follows from the seed of the run, the position of the
//! round and the number of its programme.
//!
//! A contest is a small programme of its own. In it several changes are proposed at once: each of them is legal, and only `room` of them
//! together are. So the number of those who can have what they want is known beforehand, and who proposes needs to read nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::acgme::{DAY, Minute};
use crate::history::OperationKind;
use crate::outcome::Refusal;
use crate::random::Random;

/// What is contended for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Contest {
    /// The last seats of a clinic: everybody puts down another resident.
    Seats,
    /// The supervision of a half day: everybody takes another supervisor off it.
    Supervision,
    /// The last hours of a resident's four weeks: everybody puts down the same resident for another night.
    Hours,
    /// A resident's rest: a night after a full day, or the afternoon after that night.
    Rest,
    /// A resident's Saturday: call for all of it, or a clinic in the afternoon.
    Double,
    /// Somebody's half day: exchanged with one of three, or taken over by one of three others.
    Swap,
}

impl Contest {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Seats, Self::Supervision, Self::Hours, Self::Rest, Self::Double, Self::Swap];

    /// The word for it, as in files, figures and `programme.contest`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seats => "seats",
            Self::Supervision => "supervision",
            Self::Hours => "hours",
            Self::Rest => "rest",
            Self::Double => "double",
            Self::Swap => "swap",
        }
    }

    /// The one called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contest| contest.name() == name)
    }

    /// The invariants that are broken when more than there is room for get what they want.
    pub fn invariants(self) -> &'static [&'static str] {
        match self {
            Self::Seats => &["within-capacity"],
            Self::Supervision => &["supervised"],
            Self::Hours => &["hours-kept"],
            Self::Rest => &["rest-kept"],
            Self::Double => &["nobody-in-two-places"],
            Self::Swap => &["swaps-exchanged"],
        }
    }

    /// The fewest and the most for whom there may be room.
    pub fn rooms(self) -> [u32; 2] {
        match self {
            Self::Seats => [2, 4],
            Self::Supervision => [3, 6],
            Self::Hours => [1, 2],
            Self::Rest | Self::Double | Self::Swap => [1, 1],
        }
    }

    /// How many different changes are proposed where there is room for so many: always more.
    fn targets(self, room: u32) -> u32 {
        match self {
            Self::Seats => 10,
            Self::Supervision => SUPERVISORS_NEEDED + room,
            Self::Hours => 4,
            Self::Rest | Self::Double => 2,
            Self::Swap => 2 * PARTNERS as u32,
        }
    }

    /// Whether every change updates one row that all of them want, so that snapshot isolation is enough: whoever is second is told so.
    pub fn is_about_one_row(self) -> bool {
        self == Self::Swap
    }

    /// What the rule says to whoever comes too late.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Seats => Refusal::NoSeat,
            Self::Supervision => Refusal::Unsupervised,
            Self::Hours => Refusal::DutyHours,
            Self::Rest => Refusal::TooLittleRest,
            Self::Double => Refusal::DoubleBooked,
            Self::Swap => Refusal::NotHeld,
        }
    }
}

/// Supervisors that eight residents of later years need.
const SUPERVISORS_NEEDED: u32 = 2;
/// With so many one can exchange, and as many others can take over.
const PARTNERS: i64 = 3;
/// Seats of the clinic that is contended for.
const SEATS: u32 = 4;
/// The Monday on which every contest begins: 1 June 2026, in days since 2000-01-01.
const MONDAY: i64 = 9648;
const SATURDAY: i64 = MONDAY + 5;
/// Rows of contests are numbered from here on: above what can be seeded, and far below what runs insert. People read these numbers.
const FIRST_ROW: i64 = 1_000_000_000;
/// A programme has fewer rows than this in every table.
const ROWS: i64 = 64;
/// Stream of the rooms of contests.
const ROOMS: u64 = 5 << 32;

/// What a round is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// What is contended for.
    pub contest: Contest,
    /// How many of those who want it can have it.
    pub room: u32,
}

/// Which contest comes when: a function of the seed and the position, in which every few rounds have each kind as often as its weight says.
#[derive(Debug, Clone)]
pub struct Deck {
    /// Sums of the weights, up to and including each, as shares of all.
    sums: Vec<(f64, Contest)>,
    rng_seed: u64,
}

impl Deck {
    /// Of these weights, of which at least one is above 0.
    pub fn new(rng_seed: u64, weights: &BTreeMap<Contest, f64>) -> Self {
        let all: f64 = weights.values().sum();
        let mut sum = 0.0;
        let shares = weights.iter().filter(|(_, weight)| **weight > 0.0).map(|(contest, weight)| {
            sum += weight / all;
            (sum, *contest)
        });
        Self { sums: shares.collect(), rng_seed }
    }

    /// The round at `position`.
    pub fn round(&self, position: u64) -> Round {
        // Multiples of the golden ratio, modulo 1, are spread more evenly than random numbers.
        let offset = Random::of(self.rng_seed, ROOMS, 0).unit();
        let step = position.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let drawn = ((step >> 11) as f64 / (1_u64 << 53) as f64 + offset).fract();
        let at = self.sums.partition_point(|(sum, _)| *sum <= drawn).min(self.sums.len().saturating_sub(1));
        let contest = self.sums.get(at).map_or(Contest::Seats, |(_, contest)| *contest);
        let [fewest, most] = contest.rooms();
        let more = Random::of(self.rng_seed, ROOMS, position + 1).below(u64::from(most - fewest + 1));
        Round { contest, room: fewest + more as u32 }
    }
}

/// What kind of call somebody is put down for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// From 19:00 to 07:00.
    Overnight,
    /// From 07:00 to 07:00.
    Weekend,
}

impl CallKind {
    /// The word for it, as in `call_assignment`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overnight => "overnight",
            Self::Weekend => "weekend",
        }
    }

    /// When it begins and ends, of the night that is a number of days since 2000-01-01.
    pub fn hours(self, night: i64) -> (Minute, Minute) {
        let begins = match self {
            Self::Overnight => 19,
            Self::Weekend => 7,
        };
        (night * DAY + begins * 60, (night + 1) * DAY + 7 * 60)
    }
}

/// A change that somebody proposes. Numbers are ids; a night is a number of days since 2000-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A resident works in a half day.
    Assign {
        /// Who.
        person: i64,
        /// In which half day.
        block: i64,
        /// What is done there.
        template: i64,
    },
    /// A supervisor does not come to a half day.
    Cancel {
        /// Who.
        person: i64,
        /// To which half day.
        block: i64,
        /// What is deleted.
        assignment: i64,
    },
    /// A resident is on call.
    Call {
        /// Who.
        person: i64,
        /// On which night.
        night: i64,
        /// From when to when.
        kind: CallKind,
    },
    /// Somebody gets a half day of somebody else's, for one of their own or for nothing.
    Swap {
        /// Whose it is.
        from: i64,
        /// Who gets it.
        to: i64,
        /// The half day.
        source: i64,
        /// What is given for it.
        target: Option<i64>,
    },
}

/// What a virtual user intends to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// Where.
    pub programme: i64,
    /// What it is contended for.
    pub contest: Contest,
    /// What is to be changed.
    pub change: Change,
}

impl Proposal {
    /// What kind of operation it is.
    pub fn kind(&self) -> OperationKind {
        match self.change {
            Change::Assign { .. } => OperationKind::Assign,
            Change::Cancel { .. } => OperationKind::Cancel,
            Change::Call { .. } => OperationKind::Call,
            Change::Swap { target: Some(_), .. } => OperationKind::Swap,
            Change::Swap { target: None, .. } => OperationKind::Absorb,
        }
    }
}

/// The id of row `k` of a programme, in whichever table.
fn row(programme: i64, k: i64) -> i64 {
    FIRST_ROW + programme * ROWS + k
}

/// The ids of the rows of the programmes from `first` on and before `until`, as a half-open range.
pub fn rows_of(first: i64, until: i64) -> std::ops::Range<i64> {
    row(first, 0)..row(until, 0)
}

impl Round {
    /// What the virtual user `vu` proposes in it.
    pub fn propose(self, programme: i64, vu: u16) -> Proposal {
        let target = i64::from(u32::from(vu) % self.contest.targets(self.room));
        let id = |k| row(programme, k);
        let change = match self.contest {
            Contest::Seats => Change::Assign { person: id(target), block: id(0), template: id(0) },
            Contest::Supervision => {
                let supervisor = id(RESIDENTS + target);
                Change::Cancel { person: supervisor, block: id(0), assignment: supervisor }
            }
            Contest::Hours => Change::Call { person: id(0), night: SATURDAY + 7 * target, kind: CallKind::Overnight },
            Contest::Rest if target == 0 => Change::Call { person: id(0), night: MONDAY, kind: CallKind::Overnight },
            Contest::Rest => Change::Assign { person: id(0), block: id(2), template: id(0) },
            Contest::Double if target == 0 => Change::Call { person: id(0), night: SATURDAY, kind: CallKind::Weekend },
            Contest::Double => Change::Assign { person: id(0), block: id(0), template: id(0) },
            Contest::Swap => {
                Change::Swap { from: id(0), to: id(1 + target), source: id(0), target: (target < PARTNERS).then(|| id(1 + target)) }
            }
        };
        Proposal { programme, contest: self.contest, change }
    }
}

/// Residents who are supervised in the half day of which supervisors are taken off.
const RESIDENTS: i64 = 8;

/// What somebody is in the half day.
#[derive(Clone, Copy)]
enum Person {
    Resident,
    Faculty,
}

/// Rows on their way into the tables, as lists of values.
#[derive(Default)]
struct Rows {
    programmes: String,
    people: String,
    blocks: String,
    templates: String,
    assignments: String,
    extra: String,
}

fn add(list: &mut String, values: std::fmt::Arguments<'_>) {
    if !list.is_empty() {
        list.push(',');
    }
    // Writing to a String does not fail.
    let _ = write!(list, "({values})");
}

impl Rows {
    fn person(&mut self, programme: i64, k: i64, who: Person) {
        let id = row(programme, k);
        let (kind, year) = match who {
            Person::Resident => ("resident", "2"),
            Person::Faculty => ("faculty", "NULL"),
        };
        add(&mut self.people, format_args!("{id},{programme},'Run','Person {k}','run-{id}@example.org','{kind}',{year}"));
    }

    fn block(&mut self, programme: i64, k: i64, day: i64, half: &str) {
        let id = row(programme, k);
        let is_weekend = (day - MONDAY).rem_euclid(7) >= 5;
        add(&mut self.blocks, format_args!("{id},{programme},DATE '2000-01-01'+{day},'{half}',0,{is_weekend}"));
    }

    fn template(&mut self, programme: i64, seats: Option<u32>, is_supervised: bool) {
        let id = row(programme, 0);
        let seats = seats.map_or("NULL".to_owned(), |seats| seats.to_string());
        add(&mut self.templates, format_args!("{id},{programme},'Run','RUN','clinic',{seats},{is_supervised}"));
    }

    fn assignment(&mut self, programme: i64, k: i64, (block, person): (i64, i64), who: Person) {
        let [id, block, person, template] = [k, block, person, 0].map(|k| row(programme, k));
        let role = match who {
            Person::Resident => "primary",
            Person::Faculty => "supervising",
        };
        add(&mut self.assignments, format_args!("{id},{block},{person},{template},'{role}'"));
    }

    /// So many minutes from 07:00 on.
    fn extra(&mut self, programme: i64, k: i64, day: i64, minutes: i64) {
        let [id, person] = [k, 0].map(|k| row(programme, k));
        let begins = day * DAY + 7 * 60;
        let at = |minute: i64| format!("TIMESTAMP '2000-01-01'+{minute}*INTERVAL '1 minute'");
        add(&mut self.extra, format_args!("{id},{person},{},{},'extension'", at(begins), at(begins + minutes)));
    }

    fn programme(&mut self, id: i64, run: i32, Round { contest, room }: Round) {
        let name = contest.name();
        add(&mut self.programmes, format_args!("{id},'Run {run}, {name}',{run},'{name}',{room}"));
        match contest {
            Contest::Seats => {
                let taken = i64::from(SEATS - room);
                self.block(id, 0, MONDAY, "AM");
                self.template(id, Some(SEATS), true);
                let candidates = i64::from(contest.targets(room));
                for k in 0..candidates + taken {
                    self.person(id, k, Person::Resident);
                }
                for k in candidates..candidates + taken {
                    self.assignment(id, k, (0, k), Person::Resident);
                }
                // Enough for all of them: what is scarce here are the seats.
                for k in 20..23 {
                    self.person(id, k, Person::Faculty);
                    self.assignment(id, k, (0, k), Person::Faculty);
                }
            }
            Contest::Supervision => {
                self.block(id, 0, MONDAY, "AM");
                self.template(id, None, true);
                for k in 0..RESIDENTS + i64::from(contest.targets(room)) {
                    let who = if k < RESIDENTS { Person::Resident } else { Person::Faculty };
                    self.person(id, k, who);
                    self.assignment(id, k, (0, k), who);
                }
            }
            Contest::Hours => {
                self.person(id, 0, Person::Resident);
                // Twenty days of 15 hours leave 20 of the 320 hours in four weeks, of 14.5 hours 30; a night has 12.
                let minutes = if room == 1 { 15 * 60 } else { 14 * 60 + 30 };
                for k in 0..20 {
                    self.extra(id, k, MONDAY + k / 5 * 7 + k % 5, minutes);
                }
            }
            Contest::Rest => {
                self.person(id, 0, Person::Resident);
                self.template(id, None, false);
                for (k, day, half) in [(0, MONDAY, "AM"), (1, MONDAY, "PM"), (2, MONDAY + 1, "PM")] {
                    self.block(id, k, day, half);
                }
                for k in 0..2 {
                    self.assignment(id, k, (k, 0), Person::Resident);
                }
            }
            Contest::Double => {
                self.person(id, 0, Person::Resident);
                self.template(id, None, false);
                self.block(id, 0, SATURDAY, "PM");
            }
            Contest::Swap => {
                self.template(id, None, false);
                for k in 0..=2 * PARTNERS {
                    self.person(id, k, Person::Resident);
                }
                for k in 0..=PARTNERS {
                    self.block(id, k, MONDAY + k, "AM");
                    self.assignment(id, k, (k, k), Person::Resident);
                }
            }
        }
    }
}

/// The statements that make the programmes of these rounds in a schema. They may be run twice.
pub fn insert(schema: &str, run: i32, programmes: impl IntoIterator<Item = (i64, Round)>) -> String {
    let mut rows = Rows::default();
    for (id, round) in programmes {
        rows.programme(id, run, round);
    }
    let tables = [
        ("programme (id, name, run_id, contest, room)", rows.programmes),
        ("person (id, programme_id, given_name, family_name, email, kind, pgy)", rows.people),
        ("block (id, programme_id, date, half, number, is_weekend)", rows.blocks),
        ("rotation_template (id, programme_id, name, abbreviation, activity, max_residents, supervision_required)", rows.templates),
        ("assignment (id, block_id, person_id, rotation_template_id, role)", rows.assignments),
        ("extra_duty (id, person_id, starts_at, ends_at, kind)", rows.extra),
    ];
    let mut sql = String::new();
    for (into, values) in tables.into_iter().filter(|(_, values)| !values.is_empty()) {
        let _ = write!(sql, "INSERT INTO {schema}.{into} VALUES {values} ON CONFLICT DO NOTHING;");
    }
    sql
}

/// The statements that remove the programmes from `first` on and before `until`, in which nothing has happened.
pub fn delete(schema: &str, first: i64, until: i64) -> String {
    let rows = rows_of(first, until);
    let of_rows = |table: &str| format!("DELETE FROM {schema}.{table} WHERE id >= {} AND id < {};", rows.start, rows.end);
    let tables = ["extra_duty", "assignment", "rotation_template", "block", "person"].map(of_rows).concat();
    format!("{tables}DELETE FROM {schema}.programme WHERE id >= {first} AND id < {until}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deck(weights: &[(Contest, f64)]) -> Deck {
        Deck::new(42, &weights.iter().copied().collect())
    }

    #[test]
    fn every_kind_comes_up_soon_and_as_often_as_its_weight_says() {
        let even = deck(&Contest::ALL.map(|contest| (contest, 1.0)));
        for from in 0..200 {
            let mut seen: Vec<Contest> = (from..from + 15).map(|position| even.round(position).contest).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, Contest::ALL, "from {from}");
        }
        let uneven = deck(&[(Contest::Seats, 3.0), (Contest::Rest, 1.0), (Contest::Swap, 0.0)]);
        let count = |contest| (0..400).filter(|position| uneven.round(*position).contest == contest).count();
        assert!((298..=302).contains(&count(Contest::Seats)), "{}", count(Contest::Seats));
        assert_eq!(count(Contest::Swap), 0);
    }

    #[test]
    fn rooms_are_what_is_announced_and_fewer_than_the_changes_proposed() {
        for contest in Contest::ALL {
            let deck = deck(&[(contest, 1.0)]);
            let mut rooms: Vec<u32> = (0..200).map(|position| deck.round(position).room).collect();
            rooms.sort_unstable();
            assert_eq!([rooms[0], rooms[199]], contest.rooms(), "{contest:?}");
            for room in rooms {
                let round = Round { contest, room };
                let different = |vus: u16| {
                    let mut changes: Vec<String> = (0..vus).map(|vu| format!("{:?}", round.propose(7, vu).change)).collect();
                    changes.sort_unstable();
                    changes.dedup();
                    changes.len() as u32
                };
                assert_eq!(different(room as u16 + 1), room + 1, "those of the first VUs differ");
                assert_eq!(different(100), contest.targets(room));
            }
        }
    }

    #[test]
    fn the_rows_of_two_programmes_never_meet() {
        let (a, b) = (rows_of(7, 8), rows_of(8, 9));
        assert_eq!(a.end, b.start);
        for contest in Contest::ALL {
            for room in contest.rooms() {
                let mut rows = Rows::default();
                rows.programme(7, 1, Round { contest, room });
                for list in [&rows.people, &rows.blocks, &rows.templates, &rows.assignments, &rows.extra] {
                    for values in list.split("),(") {
                        let id = values.trim_start_matches('(').split(',').next().unwrap();
                        assert!(id.is_empty() || a.contains(&id.parse().unwrap()), "{contest:?}: {id}");
                    }
                }
            }
        }
    }
}
