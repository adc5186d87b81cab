DROP TABLE booking, seat, performance;
