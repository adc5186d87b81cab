-- id:       INV-R10
-- dataset:  residency
-- when:     quiesced
-- subject:  person
-- examines: SELECT count(*) FROM swap WHERE status = 'executed'
-- breaks:   INSERT INTO swap (kind, status, source_assignment_id, source_person_id, target_person_id)
--             SELECT 'absorb', 'executed', min(id), min(person_id), min(person_id) FROM assignment
--
-- What was swapped was theirs who gave it, and is theirs who took it, until it is swapped again; what was not executed has changed nothing.
-- A swap says which version of an assignment it left: the next version is the next swap's, and the one that gives must be the one that took.
WITH touch AS (
    SELECT id, source_assignment_id AS assignment_id, source_version AS version, source_person_id AS given_by, target_person_id AS taken_by
    FROM swap WHERE status = 'executed'
    UNION ALL
    SELECT id, target_assignment_id, target_version, target_person_id, source_person_id
    FROM swap WHERE status = 'executed' AND kind IS DISTINCT FROM 'absorb'
), step AS (
    SELECT t.*, lag(id) OVER in_order AS id_before, lag(version) OVER in_order AS version_before, lag(taken_by) OVER in_order AS held_by,
           lead(id) OVER in_order IS NULL AS is_last
    FROM touch t
    WINDOW in_order AS (PARTITION BY assignment_id ORDER BY version NULLS LAST, id)
)
SELECT s.given_by::text AS subject,
       CASE WHEN s.version IS NULL THEN format('swap %s: executed, with the version of assignment %s that it left', s.id, s.assignment_id)
            WHEN s.version = s.version_before THEN format('swap %s: a version of assignment %s of its own', s.id, s.assignment_id)
            WHEN s.version = s.version_before + 1 AND s.held_by IS DISTINCT FROM s.given_by
                THEN format('swap %s: assignment %s is given by person %s, who had it by swap %s', s.id, s.assignment_id, s.held_by, s.id_before)
            ELSE format('swap %s: person %s has assignment %s, by its version %s', s.id, s.taken_by, s.assignment_id, s.version) END AS expected,
       CASE WHEN s.version IS NULL THEN 'none'
            WHEN s.version = s.version_before THEN format('version %s, as by swap %s', s.version, s.id_before)
            WHEN s.version = s.version_before + 1 AND s.held_by IS DISTINCT FROM s.given_by THEN format('by person %s', s.given_by)
            WHEN a.id IS NULL THEN 'it is gone'
            ELSE format('person %s, by version %s', a.person_id, a.version) END AS actual
FROM step s
LEFT JOIN assignment a ON a.id = s.assignment_id
WHERE s.version IS NULL
   OR s.version = s.version_before
   OR s.version = s.version_before + 1 AND s.held_by IS DISTINCT FROM s.given_by
   OR s.is_last AND (a.person_id = s.taken_by OR a.version > s.version) IS NOT TRUE
UNION ALL
SELECT source_person_id::text, format('swap %s: %s, so no version of an assignment is its own', id, coalesce(status, 'in no state')),
       format('versions %s and %s', coalesce(source_version::text, 'none'), coalesce(target_version::text, 'none'))
FROM swap
WHERE status IS DISTINCT FROM 'executed' AND (source_version IS NOT NULL OR target_version IS NOT NULL)
ORDER BY 1, 2
