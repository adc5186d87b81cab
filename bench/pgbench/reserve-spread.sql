\set id random(1, 1000)
UPDATE bench_counter SET scheduled = scheduled + 1 WHERE id = :id AND total - used - scheduled >= 1 RETURNING scheduled;
