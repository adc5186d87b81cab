//! What did the clients do? One fixed-size record per iteration, one file per load thread, read back as a stream.
//!
//! A file is a header, records, and a footer with what each VU had issued. Without an intact footer the history is truncated,
//! and an incomplete history is no evidence: reading it is an error, never a finding.

mod mark;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::mark::MARK;
use crate::outcome::Outcome;

pub use self::mark::Mark;

/// What an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Promise units: scheduled grows.
    Reserve,
    /// Take a promise back: scheduled shrinks.
    Release,
    /// Keep a promise: scheduled shrinks, used grows.
    Consume,
    /// Only look: nothing changes, and nothing is written to the ledger.
    Browse,
    /// Whatever statements of the user's own do; there is no ledger of it.
    Own,
    /// Put somebody down for a half day.
    Assign,
    /// Take somebody off a half day.
    Cancel,
    /// Put somebody down for call.
    Call,
    /// Two people exchange half days.
    Swap,
    /// Somebody takes over a half day.
    Absorb,
}

impl OperationKind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Reserve,
        Self::Release,
        Self::Consume,
        Self::Browse,
        Self::Own,
        Self::Assign,
        Self::Cancel,
        Self::Call,
        Self::Swap,
        Self::Absorb,
    ];

    /// The word for it, as in the ledger.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Consume => "consume",
            Self::Browse => "browse",
            Self::Own => "own",
            Self::Assign => "assign",
            Self::Cancel => "cancel",
            Self::Call => "call",
            Self::Swap => "swap",
            Self::Absorb => "absorb",
        }
    }

    /// The kind that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether it changes a schedule, which has no counters.
    pub fn is_of_schedules(self) -> bool {
        matches!(self, Self::Assign | Self::Cancel | Self::Call | Self::Swap | Self::Absorb)
    }

    /// Change of (used, scheduled) by `units`.
    pub fn deltas(self, units: i32) -> (i32, i32) {
        match self {
            Self::Reserve => (0, units),
            Self::Release => (0, -units),
            Self::Consume => (units, -units),
            Self::Browse | Self::Own | Self::Assign | Self::Cancel | Self::Call | Self::Swap | Self::Absorb => (0, 0),
        }
    }
}

/// How a virtual user asks with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asking {
    /// With the key and the body that everybody has.
    First,
    /// Once more, after an answer.
    Again,
    /// Sends COMMIT and closes the connection before the answer; then asks with the same key.
    HangUp,
    /// With the same key and another body.
    OtherBody,
    /// With the same key, as another organisation.
    OtherTenant,
    /// Once more, after the lifetime of the key.
    Late,
}

impl Asking {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] = [Self::First, Self::Again, Self::HangUp, Self::OtherBody, Self::OtherTenant, Self::Late];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
            Self::HangUp => "hang-up",
            Self::OtherBody => "other-body",
            Self::OtherTenant => "other-tenant",
            Self::Late => "late",
        }
    }
}

/// Identifies an operation everywhere: in the history, in the ledger, in messages as `run.vu.n`.
/// 16 bits of run, 15 of VU, 32 of n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub i64);

impl OpId {
    /// Largest run number that fits.
    pub const MAX_RUN: i32 = 0xFFFF;
    /// Largest number of VUs that fits.
    pub const MAX_VUS: u32 = 0x7FFF;

    /// Composes an identifier; the arguments must be within the limits, which plans check.
    pub fn new(run: i32, vu: u16, n: u32) -> Self {
        Self(i64::from(run) << 47 | i64::from(vu) << 32 | i64::from(n))
    }

    /// The run it belongs to.
    pub fn run(self) -> i32 {
        (self.0 >> 47) as i32
    }

    /// The VU that proposed it, from 0.
    pub fn vu(self) -> u16 {
        (self.0 >> 32 & 0x7FFF) as u16
    }

    /// Its number among those of the VU, from 0.
    pub fn n(self) -> u32 {
        self.0 as u32
    }
}

impl std::fmt::Display for OpId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.run(), self.vu(), self.n())
    }
}

/// The counters of an authorisation as an operation left them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Which update of the row this was, from 1.
    pub version: i64,
    /// Units authorised.
    pub total: i32,
    /// Units consumed.
    pub used: i32,
    /// Units promised.
    pub scheduled: i32,
}

impl Applied {
    /// More promised and consumed than authorised.
    pub fn is_overbooked(self) -> bool {
        i64::from(self.used) + i64::from(self.scheduled) > i64::from(self.total)
    }
}

/// `version 3: used 0, scheduled 30 of 50`.
impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {}: used {}, scheduled {} of {}", self.version, self.used, self.scheduled, self.total)
    }
}

/// One iteration. Times are nanoseconds since the run's clock started; a stamp before a send is taken before its first byte,
/// a stamp after an answer once its last byte is read, so that true overlap is never missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its number among those of the VU.
    pub n: u32,
    /// The VU.
    pub vu: u16,
    /// What was asked for.
    pub kind: OperationKind,
    /// How it was asked for, if with a key.
    pub asking: Option<Asking>,
    /// How it ended.
    pub outcome: Outcome,
    /// BEGIN…COMMIT tries, at least 1.
    pub attempts: u16,
    /// Attempts that the server turned down because of a concurrent transaction; 255 stands for more.
    pub conflicts: u8,
    /// The actor belonged to another organisation: must be refused.
    pub is_attack: bool,
    /// The authorisation asked.
    pub authorisation: i64,
    /// Units asked for.
    pub units: i32,
    /// When it should have started.
    pub scheduled: u64,
    /// When it started.
    pub started: u64,
    /// When its last attempt sent its first statement.
    pub last_attempt: u64,
    /// When COMMIT was sent for the last time; 0 if never.
    pub commit_sent: u64,
    /// When the last answer was read.
    pub finished: u64,
    /// What the operation returned; all zero unless it committed or was replayed.
    pub applied: Applied,
    /// When the transaction of its last attempt began, microseconds of the server's clock; 0 where the server was not asked. Kept of changes of
    /// schedules alone, which have no counters: it takes their place.
    pub began: i64,
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An iteration.
    Operation(Record),
    /// A fault.
    Fault(Mark),
}

/// Bytes of a record on disk.
pub const RECORD_BYTES: usize = 80;
const MAGIC: &[u8; 8] = b"dbsthis1";
const FOOTER: &[u8; 8] = b"dbstend1";

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let [class, reason] = self.outcome.encode();
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.authorisation.to_le_bytes());
        put(&self.scheduled.to_le_bytes());
        put(&self.started.to_le_bytes());
        put(&self.last_attempt.to_le_bytes());
        put(&self.commit_sent.to_le_bytes());
        put(&self.finished.to_le_bytes());
        put(&self.n.to_le_bytes());
        put(&self.units.to_le_bytes());
        if self.kind.is_of_schedules() {
            put(&self.began.to_le_bytes());
        } else {
            // A row is updated less than 2^32 times in one run.
            put(&(self.applied.version as u32).to_le_bytes());
            put(&self.applied.total.to_le_bytes());
        }
        put(&self.applied.used.to_le_bytes());
        put(&self.applied.scheduled.to_le_bytes());
        put(&self.vu.to_le_bytes());
        put(&self.attempts.to_le_bytes());
        let asking = self.asking.map_or(0, |asking| asking as u8 + 1);
        put(&[class, reason, self.kind as u8 | asking << 4 | u8::from(self.is_attack) << 7, self.conflicts]);
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        fn take<const N: usize>(bytes: &[u8; RECORD_BYTES], at: usize) -> [u8; N] {
            let mut field = [0; N];
            field.copy_from_slice(&bytes[at..at + N]);
            field
        }
        let long = |at| u64::from_le_bytes(take(bytes, at));
        let word = |at| u32::from_le_bytes(take(bytes, at));
        let int = |at| i32::from_le_bytes(take(bytes, at));
        let short = |at| u16::from_le_bytes(take(bytes, at));
        let kind = *OperationKind::ALL.get(usize::from(bytes[78] & 0x0F))?;
        let counters = || Applied { version: i64::from(word(56)), total: int(60), used: int(64), scheduled: int(68) };
        let (applied, began) = if kind.is_of_schedules() { (Applied::default(), long(56) as i64) } else { (counters(), 0) };
        Some(Self {
            authorisation: long(0) as i64,
            scheduled: long(8),
            started: long(16),
            last_attempt: long(24),
            commit_sent: long(32),
            finished: long(40),
            n: word(48),
            units: int(52),
            applied,
            vu: short(72),
            attempts: short(74),
            outcome: Outcome::decode([bytes[76], bytes[77]])?,
            kind,
            // Histories from before there were keys have 0 there.
            asking: match bytes[78] >> 4 & 0x07 {
                0 => None,
                n => Some(*Asking::ALL.get(usize::from(n) - 1)?),
            },
            is_attack: bytes[78] & 0x80 != 0,
            conflicts: bytes[79],
            began,
        })
    }
}

/// What a finished history file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Records in the file.
    pub records: u64,
    /// For each VU of the thread: its number and how many operations it had issued.
    pub issued: Vec<(u16, u32)>,
}

/// Appends records to one file. Dropped without [`Writer::finish`], the file stays truncated and says so when read.
pub struct Writer {
    file: BufWriter<File>,
    records: u64,
}

impl Writer {
    /// Creates the file.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
        file.write_all(MAGIC)?;
        Ok(Self { file, records: 0 })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.records += 1;
        self.file.write_all(&record.encode())
    }

    /// Appends a fault.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn mark(&mut self, mark: &Mark) -> io::Result<()> {
        self.records += 1;
        self.file.write_all(&mark.encode())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self, issued: &[(u16, u32)]) -> io::Result<Footer> {
        let mut footer = Vec::with_capacity(24 + issued.len() * 6);
        for (vu, n) in issued {
            footer.extend_from_slice(&vu.to_le_bytes());
            footer.extend_from_slice(&n.to_le_bytes());
        }
        footer.extend_from_slice(&(issued.len() as u64).to_le_bytes());
        footer.extend_from_slice(&self.records.to_le_bytes());
        footer.extend_from_slice(FOOTER);
        self.file.write_all(&footer)?;
        self.file.flush()?;
        Ok(Footer { records: self.records, issued: issued.to_vec() })
    }
}

/// Reads a finished history file record by record.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
    footer: Footer,
}

fn corrupt(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("history {}: {what}", path.display()))
}

impl Reader {
    /// Opens a file and checks that it is complete.
    ///
    /// # Errors
    /// `InvalidData` when header, footer or length do not agree: the file is truncated or not a history.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::io::{Seek, SeekFrom};
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let truncated = || corrupt(path, "truncated: the run did not finish writing it");
        let mut magic = [0; 8];
        file.read_exact(&mut magic).map_err(|_| truncated())?;
        if &magic != MAGIC {
            return Err(corrupt(path, "not a dbstress history"));
        }
        if length < 32 {
            return Err(truncated());
        }
        file.seek(SeekFrom::End(-24))?;
        let mut tail = [0; 24];
        file.read_exact(&mut tail)?;
        let number = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&tail[at..at + 8]);
            u64::from_le_bytes(field)
        };
        let (vus, records) = (number(0), number(8));
        let expected = records
            .checked_mul(RECORD_BYTES as u64)
            .and_then(|n| n.checked_add(vus.checked_mul(6)?))
            .and_then(|n| n.checked_add(32));
        if &tail[16..] != FOOTER || expected != Some(length) {
            return Err(truncated());
        }
        file.seek(SeekFrom::Start(8 + records * RECORD_BYTES as u64))?;
        let mut table = vec![0; vus as usize * 6];
        file.read_exact(&mut table)?;
        let issued = table
            .chunks_exact(6)
            .map(|c| (u16::from_le_bytes([c[0], c[1]]), u32::from_le_bytes([c[2], c[3], c[4], c[5]])))
            .collect();
        file.seek(SeekFrom::Start(8))?;
        let file = BufReader::with_capacity(1 << 18, file);
        Ok(Self { path: path.to_owned(), file, left: records, footer: Footer { records, issued } })
    }

    /// What the file says about itself.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }
}

impl Reader {
    /// The iterations alone.
    pub fn operations(self) -> impl Iterator<Item = io::Result<Record>> {
        self.filter_map(|event| match event {
            Ok(Event::Operation(record)) => Some(Ok(record)),
            Ok(Event::Fault(_)) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

impl Iterator for Reader {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut bytes = [0; RECORD_BYTES];
        let event = |bytes: &[u8; RECORD_BYTES]| match bytes[78] {
            MARK => Mark::decode(bytes).map(Event::Fault),
            _ => Record::decode(bytes).map(Event::Operation),
        };
        Some(
            self.file
                .read_exact(&mut bytes)
                .and_then(|()| event(&bytes).ok_or_else(|| corrupt(&self.path, "holds a record that no run writes"))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Abort, Refusal};

    fn record(n: u32, outcome: Outcome) -> Record {
        Record {
            n,
            vu: 31_000,
            kind: OperationKind::Consume,
            asking: n.checked_sub(1).map(|n| Asking::ALL[n as usize % Asking::ALL.len()]),
            outcome,
            attempts: 7,
            conflicts: 6,
            is_attack: n.is_multiple_of(2),
            authorisation: -5,
            units: i32::MAX,
            scheduled: 1,
            started: u64::MAX,
            last_attempt: 3,
            commit_sent: 4,
            finished: 5,
            applied: Applied { version: 4_000_000_000, total: 50, used: -1, scheduled: 60 },
            began: 0,
        }
    }

    /// A change of a schedule: without counters, with the time at which it began.
    fn change(n: u32) -> Record {
        Record { kind: OperationKind::Absorb, applied: Applied::default(), began: i64::MIN + 1, ..record(n, Outcome::Committed) }
    }

    #[test]
    fn records_survive_the_disk() {
        let directory = tempdir();
        let path = directory.join("a.history");
        let outcomes = [
            Outcome::Committed,
            Outcome::Refused(Refusal::NotScheduled),
            Outcome::Aborted(Abort::Deadline),
            Outcome::Unknown,
            Outcome::Replayed,
        ];
        let records: Vec<_> = (0..10).map(|n| record(n, outcomes[n as usize % outcomes.len()])).chain([change(10)]).collect();
        let mut writer = Writer::create(&path).unwrap();
        let mark = Mark { name: "response-lost".into(), planned: 3, at: 7, effective: 8, healed: u64::MAX, struck: true };
        writer.mark(&mark).unwrap();
        for record in &records {
            writer.append(record).unwrap();
        }
        let footer = writer.finish(&[(3, 4), (5, 6)]).unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.footer(), &footer);
        assert_eq!(reader.operations().map(|r| r.unwrap()).collect::<Vec<_>>(), records);
        assert_eq!(Reader::open(&path).unwrap().next().unwrap().unwrap(), Event::Fault(mark));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_truncated_history_is_an_error_wherever_it_was_cut() {
        let directory = tempdir();
        let path = directory.join("a.history");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(&record(0, Outcome::Committed)).unwrap();
        writer.finish(&[(0, 1)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Reader::open(&path).is_err(), "cut at {length} of {}", whole.len());
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_operation_id_comes_apart_as_it_was_put_together() {
        let id = OpId::new(OpId::MAX_RUN, OpId::MAX_VUS as u16, u32::MAX);
        assert!(id.0 > 0);
        assert_eq!((id.run(), id.vu(), id.n()), (OpId::MAX_RUN, OpId::MAX_VUS as u16, u32::MAX));
        assert_eq!(OpId::new(3, 17, 204).to_string(), "3.17.204");
    }

    fn tempdir() -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("dbstress-history-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }
}
