//! Who works beside those that are validated? A programme of its own in the same tables, whose writers keep no rule; gone afterwards.

use crate::Result;
use crate::pg::admin::Session;
use crate::random::Random;

/// What the programme is for; by this it is known again.
const CONTEST: &str = "acgme";
/// Residents of the programme, for each writer.
const RESIDENTS: i64 = 5;
/// Days of the programme.
const DAYS: i64 = 28;
/// Kinds of call and of absence that are drawn from.
const CALLS: [&str; 3] = ["overnight", "weekend", "night-float"];
const ABSENCES: [&str; 4] = ["deployment", "medical", "sick", "vacation"];

/// What a writer works on. Nobody else does.
#[derive(Debug, Clone)]
pub struct Desk {
    people: Vec<i64>,
    /// The first of the half days, which are numbered in a row.
    block: i64,
    templates: [i64; 2],
}

/// Makes the programme; a desk for each writer.
///
/// # Errors
/// The server's refusal.
pub async fn make(session: &mut Session, writers: u32) -> Result<Vec<Desk>> {
    let people = RESIDENTS * i64::from(writers) + 1;
    // Whoever holds the lease is the only one who numbers.
    let mut free =
        async |relation: &str| session.integer(&format!("SELECT coalesce(max(id), 0) + 1 FROM dbstress.{relation}")).await;
    let (programme, person) = (free("programme").await?, free("person").await?);
    let (block, template) = (free("block").await?, free("rotation_template").await?);
    session
        .execute(&format!(
            "BEGIN; \
             INSERT INTO dbstress.programme (id, name, run_id, contest, room) VALUES ({programme}, 'beside', 0, '{CONTEST}', 0); \
             INSERT INTO dbstress.person (id, programme_id, given_name, family_name, email, kind, pgy) \
             SELECT {person} + n, {programme}, 'Beside', 'No. ' || n, 'beside-' || {person} + n || '@example.org', \
                    CASE n WHEN 0 THEN 'faculty' ELSE 'resident' END, CASE n WHEN 0 THEN NULL ELSE 1 + n % 3 END \
             FROM generate_series(0, {people} - 1) n; \
             INSERT INTO dbstress.block (id, programme_id, date, half, number, is_weekend) \
             SELECT {block} + n, {programme}, d, CASE n % 2 WHEN 0 THEN 'AM' ELSE 'PM' END, 0, extract(isodow FROM d) > 5 \
             FROM generate_series(0, 2 * {DAYS} - 1) n, LATERAL (SELECT (SELECT min(date) FROM dbstress.block) + n / 2) AS day (d); \
             INSERT INTO dbstress.rotation_template (id, programme_id, name, abbreviation, activity, max_residents) \
             VALUES ({template}, {programme}, 'Beside', 'B', 'clinic', 1), ({template} + 1, {programme}, 'Beside off', 'BO', 'off', NULL); \
             COMMIT"
        ))
        .await?;
    let of = |writer: i64| Desk {
        people: (0..RESIDENTS).map(|n| person + 1 + writer * RESIDENTS + n).collect(),
        block,
        templates: [template, template + 1],
    };
    Ok((0..i64::from(writers)).map(of).collect())
}

/// Removes every programme that was made here; how many there were.
///
/// # Errors
/// The server's refusal.
pub async fn remove(session: &mut Session) -> Result<u64> {
    let programmes = format!("(SELECT id FROM dbstress.programme WHERE run_id IS NOT NULL AND contest = '{CONTEST}')");
    let people = format!("(SELECT id FROM dbstress.person WHERE programme_id IN {programmes})");
    session.execute("BEGIN").await?;
    for relation in ["assignment", "assignment_unguarded", "call_assignment", "extra_duty", "absence"] {
        session.execute(&format!("DELETE FROM dbstress.{relation} WHERE person_id IN {people}")).await?;
    }
    for relation in ["block", "rotation_template", "person"] {
        session.execute(&format!("DELETE FROM dbstress.{relation} WHERE programme_id IN {programmes}")).await?;
    }
    let removed = session.execute(&format!("DELETE FROM dbstress.programme WHERE id IN {programmes}")).await?;
    session.execute("COMMIT").await?;
    Ok(removed)
}

impl Desk {
    /// A change that keeps no rule: somebody is put down, moved, called, sent away, or relieved of all that.
    pub fn change(&self, random: &mut Random) -> String {
        let mut pick = |n: usize| random.below(n as u64) as usize;
        let person = self.people[pick(self.people.len())];
        let block = self.block + pick(2 * DAYS as usize) as i64;
        let template = self.templates[pick(2)];
        let day = format!("(SELECT date FROM dbstress.block WHERE id = {block})");
        match pick(8) {
            0..3 => format!(
                "INSERT INTO dbstress.assignment (block_id, person_id, rotation_template_id, role) \
                 VALUES ({block}, {person}, {template}, 'primary') ON CONFLICT DO NOTHING"
            ),
            3 => format!(
                "INSERT INTO dbstress.call_assignment (person_id, night, kind) SELECT {person}, {day}, '{}' ON CONFLICT DO NOTHING",
                CALLS[pick(CALLS.len())]
            ),
            4 => format!(
                "INSERT INTO dbstress.absence (person_id, starts_on, ends_on, kind) SELECT {person}, {day}, {day} + {}, '{}'",
                pick(10),
                ABSENCES[pick(ABSENCES.len())]
            ),
            5 => format!(
                "INSERT INTO dbstress.extra_duty (person_id, starts_at, ends_at, kind) \
                 SELECT {person}, {day} + interval '1 hour', {day} + interval '30 hours', 'moonlighting'"
            ),
            6 => format!(
                "UPDATE dbstress.assignment SET rotation_template_id = {template}, version = version + 1 WHERE person_id = {person}"
            ),
            _ => format!(
                "DELETE FROM dbstress.assignment WHERE person_id = {person}; DELETE FROM dbstress.call_assignment WHERE person_id = {person}; \
                 DELETE FROM dbstress.absence WHERE person_id = {person}; DELETE FROM dbstress.extra_duty WHERE person_id = {person}"
            ),
        }
    }
}
