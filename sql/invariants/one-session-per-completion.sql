-- id:       INV-U6
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT count(*) FROM appointment
-- breaks:   INSERT INTO appointment (organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units, status)
--             SELECT a.organisation_id, a.id, p.id, '2026-06-01 09:00+00', '2026-06-01 10:00+00', 4, 'COMPLETED'
--             FROM authorisation a JOIN practitioner p ON p.organisation_id = a.organisation_id ORDER BY a.id, p.id LIMIT 1
--
-- A completed appointment has one treatment session, with the units that it had reserved; any other has none, and no session is without one.
SELECT format('appointment %s (%s)', coalesce(a.id, s.appointment_id), coalesce(a.status, 'there is none')) AS subject,
       CASE a.status WHEN 'COMPLETED' THEN format('one session, of %s units', a.reserved_units) ELSE 'no session' END AS expected,
       format('%s sessions, of %s units', coalesce(s.sessions, 0), coalesce(s.units, 0)) AS actual
FROM appointment a
FULL JOIN (
    SELECT appointment_id, count(*) AS sessions, sum(units) AS units FROM treatment_session GROUP BY appointment_id
) s ON s.appointment_id = a.id
WHERE coalesce(s.sessions, 0) IS DISTINCT FROM CASE a.status WHEN 'COMPLETED' THEN 1 ELSE 0 END
   OR coalesce(s.units, 0) IS DISTINCT FROM CASE a.status WHEN 'COMPLETED' THEN a.reserved_units ELSE 0 END
ORDER BY coalesce(a.id, s.appointment_id)
