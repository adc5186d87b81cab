-- id:       INV-R8
-- dataset:  residency
-- when:     quiesced
-- subject:  programme
-- examines: SELECT count(*) FROM schedule_run
-- breaks:   INSERT INTO schedule_run (id, programme_id, starts_on, ends_on, algorithm, status, assignments)
--             SELECT (SELECT coalesce(max(id), 0) + 1 FROM schedule_run), min(id), '2026-01-05', '2026-01-05', 'self-test', 'success', -1
--             FROM programme WHERE run_id IS NULL
--
-- A programme's days are worked on by one schedule run at a time, succeed once, and have the assignments that the run says it made.
-- A seeded schedule says how many there were, the planted ones included. Those may have been mended since, so they are left out on both sides.
WITH planted AS (
    SELECT (row ->> 'id')::bigint AS id, (row ->> 'block_id')::bigint AS block_id, is_planted FROM planted_row WHERE relation = 'assignment'
), pair AS (
    SELECT r.programme_id, r.id, o.id AS other, r.status
    FROM schedule_run r
    JOIN schedule_run o ON o.programme_id = r.programme_id AND o.id > r.id AND o.status = r.status AND o.starts_on <= r.ends_on AND o.ends_on >= r.starts_on
    WHERE r.status IN ('in_progress', 'success')
), made AS (
    SELECT r.programme_id, r.id, r.assignments,
           (SELECT count(*) FROM block b JOIN planted p ON p.block_id = b.id
            WHERE b.programme_id = r.programme_id AND b.date BETWEEN r.starts_on AND r.ends_on AND p.is_planted) AS planted,
           (SELECT count(*) FROM block b JOIN assignment a ON a.block_id = b.id
            WHERE b.programme_id = r.programme_id AND b.date BETWEEN r.starts_on AND r.ends_on
              AND NOT EXISTS (SELECT FROM planted p WHERE p.id = a.id)) AS others
    FROM schedule_run r
    JOIN programme p ON p.id = r.programme_id AND p.run_id IS NULL
    WHERE r.status = 'success'
)
SELECT programme_id::text AS subject,
       format('schedule run %s alone is %s on its days', id, CASE status WHEN 'success' THEN 'a success' ELSE 'in progress' END) AS expected,
       format('so is schedule run %s', other) AS actual
FROM pair
UNION ALL
SELECT programme_id::text, format('schedule run %s: %s assignments, %s of them planted', id, coalesce(assignments::text, 'NULL'), planted),
       format('%s that are not planted', others)
FROM made
WHERE others + planted IS DISTINCT FROM assignments
UNION ALL
SELECT coalesce(programme_id::text, 'NULL'), format('schedule run %s ends after it has begun, in a known state', id),
       format('%s to %s, %s', coalesce(starts_on::text, 'NULL'), coalesce(ends_on::text, 'NULL'), coalesce(status, 'NULL'))
FROM schedule_run
WHERE (starts_on <= ends_on AND status IN ('in_progress', 'success', 'partial', 'failed')) IS NOT TRUE
ORDER BY 1, 2
