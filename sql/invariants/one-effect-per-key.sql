-- id:       INV-I1
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM unit_ledger WHERE key IS NOT NULL AND kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units,
--             version, total, used, scheduled, decided_at, key)
--             SELECT (SELECT coalesce(max(op_id), 0) FROM unit_ledger) + v, 1, 1, 0, 0, 'self-test', 'reserve', a.id, a.organisation_id, 0, 5,
--             v, 50, 0, 5 * v, m.as_of, 'self-test' FROM authorisation a, meta m, (VALUES (1), (2)) AS twice (v)
--             WHERE a.id = (SELECT min(id) FROM authorisation)
--
-- A request with a key had one effect in each lifetime of the key, whoever asked and however often.
-- How long a key lives its record says. Without a record, or before the end of that time, a second effect is one too many.
WITH effect AS (
    SELECT *, lag(decided_at) OVER in_order AS decided_before, lag(op_id) OVER in_order AS op_before, lag(attempt) OVER in_order AS attempt_before
    FROM unit_ledger
    WHERE key IS NOT NULL AND kind IS DISTINCT FROM 'fence'
    WINDOW in_order AS (PARTITION BY organisation_id, kind, key ORDER BY version NULLS LAST, wrote, op_id, attempt, line)
)
SELECT e.authorisation_id::text AS subject,
       format('one effect of key %s of organisation %s', e.key, coalesce(e.organisation_id::text, 'NULL')) AS expected,
       format('op %s.%s.%s attempt %s after op %s.%s.%s attempt %s',
              e.op_id >> 47, (e.op_id >> 32) & 32767, e.op_id & 4294967295, e.attempt,
              e.op_before >> 47, (e.op_before >> 32) & 32767, e.op_before & 4294967295, e.attempt_before) AS actual
FROM effect e
LEFT JOIN LATERAL (
    SELECT max(k.expires_at - k.created_at) AS lifetime
    FROM idempotency_key k WHERE k.organisation_id = e.organisation_id AND k.endpoint = e.kind AND k.key = e.key
) AS k ON e.op_before IS NOT NULL
WHERE e.op_before IS NOT NULL
  AND (e.decided_at >= e.decided_before + k.lifetime) IS NOT TRUE
ORDER BY e.authorisation_id, e.version
