-- kind: keyed
--
-- What the active sessions of the run wait for; who waits for nothing that the server knows of is on a processor, or wants to be.
-- A session that waits for its client's next message is between two statements, whatever its state says.
SELECT
  CASE WHEN wait_event IS NULL THEN 'CPU' ELSE wait_event_type || ':' || wait_event END AS key,
  count(*) AS value
FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, :'run') AND state = 'active'
  AND wait_event IS DISTINCT FROM 'ClientRead'
GROUP BY 1
