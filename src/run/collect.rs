//! How do history, ledger and rows come together in bounded memory? Partition by authorisation, stream each witness once per partition.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::books::Books;
use crate::Result;
use crate::audit::{Audit, Entry, Expectation, Subject};
use crate::history::{Applied, OpId, OperationKind, Reader, Record};
use crate::pg::admin::Session;

/// Operations held in memory at once: about 100 MB of records and ledger lines.
const PARTITION: u64 = 500_000;

/// Audits one run, in a snapshot of its own. A history that cannot be read makes the audit incomplete; it is then no evidence and no finding.
///
/// # Errors
/// When the server cannot be asked.
pub async fn audit(
    session: &mut Session,
    books: Books,
    schema: &str,
    run: i32,
    histories: &[PathBuf],
    expectation: Expectation,
) -> Result<Audit> {
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let audit = audit_here(session, books, schema, run, histories, expectation).await?;
    session.execute("COMMIT").await?;
    Ok(audit)
}

/// Audits one run in the transaction that `session` is in.
///
/// # Errors
/// As [`audit`].
pub async fn audit_here(
    session: &mut Session,
    books: Books,
    schema: &str,
    run: i32,
    histories: &[PathBuf],
    mut expectation: Expectation,
) -> Result<Audit> {
    let mut audit = Audit::default();
    let mut records = 0;
    for path in histories {
        match Reader::open(path) {
            Ok(reader) => {
                records += reader.footer().records;
                expectation.issued.extend(reader.footer().issued.iter().copied());
            }
            Err(error) => audit.incomplete(error.to_string()),
        }
    }
    if histories.is_empty() {
        audit.incomplete("there is no history".into());
    }
    if !audit.incomplete.is_empty() {
        return Ok(audit);
    }
    let partitions = records.div_ceil(PARTITION).max(1) as i64;
    for partition in 0..partitions {
        let mut subjects = rows(session, books, schema, run, partition, partitions).await?;
        ledger(session, run, &books.lines(schema, run, partition, partitions), &mut subjects).await?;
        for path in histories {
            if let Err(error) = history(path, run, partition, partitions, &mut subjects) {
                audit.incomplete(error.to_string());
            }
        }
        let mut subjects: Vec<Subject> = subjects.into_values().collect();
        subjects.sort_unstable_by_key(|s| s.authorisation);
        for subject in subjects {
            audit.examine(&expectation, subject);
        }
    }
    Ok(audit)
}

type Subjects = HashMap<i64, Subject>;

fn subject(subjects: &mut Subjects, authorisation: i64, run: i32) -> &mut Subject {
    // A line or a record of a row that is not there is examined against a row of zeros, and found.
    subjects.entry(authorisation).or_insert_with(|| Subject {
        authorisation,
        run,
        contest: String::new(),
        last: Applied::default(),
        ledger: Vec::new(),
        records: Vec::new(),
    })
}

fn number<T: std::str::FromStr + Default>(row: &[Option<String>], column: usize) -> T {
    row.get(column).and_then(|v| v.as_deref()).and_then(|v| v.parse().ok()).unwrap_or_default()
}

async fn rows(session: &mut Session, books: Books, schema: &str, run: i32, partition: i64, partitions: i64) -> Result<Subjects> {
    let mut subjects = Subjects::new();
    session
        .stream(&books.subjects(schema, run, partition, partitions), |row| {
            let last = Applied { version: number(row, 1), total: number(row, 2), used: number(row, 3), scheduled: number(row, 4) };
            let subject = subject(&mut subjects, number(row, 0), run);
            subject.last = last;
            subject.contest = row[5].clone().unwrap_or_default();
        })
        .await?;
    Ok(subjects)
}

async fn ledger(session: &mut Session, run: i32, lines: &str, subjects: &mut Subjects) -> Result<()> {
    session
        .stream(lines, |row| {
            let entry = Entry {
                op: OpId(number(row, 1)),
                attempt: number(row, 2),
                kind: row[3].as_deref().and_then(OperationKind::from_word),
                units: number(row, 4),
                applied: Applied {
                    version: number(row, 5),
                    total: number(row, 6),
                    used: number(row, 7),
                    scheduled: number(row, 8),
                },
                began: number(row, 9),
                wrote: number(row, 10),
                decided: number(row, 11),
            };
            subject(subjects, number(row, 0), run).ledger.push(entry);
        })
        .await?;
    Ok(())
}

fn history(path: &Path, run: i32, partition: i64, partitions: i64, subjects: &mut Subjects) -> std::io::Result<()> {
    for record in Reader::open(path)?.operations() {
        let record: Record = record?;
        // Whoever only looked left nothing that could be audited.
        if record.kind != OperationKind::Browse && record.authorisation % partitions == partition {
            subject(subjects, record.authorisation, run).records.push(record);
        }
    }
    Ok(())
}
