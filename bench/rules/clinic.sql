-- A clinic in which much was booked, and nothing went wrong: `lines` lines in the ledger, a hundred for each authorisation, in turns reserved and
-- released. Half of them were asked for with a key; every tenth authorisation has an appointment besides.
SET search_path TO dbstress;
INSERT INTO run (record, command, workload, strategy, claims, rng_seed, ended, verdict)
SELECT 'bench', 'bench', 'booking', 'atomic', '{units-within-total}', rng_seed, clock_timestamp(), 'pass' FROM meta;
INSERT INTO authorisation (id, organisation_id, patient_id, service_code_id, number, total, start_date, end_date, version, run_id)
SELECT 1000000 + n, organisation_id, patient_id, service_code_id, 'BENCH-' || n, 50, start_date, end_date, 100, 1
FROM (SELECT * FROM authorisation WHERE status = 'ACTIVE' ORDER BY id LIMIT 1) AS first, generate_series(1, :lines / 100) AS n;
INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units, version, total, used,
                         scheduled, decided_at, key)
SELECT (1::bigint << 47) + (1::bigint << 32) + (a.id - 1000000) * 100 + v, 1, 1, 1, 1, 'atomic', CASE v % 2 WHEN 1 THEN 'reserve' ELSE 'release' END,
       a.id, a.organisation_id, 0, 5, v, 50, 0, 5 * (v % 2), m.as_of, CASE a.id % 2 WHEN 0 THEN format('%s-%s', a.id, v) END
FROM authorisation a, generate_series(1, 100) AS v, meta m
WHERE a.run_id = 1;
INSERT INTO idempotency_key (organisation_id, endpoint, key, fingerprint, state, response, result_op, result_attempt, authorisation_id, run_id, created_at,
                             expires_at)
SELECT l.organisation_id, l.kind, l.key, encode(sha256(convert_to(format('%s %s', l.kind, l.units), 'UTF8')), 'hex'), 'completed', ARRAY[l.version, l.total, l.used, l.scheduled], l.op_id, 1, l.authorisation_id, 1, m.as_of,
       m.as_of + interval '1 day'
FROM unit_ledger l, meta m
WHERE l.key IS NOT NULL;
-- An appointment: its units are reserved by a line of its own, the last one of its authorisation.
INSERT INTO appointment (organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units, run_id)
SELECT a.organisation_id, a.id, (SELECT min(p.id) FROM practitioner p WHERE p.organisation_id = a.organisation_id), m.as_of, m.as_of + interval '1 hour', 7, 1
FROM authorisation a, meta m
WHERE a.run_id = 1 AND a.id % 10 = 1;
INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units, version, total, used,
                         scheduled, decided_at, appointment_id)
SELECT (1::bigint << 47) + (2::bigint << 32) + row_number() OVER (), 1, 1, 1, 2, 'atomic', 'reserve', p.authorisation_id, p.organisation_id, 0, 7, 101, 50, 0,
       7, m.as_of, p.id
FROM appointment p, meta m
WHERE p.run_id = 1;
UPDATE authorisation a SET version = 101, scheduled = 7 FROM appointment p WHERE p.authorisation_id = a.id AND p.run_id = 1;
