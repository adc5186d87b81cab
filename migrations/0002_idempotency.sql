-- Requests that carry a key: who asks twice with the same key is told what the first time came to, and nothing is done twice.

-- One row for each key that was asked with, claimed by the transaction that does the work and completed by it.
-- The key is the whole of its scope: who asks, for what, and with which key.
CREATE TABLE dbstress.idempotency_key (
    organisation_id   bigint NOT NULL,      -- who asks
    endpoint          text NOT NULL,        -- what is asked for: the kind of operation
    key               text NOT NULL,        -- the client's own
    fingerprint       text NOT NULL,        -- of the body
    state             text NOT NULL,        -- pending, completed
    response          bigint[],             -- what the client was told: version, total, used, scheduled; NULL while pending
    -- The effect, as the ledger knows it; NULL while pending, and for what only looked.
    result_op         bigint,
    result_attempt    smallint,
    authorisation_id  bigint,
    run_id            integer NOT NULL,
    created_at        timestamptz NOT NULL, -- clock of the domain
    expires_at        timestamptz NOT NULL, -- from then on whoever asks begins anew
    PRIMARY KEY (organisation_id, endpoint, key),
    CONSTRAINT idempotency_key_state CHECK (state IN ('pending', 'completed'))
);

-- The key that an effect was asked for with; NULL: with none. Not unique: the key's own table has to see to that.
ALTER TABLE dbstress.unit_ledger ADD COLUMN key text;
