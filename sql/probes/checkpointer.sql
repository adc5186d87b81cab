-- kind: counter
-- every: 1s
-- since: 17
--
-- Checkpoints of the whole server: those that were due, those that were asked for, and what they wrote.
SELECT
  num_timed AS timed,
  num_requested AS requested,
  buffers_written
FROM pg_stat_checkpointer
