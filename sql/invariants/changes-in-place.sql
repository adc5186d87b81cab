-- id:       INV-R16
-- dataset:  residency
-- when:     quiesced
-- subject:  programme
-- examines: SELECT count(*) FROM schedule_ledger WHERE kind IN ('assign', 'cancel', 'call')
-- breaks:   INSERT INTO schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id, person_id, night)
--             SELECT (SELECT coalesce(max(op_id), 0) + 1 FROM schedule_ledger), 1, 0, 0, 0, 'self-test', 'call', p.programme_id, p.id, '1999-12-31'
--             FROM person p WHERE p.id = (SELECT min(id) FROM person)
--
-- What the ledger says was put down is there, what it says was taken off is not, and nothing was put down that it does not know.
-- Of several changes to one place the last one counts. Who has what after a swap is the business of swaps-exchanged. Rows that a run inserted are
-- known by their numbers, which come from a sequence far above those that are seeded or made for it.
WITH change AS (
    SELECT DISTINCT ON (block_id, person_id, night)
           programme_id, block_id, person_id, night, kind, format('%s.%s.%s', op_id >> 47, (op_id >> 32) & 32767, op_id & 4294967295) AS op
    FROM schedule_ledger
    WHERE kind IN ('assign', 'cancel', 'call')
    ORDER BY block_id, person_id, night, wrote DESC, op_id DESC
), swapped AS (
    SELECT DISTINCT programme_id FROM schedule_ledger WHERE kind IN ('swap', 'absorb')
)
SELECT c.programme_id::text AS subject,
       CASE c.kind WHEN 'cancel' THEN format('person %s is not in half day %s, by op %s', c.person_id, c.block_id, c.op)
                   WHEN 'assign' THEN format('person %s is in half day %s, by op %s', c.person_id, c.block_id, c.op)
                   ELSE format('person %s is on call on %s, by op %s', c.person_id, c.night, c.op) END AS expected,
       CASE c.kind WHEN 'cancel' THEN 'there again' ELSE 'gone' END AS actual
FROM change c
WHERE c.programme_id NOT IN (SELECT programme_id FROM swapped)
  AND CASE c.kind
        WHEN 'call' THEN NOT EXISTS (SELECT FROM call_assignment a WHERE a.person_id = c.person_id AND a.night = c.night)
        ELSE (c.kind = 'assign') IS DISTINCT FROM EXISTS (SELECT FROM assignment a WHERE a.block_id = c.block_id AND a.person_id = c.person_id)
      END
UNION ALL
SELECT g.id::text, format('nobody put person %s down for half day %s', a.person_id, a.block_id), format('assignment %s', a.id)
FROM programme g
JOIN block b ON b.programme_id = g.id
JOIN assignment a ON a.block_id = b.id AND a.id >= 1099511627776
WHERE g.run_id IS NOT NULL AND g.contest <> 'acgme'
  AND NOT EXISTS (SELECT FROM schedule_ledger l WHERE l.kind = 'assign' AND l.block_id = a.block_id AND l.person_id = a.person_id)
UNION ALL
SELECT g.id::text, format('nobody put person %s down for call on %s', a.person_id, a.night), format('call %s', a.id)
FROM programme g
JOIN person p ON p.programme_id = g.id
JOIN call_assignment a ON a.person_id = p.id
WHERE g.run_id IS NOT NULL AND g.contest <> 'acgme'
  AND NOT EXISTS (SELECT FROM schedule_ledger l WHERE l.kind = 'call' AND l.person_id = a.person_id AND l.night = a.night)
ORDER BY 1, 2
