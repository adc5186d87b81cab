-- id:       INV-R7
-- dataset:  residency
-- when:     quiesced
-- subject:  programme
-- examines: SELECT count(*) FROM block
-- breaks:   INSERT INTO block (id, programme_id, date, half, number, is_weekend)
--             SELECT max(b.id) + 1, (SELECT min(id) FROM programme WHERE run_id IS NULL), '1990-01-03', 'AM', 0, true FROM block b
--
-- A programme has a morning and an afternoon on each day from its first to its last, each once, in its period and with its weekends marked.
-- What a run makes for one round has only the half days that it needs: of these it has each once, with its weekends marked.
WITH spanned AS (
    SELECT b.programme_id, min(b.date) AS first, max(b.date) AS last, p.run_id IS NULL AS is_whole
    FROM block b
    LEFT JOIN programme p ON p.id = b.programme_id
    GROUP BY b.programme_id, p.run_id IS NULL
), due AS (
    SELECT s.programme_id, d.date::date AS date, h.half
    FROM spanned s
    CROSS JOIN LATERAL generate_series(s.first::timestamp, s.last::timestamp, interval '1 day') AS d (date)
    CROSS JOIN (VALUES ('AM'), ('PM')) AS h (half)
    WHERE s.is_whole
), counted AS (
    -- The same half day of the same programme comes together, whether it is due, there, or both.
    SELECT programme_id, date, half, count(*) FILTER (WHERE is_due) AS due, count(*) FILTER (WHERE NOT is_due) AS present
    FROM (SELECT programme_id, date, half, true AS is_due FROM due
          UNION ALL
          SELECT programme_id, date, half, false FROM block) AS both_of_them
    GROUP BY programme_id, date, half
), breach AS (
    SELECT programme_id, date, format('%s %s once', coalesce(date::text, 'no date'), coalesce(half, 'NULL')) AS expected, format('%s times', present) AS actual
    FROM counted
    WHERE present <> 1
    UNION ALL
    SELECT programme_id, date, format('%s %s %s', date, half, CASE WHEN extract(isodow FROM date) > 5 THEN 'on a weekend' ELSE 'on a weekday' END),
           format('block %s is marked %s', id, CASE WHEN is_weekend THEN 'as one' WHEN NOT is_weekend THEN 'as none' ELSE 'as neither' END)
    FROM block
    WHERE is_weekend IS DISTINCT FROM (extract(isodow FROM date) > 5)
    UNION ALL
    SELECT b.programme_id, b.date, format('%s %s in period %s', b.date, b.half, (b.date - s.first) / 28), format('block %s in period %s', b.id, coalesce(b.number::text, 'NULL'))
    FROM block b
    JOIN spanned s ON s.programme_id = b.programme_id AND s.is_whole
    WHERE b.number IS DISTINCT FROM (b.date - s.first) / 28
)
SELECT programme_id::text AS subject, expected, actual
FROM breach
ORDER BY programme_id, date, expected
