-- id:       INV-I8
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT count(*) FROM idempotency_key WHERE authorisation_id IS NOT NULL OR result_op IS NOT NULL
-- breaks:   INSERT INTO idempotency_key (organisation_id, endpoint, key, fingerprint, state, authorisation_id, run_id, created_at, expires_at)
--             SELECT -1, 'reserve', 'self-test', 'body', 'pending', a.id, 0, m.as_of, m.as_of + interval '1 day'
--             FROM authorisation a, meta m WHERE a.id = (SELECT min(id) FROM authorisation)
--
-- A key belongs to the organisation whose authorisation it is about and whose practitioner had it done; no other is told what it came to.
SELECT format('key %s for %s', coalesce(k.key, 'NULL'), coalesce(k.endpoint, 'NULL')) AS subject,
       format('organisation %s', coalesce(k.organisation_id::text, 'not NULL')) AS expected,
       format('authorisation %s of organisation %s, done for organisation %s', coalesce(k.authorisation_id::text, 'NULL'),
              coalesce(a.organisation_id::text, 'none'), coalesce(l.organisation_id::text, 'none')) AS actual
FROM idempotency_key k
LEFT JOIN authorisation a ON a.id = k.authorisation_id
LEFT JOIN unit_ledger l ON l.op_id = k.result_op AND l.attempt = k.result_attempt AND l.kind IS DISTINCT FROM 'fence'
WHERE (k.authorisation_id IS NOT NULL OR k.result_op IS NOT NULL)
  AND (a.organisation_id IS DISTINCT FROM k.organisation_id
    OR l.op_id IS NOT NULL AND (l.organisation_id IS DISTINCT FROM k.organisation_id OR l.authorisation_id IS DISTINCT FROM k.authorisation_id))
ORDER BY k.key, k.endpoint, k.organisation_id
