-- id:       INV-R9
-- dataset:  residency
-- when:     quiesced
-- examines: SELECT count(*) FROM person p JOIN programme g ON g.id = p.programme_id AND g.run_id IS NULL
-- breaks:   INSERT INTO expected_violation (plant, label, rules, rule, person_id, measured, severity, detail)
--             SELECT -1, 'self-test', 'cpr', 'AC-1', -1, 19201, 'violation', ''
--
-- The rules of duty hours find what is planted in the seeded programmes and holds, by each of the three sets, and nothing else.
WITH found AS (
    SELECT 'cpr' AS rules, * FROM duty_findings('cpr', ARRAY(SELECT id FROM programme WHERE run_id IS NULL))
    UNION ALL
    SELECT 'rs-dec25', * FROM duty_findings('rs-dec25', ARRAY(SELECT id FROM programme WHERE run_id IS NULL))
    UNION ALL
    SELECT 'rs-head', * FROM duty_findings('rs-head', ARRAY(SELECT id FROM programme WHERE run_id IS NULL))
), compared AS (
    -- By grouping, since a join does not take NULL for equal to NULL.
    SELECT rules, rule, person_id, block_id, rotation_template_id, min(label) AS label,
           string_agg(DISTINCT what, ', ') FILTER (WHERE label IS NOT NULL) AS expected, string_agg(DISTINCT what, ', ') FILTER (WHERE label IS NULL) AS found
    FROM (
        SELECT rules, rule, person_id, block_id, rotation_template_id, severity || ' of ' || measured AS what, NULL AS label FROM found
        UNION ALL
        SELECT coalesce(rules, 'NULL'), rule, person_id, block_id, rotation_template_id,
               coalesce(severity, 'NULL') || ' of ' || coalesce(measured::text, 'NULL'), coalesce(label, 'NULL')
        FROM expected_violation WHERE holds IS NOT FALSE
    ) AS both_of_them
    GROUP BY rules, rule, person_id, block_id, rotation_template_id
)
SELECT CASE WHEN block_id IS NULL THEN format('person %s', person_id)
            WHEN rotation_template_id IS NULL THEN format('block %s', block_id)
            ELSE format('block %s/%s', block_id, rotation_template_id) END AS subject,
       format('%s by %s: %s', rule, rules, CASE WHEN expected IS NULL THEN 'nothing' ELSE format('%s (%s)', expected, label) END) AS expected,
       coalesce(found, 'nothing') AS actual
FROM compared
WHERE expected IS DISTINCT FROM found
ORDER BY rules, rule, person_id, block_id, rotation_template_id
