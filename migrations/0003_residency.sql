-- The residency dataset: who is on duty when, and the ledger of every change to that.
-- Times are the wall clock of the hospital, without a zone: rules of duty hours are about it. Foreign keys and secondary indexes are added after the
-- load (src/seed/constraints.rs), the rules of the schedule that are keys or exclusions are here.

-- What was planted beside the compliant schedule, as it was asked for (`PL-1:10,PL-7:2`), and the figures that make another dataset; NULL: nothing.
ALTER TABLE dbstress.meta ADD COLUMN variant text;

-- Seeded, or made for one round of a run: then it says what is contested there and how many of those who want it can have it.
CREATE TABLE dbstress.programme (
    id       bigint PRIMARY KEY,
    name     text NOT NULL,
    run_id   integer,                     -- NULL: seeded
    contest  text,
    room     integer,
    guarded  boolean NOT NULL DEFAULT false,
    CONSTRAINT programme_contest CHECK ((run_id IS NULL) = (contest IS NULL) AND (run_id IS NULL) = (room IS NULL))
);

CREATE TABLE dbstress.person (
    id                      bigint PRIMARY KEY,
    programme_id            bigint NOT NULL,
    given_name              text NOT NULL,
    family_name             text NOT NULL,
    email                   text NOT NULL,
    kind                    text NOT NULL,   -- resident, faculty
    pgy                     smallint,        -- post-graduate year, of residents
    target_clinical_blocks  integer,
    performs_procedures     boolean NOT NULL DEFAULT false,
    CONSTRAINT person_kind CHECK (kind IN ('resident', 'faculty'))
    -- That residents have a year from 1 to 3 and faculty none is a rule which the data can break: sql/invariants.
);

-- A half day of a programme.
CREATE TABLE dbstress.block (
    id            bigint PRIMARY KEY,
    programme_id  bigint NOT NULL,
    date          date NOT NULL,
    half          text NOT NULL,             -- AM: 07:00 to 13:00, PM: 13:00 to 19:00
    number        integer NOT NULL,          -- of the academic period of 28 days, from 0
    is_weekend    boolean NOT NULL,
    is_holiday    boolean NOT NULL DEFAULT false,
    CONSTRAINT block_half CHECK (half IN ('AM', 'PM'))
);

CREATE TABLE dbstress.rotation_template (
    id                    bigint PRIMARY KEY,
    programme_id          bigint NOT NULL,
    name                  text NOT NULL,
    abbreviation          text NOT NULL,
    activity              text NOT NULL,     -- clinic, inpatient, procedure, conference: duty; off, absence, recovery: none
    max_residents         integer,           -- NULL: any number
    supervision_required  boolean NOT NULL DEFAULT true,
    leave_eligible        boolean NOT NULL DEFAULT true,
    CONSTRAINT rotation_template_activity CHECK (activity IN ('clinic', 'inpatient', 'procedure', 'conference', 'off', 'absence', 'recovery'))
);

-- Numbers of rows that runs insert; below are the seeded ones, which number themselves.
CREATE SEQUENCE dbstress.duty_number START WITH 1099511627776 CACHE 32;

-- Somebody works in a half day. `version` counts updates (an exchange of persons), as nothing else changes an assignment.
CREATE TABLE dbstress.assignment (
    id                    bigint PRIMARY KEY DEFAULT nextval('dbstress.duty_number'),
    block_id              bigint NOT NULL,
    person_id             bigint NOT NULL,
    rotation_template_id  bigint NOT NULL,
    role                  text NOT NULL,     -- primary, supervising: duty; backup: none
    starts_at             timestamp,         -- NULL: as the half says
    ends_at               timestamp,
    version               bigint NOT NULL DEFAULT 0,
    CONSTRAINT assignment_role CHECK (role IN ('primary', 'supervising', 'backup')),
    CONSTRAINT assignment_hours CHECK ((starts_at IS NULL) = (ends_at IS NULL) AND starts_at < ends_at),
    CONSTRAINT assignment_once UNIQUE (block_id, person_id)
);

-- Assignments that nothing keeps from being double: what the key above refuses can only be planted here. Duty like any other.
CREATE TABLE dbstress.assignment_unguarded (LIKE dbstress.assignment INCLUDING DEFAULTS);

CREATE TABLE dbstress.call_assignment (
    id         bigint PRIMARY KEY DEFAULT nextval('dbstress.duty_number'),
    person_id  bigint NOT NULL,
    night      date NOT NULL,
    kind       text NOT NULL,                -- overnight, night-float: 19:00 to 07:00; weekend: 07:00 to 07:00; backup: at home, no duty
    starts_at  timestamp,                    -- NULL: as the kind says
    ends_at    timestamp,
    CONSTRAINT call_assignment_kind CHECK (kind IN ('overnight', 'night-float', 'weekend', 'backup')),
    CONSTRAINT call_assignment_hours CHECK ((starts_at IS NULL) = (ends_at IS NULL) AND starts_at < ends_at),
    CONSTRAINT call_assignment_once UNIQUE (person_id, night, kind)
);

-- Duty that no block and no call stands for.
CREATE TABLE dbstress.extra_duty (
    id         bigint PRIMARY KEY DEFAULT nextval('dbstress.duty_number'),
    person_id  bigint NOT NULL,
    starts_at  timestamp NOT NULL,
    ends_at    timestamp NOT NULL,
    kind       text NOT NULL,                -- extension, handover, moonlighting
    CONSTRAINT extra_duty_kind CHECK (kind IN ('extension', 'handover', 'moonlighting')),
    CONSTRAINT extra_duty_hours CHECK (starts_at < ends_at)
);

CREATE TABLE dbstress.absence (
    id           bigint PRIMARY KEY DEFAULT nextval('dbstress.duty_number'),
    person_id    bigint NOT NULL,
    starts_on    date NOT NULL,
    ends_on      date NOT NULL,              -- the last day
    kind         text NOT NULL,
    is_blocking  boolean,                    -- NULL: as the kind and the length say
    CONSTRAINT absence_kind CHECK (kind IN ('vacation', 'deployment', 'tdy', 'medical', 'family_emergency', 'conference', 'bereavement',
      'emergency_leave', 'sick', 'convalescent', 'maternity_paternity')),
    CONSTRAINT absence_days CHECK (starts_on <= ends_on)
);

-- How a schedule came to be.
CREATE TABLE dbstress.schedule_run (
    id            bigint PRIMARY KEY,
    programme_id  bigint NOT NULL,
    starts_on     date NOT NULL,
    ends_on       date NOT NULL,
    algorithm     text NOT NULL,
    status        text NOT NULL,             -- in_progress, success, partial, failed
    assignments   integer NOT NULL,
    CONSTRAINT schedule_run_status CHECK (status IN ('in_progress', 'success', 'partial', 'failed'))
);

-- Somebody takes over somebody's assignment; one-to-one: against one of theirs.
CREATE TABLE dbstress.swap (
    id                    bigint PRIMARY KEY DEFAULT nextval('dbstress.duty_number'),
    kind                  text NOT NULL,     -- one-to-one, absorb
    status                text NOT NULL,     -- pending, approved, executed, rejected, cancelled, rolled_back
    source_assignment_id  bigint NOT NULL,
    target_assignment_id  bigint,            -- NULL: absorbed
    source_person_id      bigint NOT NULL,   -- whose the source was
    target_person_id      bigint NOT NULL,   -- who takes it
    -- Versions of the two assignments as the swap left them; NULL until it is executed.
    source_version        bigint,
    target_version        bigint,
    CONSTRAINT swap_kind CHECK (kind IN ('one-to-one', 'absorb')),
    CONSTRAINT swap_status CHECK (status IN ('pending', 'approved', 'executed', 'rejected', 'cancelled', 'rolled_back')),
    CONSTRAINT swap_target CHECK ((kind = 'absorb') = (target_assignment_id IS NULL))
);

-- The ground truth: what rules must find, one line for each set of rules, rule and subject. A planted case is mended and planted again by writers;
-- `holds` says, in the same transaction, whether it is there now.
CREATE TABLE dbstress.expected_violation (
    plant                 bigint NOT NULL,   -- which planted case
    label                 text NOT NULL,     -- what it is called: PL-1
    rules                 text NOT NULL,     -- cpr, rs-dec25, rs-head
    rule                  text NOT NULL,     -- AC-1
    person_id             bigint,
    block_id              bigint,
    rotation_template_id  bigint,
    measured              bigint NOT NULL,   -- minutes, or a number
    severity              text NOT NULL,     -- violation, warning
    holds                 boolean NOT NULL DEFAULT true,
    detail                text NOT NULL
);

-- The rows that make a planted case what it is, so that it can be mended and planted again.
CREATE TABLE dbstress.planted_row (
    plant       bigint NOT NULL,
    label       text NOT NULL,
    relation    text NOT NULL,               -- assignment, assignment_unguarded, call_assignment, extra_duty, absence
    row         jsonb NOT NULL,              -- all its columns
    is_planted  boolean NOT NULL             -- true: there while the case is planted; false: there while it is mended
);

-- The hours that somebody is booked for, where the database is to see to it that nobody is booked twice: written by the strategy that relies on it.
CREATE TABLE dbstress.booked_time (
    person_id  bigint NOT NULL,
    during     tsrange NOT NULL,
    CONSTRAINT booked_time_once EXCLUDE USING gist (int8range(person_id, person_id, '[]') WITH &&, during WITH &&)
);

-- Every change to a schedule, written by the change itself, last in its transaction. Keys as in unit_ledger, for the same reasons.
CREATE TABLE dbstress.schedule_ledger (
    op_id          bigint NOT NULL,
    attempt        smallint NOT NULL,
    line           smallint NOT NULL,
    run_id         integer NOT NULL,
    vu             integer NOT NULL,
    strategy       text NOT NULL,
    kind           text NOT NULL,            -- assign, cancel, call, swap, absorb, fence
    programme_id   bigint NOT NULL,
    person_id      bigint,
    block_id       bigint,
    night          date,
    with_person_id bigint,                   -- the other one of a swap
    began          timestamptz NOT NULL DEFAULT transaction_timestamp(),
    wrote          timestamptz NOT NULL DEFAULT clock_timestamp(),
    backend_pid    integer NOT NULL DEFAULT pg_backend_pid(),
    PRIMARY KEY (op_id, attempt, line)
);
