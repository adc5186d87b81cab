-- id:       INV-I3
-- dataset:  clinic
-- when:     quiesced
-- examines: SELECT (SELECT count(*) FROM idempotency_key WHERE endpoint IS DISTINCT FROM 'browse')
--             + (SELECT count(*) FROM unit_ledger WHERE key IS NOT NULL AND kind IS DISTINCT FROM 'fence')
-- breaks:   INSERT INTO idempotency_key (organisation_id, endpoint, key, fingerprint, state, response, result_op, result_attempt, run_id,
--             created_at, expires_at)
--             SELECT o.id, 'reserve', 'self-test', 'body', 'completed', ARRAY[1, 50, 0, 5], -1, 1, 0, m.as_of, m.as_of + interval '1 day'
--             FROM organisation o, meta m WHERE o.id = (SELECT min(id) FROM organisation)
--
-- A completed key leads to the effect that it stands for and holds what that came to, and every effect that was asked for with a key has its record.
-- Its fingerprint is that of the body which that effect had: the kind and the units. What only looked has no effect to lead to. An effect whose key was begun anew after its lifetime has the record of the later one.
SELECT format('key %s of organisation %s for %s', coalesce(k.key, 'NULL'), coalesce(k.organisation_id::text, 'NULL'), coalesce(k.endpoint, 'NULL')) AS subject,
       'the effect that it names, what that came to, and its body' AS expected,
       CASE
           WHEN k.result_op IS NULL OR k.result_attempt IS NULL THEN 'completed, and names none'
           WHEN l.op_id IS NULL THEN format('op %s.%s.%s attempt %s, which has no line of this key',
                k.result_op >> 47, (k.result_op >> 32) & 32767, k.result_op & 4294967295, k.result_attempt)
           WHEN k.response IS DISTINCT FROM ARRAY[l.version, l.total, l.used, l.scheduled]
               THEN format('answer %s, effect %s', coalesce(k.response::text, 'none'), ARRAY[l.version, l.total, l.used, l.scheduled])
           ELSE format('fingerprint %s, which is not that of %s %s', coalesce(k.fingerprint, 'NULL'), l.kind, l.units)
       END AS actual
FROM idempotency_key k
LEFT JOIN unit_ledger l ON l.op_id = k.result_op AND l.attempt = k.result_attempt AND l.key = k.key AND l.kind = k.endpoint
WHERE k.endpoint IS DISTINCT FROM 'browse'
  AND k.state IS DISTINCT FROM 'pending'
  AND (l.op_id IS NULL OR k.response IS DISTINCT FROM ARRAY[l.version, l.total, l.used, l.scheduled]
       OR k.fingerprint IS DISTINCT FROM encode(sha256(convert_to(format('%s %s', l.kind, l.units), 'UTF8')), 'hex'))
UNION ALL
SELECT format('key %s of organisation %s for %s', l.key, coalesce(l.organisation_id::text, 'NULL'), l.kind),
       'a completed record',
       format('%s, and op %s.%s.%s attempt %s did the work', CASE WHEN k.key IS NULL THEN 'none' ELSE coalesce(k.state, 'NULL') END,
              l.op_id >> 47, (l.op_id >> 32) & 32767, l.op_id & 4294967295, l.attempt)
FROM unit_ledger l
LEFT JOIN idempotency_key k ON k.organisation_id = l.organisation_id AND k.endpoint = l.kind AND k.key = l.key
WHERE l.key IS NOT NULL AND l.kind IS DISTINCT FROM 'fence' AND k.state IS DISTINCT FROM 'completed'
ORDER BY subject, expected, actual
