DROP TABLE IF EXISTS bench_item, bench_counter;
CREATE TABLE bench_item (id integer PRIMARY KEY, value text NOT NULL);
INSERT INTO bench_item SELECT n, md5(n::text) FROM generate_series(1, 100000) n;
CREATE TABLE bench_counter (id integer PRIMARY KEY, total integer NOT NULL, used integer NOT NULL DEFAULT 0, scheduled integer NOT NULL DEFAULT 0) WITH (fillfactor = 50);
INSERT INTO bench_counter (id, total) SELECT n, 2000000000 FROM generate_series(1, 1000) n;
ANALYZE bench_item, bench_counter;
