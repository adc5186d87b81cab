-- id:       INV-R11
-- dataset:  residency
-- when:     quiesced
-- subject:  block
-- examines: SELECT count(*) FROM assignment
-- breaks:   INSERT INTO block (id, programme_id, date, half, number, is_weekend) SELECT max(id) + 1, min(programme_id), '2000-01-03', 'AM', 0, false FROM block;
--           INSERT INTO assignment (block_id, person_id, rotation_template_id, role, version)
--             SELECT (SELECT max(id) FROM block), (SELECT min(id) FROM person), (SELECT min(id) FROM rotation_template), 'backup', 7
--
-- The version of an assignment is the number of executed swaps that it was part of.
-- A swap that was overwritten by another one leaves less than there were swaps, a change that is no swap more.
WITH touched AS (
    SELECT assignment_id, count(*) AS swaps
    FROM (SELECT source_assignment_id AS assignment_id FROM swap WHERE status = 'executed'
          UNION ALL
          SELECT target_assignment_id FROM swap WHERE status = 'executed' AND target_assignment_id IS NOT NULL) AS t
    GROUP BY assignment_id
)
SELECT a.block_id::text AS subject,
       format('assignment %s: version %s, after as many swaps', a.id, coalesce(t.swaps, 0)) AS expected,
       format('version %s', coalesce(a.version::text, 'NULL')) AS actual
FROM assignment a
LEFT JOIN touched t ON t.assignment_id = a.id
-- Not where `dbstress acgme` lets writers do as they like.
WHERE NOT EXISTS (SELECT FROM block b JOIN programme g ON g.id = b.programme_id AND g.contest = 'acgme' WHERE b.id = a.block_id)
  AND a.version IS DISTINCT FROM coalesce(t.swaps, 0)
ORDER BY a.id
