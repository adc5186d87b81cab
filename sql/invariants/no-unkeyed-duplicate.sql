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
-- Such a pair is what a client leaves behind that tries again and forgets the key. Requests at the API that belong to nobody's run are left out:
-- whoever asks twice, with a key and without, may mean it.
SELECT l.authorisation_id::text AS subject,
       format('%s %s with key %s, by op %s.%s.%s attempt %s, and no more', k.kind, k.units, k.key,
              k.op_id >> 47, (k.op_id >> 32) & 32767, k.op_id & 4294967295, k.attempt) AS expected,
       format('%s %s without a key, by op %s.%s.%s attempt %s', l.kind, l.units,
              l.op_id >> 47, (l.op_id >> 32) & 32767, l.op_id & 4294967295, l.attempt) AS actual
FROM unit_ledger k
JOIN unit_ledger l ON l.authorisation_id = k.authorisation_id AND l.kind = k.kind AND l.units = k.units
WHERE k.key IS NOT NULL
  AND l.key IS NULL
  AND l.run_id IS NOT DISTINCT FROM k.run_id
  AND NOT EXISTS (SELECT FROM run r WHERE r.id = l.run_id AND r.workload = 'api')
  AND l.organisation_id IS NOT DISTINCT FROM k.organisation_id
  AND l.kind <> 'fence'
ORDER BY l.authorisation_id, k.version, l.version
