-- id:       INV-R5
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT count(*) FROM absence
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind, pgy)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident', 2 FROM person;
--           INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) SELECT max(id), '2026-01-05 08:00', '2026-01-05 12:00', 'extension' FROM person;
--           INSERT INTO absence (person_id, starts_on, ends_on, kind) SELECT max(id), '2026-01-05', '2026-01-05', 'deployment' FROM person
--
-- Nobody is on duty during an absence that keeps from it, but where that is planted (AC-9).
SELECT f.person_id::text AS subject,
       format('no duty from %s to %s', f.window_start::date, f.window_end::date - 1) AS expected,
       format('%s minutes', f.measured) AS actual
FROM duty_findings('cpr') f
WHERE f.rule = 'AC-9'
  AND NOT EXISTS (SELECT FROM expected_violation e WHERE e.holds AND e.rules = 'cpr' AND e.rule = 'AC-9' AND e.person_id = f.person_id)
ORDER BY f.person_id
