-- kind: chains
--
-- The locks that somebody in this database waits for: who waits, who holds them, and what each of them last sent.
-- pg_blocking_pids() takes every partition of the lock table for each session that it is asked about. Here the table is read once, whoever
-- is in it, and not at all when nobody waits: the planner asks EXISTS first. Who blocks whom is worked out from the modes, outside the server.
-- One read is one moment, so that a cycle in it was one. Of locks as many rows are sent as a person could follow, holders and the longest waits
-- first; of statements those of the holders and of the longest waits. Row locks that a waiting session holds say which row it wants.
WITH client AS MATERIALIZED (
  SELECT pid, application_name, state, query, wait_event_type
  FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()
), found AS MATERIALIZED (
  SELECT
    pid, granted, locktype, mode, relation, page, tuple, waitstart,
    concat_ws('/', locktype, database, relation, page, tuple, virtualxid, transactionid, classid, objid, objsubid) AS object
  FROM pg_locks
  WHERE EXISTS (SELECT FROM client WHERE wait_event_type = 'Lock')
    AND mode <> 'SIReadLock'
    AND (database IS NULL OR database = 0 OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))
), wanted AS MATERIALIZED (
  SELECT pid, object FROM found WHERE NOT granted AND pid IN (SELECT pid FROM client)
), chosen AS (
  SELECT *, row_number() OVER (PARTITION BY granted ORDER BY waitstart) AS place
  FROM found
  WHERE object IN (SELECT object FROM wanted)
    OR granted AND locktype = 'tuple' AND pid IN (SELECT pid FROM wanted)
)
SELECT
  coalesce(chosen.pid, 0) AS pid,
  granted,
  object,
  locktype AS kind,
  mode,
  -- Of this database, so that the name means what it says.
  relation::regclass::text AS relation,
  page,
  tuple,
  extract(epoch FROM clock_timestamp() - waitstart) * 1000 AS waited_ms,
  application_name,
  state,
  CASE WHEN place <= 16 OR chosen.pid IN (SELECT pid FROM chosen WHERE granted)
    THEN left(regexp_replace(query, '\s+', ' ', 'g'), 160) END AS statement
FROM chosen
LEFT JOIN client ON client.pid = chosen.pid
ORDER BY granted DESC, place
LIMIT 400
