-- Which rules of duty hours does the schedule break? The second implementation of them: src/acgme has the first, and a test compares the two.
-- Bodies are texts that name no schema: the search_path of the question decides whether the dataset or the copy of a control is judged.
-- Times within are minutes since 2000-01-01 00:00, so that arithmetic is of integers. `programmes`: NULL for all but those
-- that `dbstress acgme` makes for writers who keep no rule (contest `acgme`).

CREATE FUNCTION dbstress.duty_minute(at timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(date_part('epoch', at) / 60)::bigint - 15778080
$$;

CREATE FUNCTION dbstress.duty_time(minute bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
    SELECT timestamp '2000-01-01' + minute * interval '1 minute'
$$;

-- Whether there are rules by this name; it never says no, but raises an error.
CREATE FUNCTION dbstress.duty_rules_known(rules text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF rules IN ('cpr', 'rs-dec25', 'rs-head') THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'there are no rules of duty hours called %', coalesce(quote_literal(rules), 'NULL')
        USING ERRCODE = 'invalid_parameter_value', HINT = 'cpr, rs-dec25, rs-head';
END
$$;

-- Who is put down for which half day, but those in reserve; `starts` and `ends` are the hours of the half, whatever is written for the one person.
CREATE FUNCTION dbstress.duty_attendance(programmes bigint[] DEFAULT NULL)
RETURNS TABLE (person_id bigint, is_resident boolean, pgy smallint, block_id bigint, rotation_template_id bigint, role text, is_duty boolean,
    supervision_required boolean, max_residents integer, starts bigint, ends bigint, works_from bigint, works_until bigint)
LANGUAGE sql STABLE AS $$
    SELECT p.id, p.kind = 'resident', p.pgy, b.id, t.id, a.role, t.activity NOT IN ('off', 'absence', 'recovery'),
           t.supervision_required, t.max_residents, h.starts, h.starts + 360,
           coalesce(duty_minute(a.starts_at), h.starts), coalesce(duty_minute(a.ends_at), h.starts + 360)
    FROM (SELECT person_id, block_id, rotation_template_id, role, starts_at, ends_at FROM assignment
          UNION ALL
          SELECT person_id, block_id, rotation_template_id, role, starts_at, ends_at FROM assignment_unguarded) AS a
    JOIN person p ON p.id = a.person_id
    JOIN block b ON b.id = a.block_id
    JOIN rotation_template t ON t.id = a.rotation_template_id
    CROSS JOIN LATERAL (SELECT (b.date - date '2000-01-01')::bigint * 1440 + CASE b.half WHEN 'AM' THEN 420 ELSE 780 END) AS h (starts)
    WHERE a.role IN ('primary', 'supervising') AND CASE WHEN programmes IS NULL THEN p.programme_id NOT IN (SELECT id FROM programme WHERE contest = 'acgme')
                 ELSE p.programme_id = ANY (programmes) END
$$;

-- One row per finding: the worst one of a rule about a person, a half day, or a template in a half day. `measured` and `allowed` are minutes or numbers.
CREATE FUNCTION dbstress.duty_findings(rules text, programmes bigint[] DEFAULT NULL)
RETURNS TABLE (rule text, person_id bigint, block_id bigint, rotation_template_id bigint, window_start timestamp, window_end timestamp,
    measured bigint, allowed bigint, severity text)
LANGUAGE sql STABLE AS $$
WITH attendance AS MATERIALIZED (
    SELECT * FROM duty_attendance(programmes)
), stretch AS MATERIALIZED (
    -- As written down: nothing is merged yet.
    SELECT s.*, floor(s.starts / 1440.0::float8)::bigint AS day
    FROM (
        SELECT person_id, is_resident, pgy, works_from AS starts, works_until AS ends, 'half-day' AS kind FROM attendance WHERE is_duty
        UNION ALL
        SELECT p.id, p.kind = 'resident', p.pgy,
               coalesce(duty_minute(c.starts_at), n.night + CASE c.kind WHEN 'weekend' THEN 420 ELSE 1140 END),
               coalesce(duty_minute(c.ends_at), n.night + 1860), c.kind
        FROM call_assignment c
        JOIN person p ON p.id = c.person_id
        CROSS JOIN LATERAL (SELECT (c.night - date '2000-01-01')::bigint * 1440) AS n (night)
        WHERE c.kind <> 'backup' AND CASE WHEN programmes IS NULL THEN p.programme_id NOT IN (SELECT id FROM programme WHERE contest = 'acgme')
                 ELSE p.programme_id = ANY (programmes) END
        UNION ALL
        SELECT p.id, p.kind = 'resident', p.pgy, duty_minute(e.starts_at), duty_minute(e.ends_at), e.kind
        FROM extra_duty e
        JOIN person p ON p.id = e.person_id
        WHERE CASE WHEN programmes IS NULL THEN p.programme_id NOT IN (SELECT id FROM programme WHERE contest = 'acgme')
                 ELSE p.programme_id = ANY (programmes) END
    ) AS s
), numbered AS (
    -- A stretch that begins after everything before it has ended begins a period; what touches, belongs together.
    SELECT i.*, sum(i.begins) OVER (PARTITION BY i.person_id ORDER BY i.starts) AS number
    FROM (
        SELECT s.*, CASE WHEN starts <= max(ends) OVER (PARTITION BY person_id ORDER BY starts
                                                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 0 ELSE 1 END AS begins
        FROM stretch s
    ) AS i
), period AS MATERIALIZED (
    SELECT person_id, is_resident, min(starts) AS starts, max(ends) AS ends, (max(ends) - min(starts))::int AS length,
           bool_or(kind IN ('overnight', 'weekend', 'night-float')) AS has_night,
           range_agg(int8range(starts, ends)) FILTER (WHERE kind = 'handover') AS handover
    FROM numbered
    GROUP BY person_id, is_resident, number
), duty_day AS MATERIALIZED (
    SELECT person_id, pgy, day, sum((ends - starts)::int) AS minutes, bool_or(kind IN ('overnight', 'night-float')) AS has_night,
           bool_or(kind = 'night-float') AS has_night_float
    FROM stretch
    WHERE is_resident
    GROUP BY person_id, pgy, day
),

-- What is worked before an instant is a running sum; a window is the difference of two.
weekly_hours AS (
    SELECT 'AC-1', person_id, NULL::bigint, NULL::bigint, 1440 * day, 1440 * (day + 28), measured, 19200::bigint,
           CASE WHEN measured > 19200 THEN 'violation' ELSE 'warning' END
    FROM (
        SELECT person_id, day, max(before) - min(before) AS measured
        FROM (
            SELECT person_id, day, coalesce(sum(length) OVER sofar, 0) - greatest(max(ends) OVER sofar - at, 0) AS before
            FROM (
                SELECT person_id, starts AS at, ends, length, NULL::bigint AS day FROM period WHERE is_resident
                UNION ALL
                SELECT person_id, 1440 * (day + edge), NULL, NULL, day FROM duty_day, (VALUES (0), (28)) AS edges (edge)
            ) AS moment
            WINDOW sofar AS (PARTITION BY person_id ORDER BY at)
        ) AS summed
        WHERE day IS NOT NULL
        GROUP BY person_id, day
    ) AS windowed
    WHERE measured >= 18240
),

-- In a run of days, day minus place is one number.
days_in_a_row AS (
    SELECT 'AC-2a', person_id, NULL::bigint, NULL::bigint, 1440 * min(day), 1440 * (max(day) + 1), count(*), 6::bigint, 'violation'
    FROM (SELECT person_id, day, day - row_number() OVER (PARTITION BY person_id ORDER BY day) AS run FROM duty_day) AS numbered_day
    WHERE rules <> 'cpr'
    GROUP BY person_id, run
    HAVING count(*) > 6
),

-- Free days of all gaps that end before an instant are a running sum, too; the first and the last gap of a window are cut at its edges.
free_days AS (
    SELECT 'AC-2b', person_id, NULL::bigint, NULL::bigint, 1440 * day, 1440 * (day + 28), free, 4::bigint, 'violation'
    FROM (
        SELECT person_id, day,
               CASE WHEN next_start < 1440 * (day + 28)
                    THEN (next_start - greatest(1440 * day, end_before)) / 1440
                         + free_until - (free_before + coalesce((next_start - end_before) / 1440, 0))
                         + greatest(1440 * (day + 28) - end_until, 0) / 1440
                    ELSE greatest(1440 * (day + 28) - greatest(1440 * day, end_before), 0) / 1440
               END AS free
        FROM (
            SELECT person_id, day,
                   min(free) FILTER (WHERE edge = 0) AS free_before, min(last_end) FILTER (WHERE edge = 0) AS end_before,
                   min(next_start) FILTER (WHERE edge = 0) AS next_start,
                   min(free) FILTER (WHERE edge = 28) AS free_until, min(last_end) FILTER (WHERE edge = 28) AS end_until
            FROM (
                SELECT person_id, day, edge, coalesce(sum(free) OVER sofar, 0)::bigint AS free, max(ends) OVER sofar AS last_end,
                       min(starts) OVER (PARTITION BY person_id ORDER BY at DESC, turn DESC) AS next_start
                FROM (
                    SELECT person_id, starts AS at, 1 AS turn, starts, ends, NULL::bigint AS day, NULL::int AS edge,
                           ((starts - lag(ends) OVER (PARTITION BY person_id ORDER BY starts)) / 1440)::int AS free
                    FROM period WHERE is_resident
                    UNION ALL
                    SELECT p.id, 1440 * (d.day + e.edge), 0, NULL, NULL, d.day, e.edge, NULL
                    FROM (SELECT programme_id, min(date) - date '2000-01-01' AS first, max(date) - date '2000-01-01' + 1 AS after
                          FROM block WHERE programmes IS NULL OR programme_id = ANY (programmes) GROUP BY programme_id) AS c
                    CROSS JOIN LATERAL generate_series(c.first::bigint, c.after - 28) AS d (day)
                    CROSS JOIN (VALUES (0), (28)) AS e (edge)
                    JOIN person p ON p.programme_id = c.programme_id AND p.kind = 'resident'
                ) AS moment
                -- What begins at the very instant is not before it: `turn` comes first.
                WINDOW sofar AS (PARTITION BY person_id ORDER BY at, turn)
            ) AS summed
            WHERE day IS NOT NULL
            GROUP BY person_id, day
        ) AS edges
    ) AS windowed
    WHERE rules = 'cpr' AND free < 4
),

continuous_hours AS (
    SELECT 'AC-3', person_id, NULL::bigint, NULL::bigint, starts, ends,
           CASE WHEN length > 1680 OR length - handed_over <= 1440 THEN length ELSE length - handed_over END,
           CASE WHEN length > 1680 THEN 1680 ELSE 1440 END::bigint,
           CASE WHEN length > 1680 OR length - handed_over > 1440 THEN 'violation' ELSE 'warning' END
    FROM (
        SELECT person_id, starts, ends, length::bigint,
               coalesce((SELECT sum(upper(h) - lower(h)) FROM unnest(handover) AS h), 0)::bigint AS handed_over
        FROM period
        WHERE rules <> 'rs-dec25' AND is_resident AND length > 1440
    ) AS long
),

rest AS (
    SELECT 'AC-4', person_id, NULL::bigint, NULL::bigint, starts, ends, ends - starts, allowed,
           CASE WHEN allowed = 480 THEN 'warning' ELSE 'violation' END
    FROM (
        SELECT person_id, ends AS starts, lead(starts) OVER (PARTITION BY person_id ORDER BY starts) AS ends,
               CASE WHEN rules = 'cpr' AND length >= 1440 THEN 840
                    WHEN rules = 'rs-head' AND (length >= 1440 OR has_night) THEN 600 END AS asked,
               CASE WHEN rules = 'cpr' THEN 480 END AS advised
        FROM period
        WHERE rules <> 'rs-dec25' AND is_resident
    ) AS gap
    CROSS JOIN LATERAL (SELECT CASE WHEN ends - starts < asked THEN asked WHEN ends - starts < advised THEN advised END::bigint) AS a (allowed)
    WHERE ends - starts < allowed
),

call_frequency AS (
    SELECT 'AC-5', person_id, NULL::bigint, NULL::bigint, 1440 * day, 1440 * (day + 28), calls, allowed, 'violation'
    FROM (
        SELECT person_id, day, count(*) OVER (PARTITION BY person_id ORDER BY day RANGE BETWEEN CURRENT ROW AND 27 FOLLOWING) AS calls,
               CASE rules WHEN 'cpr' THEN 10 ELSE 9 END::bigint AS allowed
        FROM stretch
        WHERE rules <> 'rs-dec25' AND is_resident AND kind IN ('overnight', 'weekend')
    ) AS windowed
    WHERE calls > allowed
),

nights_in_a_row AS (
    SELECT 'AC-6', person_id, NULL::bigint, NULL::bigint, 1440 * min(day), 1440 * (max(day) + 1), count(*), 6::bigint, 'violation'
    FROM (SELECT person_id, day, day - row_number() OVER (PARTITION BY person_id ORDER BY day) AS run FROM duty_day WHERE has_night) AS numbered_night
    WHERE rules = 'rs-dec25'
    GROUP BY person_id, run
    HAVING count(*) > 6
),

supervision AS (
    SELECT 'AC-7', NULL::bigint, block_id, NULL::bigint, starts, ends, supervising, required, 'violation'
    FROM (
        SELECT *, greatest(CASE rules WHEN 'rs-head' THEN (2 * first_years + others + 3) / 4
                                      ELSE (first_years + 1) / 2 + (others + 3) / 4 END, 1) AS required
        FROM (
            SELECT block_id, starts, ends,
                   count(DISTINCT person_id) FILTER (WHERE is_resident AND role = 'primary' AND is_duty AND supervision_required
                                                       AND coalesce(pgy, 1) = 1) AS first_years,
                   count(DISTINCT person_id) FILTER (WHERE is_resident AND role = 'primary' AND is_duty AND supervision_required
                                                       AND coalesce(pgy, 1) <> 1) AS others,
                   count(DISTINCT person_id) FILTER (WHERE NOT is_resident AND role = 'supervising') AS supervising
            FROM attendance
            GROUP BY block_id, starts, ends
        ) AS counted
        WHERE first_years + others > 0
    ) AS needed
    WHERE supervising < required
),

moonlighting AS (
    SELECT 'AC-8', person_id, NULL::bigint, NULL::bigint, min(starts), max(ends), sum(ends - starts)::bigint, 0::bigint, 'violation'
    FROM stretch
    WHERE rules = 'cpr' AND is_resident AND pgy = 1 AND kind = 'moonlighting'
    GROUP BY person_id
),

hours_of_a_day AS (
    SELECT 'AC-8', person_id, NULL::bigint, NULL::bigint, 1440 * day, 1440 * (day + 1), minutes, allowed, 'violation'
    FROM (SELECT *, CASE pgy WHEN 1 THEN 960 ELSE 1440 END::bigint AS allowed FROM duty_day WHERE rules = 'rs-dec25') AS d
    WHERE minutes > allowed
),

absence_kept AS (
    SELECT 'AC-9', a.person_id, NULL::bigint, NULL::bigint, a.starts, a.ends,
           sum(least(p.ends, a.ends) - greatest(p.starts, a.starts))::bigint, 0::bigint, 'violation'
    FROM (
        SELECT id, person_id, (starts_on - date '2000-01-01')::bigint * 1440 AS starts, (ends_on - date '2000-01-01' + 1)::bigint * 1440 AS ends
        FROM absence
        WHERE coalesce(is_blocking,
                  kind IN ('deployment', 'tdy', 'family_emergency', 'bereavement', 'emergency_leave', 'convalescent', 'maternity_paternity')
                  OR kind = 'medical' AND ends_on - starts_on + 1 > 7
                  OR kind = 'sick' AND ends_on - starts_on + 1 > 3)
    ) AS a
    JOIN period p ON p.person_id = a.person_id AND p.starts < a.ends AND p.ends > a.starts
    GROUP BY a.id, a.person_id, a.starts, a.ends
),

-- In order of their starts, a stretch overlaps with something before it if that has not ended yet.
double_booking AS (
    SELECT 'AC-10', person_id, NULL::bigint, NULL::bigint, min(starts) FILTER (WHERE starts < end_before),
           max(least(ends, end_before)) FILTER (WHERE starts < end_before),
           sum(least(ends, end_before) - starts) FILTER (WHERE starts < end_before)::bigint, 0::bigint, 'violation'
    FROM (
        SELECT person_id, starts, ends,
               max(ends) OVER (PARTITION BY person_id ORDER BY starts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS end_before
        FROM stretch
    ) AS s
    GROUP BY person_id
    HAVING bool_or(starts < end_before)
),

capacity AS (
    SELECT 'AC-11', NULL::bigint, block_id, rotation_template_id, starts, ends, count(DISTINCT person_id), max_residents::bigint, 'violation'
    FROM attendance
    WHERE is_resident AND role = 'primary'
    GROUP BY block_id, rotation_template_id, starts, ends, max_residents
    HAVING count(DISTINCT person_id) > max_residents
),

after_nights AS (
    SELECT 'AC-12', person_id, NULL::bigint, NULL::bigint, 1440 * day, 1440 * (day + 1), minutes, 0::bigint, 'violation'
    FROM (
        SELECT *, lag(day) OVER in_order AS day_before, lag(has_night_float) OVER in_order AS night_float_before
        FROM duty_day
        WHERE rules = 'rs-head'
        WINDOW in_order AS (PARTITION BY person_id ORDER BY day)
    ) AS d
    WHERE night_float_before AND day_before = day - 1 AND NOT has_night_float
),

finding (rule, person_id, block_id, rotation_template_id, starts, ends, measured, allowed, severity) AS (
    -- Asked first, and whatever the others find: rules that nobody knows must not look like rules that everybody keeps. In each column by which
    -- findings are chosen, lest the planner sees that this branch has nothing to give, and does not ask.
    SELECT CASE WHEN unknown THEN '' END, CASE WHEN unknown THEN 0 END::bigint, CASE WHEN unknown THEN 0 END::bigint,
           CASE WHEN unknown THEN 0 END::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL
    FROM (SELECT NOT duty_rules_known(rules)) AS asked (unknown)
    WHERE unknown
    UNION ALL SELECT * FROM weekly_hours
    UNION ALL SELECT * FROM days_in_a_row
    UNION ALL SELECT * FROM free_days
    UNION ALL SELECT * FROM continuous_hours
    UNION ALL SELECT * FROM rest
    UNION ALL SELECT * FROM call_frequency
    UNION ALL SELECT * FROM nights_in_a_row
    UNION ALL SELECT * FROM supervision
    UNION ALL SELECT * FROM moonlighting
    UNION ALL SELECT * FROM hours_of_a_day
    UNION ALL SELECT * FROM absence_kept
    UNION ALL SELECT * FROM double_booking
    UNION ALL SELECT * FROM capacity
    UNION ALL SELECT * FROM after_nights
)

SELECT DISTINCT ON (rule, person_id, block_id, rotation_template_id)
       rule, person_id, block_id, rotation_template_id, duty_time(starts), duty_time(ends), measured, allowed, severity
FROM finding
ORDER BY rule, person_id, block_id, rotation_template_id, severity = 'violation' DESC,
         -- Of rest, free days and supervision there is too little, of the rest too much.
         CASE WHEN rule IN ('AC-2b', 'AC-4', 'AC-7') THEN allowed - measured ELSE measured - allowed END DESC, starts, ends
$$;
