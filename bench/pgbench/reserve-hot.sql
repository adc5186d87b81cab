UPDATE bench_counter SET scheduled = scheduled + 1 WHERE id = 1 AND total - used - scheduled >= 1 RETURNING scheduled;
