-- id:       INV-R2
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT (SELECT count(*) FROM assignment) + (SELECT count(*) FROM assignment_unguarded) + (SELECT count(*) FROM call_assignment)
--             + (SELECT count(*) FROM extra_duty)
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind, pgy)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident', 2 FROM person;
--           INSERT INTO extra_duty (person_id, starts_at, ends_at, kind)
--             SELECT max(p.id), '2026-01-05 08:00', '2026-01-05 12:00', 'extension' FROM person p, (VALUES (1), (2)) AS twice (n) GROUP BY n
--
-- Nobody is on duty in two places at once, but where that is planted (AC-10).
-- Half days, calls and extra duty, each as long as it is written down.
SELECT f.person_id::text AS subject,
       'in one place at a time' AS expected,
       format('in two for %s minutes, the first of them at %s', f.measured, f.window_start) AS actual
FROM duty_findings('cpr') f
WHERE f.rule = 'AC-10'
  AND NOT EXISTS (SELECT FROM expected_violation e WHERE e.holds AND e.rules = 'cpr' AND e.rule = 'AC-10' AND e.person_id = f.person_id)
ORDER BY f.person_id
