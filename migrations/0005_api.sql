-- What the reference API needs besides: who may log in, what load tests may do there, what was done there, and appointments.

-- Who may log in. Made by the server for the dataset that is there; the passwords are synthetic, and one for all.
CREATE TABLE dbstress.account (
    login            text PRIMARY KEY,
    password_hash    text NOT NULL,            -- argon2id, in PHC's notation
    role             text NOT NULL,            -- admin, practitioner, viewer; admin, coordinator, faculty, resident
    organisation_id  bigint,                   -- or the programme; NULL: all of them
    actor_id         bigint,                   -- the practitioner, or the person; NULL: nobody in particular
    CONSTRAINT account_role CHECK (role IN ('admin', 'practitioner', 'viewer', 'coordinator', 'faculty', 'resident'))
);

-- What a run may do at the server that nobody else may: name its operations for the ledger, and, for a control, have the unsafe thing done on rows of
-- its own. Only who can write to this database can grant it; whoever has the secret has the grant.
CREATE TABLE dbstress.run_grant (
    secret_hash  text PRIMARY KEY,             -- SHA-256, hexadecimal
    run_id       integer NOT NULL,
    schema_name  text NOT NULL,                -- dbstress; dbstress_control: of a control
    strategy     text,                         -- NULL: the server's own; only of a control
    bug          text,                         -- NULL: none but the server's own; only of a control
    hold_ms      bigint NOT NULL DEFAULT 0,    -- only of a control
    in_flight    text,                         -- what is said to a request whose key is in flight; NULL: as the server does
    lifetime_s   bigint,                       -- of keys; NULL: as the server does
    granted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT run_grant_schema CHECK (schema_name IN ('dbstress', 'dbstress_control')),
    CONSTRAINT run_grant_unsafe CHECK (schema_name = 'dbstress_control' OR (strategy IS NULL AND bug IS NULL))
);

-- What was asked of the server that changes something, whoever asked: load tests are told from others, not left out.
CREATE TABLE dbstress.audit_entry (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL,     -- when it was answered
    login            text NOT NULL,
    organisation_id  bigint,
    action           text NOT NULL,            -- reserve, appointment.cancel, …
    resource         text NOT NULL,            -- authorisation, appointment, assignment, …
    resource_id      bigint,
    status           smallint NOT NULL,        -- of the answer
    is_load_test     boolean NOT NULL,
    op_id            bigint                    -- as in the ledger, where there is one
);

-- Units are reserved for the time that it takes, a unit for every 15 minutes begun. What was reserved is kept with it: what is given back or used up
-- is that, whatever becomes of the times.
CREATE SEQUENCE dbstress.appointment_number CACHE 32;

CREATE TABLE dbstress.appointment (
    id                bigint PRIMARY KEY DEFAULT nextval('dbstress.appointment_number'),
    organisation_id   bigint NOT NULL,
    authorisation_id  bigint NOT NULL,
    practitioner_id   bigint NOT NULL,
    starts_at         timestamptz NOT NULL,
    ends_at           timestamptz NOT NULL,
    reserved_units    integer NOT NULL,
    status            text NOT NULL DEFAULT 'SCHEDULED',
    version           bigint NOT NULL DEFAULT 0,
    run_id            integer,                 -- NULL: nobody's test
    CONSTRAINT appointment_status CHECK (status IN ('SCHEDULED', 'COMPLETED', 'CANCELLED')),
    CONSTRAINT appointment_hours CHECK (starts_at < ends_at),
    CONSTRAINT appointment_units CHECK (reserved_units > 0)
);

-- What an appointment that took place used up. Not unique by appointment: that two completions make one of these is what is tested.
CREATE TABLE dbstress.treatment_session (
    id               bigint PRIMARY KEY DEFAULT nextval('dbstress.appointment_number'),
    appointment_id   bigint NOT NULL,
    organisation_id  bigint NOT NULL,
    units            integer NOT NULL
);

-- The appointment that a change of units was made for; NULL: for none. So the books of appointments can be kept apart from other bookings, which may
-- release and consume units whoever they were promised to.
ALTER TABLE dbstress.unit_ledger ADD COLUMN appointment_id bigint;

-- Keys come after the load (src/seed/constraints.rs). Where it has been, they come now.
DO $loaded$
BEGIN
    IF EXISTS (SELECT FROM dbstress.meta WHERE seeded_at IS NOT NULL) THEN
        CREATE INDEX appointment_by_authorisation ON dbstress.appointment (authorisation_id);
        CREATE INDEX treatment_session_by_appointment ON dbstress.treatment_session (appointment_id);
        ALTER TABLE dbstress.appointment ADD CONSTRAINT appointment_authorisation FOREIGN KEY (authorisation_id) REFERENCES dbstress.authorisation (id);
        ALTER TABLE dbstress.appointment ADD CONSTRAINT appointment_practitioner
            FOREIGN KEY (organisation_id, practitioner_id) REFERENCES dbstress.practitioner (organisation_id, id);
        ALTER TABLE dbstress.treatment_session ADD CONSTRAINT treatment_session_appointment
            FOREIGN KEY (appointment_id) REFERENCES dbstress.appointment (id);
    END IF;
END
$loaded$;
