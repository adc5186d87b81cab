-- id:       INV-I7
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT count(*) FROM idempotency_key
-- breaks:   INSERT INTO idempotency_key (organisation_id, endpoint, key, fingerprint, state, run_id, created_at, expires_at)
--             SELECT o.id, 'browse', 'self-test', 'body', 'completed', 0, m.as_of - interval '2 days', m.as_of - interval '1 day'
--             FROM organisation o, meta m WHERE o.id = (SELECT min(id) FROM organisation)
--
-- No key is kept after its lifetime, by the clock of the dataset: the clean-up left none.
-- What was put there to be cleaned up counts once the clean-up has been there, or its run has come to its end.
SELECT format('run %s', coalesce(k.run_id::text, 'NULL')) AS subject,
       format('no key that expired by %s', m.as_of AT TIME ZONE 'UTC') AS expected,
       format('%s, the first at %s', count(*), coalesce((min(k.expires_at) AT TIME ZONE 'UTC')::text, 'no time')) AS actual
FROM idempotency_key k
CROSS JOIN meta m
WHERE (k.expires_at > m.as_of) IS NOT TRUE
  AND NOT (k.endpoint IS NOT DISTINCT FROM 'browse' AND k.fingerprint IS NOT DISTINCT FROM 'expired' AND EXISTS (SELECT FROM run r WHERE r.id = k.run_id AND r.ended IS NULL))
GROUP BY k.run_id, m.as_of
ORDER BY k.run_id
