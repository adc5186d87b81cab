-- id:       INV-I2
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT count(*) FROM idempotency_key
-- breaks:   INSERT INTO idempotency_key (organisation_id, endpoint, key, fingerprint, state, run_id, created_at, expires_at)
--             SELECT o.id, 'browse', 'self-test', body, 'pending', 0, m.as_of, m.as_of + interval '1 day'
--             FROM organisation o, meta m, (VALUES ('one'), ('another')) AS twice (body) WHERE o.id = (SELECT min(id) FROM organisation)
--
-- A key of an organisation and an endpoint has one record, and so one body.
SELECT format('key %s of organisation %s for %s', coalesce(key, 'NULL'), coalesce(organisation_id::text, 'NULL'), coalesce(endpoint, 'NULL')) AS subject,
       'one record' AS expected,
       format('%s records, of %s bodies', count(*), count(DISTINCT fingerprint)) AS actual
FROM idempotency_key
GROUP BY organisation_id, endpoint, key
HAVING count(*) > 1 OR organisation_id IS NULL OR endpoint IS NULL OR key IS NULL
ORDER BY organisation_id, endpoint, key
