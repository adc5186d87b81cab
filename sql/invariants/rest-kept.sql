-- id:       INV-R14
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT count(*) FROM person WHERE kind = 'resident'
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind, pgy)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident', 2 FROM person;
--           INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) SELECT max(id), '2026-01-05 07:00', '2026-01-06 13:00', 'extension' FROM person
--
-- Residents work 24 hours in one go at most, 28 with handing over, and rest 14 hours after that, but where that is planted (AC-3, AC-4).
SELECT f.person_id::text AS subject,
       format(CASE f.rule WHEN 'AC-3' THEN 'at most %s hours in one go' ELSE 'at least %s hours of rest' END, f.allowed / 60) AS expected,
       format('%s minutes from %s on', f.measured, f.window_start) AS actual
FROM duty_findings('cpr') f
WHERE f.rule IN ('AC-3', 'AC-4')
  AND f.severity = 'violation'
  AND NOT EXISTS (SELECT FROM expected_violation e WHERE e.holds AND e.rules = 'cpr' AND e.rule = f.rule AND e.person_id = f.person_id)
ORDER BY f.person_id, f.rule
