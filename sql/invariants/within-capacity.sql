-- id:       INV-R3
-- dataset:  residency
-- when:     always
-- subject:  block
-- examines: SELECT count(*) FROM assignment WHERE role = 'primary'
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind, pgy)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident', 2 FROM person;
--           INSERT INTO block (id, programme_id, date, half, number, is_weekend) SELECT max(id) + 1, min(programme_id), '2000-01-03', 'AM', 0, false FROM block;
--           INSERT INTO rotation_template (id, programme_id, name, abbreviation, activity, max_residents)
--             SELECT max(id) + 1, min(programme_id), 'Self-test', 'SELF-TEST', 'clinic', 0 FROM rotation_template;
--           INSERT INTO assignment (block_id, person_id, rotation_template_id, role)
--             SELECT (SELECT max(id) FROM block), (SELECT max(id) FROM person), (SELECT max(id) FROM rotation_template), 'primary'
--
-- A template has no more residents in a half day than there is room for, but where that is planted (AC-11).
SELECT format('%s/%s', f.block_id, f.rotation_template_id) AS subject,
       format('at most %s residents on %s %s', f.allowed, b.date, b.half) AS expected,
       f.measured::text AS actual
FROM duty_findings('cpr') f
LEFT JOIN block b ON b.id = f.block_id
WHERE f.rule = 'AC-11'
  AND NOT EXISTS (SELECT FROM expected_violation e
                  WHERE e.holds AND e.rules = 'cpr' AND e.rule = 'AC-11' AND e.block_id = f.block_id AND e.rotation_template_id = f.rotation_template_id)
ORDER BY f.block_id, f.rotation_template_id
