-- id:       INV-U8
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT count(*) FROM appointment
-- breaks:   INSERT INTO appointment (organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units)
--             SELECT a.organisation_id, a.id, p.id, '2026-06-01 09:00+00', '2026-06-01 10:00+00', 4
--             FROM authorisation a JOIN practitioner p ON p.organisation_id = a.organisation_id ORDER BY a.id, p.id LIMIT 1
--
-- The ledger has what every appointment did to its authorisation, and no more: its units reserved once, and given back once if it was cancelled, or used up once if it was completed.
-- So the units of the appointments that are still to come are those that were promised for appointments and are still promised.
WITH booked AS (
    SELECT appointment_id, kind, authorisation_id, units FROM unit_ledger WHERE appointment_id IS NOT NULL AND kind IS DISTINCT FROM 'fence'
), should AS (
    SELECT id AS appointment_id, authorisation_id, reserved_units AS units, kinds.kind
    FROM appointment
    CROSS JOIN LATERAL (
        VALUES ('reserve'), (CASE status WHEN 'CANCELLED' THEN 'release' WHEN 'COMPLETED' THEN 'consume' WHEN 'SCHEDULED' THEN NULL ELSE status END)
    ) AS kinds (kind)
    WHERE kinds.kind IS NOT NULL
), compared AS (
    SELECT coalesce(s.appointment_id, b.appointment_id) AS appointment_id,
           coalesce(s.kind, b.kind)                     AS kind,
           s.units,
           s.authorisation_id,
           b.lines,
           b.right_lines
    FROM should s
    FULL JOIN (
        SELECT b.appointment_id, b.kind, count(*) AS lines,
               count(*) FILTER (WHERE b.units = a.reserved_units AND b.authorisation_id = a.authorisation_id) AS right_lines
        FROM booked b
        LEFT JOIN appointment a ON a.id = b.appointment_id
        GROUP BY b.appointment_id, b.kind
    ) b ON b.appointment_id = s.appointment_id AND b.kind = s.kind
)
SELECT format('appointment %s', appointment_id) AS subject,
       CASE WHEN units IS NULL THEN format('no %s', kind) ELSE format('%s %s of authorisation %s, once', kind, units, authorisation_id) END AS expected,
       format('%s ledger lines, %s of them with these units and this authorisation', coalesce(lines, 0), coalesce(right_lines, 0)) AS actual
FROM compared
WHERE units IS NULL OR lines IS DISTINCT FROM 1 OR right_lines IS DISTINCT FROM 1
ORDER BY appointment_id, kind
