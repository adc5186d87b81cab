-- id:       INV-I6
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM unit_ledger WHERE key IS NOT NULL AND kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units,
--             version, total, used, scheduled, decided_at, key)
--             SELECT (SELECT coalesce(max(op_id), 0) FROM unit_ledger) + v, 1, 1, 0, 0, 'self-test', 'reserve', a.id, a.organisation_id, 0, 5,
--             v, 50, 0, 5 * v, m.as_of, CASE v WHEN 1 THEN 'self-test' END FROM authorisation a, meta m, (VALUES (1), (2)) AS twice (v)
--             WHERE a.id = (SELECT min(id) FROM authorisation)
--
-- What was done with a key was not done once more without one: the same units, of the same authorisation, for the same organisation.
-- That is what a client leaves behind that tries again and forgets the key. Requests at the API that belong to nobody's run are left out: whoever
-- asks twice, with a key and without, may mean it. Each line is looked at beside its like in one pass; most ledgers have many lines that are alike.
WITH line AS (
    SELECT authorisation_id, kind, units, run_id, key, op_id, attempt, version,
           first_value(key) OVER keyed_first     AS known_key,
           first_value(op_id) OVER keyed_first   AS known_op,
           first_value(attempt) OVER keyed_first AS known_attempt
    FROM unit_ledger
    WHERE kind <> 'fence'
    WINDOW keyed_first AS (PARTITION BY authorisation_id, kind, units, run_id, organisation_id ORDER BY key IS NULL, version, op_id, attempt)
)
SELECT l.authorisation_id::text AS subject,
       format('%s %s with key %s, by op %s.%s.%s attempt %s, and no more', l.kind, l.units, l.known_key,
              l.known_op >> 47, (l.known_op >> 32) & 32767, l.known_op & 4294967295, l.known_attempt) AS expected,
       format('%s %s without a key, by op %s.%s.%s attempt %s', l.kind, l.units,
              l.op_id >> 47, (l.op_id >> 32) & 32767, l.op_id & 4294967295, l.attempt) AS actual
FROM line l
WHERE l.key IS NULL
  AND l.known_key IS NOT NULL
  AND NOT EXISTS (SELECT FROM run r WHERE r.id = l.run_id AND r.workload = 'api')
ORDER BY l.authorisation_id, l.version
