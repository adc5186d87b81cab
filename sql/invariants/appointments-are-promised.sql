-- id:       INV-U5
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM appointment
-- breaks:   INSERT INTO appointment (organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units)
--             SELECT a.organisation_id, a.id, p.id, '2026-06-01 09:00+00', '2026-06-01 10:00+00', 4
--             FROM authorisation a JOIN practitioner p ON p.organisation_id = a.organisation_id
--             WHERE NOT EXISTS (SELECT FROM unit_ledger l WHERE l.authorisation_id = a.id AND l.appointment_id IS NULL) ORDER BY a.id, p.id LIMIT 1
--
-- Units of appointments that are still to come are promised: no more of them than are scheduled, and just as many where nothing but appointments was booked.
-- Where somebody has released or consumed units without an appointment, those may have been an appointment's, and nothing is said.
WITH live AS (
    SELECT authorisation_id, coalesce(sum(reserved_units) FILTER (WHERE status = 'SCHEDULED'), 0) AS units FROM appointment GROUP BY authorisation_id
), others AS (
    SELECT l.authorisation_id, bool_or(l.kind <> 'reserve') AS is_taken
    FROM unit_ledger l
    WHERE l.appointment_id IS NULL AND l.kind IS DISTINCT FROM 'fence' AND l.authorisation_id IN (SELECT authorisation_id FROM live)
    GROUP BY l.authorisation_id
)
SELECT l.authorisation_id::text AS subject,
       format('scheduled %s%s, for appointments to come', CASE WHEN o.authorisation_id IS NULL THEN '' ELSE 'at least ' END, l.units) AS expected,
       CASE WHEN a.id IS NULL THEN 'no such authorisation' ELSE format('scheduled %s', coalesce(a.scheduled::text, 'NULL')) END AS actual
FROM live l
LEFT JOIN authorisation a ON a.id = l.authorisation_id
LEFT JOIN others o ON o.authorisation_id = l.authorisation_id
WHERE CASE
          WHEN o.is_taken THEN false
          WHEN o.authorisation_id IS NULL THEN (a.scheduled = l.units) IS NOT TRUE
          ELSE (a.scheduled >= l.units) IS NOT TRUE
      END
ORDER BY l.authorisation_id
