-- id:       INV-R12
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT count(*) FROM person
-- breaks:   INSERT INTO person (id, programme_id, given_name, family_name, email, kind)
--             SELECT max(id) + 1, min(programme_id), 'Self', 'Test', 'self-test', 'resident' FROM person
--
-- A resident is in the first, second or third year; faculty are in none.
SELECT id::text AS subject,
       CASE kind WHEN 'resident' THEN 'a resident of year 1, 2 or 3' WHEN 'faculty' THEN 'faculty, of no year' ELSE 'a resident or faculty' END AS expected,
       format('%s of year %s', coalesce(kind, 'NULL'), coalesce(pgy::text, 'NULL')) AS actual
FROM person
WHERE (kind = 'resident' AND pgy IS NOT NULL AND pgy BETWEEN 1 AND 3 OR kind = 'faculty' AND pgy IS NULL) IS NOT TRUE
ORDER BY id
