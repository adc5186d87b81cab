-- id:       INV-E1
-- dataset:  clinic
-- when:     always
-- examines: SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
--             WHERE n.oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('meta')) AND c.relkind IN ('r', 'i')
-- breaks:   ALTER TABLE authorisation DROP CONSTRAINT authorisation_guarded
--
-- Every constraint and index of the schema exists, is validated, and is enforced.
-- They are looked for where `meta` is: a copy of some tables elsewhere, as the control makes it, is none of this check's business.
WITH expected (relation, name, kind) AS (
    VALUES ('organisation',  'organisation_pkey',            'primary key'),
           ('service_code',  'service_code_pkey',            'primary key'),
           ('patient',       'patient_pkey',                 'primary key'),
           ('practitioner',  'practitioner_pkey',            'primary key'),
           ('authorisation', 'authorisation_pkey',           'primary key'),
           ('unit_ledger',   'unit_ledger_pkey',             'primary key'),
           ('idempotency_key', 'idempotency_key_pkey',       'primary key'),
           ('service_code',  'service_code_unique',          'unique index'),
           ('patient',       'patient_tenant',               'unique'),
           ('patient',       'patient_record_unique',        'unique'),
           ('practitioner',  'practitioner_tenant',          'unique'),
           ('practitioner',  'practitioner_licence_unique',  'unique'),
           ('authorisation', 'authorisation_number_unique',  'unique'),
           ('authorisation', 'authorisation_by_patient',     'index'),
           ('authorisation', 'authorisation_by_run',         'index'),
           ('service_code',  'service_code_organisation',    'foreign key'),
           ('patient',       'patient_organisation',         'foreign key'),
           ('practitioner',  'practitioner_organisation',    'foreign key'),
           ('authorisation', 'authorisation_organisation',   'foreign key'),
           ('authorisation', 'authorisation_patient',        'foreign key'),
           ('authorisation', 'authorisation_service_code',   'foreign key'),
           ('authorisation', 'authorisation_status',         'check'),
           ('idempotency_key', 'idempotency_key_state',      'check'),
           ('authorisation', 'authorisation_guarded',        'check')
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
                             AND c.contype = CASE e.kind WHEN 'primary key' THEN 'p' WHEN 'foreign key' THEN 'f' WHEN 'unique' THEN 'u' WHEN 'check' THEN 'c' END
    LEFT JOIN pg_class x ON x.relnamespace = h.schema AND x.relname = e.name AND x.relkind = 'i' AND e.kind NOT IN ('foreign key', 'check')
    LEFT JOIN pg_index i ON i.indexrelid = x.oid AND i.indrelid = r.oid
)
SELECT relation || '.' || name AS subject, kind || ', valid and enforced' AS expected, fault AS actual
FROM found
WHERE fault IS NOT NULL
ORDER BY 1
