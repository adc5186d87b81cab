-- id:       INV-T2
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM unit_ledger WHERE kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units,
--             version, total, used, scheduled)
--             SELECT (SELECT coalesce(max(op_id), 0) + 1 FROM unit_ledger), 1, 1, 0, 0, 'self-test', 'reserve', a.id, -1, -1, 5,
--             1, 50, 0, 5 FROM authorisation a WHERE a.id = (SELECT min(id) FROM authorisation)
--
-- Whoever changed an authorisation was a practitioner of the organisation that owns it, or its administrator, who is nobody's practitioner: actor 0.
SELECT l.authorisation_id::text AS subject,
       format('a practitioner of organisation %s', coalesce(a.organisation_id::text, 'NULL')) AS expected,
       format('op %s.%s.%s (%s %s) by actor %s of organisation %s, acting for organisation %s',
              l.op_id >> 47, (l.op_id >> 32) & 32767, l.op_id & 4294967295, l.kind, l.units,
              l.actor_id, coalesce(p.organisation_id::text, 'none'), coalesce(l.organisation_id::text, 'NULL')) AS actual
FROM unit_ledger l
LEFT JOIN authorisation a ON a.id = l.authorisation_id
LEFT JOIN practitioner p ON p.id = l.actor_id
WHERE l.kind IS DISTINCT FROM 'fence'
  AND (l.organisation_id IS NULL
    OR a.organisation_id IS DISTINCT FROM l.organisation_id
    OR l.actor_id IS DISTINCT FROM 0 AND p.organisation_id IS DISTINCT FROM l.organisation_id)
ORDER BY l.authorisation_id, l.version
