-- kind: counter
-- every: 1s
--
-- What the whole server has written to its log. Times and numbers of writes have moved to pg_stat_io; these columns are in every version.
SELECT
  wal_records AS records,
  wal_fpi AS full_page_images,
  wal_bytes AS bytes,
  wal_buffers_full AS buffers_full
FROM pg_stat_wal
