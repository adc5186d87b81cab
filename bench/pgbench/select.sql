\set id random(1, 100000)
SELECT value FROM bench_item WHERE id = :id;
