-- id:       INV-R4
-- dataset:  residency
-- when:     always
-- subject:  block
-- examines: SELECT count(*) FROM assignment a JOIN rotation_template t ON t.id = a.rotation_template_id WHERE a.role = 'primary' AND t.supervision_required
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind, pgy)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident', 2 FROM person;
--           INSERT INTO block (id, programme_id, date, half, number, is_weekend) SELECT max(id) + 1, min(programme_id), '2000-01-03', 'AM', 0, false FROM block;
--           INSERT INTO rotation_template (id, programme_id, name, abbreviation, activity)
--             SELECT max(id) + 1, min(programme_id), 'Self-test', 'SELF-TEST', 'clinic' FROM rotation_template;
--           INSERT INTO assignment (block_id, person_id, rotation_template_id, role)
--             SELECT (SELECT max(id) FROM block), (SELECT max(id) FROM person), (SELECT max(id) FROM rotation_template), 'primary'
--
-- Residents are supervised: one of the faculty for two of the first year, and one for four others, but where that is planted (AC-7).
SELECT f.block_id::text AS subject,
       format('%s supervise on %s %s', f.allowed, b.date, b.half) AS expected,
       format('%s of the faculty', f.measured) AS actual
FROM duty_findings('cpr') f
LEFT JOIN block b ON b.id = f.block_id
WHERE f.rule = 'AC-7'
  AND NOT EXISTS (SELECT FROM expected_violation e WHERE e.holds AND e.rules = 'cpr' AND e.rule = 'AC-7' AND e.block_id = f.block_id)
ORDER BY f.block_id
