-- id:       INV-U3
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM unit_ledger WHERE kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO authorisation (id, organisation_id, patient_id, service_code_id, number, total, scheduled, start_date, end_date)
--             SELECT (SELECT max(id) + 1 FROM authorisation), organisation_id, patient_id, service_code_id, 'SELF-TEST', 50, 5, start_date, end_date
--             FROM authorisation ORDER BY id LIMIT 1
--
-- The counters of every authorisation are the sums of its ledger, and every ledger row has its authorisation.
-- Seeded authorisations start at zero, so the sums need no opening balance. A fence changes nothing and does not count.
WITH summed AS (
    SELECT authorisation_id,
           sum(CASE kind WHEN 'consume' THEN units ELSE 0 END)                                                     AS used,
           sum(CASE kind WHEN 'reserve' THEN units WHEN 'release' THEN -units WHEN 'consume' THEN -units ELSE 0 END) AS scheduled,
           count(*)                                                                                               AS entries
    FROM unit_ledger
    WHERE kind IS DISTINCT FROM 'fence'
    GROUP BY authorisation_id
)
SELECT coalesce(a.id, s.authorisation_id)::text AS subject,
       format('used %s, scheduled %s (sums of %s ledger rows)', coalesce(s.used, 0), coalesce(s.scheduled, 0), coalesce(s.entries, 0)) AS expected,
       CASE WHEN a.id IS NULL THEN 'no such authorisation' ELSE format('used %s, scheduled %s', a.used, a.scheduled) END AS actual
FROM authorisation a
FULL JOIN summed s ON s.authorisation_id = a.id
WHERE a.id IS NULL
   OR a.used IS DISTINCT FROM coalesce(s.used, 0)
   OR a.scheduled IS DISTINCT FROM coalesce(s.scheduled, 0)
ORDER BY coalesce(a.id, s.authorisation_id)
