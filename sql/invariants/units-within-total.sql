-- id:       INV-U1
-- dataset:  clinic
-- when:     always
-- subject:  authorisation
-- examines: SELECT count(*) FROM authorisation
-- breaks:   UPDATE authorisation SET scheduled = total - used + 1
--             WHERE id = (SELECT min(id) FROM authorisation WHERE used + scheduled <= total)
--
-- Units used and promised never exceed the units authorised.
-- This is the overbooking itself: somebody was promised what was no longer there.
SELECT id::text                                                    AS subject,
       format('used + scheduled at most %s', total)                AS expected,
       format('%s (%s used, %s scheduled)', used::bigint + scheduled, used, scheduled) AS actual
FROM authorisation
WHERE (used::bigint + scheduled <= total) IS NOT TRUE
ORDER BY id
