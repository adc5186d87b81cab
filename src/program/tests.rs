use proptest::prelude::*;

use super::*;
use crate::random::Random;

fn compile(text: &str) -> Result<Program> {
    script("transfer.sql", text, &BTreeMap::new())
}

fn refused(text: &str) -> String {
    compile(text).and_then(|program| program.validate_parameters()).expect_err(text).to_string()
}

/// A program in short: what is sent with what, and what else is done.
fn outline(program: &Program) -> Vec<String> {
    let name = |slot: &Slot| program.slots[*slot].as_str();
    let step = |step: &Step| match step {
        Step::Set { slot, .. } => format!("set {}", name(slot)),
        Step::Statement(s) => format!("{:?} {} <{}>", s.kind, s.sql, s.parameters.iter().map(name).collect::<Vec<_>>().join(" ")),
        Step::JumpUnless { to, .. } => format!("unless {to}"),
        Step::Jump { to } => format!("jump {to}"),
        Step::Sleep(_) => "sleep".to_owned(),
    };
    program.steps.iter().map(step).collect()
}

/// The statements that an iteration would send, and its variables in the end.
fn run(program: &Program) -> (Vec<&str>, Vec<Value>) {
    let mut variables = program.initial.clone();
    let mut rng = Random::of(42, 1, 1);
    let (mut at, mut sent) = (0, Vec::new());
    while let Some(step) = program.steps.get(at) {
        at += 1;
        match step {
            Step::Set { slot, expression } => variables[*slot] = expression.evaluate(&variables, &mut rng).unwrap(),
            Step::Statement(statement) => sent.push(statement.sql.as_str()),
            Step::JumpUnless { condition, to } if !condition.evaluate(&variables, &mut rng).unwrap().truth().unwrap() => at = *to,
            Step::Jump { to } => at = *to,
            Step::JumpUnless { .. } | Step::Sleep(_) => {}
        }
    }
    (sent, variables)
}

const TPCB_LIKE: &str = "\
\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
";

#[test]
fn tpcb_like_is_read_as_pgbench_runs_it() {
    let program = compile(TPCB_LIKE).unwrap();
    assert_eq!(
        outline(&program),
        [
            "set aid",
            "set bid",
            "set tid",
            "set delta",
            "Begin BEGIN <>",
            "Other UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2 <delta aid>",
            "Other SELECT abalance FROM pgbench_accounts WHERE aid = $1 <aid>",
            "Other UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2 <delta tid>",
            "Other UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2 <delta bid>",
            "Other INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP) <tid bid aid delta>",
            "Commit END <>",
        ]
    );
    assert_eq!(program.slots, ["client_id", "default_seed", "random_seed", "scale", "aid", "bid", "tid", "delta"]);
    assert_eq!(program.initial[program.slot("scale").unwrap()], Value::Integer(1));
    assert!(program.begins_transaction());
    assert_eq!(program.transactions(), 1);
    assert!(program.validate_blocks().is_ok());
    let update = program.statements().nth(1).unwrap();
    assert_eq!((update.line, update.label.as_str()), (6, "UPDATE pgbench_accounts SET abalance…"));
    let (_, variables) = run(&program);
    assert_eq!(run(&program).1, variables, "the same source gives the same values");
    let value = |name| variables[program.slot(name).unwrap()].as_integer().unwrap();
    assert!((1..=100_000).contains(&value("aid")) && value("bid") == 1 && (-5000..=5000).contains(&value("delta")));
}

#[test]
fn the_other_built_in_scripts_are_read_too() {
    let simple_update = TPCB_LIKE.lines().filter(|line| !line.contains("UPDATE pgbench_tellers") && !line.contains("branches"));
    let program = compile(&simple_update.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(program.steps.len(), 9);
    let select_only = "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";
    let program = compile(select_only).unwrap();
    assert_eq!(outline(&program), ["set aid", "Other SELECT abalance FROM pgbench_accounts WHERE aid = $1 <aid>"]);
    assert!(!program.begins_transaction());
    assert_eq!(program.transactions(), 0);
}

#[test]
fn text_is_not_taken_for_names() {
    for (text, sent) in [
        (
            "SELECT '12:30:00', ':b', \":b\", E'\\':b', $$ :b ; $$, $x$ $$ :b $x$",
            "SELECT '12:30:00', ':b', \":b\", E'\\':b', $$ :b ; $$, $x$ $$ :b $x$ <>",
        ),
        ("SELECT :a::text, b::a, now()::date", "SELECT $1::text, b::a, now()::date <a>"),
        ("SELECT :a, :a", "SELECT $1, $2 <a a>"),
        ("SELECT x[1\\:2]", "SELECT x[1:2] <>"),
        ("SELECT a:=1, 12:30", "SELECT a:=1, 12:30 <>"),
        ("SELECT 1 -- :b; 'it\n, :a", "SELECT 1 -- :b; 'it\n, $1 <a>"),
        ("-- first\n/* :b /* nested; */ ' */ SELECT /*+ hint */ :a;", "SELECT /*+ hint */ $1 <a>"),
        ("SELECT 'it''s;' || \"a\"\";\"", "SELECT 'it''s;' || \"a\"\";\" <>"),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);", "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2) <>"),
        ("SELECT a$b, größe - :a", "SELECT a$b, größe - $1 <a>"),
        ("PREPARE p (int) AS SELECT $1", "PREPARE p (int) AS SELECT $1 <>"),
    ] {
        let program = script("a.sql", text, &BTreeMap::from([("a".to_owned(), "1".to_owned())])).unwrap();
        assert_eq!(outline(&program), [format!("Other {sent}")], "{text}");
    }
}

#[test]
fn several_statements_may_share_a_line_and_none_is_sent_for_nothing() {
    let program = compile(";; SELECT 1; SELECT 2;\n-- the end\n;SELECT\n3 \\sleep 10 ms\r\n\\sleep 5us").unwrap();
    assert_eq!(outline(&program), ["Other SELECT 1 <>", "Other SELECT 2 <>", "Other SELECT\n3 <>", "sleep", "sleep"]);
    assert_eq!(program.statements().map(|s| s.line).collect::<Vec<_>>(), [1, 1, 3]);
}

#[test]
fn conditions_choose_the_branch() {
    let text = "\
\\if :scale = 1
  SELECT 'one';
  \\if :client_id > 5
    SELECT 'inner';
  \\endif
\\elif :scale = 2
  SELECT 'two';
\\else
  SELECT 'many';
\\endif
SELECT 'end';
";
    for (scale, client, expected) in [
        ("1", 0, vec!["SELECT 'one'", "SELECT 'end'"]),
        ("1", 6, vec!["SELECT 'one'", "SELECT 'inner'", "SELECT 'end'"]),
        ("2", 0, vec!["SELECT 'two'", "SELECT 'end'"]),
        ("3", 0, vec!["SELECT 'many'", "SELECT 'end'"]),
    ] {
        let mut program = script("if.sql", text, &BTreeMap::from([("scale".to_owned(), scale.to_owned())])).unwrap();
        let slot = program.slot("client_id").unwrap();
        program.initial[slot] = Value::Integer(client);
        assert_eq!(run(&program).0, expected, "scale {scale}, client {client}");
    }
    // A branch at the end jumps behind the last step.
    let program = compile("SELECT 1; \\if 0\nSELECT 2;\n\\endif").unwrap();
    assert_eq!(outline(&program)[1], "unless 3");
}

#[test]
fn a_variable_must_have_a_value_whichever_way_was_taken() {
    assert!(compile("\\if 1\n\\set a 1\n\\else\n\\set a 2\n\\endif\nSELECT :a").is_ok());
    assert!(compile("\\if 1\n\\set a 1\nSELECT :a;\n\\endif\n").is_ok());
    for text in [
        "\\if 1\n\\set a 1\n\\endif\nSELECT :a",
        "\\if 1\n\\set a 1\n\\else\n\\endif\nSELECT :a",
        "\\if 1\n\\set a 1\n\\elif 2\n\\set a 2\n\\endif\nSELECT :a",
        "\\if 1\nSELECT 1 AS a \\gset\n\\endif\n\\set b 1\nSELECT :b",
    ] {
        match compile(text) {
            Ok(_) => assert!(text.contains(":b"), "{text}"),
            Err(error) => assert!(error.to_string().contains("`:a` may have no value here"), "{error}"),
        }
    }
}

#[test]
fn what_is_refused_says_where_why_and_what_to_do() {
    for (text, message, cure) in [
        ("SELECT 1;\nSELECT 2 \\; SELECT 3;", "transfer.sql:2:10: `\\;` combines statements", "with `;` alone"),
        ("SELECT 1 \\aset", "transfer.sql:1:10: \\aset is not supported", "\\gset"),
        ("\\shell ls", "transfer.sql:1:1: \\shell is not supported", "before"),
        ("\\setshell a ls", "transfer.sql:1:1: \\setshell is not supported", "-D NAME=VALUE"),
        ("\\startpipeline", "transfer.sql:1:1: \\startpipeline is not supported", "remove"),
        ("\\endpipeline", "transfer.sql:1:1: \\endpipeline is not supported", "remove"),
        ("\\syncpipeline", "transfer.sql:1:1: \\syncpipeline is not supported", "remove"),
        ("  \\sett a 1", "transfer.sql:1:3: there is no command \\sett; did you mean \\set?", "\\gset"),
        ("\\", "transfer.sql:1:1: a backslash without a command", "\\set"),
        ("\\set", "transfer.sql:1:1: \\set needs a variable", "random"),
        ("\\set 1a 1", "transfer.sql:1:6: `1a` is no name", "letters"),
        ("\\set aid 1 +\nSELECT 1;", "transfer.sql:1:13: unexpected the end", "operand"),
        ("\\set é 1\n\\set a  :é +\\\n  ~ )", "transfer.sql:3:5: unexpected `)`", "operand"),
        ("\\set aid 1\nSELECT :aidd;", "transfer.sql:2:8: there is no variable `:aidd`; did you mean `:aid`?", "-D aidd=VALUE"),
        ("\\set aid 1\nSELECT 'id :aid';", "transfer.sql:2:12: `:aid` is within quotes", "'…' || :aid"),
        ("\\set aid 1\nSELECT 1 AS \"a:aid\";", "transfer.sql:2:15: `:aid` is within quotes", "--protocol simple"),
        ("SELECT $$:client_id$$;", "transfer.sql:1:10: `:client_id` is within quotes", "--protocol simple"),
        ("\\set aid 1\nSELECT 1 AS col_:aid;", "transfer.sql:2:17: `:aid` is part of a word", "--protocol simple"),
        ("SELECT 1\0;", "transfer.sql:1:9: there is a zero byte here", "remove"),
        ("SELECT 'it", "transfer.sql:1:8: the literal that begins here does not end", "close it with '"),
        ("SELECT $x$ $$", "transfer.sql:1:8: the dollar-quoted literal that begins here", "$x$"),
        ("SELECT /* /* */", "transfer.sql:1:8: the comment that begins here", "*/"),
        ("SELECT \"a", "transfer.sql:1:8: the quoted identifier that begins here", "\""),
        ("\\set a 1\nSELECT $1, :a", "transfer.sql:2:8: numbered and named parameters", "names"),
        ("\\if 1\nSELECT 1;", "transfer.sql:1:1: this \\if has no \\endif", "\\endif"),
        ("\\if\n\\endif", "transfer.sql:1:4: unexpected the end", "operand"),
        ("\\endif", "transfer.sql:1:1: \\endif without \\if", "\\if"),
        ("\\else", "transfer.sql:1:1: \\else without \\if", "\\if"),
        ("\\elif 1", "transfer.sql:1:1: \\elif without \\if", "\\if"),
        ("\\if 1\n\\else\n\\elif 2\n\\endif", "transfer.sql:3:1: \\elif after \\else", "last"),
        ("\\if 1\n\\else\n\\else\n\\endif", "transfer.sql:3:1: \\else after \\else", "last"),
        ("\\if 1\n\\endif now", "transfer.sql:2:8: `now` is too much", "remove"),
        ("\\sleep", "transfer.sql:1:1: \\sleep needs a time", "10 ms"),
        ("\\sleep 1 week", "transfer.sql:1:10: `week` is no unit", "us, ms and s"),
        ("\\sleep 1 s now", "transfer.sql:1:12: `now` is too much", "10 ms"),
        ("\\sleep ms", "transfer.sql:1:8: `` is no time", "10 ms"),
        ("\\sleep :n ms", "transfer.sql:1:8: there is no variable `:n`", "\\set n"),
        ("\\gset", "transfer.sql:1:1: \\gset must follow a statement", "after"),
        ("SELECT 1 \\gset\n\\gset", "transfer.sql:2:1: \\gset must follow a statement", "after"),
        ("SELECT 1;\n\\set a 1\n\\gset", "transfer.sql:3:1: \\gset must follow a statement", "after"),
        ("SELECT 1 \\gset a b", "transfer.sql:1:18: `b` is too much", "remove"),
        ("SELECT 1 \\gset 1_", "transfer.sql:1:16: no variable can begin with `1_`", "letters"),
        ("BEGIN; SELECT 1; COMMIT AND CHAIN;", "transfer.sql:1:18: AND CHAIN begins a transaction", "COMMIT; BEGIN;"),
        ("-- nothing\n\\set a 1\n", "transfer.sql: there is no SQL statement", "measures"),
    ] {
        let said = refused(text);
        assert!(said.starts_with(message), "{said}\nshould begin with {message}");
        assert!(said.split("cure:").nth(1).is_some_and(|said| said.contains(cure)), "{said}\nshould offer {cure}");
    }
    let define = script("a.sql", "SELECT 1", &BTreeMap::from([("1a".to_owned(), "2".to_owned())])).unwrap_err().to_string();
    assert!(define.starts_with("-D 1a=2"), "{define}");
}

#[test]
fn defines_are_variables_from_the_beginning() {
    let defines =
        BTreeMap::from([("n", "12"), ("code", "007"), ("scale", "10")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    let program = script("a.sql", "\\set twice 2 * :n\n\\set next :code + 1\nSELECT :code, :twice, :scale", &defines).unwrap();
    let (_, variables) = run(&program);
    let value = |name| &variables[program.slot(name).unwrap()];
    assert_eq!(value("code"), &Value::Text("007".into()));
    assert_eq!([value("twice"), value("next"), value("scale")], [&Value::Integer(24), &Value::Integer(8), &Value::Integer(10)]);
}

#[test]
fn gset_captures_what_later_steps_use() {
    let program =
        compile("\\set kept 1\nSELECT 1 AS a, 2 AS b \\gset\nSELECT 3 AS a; \\gset x_\nSELECT :a, :x_a, :kept \\gset y_").unwrap();
    let captures: Vec<_> = program.statements().map(|s| s.capture.clone()).collect();
    let slot = |name| program.slot(name).unwrap();
    let Capture::Prefix { prefix, slots } = &captures[1] else { panic!("{captures:?}") };
    assert_eq!((prefix.as_str(), slots.as_slice()), ("x_", &[("a".to_owned(), slot("x_a"))][..]));
    let Capture::Prefix { slots, .. } = &captures[0] else { panic!("{captures:?}") };
    assert!(slots.contains(&("a".to_owned(), slot("a"))) && slots.contains(&("kept".to_owned(), slot("kept"))));
    assert_eq!(captures[2], Capture::Prefix { prefix: "y_".to_owned(), slots: vec![] });
    assert_eq!(program.slot("b"), None, "nobody uses it");

    assert!(program.validate_captures(&[vec!["a", "b"], vec!["a"], vec!["a"]]).is_ok());
    let error = program.validate_captures(&[vec!["a"], vec!["aa"], vec!["a"]]).unwrap_err().to_string();
    assert!(error.starts_with("transfer.sql:3: `SELECT 3 AS a` returns no column `a`; did you mean `aa`?"), "{error}");
}

#[test]
fn statements_that_would_leave_the_session_useless_are_refused() {
    for text in ["COPY t FROM STDIN;", "copy (SELECT 1) to stdout(format csv)", "DISCARD ALL", "deallocate prepare all"] {
        assert!(compile(text).is_err(), "{text}");
    }
    for text in ["COPY t FROM '/tmp/stdin.csv'", "DISCARD PLANS", "SELECT copy, stdin FROM t", "DEALLOCATE a"] {
        assert!(compile(text).is_ok(), "{text}");
    }
}

#[test]
fn a_block_that_never_ends_is_refused() {
    for text in [
        "BEGIN; SELECT 1;",
        "SELECT 1; START TRANSACTION; ROLLBACK TO a;",
        "BEGIN; SELECT 1; END; begin isolation level serializable; ROLLBACK WORK TO SAVEPOINT a",
        "BEGIN; \\if 1\nSELECT 1;\n\\else\nSELECT 2;\n\\endif",
    ] {
        let said = compile(text).unwrap().validate_blocks().expect_err(text).to_string();
        assert!(said.starts_with("transfer.sql:1: the transaction block of `"), "{said}");
    }
    for text in [
        "SELECT 1;",
        "BEGIN; COMMIT;",
        "BEGIN; ABORT",
        "/* a */ start transaction; -- b\n end transaction;",
        "BEGIN WORK; ROLLBACK WORK;",
        "BEGIN; \\if 1\nCOMMIT;\n\\else\nROLLBACK;\n\\endif",
        "\\if :scale > 1\nBEGIN;\n\\endif\nSELECT 1;\n\\if :scale > 1\nEND;\n\\endif",
    ] {
        assert!(compile(text).unwrap().validate_blocks().is_ok(), "{text}");
    }
    let program = compile("BEGIN; COMMIT; BEGIN; END; COMMIT PREPARED 'a'; SAVEPOINT begin; ENDURE;").unwrap();
    assert_eq!(program.transactions(), 2);
}

fn spec(sql: &str) -> StatementSpec {
    StatementSpec { sql: sql.to_owned(), ..StatementSpec::default() }
}

fn parameters() -> BTreeMap<String, Distribution> {
    BTreeMap::from([
        ("units".to_owned(), Distribution::uniform(1, 5).unwrap()),
        ("account".to_owned(), Distribution::zipf(1, 100, 1.0).unwrap()),
        ("unused".to_owned(), Distribution::uniform(1, 5).unwrap()),
        ("id".to_owned(), Distribution::sequence(1000, 10).unwrap()),
    ])
}

#[test]
fn statements_of_a_scenario_share_the_values_of_an_iteration() {
    let read = StatementSpec {
        capture: vec!["version".into()],
        expect: Some("1 row".into()),
        ..spec("SELECT version FROM t WHERE id = $account")
    };
    let write = StatementSpec {
        expect: Some("at least 1 row".into()),
        refused: Some("0 rows".into()),
        ..spec(
            "UPDATE t SET n = n - $units, by = ${op_id}, text = '$5' || $tag$ $x $tag$ WHERE id = $account AND version = $version AND n >= $units;",
        )
    };
    let program = statements("reserve", &[read, write, spec("INSERT INTO l VALUES ($id, $vu::int)")], &parameters()).unwrap();
    assert_eq!(
        outline(&program),
        [
            "set account",
            "set id",
            "set units",
            "Other SELECT version FROM t WHERE id = $1 <account>",
            "Other UPDATE t SET n = n - $1, by = $2, text = '$5' || $tag$ $x $tag$ WHERE id = $3 AND version = $4 AND n >= $1 \
             <units op_id account version>",
            "Other INSERT INTO l VALUES ($1, $2::int) <id vu>",
        ]
    );
    let [read, write, _] = program.statements().collect::<Vec<_>>()[..] else { panic!("three") };
    assert_eq!(read.capture, Capture::Columns(vec![("version".into(), program.slot("version").unwrap())]));
    let guards: Vec<_> = write.guards.iter().map(|g| (g.rows, g.or)).collect();
    assert_eq!(guards, [(Rows::Exactly(0), Else::Refuse), (Rows::AtLeast(1), Else::Abort)]);
    assert!(program.validate_captures(&[vec!["version"], vec![], vec![]]).is_ok());
    let missing = program.validate_captures(&[vec!["versions"], vec![], vec![]]).unwrap_err().to_string();
    assert!(missing.contains("no column `version`; did you mean `versions`?"), "{missing}");
    let missing = program.validate_captures(&[vec![], vec![], vec![]]).unwrap_err().to_string();
    assert!(missing.contains("do with RETURNING"), "{missing}");
}

#[test]
fn a_sequence_has_each_value_once_in_a_run() {
    let mut program = statements("add", &[spec("INSERT INTO l VALUES ($id)")], &parameters()).unwrap();
    let mut seen = BTreeSet::new();
    for (iteration, vu) in (0..5).flat_map(|iteration| (0..3).map(move |vu| (iteration, vu))) {
        for (name, value) in [("vus", 3), ("vu", vu), ("iteration", iteration)] {
            let slot = program.slot(name).unwrap();
            program.initial[slot] = Value::Integer(value);
        }
        seen.insert(run(&program).1[program.slot("id").unwrap()].as_integer().unwrap());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..15).map(|n| 1000 + 10 * n).collect::<Vec<_>>());
}

#[test]
fn statements_that_cannot_be_used_are_refused() {
    let captures = |column: &str| StatementSpec { capture: vec![column.to_owned()], ..spec("SELECT 1") };
    for (specs, message) in [
        (vec![], "reserve: it has no statements"),
        (vec![spec(" -- nothing")], "reserve, statement 1: it is empty"),
        (vec![spec("SELECT 1; SELECT 2")], "reserve, statement 1: `SELECT 2` is another statement"),
        (
            vec![spec("SELECT 1"), spec("SELECT 1,\n  $acount")],
            "reserve, statement 2:2:3: there is no variable `$acount`; did you mean `$account`?",
        ),
        (vec![spec("SELECT $account, $1")], "reserve, statement 1:1:18: numbered and named"),
        (vec![spec("SELECT ${account")], "reserve, statement 1:1:8: `${` begins no name"),
        (vec![spec("SELECT '$account'")], "reserve, statement 1:1:9: `$account` is within quotes"),
        (vec![spec("SELECT '${account}'")], "reserve, statement 1:1:9: `$account` is within quotes"),
        (vec![spec("SELECT 1 AS a_$account")], "reserve, statement 1:1:15: `$account` is part of a word"),
        (vec![spec("SELECT 1 AS a_${account}")], "reserve, statement 1:1:15: `$account` is part of a word"),
        (vec![spec("SELECT $found"), captures("found")], "reserve, statement 1:1:8: there is no variable `$found`"),
        (vec![captures("units")], "reserve, statement 1: `units` cannot be captured"),
        (vec![captures("vu")], "reserve, statement 1: `vu` cannot be captured"),
        (
            vec![StatementSpec { capture: vec!["a".into(), "a".into()], ..spec("SELECT 1") }],
            "reserve, statement 1: `a` is captured twice",
        ),
        (vec![StatementSpec { expect: Some("one".into()), ..spec("SELECT 1") }], "reserve, statement 1: `expect` cannot be read"),
        (vec![StatementSpec { refused: Some("1".into()), ..spec("SELECT 1") }], "reserve, statement 1: `refused` cannot be read"),
    ] {
        let said = statements("reserve", &specs, &parameters()).expect_err(message).to_string();
        assert!(said.starts_with(message), "{said}\nshould begin with {message}");
    }
    let taken = BTreeMap::from([("vu".to_owned(), Distribution::uniform(1, 2).unwrap())]);
    assert!(statements("reserve", &[spec("SELECT 1")], &taken).unwrap_err().to_string().contains("cannot be called `vu`"));
}

proptest! {
    /// Texts of the pieces that mean something, in any order: read or refused, but never a panic.
    #[test]
    fn any_text_is_read_or_refused(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12), rest in ".{0,8}") {
        let text = pieces.concat() + &rest;
        let _ = compile(&text).map(|program| program.validate_blocks());
        let _ = statements("reserve", &[spec(&text)], &parameters());
        let expression = format!("\\set a {}\nSELECT :a", text.replace('\n', " "));
        if let Ok(program) = compile(&expression)
            && let Step::Set { expression, .. } = &program.steps[0]
        {
            let _ = expression.evaluate(&program.initial, &mut Random::of(1, 1, 1));
        }
    }
}

const PIECES: &[&str] = &[
    "SELECT ",
    "BEGIN;",
    "END",
    ";",
    "\n",
    "\r\n",
    "\\",
    "\\\n",
    "\\set a ",
    "\\if ",
    "\\elif 1",
    "\\else",
    "\\endif",
    "\\sleep ",
    "\\gset",
    ":",
    "::",
    ":a",
    ":scale",
    "$",
    "$1",
    "${",
    "$account",
    "}",
    "$$",
    "$x$",
    "'",
    "\"",
    "E'",
    "--",
    "/*",
    "*/",
    "(",
    ")",
    ",",
    "é",
    "1",
    "2.5",
    "1e",
    ".",
    "-",
    "+",
    "*",
    "/",
    "%",
    "<",
    "=",
    "!",
    "<<",
    "~",
    " NOT ",
    " IS ",
    "NULL",
    "TRUE",
    " AND ",
    "CASE WHEN ",
    " THEN ",
    " END",
    "least(",
    "random(",
    "hash(",
    "permute(",
    " ",
    "ms",
];

#[test]
fn what_a_statement_leaves_in_its_session_is_told_by_its_words() {
    let kept = [
        ("SET statement_timeout = 1", "SET STATEMENT_TIMEOUT"),
        ("/* SELECT */ set session characteristics as transaction read only", "SET SESSION"),
        ("PREPARE p AS SELECT 1", "PREPARE P"),
        ("LISTEN channel", "LISTEN CHANNEL"),
        ("CREATE TEMP TABLE t (id int)", "CREATE TEMP"),
        ("SELECT pg_catalog.pg_advisory_lock($1)", "pg_advisory_lock"),
        ("SELECT set_config('search_path', 'a', false)", "set_config"),
        ("SELECT currval('s')", "currval"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "hold"),
    ];
    for (sql, word) in kept {
        assert_eq!(outlives_transaction(sql).as_deref(), Some(word), "{sql}");
    }
    for sql in [
        "SET LOCAL statement_timeout = 1",
        "SET TRANSACTION READ ONLY",
        "PREPARE TRANSACTION 'x'",
        "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1",
        "CREATE TABLE t (id int)",
        "UPDATE t SET hold = 1, note = 'LISTEN pg_advisory_lock'",
        "SELECT pg_advisory_xact_lock(1), set_config('search_path', 'a', true) -- currval",
    ] {
        assert_eq!(outlives_transaction(sql), None, "{sql}");
    }
}

/// A statement's text as pgbench's simple protocol sends it, variables as `<name>`.
fn substituted(script: &str) -> Vec<String> {
    let program = compile(script).unwrap();
    let text = |fragment: &Fragment| match fragment {
        Fragment::Text(text) => text.clone(),
        Fragment::Variable(slot) => format!("<{}>", program.slots[*slot]),
    };
    program.statements().map(|statement| statement.fragments.iter().map(text).collect()).collect()
}

#[test]
fn variables_are_substituted_wherever_pgbench_does_that() {
    assert_eq!(
        substituted(
            "\\set n 1\nINSERT INTO t_:n VALUES (':n', \":n\", $$a :n$$, :n::int, 12:n, ':nobody', '12:30', /* :n */ '::n');"
        ),
        ["INSERT INTO t_<n> VALUES ('<n>', \"<n>\", $$a <n>$$, <n>::int, 12<n>, ':nobody', '12:30', /* <n> */ '::n')"]
    );
    // What a column is called is known when it has been returned; until then the name stands for itself.
    let script = "SELECT 1 AS one \\gset r_\nSELECT ':r_one', ':r_two', ':other'";
    assert_eq!(substituted(script)[1], "SELECT '<r_one>', '<r_two>', ':other'");
    let program = compile(script).unwrap();
    let two = program.slot("r_two").unwrap();
    assert_eq!(program.initial[two], Value::Text(":r_two".into()));
    // With parameters it is refused as soon as it is known that there is such a column.
    assert!(program.validate_captures(&[vec!["three"], vec![]]).is_ok());
    let said = program.validate_captures(&[vec!["one"], vec![]]).unwrap_err().to_string();
    assert!(said.starts_with("transfer.sql:2:9: `:r_one` is within quotes"), "{said}");
}

#[test]
fn what_a_query_may_change_is_told_by_its_words() {
    for text in [
        "WITH u AS (UPDATE t SET n = 1 RETURNING n) SELECT * FROM u",
        "SELECT 1 INTO t",
        "CREATE TABLE t AS SELECT 1",
        "with gone as (delete from t returning 1) select count(*) from gone",
    ] {
        assert_eq!(hidden_changes(text), Hidden::Writes, "{text}");
    }
    let calls = |names: &[&str]| Hidden::Calls(names.iter().map(|name| (*name).to_owned()).collect());
    for (text, names) in [
        ("SELECT 1 FROM t FOR UPDATE", &[][..]),
        ("SELECT 1 FROM t FOR NO KEY UPDATE", &[]),
        ("SELECT 'insert into t' /* delete */", &[]),
        ("SELECT app.Book (1), \"Odd \"\"one\"(2), now()", &["book", "Odd \"one", "now"]),
        ("SELECT insert(1, 2)", &["insert"]),
    ] {
        assert_eq!(hidden_changes(text), calls(names), "{text}");
    }
}

#[test]
fn statements_begin_behind_the_end_of_the_one_before() {
    let text = "-- a; b\nSELECT ';';;\n CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\nSELECT $$;$$";
    let starts: Vec<&str> = statement_starts(text).into_iter().map(|at| text[at..].split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["SELECT", "CREATE", "SELECT"]);
}
