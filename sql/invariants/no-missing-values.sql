-- id:       INV-E5
-- when:     quiesced
-- examines: SELECT (SELECT count(*) FROM organisation) + (SELECT count(*) FROM authorisation) + (SELECT count(*) FROM unit_ledger)
--             + (SELECT count(*) FROM programme) + (SELECT count(*) FROM assignment) + (SELECT count(*) FROM schedule_ledger)
-- breaks:   UPDATE authorisation SET status = NULL WHERE id = (SELECT min(id) FROM authorisation WHERE status IS NOT NULL);
--           UPDATE assignment SET role = NULL WHERE id = (SELECT min(id) FROM assignment WHERE role IS NOT NULL)
--
-- No row lacks a value that it must have.
-- A condition that is neither true nor false keeps nothing out: a NULL slips through a CHECK, and through every rule that compares it. The columns are
-- those that the migrations make NOT NULL; a test compares them.
WITH incomplete (relation, content, optional) AS (
    SELECT 'organisation', to_jsonb(t), '{}'::text[] FROM organisation t
    WHERE pg_catalog.num_nulls(id, kind, name, status, tier) > 0
    UNION ALL
    SELECT 'service_code', to_jsonb(t), '{organisation_id}'::text[] FROM service_code t
    WHERE pg_catalog.num_nulls(category, code, description, id, required_credential, typical_minutes) > 0
    UNION ALL
    SELECT 'patient', to_jsonb(t), '{}'::text[] FROM patient t
    WHERE pg_catalog.num_nulls(date_of_birth, family_name, given_name, id, medical_record_number, organisation_id) > 0
    UNION ALL
    SELECT 'practitioner', to_jsonb(t), '{}'::text[] FROM practitioner t
    WHERE pg_catalog.num_nulls(credential, family_name, given_name, id, licence_number, organisation_id) > 0
    UNION ALL
    SELECT 'authorisation', to_jsonb(t), '{run_id}'::text[] FROM authorisation t
    WHERE pg_catalog.num_nulls(end_date, guarded, id, number, organisation_id, patient_id, scheduled, service_code_id, start_date, status, total, used, version) > 0
    UNION ALL
    SELECT 'unit_ledger', to_jsonb(t), '{appointment_id,decided_at,key,scheduled,total,used,version}'::text[] FROM unit_ledger t
    WHERE pg_catalog.num_nulls(actor_id, attempt, authorisation_id, backend_pid, began, kind, line, op_id, organisation_id, run_id, strategy, units, vu, wrote) > 0
    UNION ALL
    SELECT 'idempotency_key', to_jsonb(t), '{authorisation_id,response,result_attempt,result_op}'::text[] FROM idempotency_key t
    WHERE pg_catalog.num_nulls(created_at, endpoint, expires_at, fingerprint, key, organisation_id, run_id, state) > 0
    UNION ALL
    SELECT 'appointment', to_jsonb(t), '{run_id}'::text[] FROM appointment t
    WHERE pg_catalog.num_nulls(authorisation_id, ends_at, id, organisation_id, practitioner_id, reserved_units, starts_at, status, version) > 0
    UNION ALL
    SELECT 'treatment_session', to_jsonb(t), '{}'::text[] FROM treatment_session t
    WHERE pg_catalog.num_nulls(appointment_id, id, organisation_id, units) > 0
    UNION ALL
    SELECT 'programme', to_jsonb(t), '{contest,room,run_id}'::text[] FROM programme t
    WHERE pg_catalog.num_nulls(guarded, id, name) > 0
    UNION ALL
    SELECT 'person', to_jsonb(t), '{pgy,target_clinical_blocks}'::text[] FROM person t
    WHERE pg_catalog.num_nulls(email, family_name, given_name, id, kind, performs_procedures, programme_id) > 0
    UNION ALL
    SELECT 'block', to_jsonb(t), '{}'::text[] FROM block t
    WHERE pg_catalog.num_nulls(date, half, id, is_holiday, is_weekend, number, programme_id) > 0
    UNION ALL
    SELECT 'rotation_template', to_jsonb(t), '{max_residents}'::text[] FROM rotation_template t
    WHERE pg_catalog.num_nulls(abbreviation, activity, id, leave_eligible, name, programme_id, supervision_required) > 0
    UNION ALL
    SELECT 'assignment', to_jsonb(t), '{ends_at,starts_at}'::text[] FROM assignment t
    WHERE pg_catalog.num_nulls(block_id, id, person_id, role, rotation_template_id, version) > 0
    UNION ALL
    SELECT 'assignment_unguarded', to_jsonb(t), '{ends_at,starts_at}'::text[] FROM assignment_unguarded t
    WHERE pg_catalog.num_nulls(block_id, id, person_id, role, rotation_template_id, version) > 0
    UNION ALL
    SELECT 'call_assignment', to_jsonb(t), '{ends_at,starts_at}'::text[] FROM call_assignment t
    WHERE pg_catalog.num_nulls(id, kind, night, person_id) > 0
    UNION ALL
    SELECT 'extra_duty', to_jsonb(t), '{}'::text[] FROM extra_duty t
    WHERE pg_catalog.num_nulls(ends_at, id, kind, person_id, starts_at) > 0
    UNION ALL
    SELECT 'absence', to_jsonb(t), '{is_blocking}'::text[] FROM absence t
    WHERE pg_catalog.num_nulls(ends_on, id, kind, person_id, starts_on) > 0
    UNION ALL
    SELECT 'schedule_run', to_jsonb(t), '{}'::text[] FROM schedule_run t
    WHERE pg_catalog.num_nulls(algorithm, assignments, ends_on, id, programme_id, starts_on, status) > 0
    UNION ALL
    SELECT 'swap', to_jsonb(t), '{source_version,target_assignment_id,target_version}'::text[] FROM swap t
    WHERE pg_catalog.num_nulls(id, kind, source_assignment_id, source_person_id, status, target_person_id) > 0
    UNION ALL
    SELECT 'booked_time', to_jsonb(t), '{}'::text[] FROM booked_time t
    WHERE pg_catalog.num_nulls(during, person_id) > 0
    UNION ALL
    SELECT 'schedule_ledger', to_jsonb(t), '{block_id,night,person_id,with_person_id}'::text[] FROM schedule_ledger t
    WHERE pg_catalog.num_nulls(attempt, backend_pid, began, kind, line, op_id, programme_id, run_id, strategy, vu, wrote) > 0
    UNION ALL
    SELECT 'expected_violation', to_jsonb(t), '{block_id,person_id,rotation_template_id}'::text[] FROM expected_violation t
    WHERE pg_catalog.num_nulls(detail, holds, label, measured, plant, rule, rules, severity) > 0
    UNION ALL
    SELECT 'planted_row', to_jsonb(t), '{}'::text[] FROM planted_row t
    WHERE pg_catalog.num_nulls(is_planted, label, plant, relation, t.row) > 0
    UNION ALL
    SELECT 'run', to_jsonb(t), '{ended,verdict}'::text[] FROM run t
    WHERE pg_catalog.num_nulls(began, claims, command, id, record, rng_seed, strategy, workload) > 0
)
SELECT pg_catalog.concat_ws(' ', replace(relation, '_', ' '), coalesce(content ->> 'id', content ->> 'op_id', content ->> 'key', content ->> 'label')) AS subject,
       'a value in every column that must have one'                                                                                     AS expected,
       'NULL in ' || (SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_each(content) WHERE value = 'null' AND key <> ALL (optional)) AS actual
FROM incomplete
ORDER BY 1, 3
