-- kind: counter
-- every: 1s
--
-- What this database has done: transactions, deadlocks, temporary files, blocks. Sessions report now and then, and when they end.
SELECT
  xact_commit AS commits,
  xact_rollback AS rollbacks,
  deadlocks,
  conflicts,
  temp_files,
  temp_bytes,
  blks_read AS blocks_read,
  blks_hit AS blocks_hit
FROM pg_stat_database
WHERE datname = current_database()
