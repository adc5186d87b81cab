-- id:       INV-U4
-- dataset:  clinic
-- when:     quiesced
-- subject:  authorisation
-- examines: SELECT count(*) FROM unit_ledger WHERE kind IS DISTINCT FROM 'fence'
-- breaks:   INSERT INTO authorisation (id, organisation_id, patient_id, service_code_id, number, total, scheduled, start_date, end_date, version)
--             SELECT (SELECT max(id) + 1 FROM authorisation), organisation_id, patient_id, service_code_id, 'SELF-TEST', 50, 5, start_date, end_date, 2
--             FROM authorisation ORDER BY id LIMIT 1;
--             INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units,
--             version, total, used, scheduled)
--             SELECT (SELECT coalesce(max(op_id), 0) FROM unit_ledger) + v, 1, 1, 0, 0, 'self-test', 'reserve', a.id, a.organisation_id, 0, 5,
--             v, 50, 0, 5 FROM authorisation a, (VALUES (1), (2)) AS lost (v) WHERE a.id = (SELECT max(id) FROM authorisation)
--
-- The ledger replays: each version follows from the one before it, never over total, and the last one is the row as it stands.
-- The row lock is held until the commit is visible, so version order is commit order of that row. A state that does not follow is a
-- lost update; a gap, a duplicate or a last version that is not the row's is a write outside the ledger; a version over total is an
-- overbooking, even if a later release healed it.
WITH step AS (
    SELECT *,
           coalesce(lag(version) OVER in_order, 0) + 1    AS version_due,
           coalesce(lag(used) OVER in_order, 0)::bigint       AS used_before,
           coalesce(lag(scheduled) OVER in_order, 0)::bigint  AS scheduled_before,
           lag(op_id) OVER in_order                       AS op_before,
           lead(op_id) OVER in_order IS NULL              AS is_last
    FROM unit_ledger
    WHERE kind IS DISTINCT FROM 'fence'
    WINDOW in_order AS (PARTITION BY authorisation_id ORDER BY version NULLS LAST, wrote, op_id, attempt, line)
), replayed AS (
    SELECT *,
           -- An operation of an unknown kind has no due state, and so never replays.
           used_before + CASE kind WHEN 'consume' THEN units WHEN 'reserve' THEN 0 WHEN 'release' THEN 0 END                AS used_due,
           scheduled_before + CASE kind WHEN 'reserve' THEN units WHEN 'release' THEN -units WHEN 'consume' THEN -units END AS scheduled_due
    FROM step
), breach AS (
    SELECT authorisation_id AS id,
           version_due      AS place,
           CASE
               WHEN version IS DISTINCT FROM version_due OR used IS DISTINCT FROM used_due OR scheduled IS DISTINCT FROM scheduled_due
                   THEN format('version %s: used %s, scheduled %s', version_due, coalesce(used_due::text, 'unknown'), coalesce(scheduled_due::text, 'unknown'))
               WHEN (units > 0) IS NOT TRUE THEN format('version %s: more than 0 units', version_due)
               ELSE format('version %s: both >= 0, together at most %s', version_due, total)
           END              AS expected,
           format('version %s: used %s, scheduled %s, by op %s.%s.%s attempt %s (%s %s)%s',
                  coalesce(version::text, 'none'), coalesce(used::text, 'none'), coalesce(scheduled::text, 'none'),
                  op_id >> 47, (op_id >> 32) & 32767, op_id & 4294967295, attempt, kind, units,
                  ' after op ' || (op_before >> 47) || '.' || ((op_before >> 32) & 32767) || '.' || (op_before & 4294967295)) AS actual
    FROM replayed
    WHERE version IS DISTINCT FROM version_due
       OR used IS DISTINCT FROM used_due
       OR scheduled IS DISTINCT FROM scheduled_due
       OR (units > 0 AND used >= 0 AND scheduled >= 0 AND used::bigint + scheduled <= total) IS NOT TRUE
    UNION ALL
    SELECT a.id,
           a.version,
           CASE
               WHEN l.op_id IS NULL THEN 'version 0: the ledger is empty'
               ELSE format('version %s: used %s, scheduled %s of %s, as op %s.%s.%s left it',
                           l.version, l.used, l.scheduled, l.total, l.op_id >> 47, (l.op_id >> 32) & 32767, l.op_id & 4294967295)
           END,
           format('version %s: used %s, scheduled %s of %s in the row', a.version, a.used, a.scheduled, a.total)
    FROM authorisation a
    LEFT JOIN replayed l ON l.authorisation_id = a.id AND l.is_last
    WHERE a.version IS DISTINCT FROM coalesce(l.version, 0)
       OR (l.op_id IS NOT NULL AND (a.used, a.scheduled, a.total) IS DISTINCT FROM (l.used, l.scheduled, l.total))
)
SELECT id::text AS subject, expected, actual
FROM breach
ORDER BY id, place
