-- when:     always
-- examines: SELECT count(*) FROM seat
-- breaks:   INSERT INTO booking (op_id, seat_id, customer)
--             SELECT -n, (SELECT min(id) FROM seat), 0 FROM generate_series(1, 2) AS n
--
-- No seat is booked twice.
-- The bookings are named as everywhere in dbstress, run.vu.n, taken out of op_id.
SELECT format('seat %s', seat_id) AS subject,
       '1 booking at most'        AS expected,
       format('%s: %s', count(*),
              string_agg(format('%s.%s.%s for customer %s', op_id >> 47, op_id >> 32 & 32767, op_id & 4294967295, customer),
                         ', ' ORDER BY op_id)) AS actual
FROM booking
GROUP BY seat_id
HAVING count(*) > 1
ORDER BY seat_id
