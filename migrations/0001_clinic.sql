-- The clinic dataset: who may use how many units of which service, and the ledger of every change to them.
-- Foreign keys and secondary indexes are added after the load (src/seed/constraints.rs), so that COPY does not pay for them.

-- One row. Its binding to this server and this database is the sentinel: a restored dump does not carry it over.
CREATE TABLE dbstress.meta (
    singleton          boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    system_identifier  bigint NOT NULL,
    database_oid       bigint NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    -- Everything below is NULL until a load has finished: a seed that was interrupted shows.
    dataset            text,
    rng_seed           bigint,
    scale              integer,
    generator_version  integer,
    data_hash          text,
    -- The clock of the domain: no business rule ever calls now().
    as_of              timestamptz,
    seeded_at          timestamptz
);

-- In the same transaction as the tables: there is no moment at which they are there and nobody knows whose they are.
INSERT INTO dbstress.meta (system_identifier, database_oid)
SELECT s.system_identifier, d.oid::bigint FROM pg_control_system() s, pg_database d WHERE d.datname = current_database();

CREATE TABLE dbstress.organisation (
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    kind    text NOT NULL,
    tier    text NOT NULL,
    status  text NOT NULL
);

CREATE TABLE dbstress.service_code (
    id                   bigint PRIMARY KEY,
    organisation_id      bigint,              -- NULL: every organisation may use it
    code                 text NOT NULL,
    description          text NOT NULL,
    category             text NOT NULL,
    required_credential  text NOT NULL,
    typical_minutes      integer NOT NULL
);

CREATE TABLE dbstress.patient (
    id                     bigint PRIMARY KEY,
    organisation_id        bigint NOT NULL,
    given_name             text NOT NULL,
    family_name            text NOT NULL,
    date_of_birth          date NOT NULL,
    medical_record_number  text NOT NULL
);

CREATE TABLE dbstress.practitioner (
    id               bigint PRIMARY KEY,
    organisation_id  bigint NOT NULL,
    given_name       text NOT NULL,
    family_name      text NOT NULL,
    credential       text NOT NULL,
    licence_number   text NOT NULL
);

-- The contended row. `version` counts its updates, so that the ledger can be replayed in commit order.
-- The capacity CHECK binds guarded rows only: on the others the race under test stays visible.
CREATE TABLE dbstress.authorisation (
    id               bigint PRIMARY KEY,
    organisation_id  bigint NOT NULL,
    patient_id       bigint NOT NULL,
    service_code_id  bigint NOT NULL,
    number           text NOT NULL,
    total            integer NOT NULL,
    used             integer NOT NULL DEFAULT 0,
    scheduled        integer NOT NULL DEFAULT 0,
    start_date       date NOT NULL,
    end_date         date NOT NULL,
    status           text NOT NULL DEFAULT 'ACTIVE',
    version          bigint NOT NULL DEFAULT 0,
    guarded          boolean NOT NULL DEFAULT false,
    run_id           integer,             -- NULL: seeded; otherwise made for that run
    CONSTRAINT authorisation_status CHECK (status IN ('PENDING', 'ACTIVE', 'EXPIRED', 'EXHAUSTED', 'CANCELLED')),
    CONSTRAINT authorisation_guarded CHECK (NOT guarded OR (used >= 0 AND scheduled >= 0 AND used + scheduled <= total))
) WITH (fillfactor = 70);

-- One row per tested strategy: what was run here and what it claimed. `verify` reads its claims from here.
CREATE TABLE dbstress.run (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record     text NOT NULL,             -- the record it belongs to
    command    text NOT NULL,
    workload   text NOT NULL,
    strategy   text NOT NULL,
    claims     text[] NOT NULL,           -- invariant names
    rng_seed   bigint NOT NULL,           -- of the dataset it ran on
    began      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended      timestamptz,
    verdict    text
);

-- Every change to an authorisation, written by the change itself, last in its transaction.
-- The key is (operation, attempt, line): operation alone would make the tool supply the idempotency that it tests.
-- No foreign key and no other unique constraint, for the same reason: either would change the strategies under test.
-- A `fence` row claims the key of an attempt whose COMMIT was never answered; it changes nothing.
CREATE TABLE dbstress.unit_ledger (
    op_id             bigint NOT NULL,
    attempt           smallint NOT NULL,
    line              smallint NOT NULL,
    run_id            integer NOT NULL,
    vu                integer NOT NULL,
    strategy          text NOT NULL,
    kind              text NOT NULL,      -- reserve, release, consume, fence
    authorisation_id  bigint NOT NULL,
    organisation_id   bigint NOT NULL,    -- of the actor, not of the authorisation: tenant checks compare the two
    actor_id          bigint NOT NULL,
    units             integer NOT NULL,
    -- The authorisation as this operation left it; NULL for a fence.
    version           bigint,
    total             integer,
    used              integer,
    scheduled         integer,
    decided_at        timestamptz,        -- clock of the domain
    began             timestamptz NOT NULL DEFAULT transaction_timestamp(),
    wrote             timestamptz NOT NULL DEFAULT clock_timestamp(),
    backend_pid       integer NOT NULL DEFAULT pg_backend_pid(),
    PRIMARY KEY (op_id, attempt, line)
);
