-- kind: counter
-- every: 1m
-- needs: pg_stat_statements
--
-- What each statement of this database has cost the server. Seldom asked: with many statements it is a long answer.
SELECT
  queryid AS key,
  min(left(regexp_replace(query, '\s+', ' ', 'g'), 160)) AS text,
  sum(calls) AS calls,
  sum(rows) AS rows,
  sum(total_exec_time) AS total_exec_ms,
  sum(shared_blks_hit) AS blocks_hit,
  sum(shared_blks_read) AS blocks_read
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL
GROUP BY queryid
