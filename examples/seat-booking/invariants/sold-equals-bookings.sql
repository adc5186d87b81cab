-- when:     always
-- examines: SELECT count(*) FROM performance
-- breaks:   UPDATE performance SET sold = sold + 1 WHERE id = (SELECT min(id) FROM performance)
--
-- The counter of a performance equals the number of its bookings.
SELECT format('performance %s', p.id)       AS subject,
       format('sold = %s', count(b.op_id))  AS expected,
       format('sold = %s', p.sold)          AS actual
FROM performance p
LEFT JOIN seat s ON s.performance_id = p.id
LEFT JOIN booking b ON b.seat_id = s.id
GROUP BY p.id
HAVING p.sold IS DISTINCT FROM count(b.op_id)
ORDER BY p.id
