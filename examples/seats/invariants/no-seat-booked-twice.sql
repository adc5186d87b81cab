-- when:     always
-- examines: SELECT count(*) FROM seat
-- breaks:   INSERT INTO booking (seat_id, customer) SELECT (SELECT min(id) FROM seat), 'nobody' FROM generate_series(1, 2)
--
-- No seat is booked twice.
SELECT format('seat %s', seat_id) AS subject,
       '1 booking at most'        AS expected,
       format('%s: %s', count(*), string_agg(format('%s for %s', id, customer), ', ' ORDER BY id)) AS actual
FROM booking
GROUP BY seat_id
HAVING count(*) > 1
ORDER BY seat_id
