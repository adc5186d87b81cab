-- id:       INV-I4
-- dataset:  clinic
-- when:     always
-- examines: SELECT count(*) FROM idempotency_key
-- breaks:   INSERT INTO idempotency_key (organisation_id, endpoint, key, fingerprint, state, run_id, created_at, expires_at)
--             SELECT o.id, 'reserve', 'self-test', 'body', 'pending', 0, m.as_of - interval '1 hour', m.as_of + interval '1 day'
--             FROM organisation o, meta m WHERE o.id = (SELECT min(id) FROM organisation)
--
-- No key has been pending for longer than ten minutes: whoever claimed it has gone, and everybody else is kept waiting.
-- By the clock of the domain, which stands where the dataset and the latest of the requests have moved it.
SELECT format('key %s of organisation %s for %s', coalesce(k.key, 'NULL'), coalesce(k.organisation_id::text, 'NULL'), coalesce(k.endpoint, 'NULL')) AS subject,
       'pending for ten minutes at most, then completed or gone' AS expected,
       format('%s since %s, and it is %s', coalesce(k.state, 'in no state'), coalesce((k.created_at AT TIME ZONE 'UTC')::text, 'no time'),
              clock.now AT TIME ZONE 'UTC') AS actual
FROM idempotency_key k
CROSS JOIN (SELECT greatest((SELECT as_of FROM meta), (SELECT max(created_at) FROM idempotency_key)) AS now) AS clock
WHERE (k.state = 'completed' OR k.state = 'pending' AND clock.now <= k.created_at + interval '10 minutes') IS NOT TRUE
ORDER BY k.organisation_id, k.endpoint, k.key
