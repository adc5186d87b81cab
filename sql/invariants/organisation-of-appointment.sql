-- id:       INV-T7
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT count(*) FROM appointment
-- breaks:   INSERT INTO appointment (organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units)
--             SELECT p.organisation_id, a.id, p.id, '2026-06-01 09:00+00', '2026-06-01 10:00+00', 4
--             FROM authorisation a JOIN practitioner p ON p.organisation_id <> a.organisation_id ORDER BY a.id, p.id LIMIT 1
--
-- An appointment belongs to the organisation of its authorisation and of its practitioner, and so does the session that came of it.
SELECT format('%s %s', what, id) AS subject,
       format('organisation %s', coalesce(organisation_id::text, 'not NULL')) AS expected,
       format('organisation %s has its %s', coalesce(other::text, 'NULL'), whose) AS actual
FROM (
    SELECT 'appointment' AS what, p.id, p.organisation_id, 'authorisation' AS whose, a.organisation_id AS other
    FROM appointment p LEFT JOIN authorisation a ON a.id = p.authorisation_id
    UNION ALL
    SELECT 'appointment', p.id, p.organisation_id, 'practitioner', r.organisation_id
    FROM appointment p LEFT JOIN practitioner r ON r.id = p.practitioner_id
    UNION ALL
    SELECT 'treatment session', s.id, s.organisation_id, 'appointment', p.organisation_id
    FROM treatment_session s LEFT JOIN appointment p ON p.id = s.appointment_id
) AS edge
WHERE organisation_id IS NULL OR other IS DISTINCT FROM organisation_id
ORDER BY what, id, whose
