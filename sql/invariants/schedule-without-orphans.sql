-- id:       INV-R6
-- dataset:  residency
-- when:     quiesced
-- examines: SELECT (SELECT count(*) FROM person) + (SELECT count(*) FROM block) + (SELECT count(*) FROM rotation_template) + (SELECT count(*) FROM schedule_run)
--             + 3 * (SELECT count(*) FROM assignment) + 3 * (SELECT count(*) FROM assignment_unguarded) + (SELECT count(*) FROM call_assignment)
--             + (SELECT count(*) FROM extra_duty) + (SELECT count(*) FROM absence) + 4 * (SELECT count(*) FROM swap) + (SELECT count(*) FROM booked_time)
-- breaks:   INSERT INTO absence (person_id, starts_on, ends_on, kind) VALUES (-1, '2026-01-05', '2026-01-05', 'sick')
--
-- Every reference of the schedule leads to a row, whether or not a foreign key guards it, and not to another programme's.
WITH worked AS (
    SELECT 'assignment' AS child, id, block_id, person_id, rotation_template_id FROM assignment
    UNION ALL
    SELECT 'unguarded assignment', id, block_id, person_id, rotation_template_id FROM assignment_unguarded
), orphan AS (
    SELECT w.child, w.id, format('block %s', coalesce(w.block_id::text, 'NULL')) AS parent, 'it does not exist' AS fault
    FROM worked w WHERE NOT EXISTS (SELECT FROM block b WHERE b.id = w.block_id)
    UNION ALL
    SELECT w.child, w.id, format('person %s', coalesce(w.person_id::text, 'NULL')), 'it does not exist'
    FROM worked w WHERE NOT EXISTS (SELECT FROM person p WHERE p.id = w.person_id)
    UNION ALL
    SELECT w.child, w.id, format('template %s', coalesce(w.rotation_template_id::text, 'NULL')), 'it does not exist'
    FROM worked w WHERE NOT EXISTS (SELECT FROM rotation_template t WHERE t.id = w.rotation_template_id)
    UNION ALL
    SELECT w.child, w.id, format('person %s of programme %s', p.id, b.programme_id), format('of programme %s', p.programme_id)
    FROM worked w JOIN block b ON b.id = w.block_id JOIN person p ON p.id = w.person_id WHERE p.programme_id IS DISTINCT FROM b.programme_id
    UNION ALL
    SELECT w.child, w.id, format('template %s of programme %s', t.id, b.programme_id), format('of programme %s', t.programme_id)
    FROM worked w JOIN block b ON b.id = w.block_id JOIN rotation_template t ON t.id = w.rotation_template_id
    WHERE t.programme_id IS DISTINCT FROM b.programme_id
    UNION ALL
    SELECT c.child, c.id, format('person %s', coalesce(c.person_id::text, 'NULL')), 'it does not exist'
    FROM (SELECT 'call' AS child, id, person_id FROM call_assignment
          UNION ALL SELECT 'extra duty', id, person_id FROM extra_duty
          UNION ALL SELECT 'absence', id, person_id FROM absence
          UNION ALL SELECT 'swap', id, source_person_id FROM swap
          UNION ALL SELECT 'swap', id, target_person_id FROM swap
          UNION ALL SELECT 'booked time of person', person_id, person_id FROM booked_time) AS c
    WHERE NOT EXISTS (SELECT FROM person p WHERE p.id = c.person_id)
    UNION ALL
    SELECT c.child, c.id, format('programme %s', coalesce(c.programme_id::text, 'NULL')), 'it does not exist'
    FROM (SELECT 'person' AS child, id, programme_id FROM person
          UNION ALL SELECT 'block', id, programme_id FROM block
          UNION ALL SELECT 'template', id, programme_id FROM rotation_template
          UNION ALL SELECT 'schedule run', id, programme_id FROM schedule_run) AS c
    WHERE NOT EXISTS (SELECT FROM programme p WHERE p.id = c.programme_id)
    UNION ALL
    SELECT 'swap', s.id, format('assignment %s', coalesce(s.assignment_id::text, 'NULL')), 'it does not exist'
    FROM (SELECT id, source_assignment_id AS assignment_id FROM swap
          UNION ALL SELECT id, target_assignment_id FROM swap WHERE kind IS DISTINCT FROM 'absorb') AS s
    WHERE NOT EXISTS (SELECT FROM assignment a WHERE a.id = s.assignment_id)
)
SELECT format('%s %s', child, coalesce(id::text, 'NULL')) AS subject, parent AS expected, fault AS actual
FROM orphan
ORDER BY child, id, parent
