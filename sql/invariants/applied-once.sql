-- id:       INV-U12
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM unit_ledger WHERE kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units,
--             version, total, used, scheduled)
--             SELECT (SELECT coalesce(max(op_id), 0) + 1 FROM unit_ledger), attempt, 1, 0, 0, 'self-test', 'reserve', a.id, a.organisation_id, 0, 5,
--             attempt, 50, 0, 5 * attempt FROM authorisation a, (VALUES (1), (2)) AS twice (attempt) WHERE a.id = (SELECT min(id) FROM authorisation)
--
-- No operation was applied twice.
-- An operation is one line, written by the attempt that committed. Two attempts are a retry of something that had already happened; two lines of one
-- attempt did it twice at once. A fence is not an application.
SELECT min(authorisation_id)::text AS subject,
       format('op %s.%s.%s applied once', op_id >> 47, (op_id >> 32) & 32767, op_id & 4294967295) AS expected,
       format('%s lines, by %s %s (%s units in all)', count(*), CASE WHEN min(attempt) = max(attempt) THEN 'attempt' ELSE 'attempts' END,
              string_agg(DISTINCT attempt::text, ', '), sum(units)) AS actual
FROM unit_ledger
WHERE kind IS DISTINCT FROM 'fence'
GROUP BY op_id
HAVING count(*) > 1
ORDER BY op_id
