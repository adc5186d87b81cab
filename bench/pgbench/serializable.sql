\set id random(1, 1000)
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT total - used - scheduled AS free FROM bench_counter WHERE id = :id;
UPDATE bench_counter SET scheduled = scheduled + 1 WHERE id = :id;
COMMIT;
