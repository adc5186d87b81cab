-- id:       INV-R13
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT count(*) FROM person p JOIN programme g ON g.id = p.programme_id
--             WHERE p.kind = 'resident' AND (g.run_id IS NOT NULL
--               OR (SELECT max(date) - min(date) FROM block b WHERE b.programme_id = g.id) >= 27)
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind, pgy)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident', 2 FROM person;
--           INSERT INTO extra_duty (person_id, starts_at, ends_at, kind)
--             SELECT (SELECT max(id) FROM person), d, d + interval '15 hours', 'extension'
--             FROM generate_series(timestamp '2026-01-05 07:00', '2026-02-01 07:00', interval '1 day') AS d
--
-- Residents work 80 hours a week at most and have a day off in seven, each over four weeks, but where that is planted (AC-1, AC-2b).
-- Of a seeded schedule of fewer than four weeks nothing can be said.
SELECT f.person_id::text AS subject,
       CASE f.rule WHEN 'AC-1' THEN format('at most %s hours in four weeks', f.allowed / 60) ELSE format('at least %s free days in four weeks', f.allowed) END AS expected,
       format(CASE f.rule WHEN 'AC-1' THEN '%s minutes from %s on' ELSE '%s from %s on' END, f.measured, f.window_start::date) AS actual
FROM duty_findings('cpr') f
WHERE f.rule IN ('AC-1', 'AC-2b')
  AND f.severity = 'violation'
  AND NOT EXISTS (SELECT FROM expected_violation e WHERE e.holds AND e.rules = 'cpr' AND e.rule = f.rule AND e.person_id = f.person_id)
ORDER BY f.person_id, f.rule
