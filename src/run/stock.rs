//! Where do fresh authorisations and programmes come from? Inserted ahead of the load, outside it, a batch at a time.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::Result;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, literal};
use crate::workload::booking::{Actor, Place};
use crate::workload::contest::{self, Deck};

/// Authorisations inserted at once, and how many are kept ahead of the load.
const BATCH: u64 = 512;
/// The same of programmes, each of which is some dozens of rows.
const BATCH_OF_PROGRAMMES: u64 = 128;
/// How long a server that went away may take to come back, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(60);
const KNOCK_EVERY: Duration = Duration::from_millis(50);

/// Whose authorisations are made: an organisation with a patient, a service and its practitioners.
#[derive(Debug, Clone)]
pub struct Clinic {
    /// The organisation.
    pub organisation: i64,
    /// One of its patients.
    pub patient: i64,
    /// A service that it may use.
    pub service_code: i64,
    /// Its practitioners, who act.
    pub actors: Vec<Actor>,
}

/// The organisations of the dataset that have both patients and practitioners, in the order of their ids.
///
/// # Errors
/// When the dataset cannot be read.
pub async fn clinics(session: &mut Session) -> Result<Vec<Clinic>> {
    let rows = session
        .rows(
            "SELECT o.id, min(p.id), (SELECT min(id) FROM dbstress.service_code), \
               (SELECT string_agg(id::text, ',' ORDER BY id) FROM dbstress.practitioner r WHERE r.organisation_id = o.id) \
             FROM dbstress.organisation o JOIN dbstress.patient p ON p.organisation_id = o.id \
             WHERE EXISTS (SELECT FROM dbstress.practitioner r WHERE r.organisation_id = o.id) \
             GROUP BY o.id ORDER BY o.id LIMIT 64",
        )
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let id = |i: usize| row.get(i)?.as_deref()?.parse::<i64>().ok();
            let organisation = id(0)?;
            let actors = row[3].as_deref()?.split(',').filter_map(|a| Some(Actor { id: a.parse().ok()?, organisation })).collect();
            Some(Clinic { organisation, patient: id(1)?, service_code: id(2)?, actors })
        })
        .collect())
}

/// What the rounds or the virtual users of one run meet at: consecutive ids from `base`.
pub struct Stock {
    session: Session,
    options: ConnectOptions,
    place: Place,
    base: i64,
    kind: Kind,
    most: u64,
    batch: u64,
    made: u64,
}

/// What it is made of.
enum Kind {
    /// Authorisations, dealt to the clinics in turn.
    Authorisations { size: Size, guarded: bool, clinics: String, clinic_count: usize },
    /// Programmes, each with a contest.
    Programmes(Deck),
}

/// How many authorisations a turn needs, and of which size.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Never more than this many are needed.
    pub most: u64,
    /// Whether all of them are needed from the beginning.
    pub is_whole: bool,
    /// Units that each has.
    pub total: i32,
    /// The first so many are hot.
    pub hot: u64,
    /// Units that each of these has.
    pub hot_total: i32,
}

impl Stock {
    /// Makes the first batch.
    ///
    /// # Errors
    /// When the rows cannot be inserted.
    pub async fn open(
        mut session: Session,
        options: &ConnectOptions,
        place: &Place,
        clinics: &[Clinic],
        size: Size,
        guarded: bool,
    ) -> Result<Self> {
        let base = session.integer(&format!("SELECT coalesce(max(id), 0) + 1 FROM {}.authorisation", place.schema)).await?;
        let values: Vec<String> = clinics
            .iter()
            .enumerate()
            .map(|(i, c)| format!("({i}, {}, {}, {})", c.organisation, c.patient, c.service_code))
            .collect();
        let kind = Kind::Authorisations { size, guarded, clinics: values.join(", "), clinic_count: clinics.len() };
        let mut stock =
            Self { session, options: options.clone(), place: place.clone(), base, kind, most: size.most, batch: BATCH, made: 0 };
        // All of them at once where the load may begin anywhere.
        stock.make(if size.hot > 0 || size.is_whole { u64::MAX } else { BATCH }).await?;
        Ok(stock)
    }

    /// Makes the first programmes of so many rounds at most.
    ///
    /// # Errors
    /// When the rows cannot be inserted.
    pub async fn of_programmes(
        mut session: Session,
        options: &ConnectOptions,
        place: &Place,
        deck: Deck,
        most: u64,
    ) -> Result<Self> {
        let base = session.integer(&format!("SELECT coalesce(max(id), 0) + 1 FROM {}.programme", place.schema)).await?;
        let (options, place) = (options.clone(), place.clone());
        let kind = Kind::Programmes(deck);
        let mut stock = Self { session, options, place, base, kind, most, batch: BATCH_OF_PROGRAMMES, made: 0 };
        stock.make(BATCH_OF_PROGRAMMES).await?;
        Ok(stock)
    }

    /// The id of the first.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// How many there are.
    pub fn made(&self) -> u64 {
        self.made
    }

    async fn make(&mut self, count: u64) -> Result<()> {
        let until = self.made.saturating_add(count).min(self.most);
        if until == self.made {
            return Ok(());
        }
        let Place { schema, run, as_of, .. } = &self.place;
        let sql = match &self.kind {
            Kind::Authorisations { size, guarded, clinics, clinic_count } => {
                let as_of = literal(as_of);
                format!(
                    "INSERT INTO {schema}.authorisation \
                       (id, organisation_id, patient_id, service_code_id, number, total, start_date, end_date, guarded, run_id) \
                     SELECT {} + g, c.organisation, c.patient, c.service, 'RUN-{run}-' || g, CASE WHEN g < {} THEN {} ELSE {} END, \
                       (TIMESTAMP {as_of})::date - 1, (TIMESTAMP {as_of} + interval '6 months')::date, {}, {run} \
                     FROM generate_series({}::bigint, {}::bigint) g \
                     JOIN (VALUES {}) c (k, organisation, patient, service) ON c.k = g % {} ON CONFLICT (id) DO NOTHING",
                    self.base,
                    size.hot,
                    size.hot_total,
                    size.total,
                    guarded,
                    self.made,
                    until - 1,
                    clinics,
                    clinic_count,
                )
            }
            Kind::Programmes(deck) => {
                let programmes =
                    (self.made..until).map(|position| (self.base.saturating_add_unsigned(position), deck.round(position)));
                contest::insert(schema, *run, programmes)
            }
        };
        self.execute(&sql).await?;
        self.made = until;
        Ok(())
    }

    /// Runs a statement that may be run twice: until it is answered, through a new session if the server ended the last.
    async fn execute(&mut self, sql: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let error = match self.session.execute(sql).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_lost_connection() || began.elapsed() > PATIENCE {
                return Err(error.into());
            }
            tokio::time::sleep(KNOCK_EVERY).await;
            match Session::connect(&self.options, "stock").await {
                Ok(session) => self.session = session,
                Err(error) => match self.options.same.another() {
                    Some(another) => return Err(another),
                    None => drop(error),
                },
            }
        }
    }

    /// Keeps ahead of the load until `position`'s sender is gone: whenever the load has moved on, says how many there are.
    ///
    /// # Errors
    /// When rows cannot be inserted.
    pub async fn feed(mut self, mut position: watch::Receiver<u64>, available: watch::Sender<u64>) -> Result<Self> {
        while position.changed().await.is_ok() {
            let at = *position.borrow_and_update();
            while self.made < self.most && self.made < at.saturating_add(self.batch) {
                self.make(self.batch).await?;
                available.send_replace(self.made);
            }
        }
        Ok(self)
    }

    /// Removes what was never used: everything from position `used` on.
    ///
    /// # Errors
    /// When rows cannot be deleted.
    pub async fn close(mut self, used: u64) -> Result<()> {
        let first = self.base.saturating_add_unsigned(used);
        let Place { schema, run, .. } = &self.place;
        let sql = match self.kind {
            Kind::Authorisations { .. } => {
                format!("DELETE FROM {schema}.authorisation WHERE run_id = {run} AND id >= {first} AND version = 0")
            }
            Kind::Programmes(_) => contest::delete(schema, first, self.base.saturating_add_unsigned(self.made.max(used))),
        };
        self.execute(&sql).await?;
        self.session.close().await;
        Ok(())
    }
}
