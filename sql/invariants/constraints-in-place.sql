-- id:       INV-E1
-- when:     always
-- examines: SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
--             WHERE n.oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('meta')) AND c.relkind IN ('r', 'i')
-- breaks:   ALTER TABLE authorisation DROP CONSTRAINT authorisation_guarded; ALTER TABLE assignment DROP CONSTRAINT assignment_once
--
-- Every constraint and index of the dataset exists, is validated, and is enforced.
-- They are looked for where `meta` is: a copy of some tables elsewhere, as the control makes it, is none of this check's business.
WITH expected (relation, name, kind, dataset) AS (
    VALUES ('organisation',         'organisation_pkey',              'primary key',  'clinic'),
           ('service_code',         'service_code_pkey',              'primary key',  'clinic'),
           ('patient',              'patient_pkey',                   'primary key',  'clinic'),
           ('practitioner',         'practitioner_pkey',              'primary key',  'clinic'),
           ('authorisation',        'authorisation_pkey',             'primary key',  'clinic'),
           ('unit_ledger',          'unit_ledger_pkey',               'primary key',  'clinic'),
           ('idempotency_key',      'idempotency_key_pkey',           'primary key',  'clinic'),
           ('service_code',         'service_code_unique',            'unique index', 'clinic'),
           ('patient',              'patient_tenant',                 'unique',       'clinic'),
           ('patient',              'patient_record_unique',          'unique',       'clinic'),
           ('practitioner',         'practitioner_tenant',            'unique',       'clinic'),
           ('practitioner',         'practitioner_licence_unique',    'unique',       'clinic'),
           ('authorisation',        'authorisation_number_unique',    'unique',       'clinic'),
           ('authorisation',        'authorisation_by_patient',       'index',        'clinic'),
           ('authorisation',        'authorisation_by_run',           'index',        'clinic'),
           ('service_code',         'service_code_organisation',      'foreign key',  'clinic'),
           ('patient',              'patient_organisation',           'foreign key',  'clinic'),
           ('practitioner',         'practitioner_organisation',      'foreign key',  'clinic'),
           ('authorisation',        'authorisation_organisation',     'foreign key',  'clinic'),
           ('authorisation',        'authorisation_patient',          'foreign key',  'clinic'),
           ('authorisation',        'authorisation_service_code',     'foreign key',  'clinic'),
           ('authorisation',        'authorisation_status',           'check',        'clinic'),
           ('idempotency_key',      'idempotency_key_state',          'check',        'clinic'),
           ('authorisation',        'authorisation_guarded',          'check',        'clinic'),
           ('appointment',          'appointment_pkey',               'primary key',  'clinic'),
           ('treatment_session',    'treatment_session_pkey',         'primary key',  'clinic'),
           ('appointment',          'appointment_by_authorisation',   'index',        'clinic'),
           ('treatment_session',    'treatment_session_by_appointment', 'index',        'clinic'),
           ('appointment',          'appointment_authorisation',      'foreign key',  'clinic'),
           ('appointment',          'appointment_practitioner',       'foreign key',  'clinic'),
           ('treatment_session',    'treatment_session_appointment',  'foreign key',  'clinic'),
           ('appointment',          'appointment_status',             'check',        'clinic'),
           ('appointment',          'appointment_hours',              'check',        'clinic'),
           ('appointment',          'appointment_units',              'check',        'clinic'),
           ('programme',            'programme_pkey',                 'primary key',  'residency'),
           ('person',               'person_pkey',                    'primary key',  'residency'),
           ('block',                'block_pkey',                     'primary key',  'residency'),
           ('rotation_template',    'rotation_template_pkey',         'primary key',  'residency'),
           ('assignment',           'assignment_pkey',                'primary key',  'residency'),
           ('call_assignment',      'call_assignment_pkey',           'primary key',  'residency'),
           ('extra_duty',           'extra_duty_pkey',                'primary key',  'residency'),
           ('absence',              'absence_pkey',                   'primary key',  'residency'),
           ('schedule_run',         'schedule_run_pkey',              'primary key',  'residency'),
           ('person',               'person_email_unique',            'unique',       'residency'),
           ('block',                'block_once',                     'unique',       'residency'),
           ('rotation_template',    'rotation_template_unique',       'unique',       'residency'),
           ('assignment',           'assignment_once',                'unique',       'residency'),
           ('call_assignment',      'call_assignment_once',           'unique',       'residency'),
           ('programme',            'programme_by_run',               'index',        'residency'),
           ('person',               'person_by_programme',            'index',        'residency'),
           ('assignment',           'assignment_by_person',           'index',        'residency'),
           ('assignment',           'assignment_by_template',         'index',        'residency'),
           ('assignment_unguarded', 'assignment_unguarded_by_block',  'index',        'residency'),
           ('assignment_unguarded', 'assignment_unguarded_by_person', 'index',        'residency'),
           ('extra_duty',           'extra_duty_by_person',           'index',        'residency'),
           ('absence',              'absence_by_person',              'index',        'residency'),
           ('schedule_run',         'schedule_run_by_programme',      'index',        'residency'),
           ('expected_violation',   'expected_violation_by_plant',    'index',        'residency'),
           ('planted_row',          'planted_row_by_plant',           'index',        'residency'),
           ('person',               'person_programme',               'foreign key',  'residency'),
           ('block',                'block_programme',                'foreign key',  'residency'),
           ('rotation_template',    'rotation_template_programme',    'foreign key',  'residency'),
           ('schedule_run',         'schedule_run_programme',         'foreign key',  'residency'),
           ('assignment',           'assignment_block',               'foreign key',  'residency'),
           ('assignment',           'assignment_person',              'foreign key',  'residency'),
           ('assignment',           'assignment_template',            'foreign key',  'residency'),
           ('assignment_unguarded', 'assignment_unguarded_block',     'foreign key',  'residency'),
           ('assignment_unguarded', 'assignment_unguarded_person',    'foreign key',  'residency'),
           ('assignment_unguarded', 'assignment_unguarded_template',  'foreign key',  'residency'),
           ('call_assignment',      'call_assignment_person',         'foreign key',  'residency'),
           ('extra_duty',           'extra_duty_person',              'foreign key',  'residency'),
           ('absence',              'absence_person',                 'foreign key',  'residency'),
           ('swap',                 'swap_pkey',                      'primary key',  'residency'),
           ('schedule_ledger',      'schedule_ledger_pkey',           'primary key',  'residency'),
           ('booked_time',          'booked_time_once',               'exclusion',    'residency'),
           ('programme',            'programme_contest',              'check',        'residency'),
           ('person',               'person_kind',                    'check',        'residency'),
           ('block',                'block_half',                     'check',        'residency'),
           ('rotation_template',    'rotation_template_activity',     'check',        'residency'),
           ('assignment',           'assignment_role',                'check',        'residency'),
           ('assignment',           'assignment_hours',               'check',        'residency'),
           ('call_assignment',      'call_assignment_kind',           'check',        'residency'),
           ('call_assignment',      'call_assignment_hours',          'check',        'residency'),
           ('extra_duty',           'extra_duty_kind',                'check',        'residency'),
           ('extra_duty',           'extra_duty_hours',               'check',        'residency'),
           ('absence',              'absence_kind',                   'check',        'residency'),
           ('absence',              'absence_days',                   'check',        'residency'),
           ('schedule_run',         'schedule_run_status',            'check',        'residency'),
           ('swap',                 'swap_kind',                      'check',        'residency'),
           ('swap',                 'swap_status',                    'check',        'residency'),
           ('swap',                 'swap_target',                    'check',        'residency')
), home AS (
    SELECT (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('meta')) AS schema
), found AS (
    SELECT e.relation,
           e.name,
           e.kind,
           CASE
               WHEN e.kind IN ('index', 'unique index') AND i.indexrelid IS NULL THEN 'missing'
               WHEN e.kind NOT IN ('index', 'unique index') AND c.oid IS NULL THEN 'missing'
               WHEN e.kind = 'unique index' AND NOT i.indisunique THEN 'not unique'
               WHEN c.oid IS NOT NULL AND NOT c.convalidated THEN 'not validated'
               WHEN i.indexrelid IS NOT NULL AND NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'invalid'
               WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = c.oid AND t.tgenabled NOT IN ('O', 'A')) THEN 'not enforced: its trigger is disabled'
           END AS fault
    FROM expected e
    CROSS JOIN home h
    LEFT JOIN pg_class r ON r.relnamespace = h.schema AND r.relname = e.relation
    LEFT JOIN pg_constraint c ON c.conrelid = r.oid AND c.conname = e.name
                             AND c.contype = CASE e.kind WHEN 'primary key' THEN 'p' WHEN 'foreign key' THEN 'f' WHEN 'unique' THEN 'u' WHEN 'check' THEN 'c' WHEN 'exclusion' THEN 'x' END
    LEFT JOIN pg_class x ON x.relnamespace = h.schema AND x.relname = e.name AND x.relkind = 'i' AND e.kind NOT IN ('foreign key', 'check')
    LEFT JOIN pg_index i ON i.indexrelid = x.oid AND i.indrelid = r.oid
    WHERE (e.dataset = (SELECT dataset FROM meta)) IS NOT FALSE
)
SELECT relation || '.' || name AS subject, kind || ', valid and enforced' AS expected, fault AS actual
FROM found
WHERE fault IS NOT NULL
ORDER BY 1
