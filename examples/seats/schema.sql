-- Two venues with twenty seats each, and who has booked which. Makes the tables, or empties them: the service keeps its statements prepared, and they
-- stay good.

CREATE TABLE IF NOT EXISTS seat (
    id        bigint PRIMARY KEY,
    venue_id  bigint NOT NULL
);

-- UNIQUE (seat_id) would be the end of this example: here the service alone sees to it that nobody sits on another's lap.
CREATE TABLE IF NOT EXISTS booking (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seat_id   bigint NOT NULL REFERENCES seat,
    customer  text NOT NULL
);
CREATE INDEX IF NOT EXISTS booking_seat ON booking (seat_id);

TRUNCATE booking, seat;
INSERT INTO seat (id, venue_id) SELECT n, 1 + (n - 1) / 20 FROM generate_series(1, 40) AS n;
