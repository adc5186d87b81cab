//! Which keys may a scenario file have? The doc comments are what editors show: they become the JSON Schema.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use super::http_file::{DataFile, HttpFile, RuleFile, StepFile};
use super::{Contest, InFlight};
use crate::history::{Asking, OperationKind};
use crate::pace::Arrival;
use crate::pg::load::Protocol;
use crate::pg::pool::Recycle;
use crate::pg::retry::Backoff;

/// A scenario of dbstress: dataset, workload, load, thresholds and what a pass must rest on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "dbstress scenario")]
pub struct File {
    /// What it shows, in one line.
    pub summary: String,
    /// Words by which scenarios are chosen.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the virtual users do: book units of authorisations, change schedules of residents, run your own SQL, or ask any API.
    pub workload: WorkloadName,
    /// The dataset that `dbstress seed` put there. Default: clinic for booking, residency for scheduling, which is the only one for it; http: that of the
    /// reference server, where no other API is asked.
    pub dataset: Option<String>,
    /// booking, scheduling: how rows are protected: names of strategies, each of which has its turn, or "all" for those that claim to be safe.
    /// Default: serializable.
    pub strategy: Option<Names>,
    /// Names of the invariants that the run claims to keep. Default: none; for sql every invariant of its directory.
    pub claims: Option<Vec<String>>,
    /// What the figures must keep to: "reserve.response:p(95)<200ms", "aborted.rate<0.01", "committed.rate>=100/s".
    #[serde(default)]
    pub thresholds: Vec<ThresholdEntry>,
    /// sql, http: the schema of the tables; it is the search_path of every session. Default: the first schema that the
    /// connection's own search_path leads to, usually public.
    pub schema: Option<String>,
    /// sql, http: a file of SQL beside this one that makes the schema and its rows before the run.
    pub setup: Option<String>,
    /// sql, http: a file of SQL beside this one that removes it all after the run.
    pub teardown: Option<String>,
    /// sql, http: a directory beside this file with one .sql file for each rule that the data must keep.
    pub invariants: Option<String>,
    /// What goes wrong while the load runs: "crash@15s", "terminate@5s..25s/500ms", "freeze@5s+2s", "response-lost@2s..25s/200ms".
    #[serde(default)]
    pub faults: Vec<String>,
    /// How hard, how long, and in which shape.
    #[serde(default)]
    pub load: LoadFile,
    /// booking: the authorisations that the virtual users meet at.
    pub booking: Option<BookingFile>,
    /// scheduling: what the virtual users contend for.
    pub scheduling: Option<SchedulingFile>,
    /// booking: requests carry a key, and whoever asks again with the same key is told what the first time came to. In each round everybody asks
    /// with the same key.
    pub idempotency: Option<IdempotencyFile>,
    /// What virtual users choose from, by weight. booking: default one that reserves.
    #[serde(default)]
    pub operation: Vec<OperationFile>,
    /// sql, http: what $NAME in a statement, ${NAME} in a request, stands for; drawn once for each iteration, so that a retry has the same values.
    #[serde(default)]
    pub parameters: BTreeMap<String, DistributionFile>,
    /// What a pass must rest on: without these the run is inconclusive.
    #[serde(default)]
    pub evidence: EvidenceFile,
    /// sql, http: the twin of this scenario that does it wrongly and must be caught, to show that the invariants can fail.
    pub control: Option<ControlFile>,
    /// http: the API, who asks it, and what all requests have in common.
    pub http: Option<HttpFile>,
    /// http: tables of values, which requests have as ${TABLE.COLUMN}: files beside this one.
    #[serde(default)]
    pub data: BTreeMap<String, DataFile>,
    /// http: rules about what the API itself says when the load is over.
    #[serde(default)]
    pub invariant: Vec<RuleFile>,
}

/// What the virtual users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadName {
    /// Reserve, release and consume units of authorisations.
    Booking,
    /// Put residents down for half days and call, take them off, let them exchange, in rounds: each change is legal, all of them together are not.
    Scheduling,
    /// Your own statements or pgbench scripts, on your own schema.
    Sql,
    /// Requests to any API.
    Http,
}

/// How hard, how long, and in which shape. Without duration, iterations, rounds and stages it is 30 seconds.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadFile {
    /// Virtual users; with a rate, the most that work at once; with stages alone, the number they start from (default 0). Default: 50.
    pub vus: Option<u32>,
    /// How long, as "30s" or "1m30s".
    pub duration: Option<String>,
    /// So many iterations in all, shared by the virtual users; with a duration, whichever is over first.
    pub iterations: Option<u64>,
    /// So many rounds; only with targets = "rounds", and for scheduling.
    pub rounds: Option<u64>,
    /// Ramps, as "30s:50": within 30 seconds to 50 virtual users, or to 50 arrivals per second if a rate is given.
    pub stages: Option<Vec<String>>,
    /// Arrivals per second, whether or not earlier ones have been answered (an open loop). With stages, the rate they start from.
    pub rate: Option<f64>,
    /// Whether arrivals come evenly or at random (Poisson). Default: even.
    #[serde(default)]
    #[schemars(schema_with = "words::<Arrival>")]
    pub arrival: Option<Arrival>,
    /// Arrivals that may wait for a free virtual user; more are dropped, and counted. Default: 10000.
    pub backlog: Option<u32>,
    /// The pause between two iterations, as "1s" or "1s..3s". Default: none.
    pub think: Option<String>,
    /// How long the load runs before the figures count. Default: not at all.
    pub warm_up: Option<String>,
    /// How long iterations under way may go on after the end. Default: 30s.
    pub graceful_stop: Option<String>,
    /// Threads that make the load. Default: half of the processors.
    pub threads: Option<u16>,
    /// One pool of so many connections for all virtual users. Default: a connection for each.
    pub pool_size: Option<u32>,
    /// How long the pool lets anybody wait for a connection; whoever gets none is aborted. Default: as long as the iteration may go on.
    pub pool_timeout: Option<String>,
    /// What the pool does before it lends a connection again: nothing (fast), or ask the server whether it is still there (verified). Default: fast.
    #[serde(default)]
    #[schemars(schema_with = "words::<Recycle>")]
    pub pool_recycle: Option<Recycle>,
    /// How statements are sent, as pgbench -M has it: by a name, without one, or as one text. Default: prepared.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// What random choices are made from: the same number makes the same choices. Default: 42.
    pub rng_seed: Option<u64>,
    /// How an iteration goes on after an attempt that may be tried again.
    pub retry: Option<RetryFile>,
}

/// How an iteration goes on after an attempt that may be tried again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryFile {
    /// No attempt begins later than this after its iteration did. Default: 10s.
    pub deadline: Option<String>,
    /// At most so many attempts; 1 means no retry. Default: as many as the deadline allows.
    pub attempts: Option<u16>,
    /// The pause before the next attempt. Default: jitter.
    pub backoff: Option<Backoff>,
}

/// The authorisations that the virtual users meet at.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BookingFile {
    /// How the virtual users meet. Default: spread.
    pub targets: Option<TargetsName>,
    /// spread: so many authorisations are made for the run. Default: 200.
    pub authorisations: Option<u32>,
    /// Units that each authorisation has. Default: 50 for rounds, else 1000.
    pub total: Option<i32>,
    /// spread: besides, so many hot ones, which many want. Default: none.
    pub hot: Option<u32>,
    /// Units that each hot authorisation has. Default: 50.
    pub hot_total: Option<i32>,
    /// Share of the operations that go to a hot one, from 0 to 1. Default: 0.2 if there are hot ones.
    pub hot_share: Option<f64>,
    /// Share of the operations by an actor of another organisation, from 0 to 1; each must be refused. Default: 0.
    pub strangers: Option<f64>,
    /// The application's pause between reading and writing. Default: none.
    pub hold: Option<String>,
    /// A known mistake that the operations make on purpose; `dbstress bugs list` shows them. Default: none.
    pub bug: Option<String>,
}

/// What the virtual users contend for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulingFile {
    /// The application's pause between reading and writing. Default: none.
    pub hold: Option<String>,
    /// How often each contest comes up, relative to the others; 0 or left out is never. Default: all six equally often.
    pub contests: Option<BTreeMap<Contest, f64>>,
}

/// What becomes of the keys that requests carry.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdempotencyFile {
    /// What is said to a request whose key is in flight: at once that it is, so that the client tries again; or nothing, until the one that is
    /// under way has ended. Default: refuse.
    #[serde(default)]
    pub in_flight: InFlight,
    /// How long a key is known, by the clock of the dataset, as "24h". Default: 24h.
    pub lifetime: Option<String>,
    /// So many expired keys are cleaned up while the load runs; a tenth as many that are not expired must stay. Default: 10000.
    pub cleanup: Option<u32>,
}

/// How the virtual users meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetsName {
    /// All virtual users at once reserve from a fresh authorisation, again and again: the number of winners is known beforehand.
    Rounds,
    /// All virtual users on one authorisation until it is used up, then on the next.
    OneByOne,
    /// Each operation on one of many authorisations, some of which may be hot.
    Spread,
}

/// One thing that virtual users do. booking: kind and units. sql: exactly one of sql, statements and script. http: steps.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationFile {
    /// Its name in figures and thresholds: small letters, digits, - and _. booking: default the kind.
    pub name: Option<String>,
    /// How often it is chosen, relative to the others; not negative. Default: 1.
    pub weight: Option<f64>,
    /// booking: what is done.
    pub kind: Option<Kind>,
    /// booking: units that it asks for. Default: 10; browse has none.
    pub units: Option<i32>,
    /// booking, where requests carry keys: how it asks. Default: first.
    pub request: Option<Request>,
    /// sql: the isolation level of its transaction. Default: read committed.
    pub isolation: Option<IsolationName>,
    /// sql: one statement, which is the whole transaction.
    pub sql: Option<String>,
    /// sql: several statements, which are one transaction.
    pub statements: Option<Vec<StatementFile>>,
    /// sql: a pgbench script beside this file.
    pub script: Option<String>,
    /// sql: what the one statement must have done, as "1 row" or "at least 1 row"; otherwise the iteration counts as aborted.
    pub expect: Option<String>,
    /// sql: which number of rows of the one statement means that a business rule said no, as "0 rows".
    pub refused: Option<String>,
    /// sql, http: whether an attempt is tried again that failed with 40001 or 40P01, or that the API could not take up just then. Default: true.
    pub retry: Option<bool>,
    /// sql: what an SQLSTATE means here, as { "23505" = "refused" }.
    pub outcomes: Option<BTreeMap<String, Meaning>>,
    /// http: the requests, one after the other. It is done when the last of them is.
    pub steps: Option<Vec<StepFile>>,
    /// http: who does it: accounts of these roles. Default: all.
    pub roles: Option<Vec<String>>,
}

/// What an operation of the workload booking does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Promise units.
    Reserve,
    /// Take a promise back.
    Release,
    /// Keep a promise.
    Consume,
    /// Only look.
    Browse,
}

/// How a virtual user asks with the key of the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// With the body that everybody has.
    First,
    /// The same, and after the answer once more: it must be the same answer.
    Again,
    /// Sends COMMIT and closes the connection before the answer; then asks with the same key.
    HangUp,
    /// With another body (other units): one of the two bodies is refused.
    OtherBody,
    /// As another organisation, for an authorisation of its own: that is another key.
    OtherTenant,
    /// The same, and once more after the lifetime of the key: that is a new request.
    Late,
}

impl From<Request> for Asking {
    fn from(request: Request) -> Self {
        match request {
            Request::First => Self::First,
            Request::Again => Self::Again,
            Request::HangUp => Self::HangUp,
            Request::OtherBody => Self::OtherBody,
            Request::OtherTenant => Self::OtherTenant,
            Request::Late => Self::Late,
        }
    }
}

impl From<Kind> for OperationKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Reserve => Self::Reserve,
            Kind::Release => Self::Release,
            Kind::Consume => Self::Consume,
            Kind::Browse => Self::Browse,
        }
    }
}

impl Kind {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Consume => "consume",
            Self::Browse => "browse",
        }
    }
}

/// An isolation level, in PostgreSQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum IsolationName {
    /// Every statement sees what was committed before it.
    #[serde(rename = "read committed")]
    ReadCommitted,
    /// One snapshot for the whole transaction.
    #[serde(rename = "repeatable read")]
    RepeatableRead,
    /// As if transactions had run one after the other.
    #[serde(rename = "serializable")]
    Serializable,
}

/// What an error of the server means for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// A business rule said no: counted as refused.
    Refused,
    /// It failed, and is not tried again.
    Aborted,
    /// It is tried again.
    Retry,
}

/// One statement of an operation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementFile {
    /// The statement; $NAME stands for a parameter or a captured column.
    pub sql: String,
    /// What it must have done, as "1 row" or "at least 1 row"; otherwise the iteration counts as aborted.
    pub expect: Option<String>,
    /// Which number of rows means that a business rule said no, as "0 rows".
    pub refused: Option<String>,
    /// Columns of its row that later statements use as $NAME.
    #[serde(default)]
    pub capture: Vec<String>,
}

/// What a parameter is drawn from: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistributionFile {
    /// Integers from the first to the second, each equally often, as [1, 100].
    pub uniform: Option<[i64; 2]>,
    /// Integers of which the first are chosen most, by Zipf's law.
    pub zipf: Option<ZipfFile>,
    /// Integers one after the other, each once in the run.
    pub sequence: Option<SequenceFile>,
    /// One of these values, as ["a", "b"] or [{ value = "a", weight = 3 }, { value = "b", weight = 1 }].
    pub choice: Option<Vec<Choice>>,
    /// Integers of which the first `hot` are chosen with probability `share`.
    pub hot: Option<HotFile>,
}

/// Integers of which the first are chosen most.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZipfFile {
    /// The first, and most frequent.
    pub from: i64,
    /// The last.
    pub to: i64,
    /// How uneven: number n is chosen in proportion to n to the power of minus this; greater than 0.
    pub exponent: f64,
}

/// Integers one after the other.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequenceFile {
    /// The first.
    pub start: i64,
    /// The distance to the next. Default: 1.
    pub step: Option<i64>,
}

/// Integers of which the first few are hot.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HotFile {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
    /// How many of them, from the first on, are hot.
    pub hot: i64,
    /// Share of the draws that are a hot one, from 0 to 1.
    pub share: f64,
}

/// What a pass must rest on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    /// How often contention must have been seen at least: blocks (rounds, or seconds of an authorisation); for sql conflicts and waits for
    /// locks. Default: 20 (sql: 1) if anything is claimed, otherwise 0. Fewer than 4 blocks bound nothing and count as 4 for what is claimed.
    pub contested: Option<u64>,
    /// Whether the strategy's mechanism must have been seen at work. Default: true if booking or scheduling claims anything
    /// and `contested` is not given either (with keys of requests false), otherwise false.
    pub mechanism: Option<bool>,
    /// So many refusals for lack of units, or by a rule of the schedule, at least. Default: 0.
    pub refused: Option<u64>,
    /// So many iterations at least that committed a change, by name of the operation; of scheduling, by name of the contest. What only reads, meets
    /// no row or rolls back is no change.
    #[serde(default)]
    pub committed: BTreeMap<String, u64>,
    /// The share of iterations, 0 to 1, of which it may stay unknown what became of them: COMMIT, or a statement that is its own, was not answered.
    /// For sql. Default: 0.
    pub unknown: Option<f64>,
    /// Whether invariants must have been checked while the load ran. Default: false.
    pub live: Option<bool>,
    /// How often the server is asked what it does, from "50ms" to "1s"; "0" for not at all. Default: 250ms.
    pub probe_interval: Option<String>,
    /// A directory beside this file with one .sql file for each further question to the server while the load runs.
    pub probes: Option<String>,
    /// How long the check of a rule may take before and after the load; one that takes longer leaves the run inconclusive. Default: 5m.
    pub check_timeout: Option<String>,
}

/// The twin of this scenario that must be caught: one of the two keys.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlFile {
    /// A scenario file beside this one, which breaks an invariant.
    pub file: Option<String>,
    /// There is none: nothing shows that the invariants could have failed.
    pub none: Option<bool>,
}

/// Names: one, or a list.
#[derive(Debug, Clone)]
pub struct Names(pub Vec<String>);

/// A threshold: a text, or a table that says what happens when it is missed.
#[derive(Debug, Clone)]
pub struct ThresholdEntry {
    /// The threshold in words.
    pub threshold: String,
    /// Whether the run ends as soon as it cannot be met any more.
    pub abort_on_fail: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ThresholdTable {
    /// The threshold, as "aborted.rate<0.01".
    threshold: String,
    /// Whether the run ends as soon as it is missed. Default: false.
    #[serde(default)]
    abort_on_fail: bool,
}

/// One of the values of a choice.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What the parameter becomes.
    pub value: Scalar,
    /// How often, relative to the others.
    pub weight: f64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChoiceTable {
    /// What the parameter becomes.
    value: Scalar,
    /// How often, relative to the others; not negative. Default: 1.
    weight: Option<f64>,
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// true, false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Double(f64),
    /// Text.
    Text(String),
}

// By hand, not as untagged enums: those lose the line, the column and the reason of an error.

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Names, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = names.next_element()? {
                    all.push(name);
                }
                Ok(Names(all))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for ThresholdEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = ThresholdEntry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a threshold in quotes, or { threshold = \"…\", abort_on_fail = true }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ThresholdEntry, E> {
                Ok(ThresholdEntry { threshold: text.to_owned(), abort_on_fail: false })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ThresholdEntry, A::Error> {
                let ThresholdTable { threshold, abort_on_fail } = ThresholdTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ThresholdEntry { threshold, abort_on_fail })
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Double(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or { value = …, weight = … }")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Choice, E> {
                Ok(Scalar::Boolean(value).into())
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Choice, E> {
                Ok(Scalar::Integer(value).into())
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Choice, E> {
                Ok(Scalar::Double(value).into())
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Choice, E> {
                Ok(Scalar::Text(value.to_owned()).into())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                let ChoiceTable { value, weight } = ChoiceTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Choice { value, weight: weight.unwrap_or(1.0) })
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl From<Scalar> for Choice {
    fn from(value: Scalar) -> Self {
        Self { value, weight: 1.0 }
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl JsonSchema for ThresholdEntry {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<ThresholdTable>()] })
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl JsonSchema for Choice {
    fn schema_name() -> Cow<'static, str> {
        "Choice".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Scalar>(), generator.subschema_for::<ChoiceTable>()] })
    }
}

/// One of the names that the type has on the command line.
fn words<T: clap::ValueEnum>(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<String> =
        T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
    json_schema!({ "type": "string", "enum": names })
}

/// The JSON Schema (draft 2020-12) of a scenario file, all in one piece.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.transforms.push(Box::new(RecursiveTransform(without_null)));
    });
    settings.into_generator().into_root_schema_for::<File>()
}

/// What may be left out is never null: TOML has none, and an editor should not offer it.
fn without_null(schema: &mut Schema) {
    if schema.get("default").is_some_and(Json::is_null) {
        schema.remove("default");
    }
    if let Some(Json::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &**types {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Json::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Json::Array(alternatives)) = schema.get_mut("anyOf") {
        alternatives.retain(|alternative| alternative["type"] != "null");
    }
}
