-- id:       INV-U7
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM authorisation
-- breaks:   INSERT INTO authorisation (id, organisation_id, patient_id, service_code_id, number, total, used, start_date, end_date, status)
--             SELECT (SELECT max(id) + 1 FROM authorisation), organisation_id, patient_id, service_code_id, 'SELF-TEST', 50, 10, start_date, end_date,
--             'EXHAUSTED' FROM authorisation ORDER BY id LIMIT 1
--
-- An authorisation is EXHAUSTED exactly when all of it is used, is not ACTIVE past its end, and served nobody while it was not usable.
-- "Past" is judged by the clock of the dataset (meta.as_of) and of the operation (decided_at), never by now(). No operation sets PENDING,
-- EXPIRED or CANCELLED: a reserve or consume on such an authorisation was decided against its status. Releases are allowed at any time.
WITH step AS (
    SELECT *, coalesce(lag(used) OVER (PARTITION BY authorisation_id ORDER BY version NULLS LAST, wrote, op_id, attempt, line), 0) AS used_before
    FROM unit_ledger
    WHERE kind IS DISTINCT FROM 'fence'
), breach AS (
    SELECT a.id,
           0::bigint AS place,
           CASE
               WHEN a.status = 'EXHAUSTED' THEN format('EXHAUSTED only when %s are used', a.total)
               WHEN (a.used < a.total) IS NOT TRUE THEN 'EXHAUSTED, since all is used'
               ELSE format('not ACTIVE after %s', a.end_date)
           END AS expected,
           CASE
               WHEN a.status = 'ACTIVE' AND a.used < a.total THEN format('ACTIVE on %s', (m.as_of AT TIME ZONE 'UTC')::date)
               ELSE format('%s with %s used, %s scheduled', a.status, a.used, a.scheduled)
           END AS actual
    FROM authorisation a
    CROSS JOIN meta m
    WHERE (a.status = 'EXHAUSTED' AND (a.used >= a.total) IS NOT TRUE)
       OR (a.status IN ('ACTIVE', 'PENDING') AND (a.used < a.total) IS NOT TRUE)
       OR (a.status = 'ACTIVE' AND (a.end_date >= (m.as_of AT TIME ZONE 'UTC')::date) IS NOT TRUE)
       OR a.status IS NULL
    UNION ALL
    SELECT a.id,
           l.version,
           CASE
               WHEN a.status IN ('PENDING', 'EXPIRED', 'CANCELLED') THEN format('no %s while %s', l.kind, a.status)
               WHEN (l.used_before < l.total) IS NOT TRUE THEN format('no %s once all of %s are used', l.kind, l.total)
               ELSE format('no %s after %s', l.kind, a.end_date)
           END,
           format('version %s by op %s.%s.%s: %s %s, decided %s', l.version, l.op_id >> 47, (l.op_id >> 32) & 32767, l.op_id & 4294967295,
                  l.kind, l.units, coalesce((l.decided_at AT TIME ZONE 'UTC')::date::text, 'at no time'))
    FROM step l
    JOIN authorisation a ON a.id = l.authorisation_id
    WHERE l.kind IN ('reserve', 'consume')
      AND (a.status IN ('PENDING', 'EXPIRED', 'CANCELLED')
        OR (l.used_before < l.total) IS NOT TRUE
        OR ((l.decided_at AT TIME ZONE 'UTC')::date <= a.end_date) IS NOT TRUE)
)
SELECT id::text AS subject, expected, actual
FROM breach
ORDER BY id, place
