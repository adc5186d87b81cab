-- id:       INV-R15
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT count(*) FROM schedule_ledger WHERE kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id, person_id)
--             SELECT (SELECT coalesce(max(op_id), 0) + 1 FROM schedule_ledger), attempt, 0, 0, 0, 'self-test', 'assign', p.programme_id, p.id
--             FROM person p, (VALUES (1), (2)) AS twice (attempt) WHERE p.id = (SELECT min(id) FROM person)
--
-- No change to the schedule was made twice.
-- A change is one line, written by the attempt that committed: two are a retry of something that had already happened. A fence is not a change.
SELECT min(person_id)::text AS subject,
       format('op %s.%s.%s changed the schedule once', op_id >> 47, (op_id >> 32) & 32767, op_id & 4294967295) AS expected,
       format('%s lines, by attempts %s: %s', count(*), string_agg(DISTINCT attempt::text, ', '), string_agg(DISTINCT kind, ', ')) AS actual
FROM schedule_ledger
WHERE kind IS DISTINCT FROM 'fence'
GROUP BY op_id
HAVING count(*) > 1
ORDER BY op_id
