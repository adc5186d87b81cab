//! What does one look at the schedule see, and what does it take?

use std::time::{Duration, Instant};

use super::cases;
use super::compare::{Compared, Mistake, Truth};
use super::judge::Witness;
use crate::Result;
use crate::acgme::Finding;
use crate::acgme::evaluate::Evaluator;
use crate::acgme::rules::RuleSet;
use crate::metrics::cpu_of_this_thread;
use crate::pg::admin::Session;
use crate::roster::{self, Scope};

/// The transaction of a validator.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What the rules found, and what that took.
#[derive(Debug, Clone)]
pub struct Look {
    /// For each set of rules, what was found.
    pub found: Vec<Vec<Finding>>,
    /// From the first question to the findings.
    pub wall: Duration,
    /// Processor time of that, ours alone.
    pub cpu: Duration,
    /// Of this, for the rules alone.
    pub rules_cpu: Duration,
}

impl Look {
    /// Looks once, with every set of rules. The thread must do nothing else meanwhile.
    ///
    /// # Errors
    /// As [`roster::read`].
    pub async fn take(session: &mut Session, sets: &[RuleSet]) -> Result<Self> {
        let (began, cpu) = (Instant::now(), cpu_of_this_thread());
        let mut evaluators: Vec<Evaluator> = sets.iter().cloned().map(Evaluator::new).collect();
        let mut rules_cpu = Duration::ZERO;
        roster::read(session, &Scope::default(), |person| {
            let before = cpu_of_this_thread();
            evaluators.iter_mut().for_each(|evaluator| evaluator.person(person));
            rules_cpu += cpu_of_this_thread() - before;
        })
        .await?;
        let before = cpu_of_this_thread();
        let found: Vec<Vec<Finding>> = evaluators.into_iter().map(Evaluator::finish).collect();
        let after = cpu_of_this_thread();
        Ok(Self { found, wall: began.elapsed(), cpu: after - cpu, rules_cpu: rules_cpu + (after - before) })
    }
}

/// What has to be found by one set of rules.
#[derive(Debug, Clone)]
pub struct Reference {
    /// What is true.
    pub truth: Truth,
    /// What the same rules find as SQL.
    pub sql: Vec<Finding>,
}

/// The references of one moment.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// One for each set of rules.
    pub of: Vec<Reference>,
    /// Planted cases that are mended.
    pub mended: Vec<String>,
    /// What the SQL took.
    pub sql: Duration,
}

impl References {
    /// Asks for them in the transaction that is open.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn ask(session: &mut Session, sets: &[RuleSet]) -> Result<Self> {
        let scope = Scope::default();
        let mut references = Self { mended: cases::mended(session).await?, ..Self::default() };
        for set in sets {
            let began = Instant::now();
            let sql = roster::sql_findings(session, set.name, &scope).await?;
            references.sql += began.elapsed();
            references.of.push(Reference { truth: cases::truth(session, set.name, &scope).await?, sql });
        }
        Ok(references)
    }
}

/// How a validation compares with what is true.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The rules against the truth.
    pub compared: Compared,
    /// Everything that is not as it should be: who was wrong, what, and what the SQL found where only window or limit differ.
    pub wrong: Vec<(Witness, Mistake, Option<Finding>)>,
}

impl Examined {
    /// Compares three with each other: what the rules found, what they found as SQL, and what is true.
    pub fn of(found: &[Finding], reference: &Reference) -> Self {
        let compared = reference.truth.compare(found);
        let mut wrong: Vec<_> = compared.mistakes.iter().map(|mistake| (Witness::Rules, mistake.clone(), None)).collect();
        let sql = reference.truth.compare(&reference.sql);
        wrong.extend(sql.mistakes.into_iter().map(|mistake| (Witness::Sql, mistake, None)));
        for finding in found {
            let alike = |other: &&Finding| {
                (other.rule, other.subject, other.measured, other.severity)
                    == (finding.rule, finding.subject, finding.measured, finding.severity)
            };
            if let Some(other) = reference.sql.iter().find(alike).filter(|other| *other != finding) {
                wrong.push((Witness::Both, Mistake { found: Some(*finding), expected: None }, Some(*other)));
            }
        }
        Self { compared, wrong }
    }
}

/// A transaction with a snapshot of its own, which others can join.
pub struct Snapshot<'a> {
    session: &'a mut Session,
    /// As the server prints it: what is visible in it.
    pub visible: String,
    /// From here on it does not change.
    pub since: Instant,
}

impl<'a> Snapshot<'a> {
    /// Begins.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn begin(session: &'a mut Session) -> Result<Self> {
        session.execute(BEGIN).await?;
        let visible = session.text("SELECT pg_current_snapshot()::text").await?.unwrap_or_default();
        Ok(Self { session, visible, since: Instant::now() })
    }

    /// By what name others can join it, as long as it lasts.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn export(&mut self) -> Result<String> {
        Ok(self.session.text("SELECT pg_export_snapshot()").await?.unwrap_or_default())
    }

    /// Joins one that somebody else has exported.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn join(session: &'a mut Session, name: &str) -> Result<Self> {
        session.execute(BEGIN).await?;
        session.execute(&format!("SET TRANSACTION SNAPSHOT '{name}'")).await?;
        let visible = session.text("SELECT pg_current_snapshot()::text").await?.unwrap_or_default();
        Ok(Self { session, visible, since: Instant::now() })
    }

    /// The session it is on.
    pub fn session(&mut self) -> &mut Session {
        self.session
    }

    /// Ends it.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn end(self) -> Result<()> {
        self.session.execute("COMMIT").await?;
        Ok(())
    }
}
