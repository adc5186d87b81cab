-- id:       INV-U2
-- dataset:  clinic
-- when:     always
-- subject:  authorisation
-- examines: SELECT count(*) FROM authorisation
-- breaks:   UPDATE authorisation SET scheduled = -1
--             WHERE id = (SELECT min(id) FROM authorisation WHERE used >= 0 AND scheduled >= 0 AND total > 0 AND end_date >= start_date)
--
-- No counter is negative, every total is positive, no authorisation ends before it starts.
SELECT id::text AS subject,
       'used and scheduled >= 0, total > 0, end >= start' AS expected,
       format('used %s, scheduled %s, total %s, %s to %s', used, scheduled, total, start_date, end_date) AS actual
FROM authorisation
WHERE (used >= 0 AND scheduled >= 0 AND total > 0 AND end_date >= start_date) IS NOT TRUE
ORDER BY id
