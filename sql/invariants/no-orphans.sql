-- id:       INV-E3
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT (SELECT count(organisation_id) FROM service_code) + (SELECT count(organisation_id) FROM patient)
--             + (SELECT count(organisation_id) FROM practitioner)
--             + (SELECT count(organisation_id) + count(patient_id) + count(service_code_id) FROM authorisation)
--             + (SELECT count(authorisation_id) + count(practitioner_id) FROM appointment)
--             + (SELECT count(appointment_id) FROM treatment_session)
-- breaks:   INSERT INTO patient (id, organisation_id, given_name, family_name, date_of_birth, medical_record_number)
--             SELECT max(id) + 1, -1, 'Self', 'Test', '2000-01-01', 'SELF-TEST' FROM patient
--
-- Every reference leads to a row, whether or not a foreign key guards it.
SELECT format('%s %s', child, id)               AS subject,
       format('%s %s exists', parent, reference) AS expected,
       'it does not'                             AS actual
FROM (
    SELECT 'service code' AS child, c.id, 'organisation' AS parent, c.organisation_id AS reference
    FROM service_code c WHERE c.organisation_id IS NOT NULL AND NOT EXISTS (SELECT FROM organisation p WHERE p.id = c.organisation_id)
    UNION ALL
    SELECT 'patient', c.id, 'organisation', c.organisation_id
    FROM patient c WHERE c.organisation_id IS NOT NULL AND NOT EXISTS (SELECT FROM organisation p WHERE p.id = c.organisation_id)
    UNION ALL
    SELECT 'practitioner', c.id, 'organisation', c.organisation_id
    FROM practitioner c WHERE c.organisation_id IS NOT NULL AND NOT EXISTS (SELECT FROM organisation p WHERE p.id = c.organisation_id)
    UNION ALL
    SELECT 'authorisation', c.id, 'organisation', c.organisation_id
    FROM authorisation c WHERE c.organisation_id IS NOT NULL AND NOT EXISTS (SELECT FROM organisation p WHERE p.id = c.organisation_id)
    UNION ALL
    SELECT 'authorisation', c.id, 'patient', c.patient_id
    FROM authorisation c WHERE c.patient_id IS NOT NULL AND NOT EXISTS (SELECT FROM patient p WHERE p.id = c.patient_id)
    UNION ALL
    SELECT 'authorisation', c.id, 'service code', c.service_code_id
    FROM authorisation c WHERE c.service_code_id IS NOT NULL AND NOT EXISTS (SELECT FROM service_code p WHERE p.id = c.service_code_id)
    UNION ALL
    SELECT 'appointment', c.id, 'authorisation', c.authorisation_id
    FROM appointment c WHERE c.authorisation_id IS NOT NULL AND NOT EXISTS (SELECT FROM authorisation p WHERE p.id = c.authorisation_id)
    UNION ALL
    SELECT 'appointment', c.id, 'practitioner', c.practitioner_id
    FROM appointment c WHERE c.practitioner_id IS NOT NULL AND NOT EXISTS (SELECT FROM practitioner p WHERE p.id = c.practitioner_id)
    UNION ALL
    SELECT 'treatment session', c.id, 'appointment', c.appointment_id
    FROM treatment_session c WHERE c.appointment_id IS NOT NULL AND NOT EXISTS (SELECT FROM appointment p WHERE p.id = c.appointment_id)
) AS orphan
ORDER BY child, id, parent
