-- A venue: its performances, their seats, and who has booked which. Makes everything anew.
--
-- No name has its schema: dbstress says by search_path where the tables are, so that the control can have tables of its own.

DROP TABLE IF EXISTS booking, seat, performance;

CREATE TABLE performance (
    id   integer PRIMARY KEY,
    -- How many of its seats are booked. Kept by the application, so that nobody has to count.
    sold integer NOT NULL DEFAULT 0
);

CREATE TABLE seat (
    id             integer PRIMARY KEY,
    performance_id integer NOT NULL REFERENCES performance
);

-- UNIQUE (seat_id) would be the end of this example: here the application alone sees to it that nobody sits on another's lap.
CREATE TABLE booking (
    -- Which operation of which virtual user made it: run, user and number in one.
    op_id    bigint PRIMARY KEY,
    seat_id  integer NOT NULL REFERENCES seat,
    customer integer NOT NULL
);
CREATE INDEX ON booking (seat_id);

INSERT INTO performance (id) SELECT generate_series(1, 4);
-- Neighbouring seats belong to different performances, so that the seats that many want do too.
INSERT INTO seat (id, performance_id) SELECT n, 1 + n % 4 FROM generate_series(1, 200) AS n;
