-- id:       INV-T1
-- dataset:  clinic
-- when:     always
-- subject:  authorisation
-- examines: SELECT count(*) FROM authorisation
-- breaks:   UPDATE authorisation a SET organisation_id = (SELECT min(o.id) FROM organisation o WHERE o.id <> a.organisation_id)
--             WHERE a.id = (SELECT min(c.id) FROM authorisation c JOIN patient p ON p.id = c.patient_id AND p.organisation_id = c.organisation_id
--             JOIN service_code s ON s.id = c.service_code_id AND coalesce(s.organisation_id, c.organisation_id) = c.organisation_id)
--
-- An authorisation belongs to the organisation of its patient, and its service to that organisation or to everybody.
SELECT a.id::text AS subject,
       format('organisation %s', coalesce(a.organisation_id::text, 'not NULL')) AS expected,
       CASE
           WHEN p.id IS NULL THEN format('patient %s does not exist', coalesce(a.patient_id::text, 'NULL'))
           WHEN a.organisation_id IS NULL OR p.organisation_id IS DISTINCT FROM a.organisation_id
               THEN format('organisation %s has its patient %s', coalesce(p.organisation_id::text, 'NULL'), p.id)
           WHEN s.id IS NULL THEN format('service code %s does not exist', coalesce(a.service_code_id::text, 'NULL'))
           ELSE format('organisation %s owns its service code %s', s.organisation_id, s.id)
       END AS actual
FROM authorisation a
LEFT JOIN patient p ON p.id = a.patient_id
LEFT JOIN service_code s ON s.id = a.service_code_id
WHERE a.organisation_id IS NULL
   OR p.organisation_id IS DISTINCT FROM a.organisation_id
   OR s.id IS NULL
   OR (s.organisation_id IS NOT NULL AND s.organisation_id IS DISTINCT FROM a.organisation_id)
ORDER BY a.id
