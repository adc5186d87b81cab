-- A residency in which much was changed, and nothing went wrong: `lines` lines in the ledger of the schedule, half of them putting somebody down for
-- a half day, the others taking him off again.
SET search_path TO dbstress;
INSERT INTO run (record, command, workload, strategy, claims, rng_seed, ended, verdict)
SELECT 'bench', 'bench', 'scheduling', 'serializable', '{one-assignment-per-block}', rng_seed, clock_timestamp(), 'pass' FROM meta;
INSERT INTO schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id, person_id, block_id, wrote)
SELECT (1::bigint << 47) + (1::bigint << 32) + n, 1, 0, 1, 1, 'serializable', CASE n % 2 WHEN 0 THEN 'assign' ELSE 'cancel' END, p.programme_id,
       -- Nobody who is there: what is taken off again leaves nothing behind.
       1000000000 + n / 2 / 1000, 1000000000 + n / 2 % 1000, clock_timestamp() + n * interval '1 microsecond'
FROM (SELECT min(id) AS programme_id FROM programme) AS p, generate_series(0, :lines - 1) AS n;
