-- kind: counter
-- every: 1s
-- until: 16
--
-- Checkpoints of the whole server: those that were due, those that were asked for, and what they wrote.
SELECT
  checkpoints_timed AS timed,
  checkpoints_req AS requested,
  buffers_checkpoint AS buffers_written
FROM pg_stat_bgwriter
