-- kind: gauge
--
-- What the sessions of the run are doing, how old transactions in this database are, and how full the server is.
-- The three settings exist from different versions on: what the server does not have takes no connections away.
-- Of sessions of other roles an ordinary one is told neither kind nor state: they are counted, and how old their transactions are is not known.
SELECT
  count(*) FILTER (WHERE run AND state = 'active') AS active,
  count(*) FILTER (WHERE run AND state = 'idle') AS idle,
  count(*) FILTER (WHERE run AND state = 'idle in transaction') AS idle_in_transaction,
  count(*) FILTER (WHERE run AND state = 'idle in transaction (aborted)') AS idle_in_aborted,
  count(*) FILTER (WHERE run AND state = 'active' AND wait_event_type = 'Lock') AS waiting_for_locks,
  coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (WHERE here), 0) * 1000 AS oldest_transaction_ms,
  coalesce(max(extract(epoch FROM clock_timestamp() - state_change))
    FILTER (WHERE here AND starts_with(state, 'idle in transaction')), 0) * 1000 AS oldest_idle_in_transaction_ms,
  count(*) FILTER (WHERE here AND NOT starts_with(application_name, 'dbstress/')) AS others,
  count(*) AS connections,
  current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
    - coalesce(current_setting('reserved_connections', true)::integer, 0) AS connections_allowed
FROM (
  SELECT
    state, wait_event_type, xact_start, state_change, application_name,
    datname = current_database() AND pid <> pg_backend_pid() AS here,
    datname = current_database() AND starts_with(application_name, :'run') AS run
  FROM pg_stat_activity
  WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
) AS client
