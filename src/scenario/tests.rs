//! What is accepted, and what is said of the rest.

use super::*;

const BOOKING: &str = "summary = \"a test\"\nworkload = \"booking\"\n";

fn read(text: &str) -> Result<Scenario> {
    Scenario::from_toml("mine.toml", text, None)
}

/// What is said of a booking scenario with `rest`.
fn refused(rest: &str) -> String {
    read(&format!("{BOOKING}{rest}")).expect_err(rest).to_string()
}

#[test]
fn those_that_are_built_in_are_all_files_of_the_directory_and_can_be_run() {
    let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut names = BUILT_IN.map(|(name, _)| name.to_owned());
    names.sort();
    assert_eq!(files, names);
    for name in &names {
        let scenario = Scenario::built_in(name).unwrap();
        assert_eq!(&scenario.name, name);
        // Churn is the other mode of contention, which is in the suite already; the suite is run on one dataset, which has no schedules.
        let belongs = name != "churn" && scenario.booking().is_some();
        assert_eq!(scenario.tags.contains(&"suite".to_owned()), belongs, "{name}");
        assert!(
            built_in_text(name).unwrap().contains(&format!("scenarios show {name} > mine.toml")),
            "{name} says how to start from it"
        );
    }
}

#[test]
fn those_that_are_built_in_keep_to_the_schema() {
    let schema = file::schema().to_value();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for (name, text) in BUILT_IN {
        let value: serde_json::Value = toml::from_str(text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0], "{name}");
    }
    for wrong in ["vus = 1", "workload = \"bookin\"", "load = { vus = \"many\" }", "operation = [{ kind = \"look\" }]"] {
        let value: serde_json::Value = toml::from_str(&format!("summary = \"x\"\n{wrong}")).unwrap();
        assert!(!validator.is_valid(&value), "{wrong}");
    }
}

#[test]
fn nothing_in_the_schema_is_null() {
    assert!(!file::schema().to_value().to_string().contains("null"));
}

#[test]
fn every_key_of_the_schema_is_explained() {
    fn walk(schema: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
        for (key, rule) in schema["properties"].as_object().into_iter().flatten() {
            if rule["description"].as_str().is_none_or(str::is_empty) {
                bare.push(format!("{path}{key}"));
            }
            walk(rule, &format!("{path}{key}."), bare);
        }
        for inner in [schema.get("items"), schema.get("additionalProperties")].into_iter().flatten() {
            walk(inner, path, bare);
        }
        for inner in schema["anyOf"].as_array().into_iter().flatten() {
            walk(inner, path, bare);
        }
    }
    let mut bare = Vec::new();
    walk(&file::schema().to_value(), "", &mut bare);
    assert_eq!(bare, [""; 0]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let scenario = read(BOOKING).unwrap();
    let thirty = Duration::from_secs(30);
    assert_eq!(scenario.name, "mine");
    assert_eq!((scenario.load.vus, &scenario.load.extent), (50, &Extent::Constant { duration: Some(thirty), iterations: None }));
    assert_eq!((scenario.load.backlog, scenario.load.graceful_stop, scenario.load.rng_seed), (10_000, thirty, 42));
    let booking = scenario.booking().unwrap();
    assert_eq!((booking.strategies.as_slice(), booking.total, &*booking.dataset), (&[Strategy::Serializable][..], 1_000, "clinic"));
    assert_eq!(booking.targets, Targets::Spread { authorisations: 200, hot: None });
    assert_eq!(scenario.operations(), ["reserve"]);
    assert!(scenario.claims.is_empty() && scenario.thresholds.is_empty() && scenario.evidence == Evidence::default());
}

#[test]
fn each_fault_has_its_place_and_its_cure() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("vuss = 5", "3:1", &["no key `vuss`", "[load]"]),
        ("[load]\nvuss = 5", "4:1", &["no key `vuss`", "did you mean `vus`?"]),
        ("duration = \"5s\"", "3:1", &["`duration` stands in [load]"]),
        ("[load]\nthresholds = []", "4:1", &["`thresholds` stands at the top"]),
        ("[load]\nvus = \"fifty\"", "4:7", &["`load.vus`", "a whole number, not negative", "Virtual users"]),
        ("[load]\nvus = -1", "4:7", &["`load.vus`", "-1"]),
        ("[load]\nvus = 0", "4:7", &["nobody would do anything"]),
        ("[load]\nduration = \"30 parsecs\"", "4:12", &["not a duration", "1m30s"]),
        ("[load]\nstages = [\"30s:50\", \"1m-50\"]", "4:21", &["not a stage", "30s:50"]),
        ("[load]\nstages = [\"30s:50\"]\nduration = \"1m\"", "5:12", &["the stages say how long"]),
        ("[load]\nstages = [\"30s:50\"]\niterations = 5", "5:14", &["the stages say how long"]),
        ("[load]\nstages = []", "4:10", &["nothing would happen"]),
        ("[load]\nrounds = 5", "4:10", &["targets = \"rounds\""]),
        ("[booking]\ntargets = \"rounds\"\n[load]\nrounds = 5\nrate = 1.0", "7:8", &["at a rate"]),
        ("[booking]\ntargets = \"rounds\"\n[load]\niterations = 5", "6:14", &["rounds instead"]),
        ("[load]\nrate = -1.0", "4:8", &["at a rate of -1"]),
        ("[load]\narrival = \"poisson\"", "4:11", &["without a rate"]),
        ("[load]\nrate = 1.0\narrival = \"poison\"", "5:11", &["cannot be `poison`", "did you mean `poisson`?"]),
        ("[load]\nwarm_up = \"30s\"", "4:11", &["no figure would count"]),
        ("[load.retry]\nattempts = 0", "4:12", &["1 means no retry"]),
        ("strategy = [\"naive\", \"serialisable\"]", "3:22", &["no strategy `serialisable`", "did you mean `serializable`?"]),
        ("claims = [\"unit-within-total\"]", "3:11", &["no invariant", "units-within-total"]),
        ("dataset = \"clinik\"", "3:11", &["did you mean `clinic`?"]),
        ("setup = \"x.sql\"", "3:9", &["`setup`", "workload = \"sql\""]),
        ("[control]\nnone = true", "3:1", &["`control`", "workload = \"sql\""]),
        ("[[operation]]\nsql = \"SELECT 1\"\nkind = \"browse\"", "4:7", &["`sql`", "workload = \"sql\""]),
        ("[[operation]]\nkind = \"resrve\"", "4:8", &["cannot be `resrve`", "did you mean `reserve`?"]),
        ("[[operation]]\nunits = 5", "3:1", &["`kind` is missing"]),
        ("[[operation]]\nkind = \"reserve\"\nweight = -1", "5:10", &["cannot be -1"]),
        ("[[operation]]\nkind = \"reserve\"\nweight = nan", "5:10", &["cannot be NaN"]),
        (
            "[[operation]]\nkind = \"reserve\"\nweight = 0\n[[operation]]\nkind = \"release\"\nweight = 0",
            "5:10",
            &["all weights are 0"],
        ),
        ("[[operation]]\nkind = \"reserve\"\n[[operation]]\nkind = \"reserve\"", "5:1", &["already is an operation `reserve`"]),
        ("[[operation]]\nkind = \"reserve\"\nname = \"Buy it\"", "5:8", &["cannot be the name"]),
        ("[[operation]]\nkind = \"reserve\"\nunits = 0", "5:9", &["at least 1"]),
        ("[[operation]]\nkind = \"reserve\"\nunits = 1001", "5:9", &["an authorisation of 1000"]),
        ("[[operation]]\nkind = \"browse\"\nunits = 1", "5:9", &["browse only looks"]),
        ("[booking]\nhot_share = 0.5", "4:13", &["no hot authorisations"]),
        ("[booking]\nhot = 5\nhot_share = 1.5", "5:13", &["from 0 to 1"]),
        ("[booking]\ntargets = \"one-by-one\"\nhot = 5", "5:7", &["targets = \"spread\""]),
        ("[booking]\nhold = \"10s\"", "4:8", &["every one would be given up"]),
        ("thresholds = [\"reserve.respnse:p(95)<200ms\"]", "3:15", &["respnse"]),
        ("thresholds = [\"buy.response:p(95)<200ms\"]", "3:15", &["no operation `buy`"]),
        ("thresholds = [{ threshold = \"aborted.rate<0.01\", abort = true }]", "3:50", &["no key `abort`", "abort_on_fail"]),
        ("thresholds = [5]", "3:15", &["integer `5`", "a threshold in quotes"]),
        ("[evidence]\ncommitted = { reserv = 1 }", "4:24", &["no operation `reserv`", "did you mean `reserve`?"]),
        ("[load]\nvus = = 5", "4:7", &["TOML"]),
        ("[load]\nvus = 5\nvus = 6", "5:1", &["duplicate key"]),
    ];
    for (rest, place, words) in cases {
        let said = refused(rest);
        assert!(said.starts_with(&format!("mine.toml:{place}: ")), "{rest}\n{said}");
        for word in words.iter().chain(&["cure:"]) {
            assert!(said.contains(word), "{rest}\n{word} is not in\n{said}");
        }
    }
}

#[test]
fn whatever_is_missing_or_doubled_is_read_or_refused_with_its_place() {
    for (name, text) in BUILT_IN {
        let lines: Vec<&str> = text.lines().collect();
        for n in 0..lines.len() {
            let without: Vec<&str> = [&lines[..n], &lines[n + 1..]].concat();
            let twice: Vec<&str> = [&lines[..n], &lines[n..=n], &lines[n..]].concat();
            let cut = [&lines[..n], &[&lines[n][..lines[n].len() / 2]], &lines[n + 1..]].concat();
            for changed in [without, twice, cut] {
                let text = changed.join("\n");
                if let Err(error) = read(&text) {
                    let said = error.to_string();
                    assert!(said.starts_with("mine.toml:") && said.contains("cure:"), "{name}, line {}: {said}", n + 1);
                }
            }
        }
    }
}

#[test]
fn independent_faults_are_told_at_once_in_the_order_of_the_file() {
    let said = refused("strategy = \"non\"\n[load]\nduration = \"x\"\nthink = \"y\"\n[booking]\nhold = \"z\"");
    let places: Vec<&str> = said.lines().filter_map(|l| l.strip_prefix("mine.toml:")?.split(": ").next()).collect();
    assert_eq!(places, ["3:12", "5:12", "6:9", "8:8"], "{said}");
    let said = refused("a = 1\n[load]\nb = 2");
    assert!(said.contains("mine.toml:3:1: ") && said.contains("mine.toml:5:1: "), "{said}");
}

#[test]
fn what_must_be_there_is_asked_for_with_its_meaning() {
    let said = read("workload = \"booking\"").unwrap_err().to_string();
    assert!(said.contains("`summary` is missing") && said.contains("in one line"), "{said}");
    let said = read("summary = \"x\"\nworkload = \"bokking\"").unwrap_err().to_string();
    assert!(said.starts_with("mine.toml:2:12: ") && said.contains("did you mean `booking`?"), "{said}");
}

#[test]
fn a_column_is_counted_in_characters() {
    assert!(
        read("summary = \"é\"\nworkload = \"booking\"\ntags = [\"é\", 5]").unwrap_err().to_string().starts_with("mine.toml:3:14: ")
    );
}

#[test]
fn all_means_those_that_claim_to_be_safe_and_each_once() {
    let strategies = |text: &str| read(&format!("{BOOKING}{text}")).unwrap().booking().unwrap().strategies.clone();
    assert_eq!(strategies("strategy = \"all\"").len(), 8);
    assert_eq!(strategies("strategy = [\"atomic\", \"all\"]").len(), 8);
    assert_eq!(strategies("strategy = [\"naive\"]"), [Strategy::Naive]);
}

#[test]
fn the_curve_is_of_virtual_users_or_of_arrivals() {
    let load = |text: &str| read(&format!("{BOOKING}[load]\n{text}")).unwrap().load;
    let closed = load("stages = [\"10s:50\", \"20s:30\"]");
    assert_eq!((closed.vus, closed.peak(), closed.ramp().unwrap().duration()), (0, 50, Duration::from_secs(30)));
    let open = load("rate = 200.0\nstages = [\"10s:500\"]\nvus = 20");
    assert_eq!((open.peak(), open.ramp().unwrap().start, open.ramp().unwrap().peak()), (20, 200.0, 500.0));
    assert_eq!(load("rate = 200.0\niterations = 1000").ramp().unwrap().duration(), Duration::from_secs(5));
    assert_eq!(load("iterations = 1000").ramp(), None);
    let both = load("iterations = 1000\nduration = \"1s\"");
    assert_eq!(both.extent, Extent::Constant { duration: Some(Duration::from_secs(1)), iterations: Some(1_000) });
}

#[test]
fn a_name_leads_to_a_scenario_or_to_the_nearest() {
    let load = |what: &str| Scenario::load(what, || Ok(BOOKING.to_owned()));
    assert_eq!(load("mixed").unwrap().name, "mixed");
    assert_eq!(load("-").unwrap().name, "stdin");
    assert!(load("mixd").unwrap_err().to_string().contains("did you mean `mixed`?"));
    let said = load("missing/mine.toml").unwrap_err().to_string();
    assert!(said.contains("missing/mine.toml") && said.contains("cure:"), "{said}");
}

/// A directory with the files of a scenario of SQL in it, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("dbstress-scenario-{name}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("rules")).unwrap();
        let rule = "-- when: always\n-- examines: SELECT count(*) FROM seat\n-- breaks: UPDATE seat SET bookings = 2\n--\n\
                    -- Nobody sits on another's lap.\n\
                    SELECT id::text AS subject, '1' AS expected, bookings::text AS actual FROM seat WHERE bookings > 1\n";
        for (file, text) in [
            ("rules/seat-once.sql", rule),
            ("schema.sql", "CREATE TABLE seat (id int, bookings int)"),
            ("drop.sql", "DROP TABLE seat"),
            ("transfer.sql", "\\set id random(1, 10)\nBEGIN;\nUPDATE seat SET bookings = 1 WHERE id = :id;\nEND;\n"),
            ("open.sql", "BEGIN;\nSELECT 1;\n"),
            ("racy.toml", RACY),
            ("proud.toml", &format!("{RACY}[control]\nfile = \"racy.toml\"\n")),
        ] {
            std::fs::write(directory.join(file), text).unwrap();
        }
        Self(directory)
    }

    fn read(&self, rest: &str) -> Result<Scenario> {
        Scenario::from_toml("mine.toml", &format!("summary = \"a test\"\nworkload = \"sql\"\n{rest}"), Some(&self.0))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const RACY: &str = "summary = \"racy\"\nworkload = \"sql\"\ninvariants = \"rules\"\n\
                    [[operation]]\nname = \"book\"\nsql = \"UPDATE seat SET bookings = bookings + 1\"\n";

#[test]
fn a_scenario_of_sql_is_read_with_the_files_beside_it() {
    let directory = Directory::new("whole");
    let scenario = directory
        .read(
            r#"
schema = "seats"
setup = "schema.sql"
teardown = "drop.sql"
invariants = "rules"
thresholds = ["book.aborted.rate<0.01"]
[control]
file = "racy.toml"
[parameters.seat]
uniform = [1, 100]
[parameters.place]
choice = ["a", { value = "b", weight = 3 }]
[[operation]]
name = "book"
isolation = "serializable"
statements = [
    { sql = "SELECT version FROM seat WHERE id = $seat AND place = $place", refused = "0 rows", capture = ["version"] },
    { sql = "UPDATE seat SET bookings = 1 WHERE id = $seat AND version = $version", expect = "1 row" },
]
outcomes = { "23505" = "refused" }
[[operation]]
name = "transfer"
weight = 0.5
script = "transfer.sql"
retry = false
[[operation]]
name = "look"
sql = "SELECT 1"
"#,
        )
        .unwrap();
    let Workload::Sql(sql) = &scenario.workload else { panic!("it is SQL") };
    assert_eq!((&*sql.schema, sql.setup.as_ref().map(|s| &*s.text)), ("seats", Some("CREATE TABLE seat (id int, bookings int)")));
    assert_eq!(scenario.claims, ["seat-once"], "every rule of its directory");
    assert!(matches!(&sql.control, Some(Control::Twin(twin)) if twin.name == "racy"));
    assert_eq!(scenario.operations(), ["book", "transfer", "look"]);
    let [book, transfer, look] = &*sql.operations else { panic!("three") };
    assert_eq!((book.isolation, book.weight, book.retry), (Isolation::Serializable, 1.0, true));
    assert_eq!(book.outcomes[&Sqlstate::new("23505")], Meaning::Refused);
    assert_eq!((transfer.isolation, transfer.weight, transfer.retry), (Isolation::ReadCommitted, 0.5, false));
    assert_eq!((book.program.statements().count(), transfer.program.transactions(), look.program.statements().count()), (2, 1, 1));
}

#[test]
fn a_threshold_on_what_cannot_happen_is_refused() {
    let of = |workload: &str, threshold: &str, rest: &str| {
        let text = format!(
            "summary = \"a test\"\nworkload = \"{workload}\"\nthresholds = ['{threshold}']\n[[operation]]\nname = \"a\"\n{rest}\n"
        );
        read(&text).map(|_| ()).map_err(|error| error.to_string())
    };
    const SQL: &str = "sql = \"UPDATE t SET n = 1\"";
    const RESERVE: &str = "kind = \"reserve\"\nunits = 1";
    for (workload, threshold, rest, said) in [
        ("booking", "rolled_back.count<1", RESERVE, "nothing is rolled back here"),
        ("booking", "replayed.rate<1%", RESERVE, "nothing is replayed here"),
        ("booking", "a.replayed.rate<1/s", RESERVE, "nothing is replayed here"),
        ("booking", "checks.rate>98%", RESERVE, "there are no checks here"),
        ("sql", "replayed.count==0", SQL, "nothing is replayed here"),
        ("sql", "rolled_back.rate<1%", SQL, "nothing is rolled back here"),
        ("sql", "refused.rate<1%", SQL, "nothing is refused here"),
    ] {
        let error = of(workload, threshold, rest).expect_err(threshold);
        assert!(error.contains(said), "{threshold}: {error}");
    }
    for (workload, threshold, rest) in [
        ("booking", "refused.rate<1%", RESERVE.to_owned()),
        ("sql", "aborted.rate<1%", SQL.to_owned()),
        ("sql", "refused.rate<1%", format!("{SQL}\noutcomes = {{ 23505 = \"refused\" }}")),
        ("sql", "refused.rate<1%", "statements = [{ sql = \"UPDATE t SET n = 1\", refused = \"0 rows\" }]".to_owned()),
    ] {
        assert_eq!(of(workload, threshold, &rest), Ok(()), "{threshold}");
    }
}

#[test]
fn what_is_wrong_in_a_scenario_of_sql_has_its_place_too() {
    let directory = Directory::new("mistakes");
    let cases: &[(&str, &str, &[&str])] = &[
        ("", "1:1", &["nothing to do", "[[operation]]"]),
        ("setup = \"missing.sql\"\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "3:9", &["missing.sql cannot be read"]),
        ("invariants = \"missing\"\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "3:14", &["cannot read"]),
        ("claims = [\"x\"]\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "3:11", &["no invariant `x`", "DIRECTORY"]),
        ("strategy = \"naive\"\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "3:12", &["workload = \"booking\""]),
        ("[control]\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "3:1", &["none = true"]),
        ("[control]\nfile = \"proud.toml\"\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "4:8", &["no control of its own"]),
        ("[load]\nrounds = 5\n[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"", "4:10", &["there are rounds only"]),
        ("[[operation]]\nsql = \"SELECT 1\"", "3:1", &["`name` is missing"]),
        ("[[operation]]\nname = \"a\"\nkind = \"browse\"\nsql = \"SELECT 1\"", "5:8", &["workload = \"booking\""]),
        ("[[operation]]\nname = \"a\"", "3:1", &["exactly one of: sql, statements, script"]),
        ("[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"\nscript = \"transfer.sql\"", "3:1", &["says it twice"]),
        ("[[operation]]\nname = \"a\"\nsql = \"SELECT $seat\"", "5:7", &["seat"]),
        ("[[operation]]\nname = \"a\"\nsql = \"BEGIN\"", "5:7", &["one transaction already"]),
        ("[[operation]]\nname = \"a\"\nscript = \"open.sql\"", "5:10", &["open.sql:1", "does not end"]),
        ("[[operation]]\nname = \"a\"\nscript = \"transfer.sql\"\nexpect = \"1 row\"", "6:10", &["the one statement of `sql`"]),
        (
            "[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"\nisolation = \"serialisable\"",
            "6:13",
            &["did you mean `serializable`?"],
        ),
        ("[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"\noutcomes = { 2350 = \"retry\" }", "6:21", &["no SQLSTATE"]),
        ("[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"\n[parameters.x]", "6:1", &["exactly one of: uniform"]),
        ("[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"\n[parameters.x]\nuniform = [5, 1]", "7:11", &["5 to 1"]),
        (
            "[[operation]]\nname = \"a\"\nsql = \"SELECT 1\"\n[parameters.x]\nzipf = { from = 1, to = 5 }",
            "7:8",
            &["`exponent` is missing", "How uneven"],
        ),
    ];
    for (rest, place, words) in cases {
        let said = directory.read(rest).expect_err(rest).to_string();
        assert!(said.starts_with(&format!("mine.toml:{place}: ")), "{rest}\n{said}");
        for word in words.iter().chain(&["cure:"]) {
            assert!(said.contains(word), "{rest}\n{word} is not in\n{said}");
        }
    }
    let said = Scenario::from_toml("stdin", RACY, None).unwrap_err().to_string();
    assert!(said.contains("no directory to look for it in"), "{said}");
}

#[test]
fn a_mistake_is_made_where_it_can_be_and_seen_or_refused_with_what_it_goes_with() {
    let cases = [
        (
            "strategy = [\"for-update\"]\n[booking]\nbug = \"lock-and-read\"",
            "with the strategy for-update",
            "it goes with advisory",
        ),
        ("[booking]\nbug = \"exhausted-latch\"", "who wants to consume", "the scenario churn"),
        ("strategy = [\"advisory\"]\n[booking]\nbug = \"early-unlock\"", "pauses before it commits", "--hold"),
        ("[booking]\nbug = \"async-commit\"", "when the server crashes", "crash@2s"),
        ("strategy = [\"naive\"]\n[booking]\nbug = \"spurious-refusal\"", "with the strategy naive", "serializable"),
        ("[booking]\nbug = \"lock-and-raed\"", "there is no bug", "did you mean `lock-and-read`?"),
    ];
    for (text, message, cure) in cases {
        let error = refused(text);
        assert!(error.contains(message) && error.contains(cure), "{text}: {error}");
    }
    let fine = "strategy = [\"advisory\"]\n[booking]\nbug = \"early-unlock\"\nhold = \"1ms\"";
    assert_eq!(read(&format!("{BOOKING}{fine}")).unwrap().booking().unwrap().bug, Some(Bug::EarlyUnlock));
}

#[test]
fn requests_with_keys_go_with_rounds_of_reservations_and_one_body_and_another() {
    let keys = "[booking]\ntargets = \"rounds\"\n[idempotency]\n";
    let scenario = read(&format!("{BOOKING}{keys}")).unwrap();
    let booking = scenario.booking().unwrap();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(booking.keys, Some(Keys { in_flight: InFlight::Refuse, lifetime: day, cleanup: 10_000 }));
    assert_eq!((booking.operations[0].request, booking.per_round()), (Some(Asking::First), 2));
    let file = format!(
        "{BOOKING}{keys}in_flight = \"wait\"\nlifetime = \"90m\"\ncleanup = 5\n[[operation]]\nkind = \"reserve\"\nrequest = \"hang-up\"\n"
    );
    let scenario = read(&file).unwrap();
    let keys_of = scenario.booking().unwrap().keys.unwrap();
    assert_eq!(
        (keys_of.in_flight, keys_of.lifetime, keys_of.cleanup, keys_of.late()),
        (InFlight::Wait, Duration::from_secs(5_400), 5, 5_401)
    );
    assert_eq!(scenario.operations(), ["hang-up"], "named after the way it asks");

    let operation = |rest: &str| format!("[[operation]]\nkind = \"reserve\"\n{rest}\n");
    let cases = [
        ("[idempotency]\n".to_owned(), "keys are asked with in rounds"),
        (operation("request = \"again\""), "`request` cannot be used: requests carry no key"),
        (format!("{keys}[[operation]]\nkind = \"consume\"\n"), "with keys everybody reserves"),
        (format!("{keys}{}", operation("request = \"other-body\"")), "everybody has another body"),
        (
            format!("{keys}{}{}", operation(""), operation("request = \"other-body\"")),
            "another body, and it asks for 10 units as all do",
        ),
        (
            format!("{keys}{}{}", operation(""), operation("request = \"again\"\nunits = 20")),
            "the same body, and it asks for 20 units, not 10",
        ),
        (format!("{keys}lifetime = \"1s\"\n"), "a key that lives for 1s"),
        (format!("{keys}lifetime = \"3000h\"\n"), "from 1m to 90 days"),
        ("[booking]\ntargets = \"rounds\"\ntotal = 15\n[idempotency]\n".to_owned(), "no room for two effects of 10"),
        ("[booking]\ntargets = \"rounds\"\nbug = \"no-show\"\n[idempotency]\n".to_owned(), "`no-show` is a mistake with bookings"),
        ("[booking]\nbug = \"claim-apart\"\n".to_owned(), "`claim-apart` is a mistake with keys"),
        (format!("{keys}in_flight = \"answer\"\n"), "refuse"),
    ];
    for (rest, said) in cases {
        let error = refused(&rest);
        assert!(error.contains(said), "{rest}\n{error}");
    }
}

#[test]
fn every_fault_of_a_file_is_told_whatever_its_kind() {
    let said = read(&format!("{BOOKING}colour = 1\nstrategy = \"naiv\"\n[load]\nvus = \"many\"\nduration = 5\nthink = \"1x\"\n"))
        .unwrap_err();
    let said = said.to_string();
    for fault in ["there is no key `colour`", "there is no strategy `naiv`", "`load.vus` is", "`load.duration` is", "1x"] {
        assert!(said.contains(fault), "`{fault}` is not in:\n{said}");
    }
    // What only follows from another fault is none of its own.
    let said = read("summary = \"a test\"\nworkload = \"sql\"\n[[operation]]\nname = \"a\"\nsql = 5\n").unwrap_err().to_string();
    assert!(said.contains("`operation.0.sql` is") && !said.contains("says it twice"), "{said}");
}

#[test]
fn a_key_without_a_value_is_called_that() {
    let said = read(&format!("{BOOKING}[load]\nvus = # how many?\n")).unwrap_err().to_string();
    assert!(said.contains("`vus` has no value") && !said.contains("quoted"), "{said}");
}

#[test]
fn whoever_claims_something_and_says_nothing_of_evidence_must_show_as_much_as_the_scenarios_that_come_with_it() {
    let evidence = |text: &str| read(text).unwrap().evidence;
    let claims = "claims = [\"units-within-total\"]\n";
    let usual = evidence(&format!("{BOOKING}{claims}"));
    assert_eq!((usual.contested, usual.mechanism), (20, true));
    let scheduling = "summary = \"a test\"\nworkload = \"scheduling\"\nclaims = [\"nobody-in-two-places\"]\n\
                      [scheduling]\ncontests = { double = 1 }\n";
    assert_eq!(evidence(scheduling), usual);
    assert_eq!(evidence(BOOKING), Evidence::default(), "who claims nothing needs none");
    let said = evidence(&format!("{BOOKING}{claims}[evidence]\ncontested = 5\n"));
    assert_eq!((said.contested, said.mechanism), (5, false), "whoever says how much is enough has said it");
}

#[test]
fn no_file_however_it_is_spoilt_makes_the_program_panic() {
    let mut random = crate::random::Random::seeded(42);
    let odd = [
        "\0",
        "\u{feff}",
        "é",
        "\"",
        "[",
        "]]",
        "=",
        "-",
        "99999999999999999999",
        "1e400",
        "nan",
        "'''",
        "\\u",
        "${",
        "%",
        "\r",
        "",
    ];
    for (name, text) in BUILT_IN {
        let letters: Vec<char> = text.chars().collect();
        for _ in 0..150 {
            let (from, cut) = (random.below(letters.len() as u64) as usize, random.below(9) as usize);
            let rest = letters.iter().skip(from + cut);
            let odd = odd[random.below(odd.len() as u64) as usize];
            let spoilt: String = letters[..from].iter().copied().chain(odd.chars()).chain(rest.copied()).collect();
            // Whatever is wrong with it, it is said.
            if let Err(error) = Scenario::from_toml(name, &spoilt, None) {
                assert!(!error.to_string().is_empty(), "{spoilt}");
            }
        }
    }
}
