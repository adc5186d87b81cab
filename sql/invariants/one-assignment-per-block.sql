-- id:       INV-R1
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT (SELECT count(*) FROM assignment) + (SELECT count(*) FROM assignment_unguarded)
-- breaks:   INSERT INTO block (id, programme_id, date, half, number, is_weekend) SELECT max(id) + 1, min(programme_id), '2000-01-03', 'AM', 0, false FROM block;
--           INSERT INTO assignment_unguarded (block_id, person_id, rotation_template_id, role)
--             SELECT b.id, p.id, t.id, 'backup' FROM (VALUES (1), (2)) AS twice, (SELECT max(id) FROM block) AS b (id),
--             (SELECT min(id) FROM person) AS p (id), (SELECT min(id) FROM rotation_template) AS t (id)
--
-- Nobody is put down twice for the same half day, but where that is planted.
-- A key sees to it in one of the two tables; in the other one nothing does, and between them neither.
WITH planted AS (
    SELECT (r.row ->> 'id')::bigint AS id, (r.row ->> 'block_id')::bigint AS block_id, (r.row ->> 'person_id')::bigint AS person_id
    FROM planted_row r
    WHERE r.relation = 'assignment_unguarded' AND r.is_planted AND EXISTS (SELECT FROM expected_violation e WHERE e.plant = r.plant AND e.holds)
), counted AS (
    SELECT block_id, person_id, count(*) AS times
    FROM (SELECT block_id, person_id FROM assignment
          UNION ALL
          SELECT u.block_id, u.person_id FROM assignment_unguarded u
          WHERE NOT EXISTS (SELECT FROM planted p WHERE p.id = u.id AND p.block_id = u.block_id AND p.person_id = u.person_id)) AS a
    GROUP BY block_id, person_id
)
SELECT c.person_id::text AS subject,
       format('once in block %s (%s %s)', coalesce(c.block_id::text, 'NULL'), coalesce(b.date::text, 'no date'), b.half) AS expected,
       format('%s times', c.times) AS actual
FROM counted c
LEFT JOIN block b ON b.id = c.block_id
WHERE c.times > 1
ORDER BY c.person_id, c.block_id
