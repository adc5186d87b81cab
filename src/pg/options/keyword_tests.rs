//! Is every parameter of libpq obeyed or refused by name, wherever it is written?

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::error::Kind;

/// What PostgreSQL 15 to 18 list under "Parameter Key Words", and those that libpq takes besides.
const OF_LIBPQ: &str = "application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation gssencmode \
    gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts max_protocol_version \
    min_protocol_version oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile password port replication require_auth \
    requirepeer scram_client_key scram_server_key service servicefile ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode \
    sslcompression sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs \
    tcp_user_timeout user";

/// What they list under "Environment Variables", without those that stand for a setting of the session or for a place to look in.
const VARIABLES: &str = "PGAPPNAME PGCHANNELBINDING PGCLIENTENCODING PGCONNECT_TIMEOUT PGDATABASE PGGSSDELEGATION PGGSSENCMODE PGGSSLIB PGHOST \
    PGHOSTADDR PGKRBSRVNAME PGLOADBALANCEHOSTS PGMAXPROTOCOLVERSION PGMINPROTOCOLVERSION PGOPTIONS PGPASSFILE PGPASSWORD PGPORT PGREQUIREAUTH \
    PGREQUIREPEER PGSERVICE PGSERVICEFILE PGSSLCERT PGSSLCERTMODE PGSSLCOMPRESSION PGSSLCRL PGSSLCRLDIR PGSSLKEY PGSSLMAXPROTOCOLVERSION \
    PGSSLMINPROTOCOLVERSION PGSSLMODE PGSSLNEGOTIATION PGSSLROOTCERT PGSSLSNI PGTARGETSESSIONATTRS PGUSER";

/// Files of one test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("dbstress-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Variables = BTreeMap<String, String>;

/// What a connection string comes to in an environment; none at all, if it is empty.
fn options(text: &str, variables: &Variables) -> Result<ConnectOptions> {
    let env = |name: &str| variables.get(name).cloned();
    if text.is_empty() { ConnectOptions::from_env(&env) } else { ConnectOptions::from_url(text, &env) }
}

/// The same parameter in every place where it can be written.
fn everywhere(known: &Keyword, value: &str, files: &Files, besides: &Variables) -> Vec<Result<ConnectOptions>> {
    let name = known.name;
    let url = url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20");
    let mut all = vec![
        options(&format!("postgres:///?{name}={url}"), besides),
        options(&format!("{name} = '{}'", value.replace('\\', "\\\\")), besides),
    ];
    let with = |more: &[(&str, &str)]| {
        let mut variables = besides.clone();
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        variables
    };
    all.extend(known.variable.map(|variable| options("", &with(&[(variable, value)]))));
    if !["service", "servicefile"].contains(&name) {
        let file = files.write("services", &format!("[other]\nhost=wrong\n[of-test]\n{name}={value}\n"));
        all.push(options("", &with(&[("PGSERVICE", "of-test"), ("PGSERVICEFILE", &file)])));
        all.push(options(&format!("service=of-test servicefile={file}"), besides));
    }
    all
}

#[test]
fn every_parameter_of_libpq_is_obeyed_or_refused_by_name_wherever_it_is_written() {
    let names: Vec<&str> = KEYWORDS.iter().map(|known| known.name).collect();
    for name in OF_LIBPQ.split_whitespace() {
        assert!(names.contains(&name), "nothing is said of {name}");
    }
    assert_eq!(names.len(), OF_LIBPQ.split_whitespace().count());
    let mut variables: Vec<&str> = KEYWORDS.iter().filter_map(|known| known.variable).collect();
    variables.sort_unstable();
    assert_eq!(variables, VARIABLES.split_whitespace().collect::<Vec<_>>());

    let files = Files::new("keywords");
    let services = files.write("of-mine", "[mine]\nhost=of-mine\n");
    let passwords = files.write("passwords", "*:*:*:*:of-the-file\n");
    for known in KEYWORDS {
        let name = known.name;
        let mut besides: Variables = [("HOME".to_owned(), files.0.display().to_string())].into();
        let mut beside = |name: &str, value: &str| besides.insert(name.to_owned(), value.to_owned());
        let value = match name {
            "service" => {
                beside("PGSERVICEFILE", &services);
                "mine"
            }
            "servicefile" => {
                beside("PGSERVICE", "mine");
                &services
            }
            "sslkey" => {
                beside("PGSSLCERT", "/c.pem");
                "/k.pem"
            }
            "sslrootcert" => {
                beside("PGSSLMODE", "verify-ca");
                "/a.pem"
            }
            "hostaddr" => "10.0.0.1",
            "port" => "7000",
            "passfile" => &passwords,
            "connect_timeout" => "3",
            "options" => r"-c search_path=a,\ b",
            "target_session_attrs" => "primary",
            "sslmode" => "require",
            _ => "something",
        };
        let found = everywhere(known, value, &files, &besides);
        assert!(found.len() >= if known.variable.is_some() { 3 } else { 2 });
        // Where the service file has to be known to be wanted, there is nothing to compare with.
        let plain = (name != "servicefile").then(|| options("postgres:///", &besides).unwrap());
        match &known.support {
            Support::Honoured => {
                let first = found[0].as_ref().unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_ne!(Some(first), plain.as_ref(), "{name} makes no difference");
                for other in &found {
                    assert_eq!(other.as_ref().unwrap_or_else(|e| panic!("{name}: {e}")), first, "{name}");
                }
            }
            Support::Moot => found.iter().for_each(|found| assert_eq!(found.as_ref().ok(), plain.as_ref(), "{name}")),
            Support::Only { values, why, .. } => {
                for refused in found {
                    let error = refused.expect_err(name);
                    let text = error.to_string();
                    let is_named = text.contains(name) || known.variable.is_some_and(|variable| text.contains(variable));
                    assert!(
                        error.kind() == Kind::Usage && is_named && text.contains(why) && text.contains("cure:"),
                        "{name}: {text}"
                    );
                    let is_secret = ["sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"].contains(&name);
                    assert!(!is_secret || !text.contains("something"), "{text}");
                }
                for accepted in values.iter() {
                    for found in everywhere(known, accepted, &files, &besides) {
                        let found = found.unwrap_or_else(|e| panic!("{name}={accepted}: {e}"));
                        let is_other = name == "channel_binding" && *accepted == "disable";
                        assert_eq!(Some(&found) != plain.as_ref(), is_other, "{name}={accepted}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_connection_string_comes_before_the_service_and_the_service_before_the_environment() {
    let files = Files::new("order");
    let services = files.write("services", "[s]\nport=2\ndbname=of-the-service\n");
    let variables = [("PGSERVICEFILE", &*services), ("PGPORT", "3"), ("PGDATABASE", "of-the-environment"), ("PGUSER", "me")];
    let variables: Variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let url = |text: &str| options(text, &variables).map(|options| options.url(false)).map_err(|e| e.to_string());
    assert_eq!(url("postgres://h:1/?service=s").unwrap(), "postgres://me@h:1/of-the-service");
    assert_eq!(url("service=s").unwrap(), "postgres://me@localhost:2/of-the-service");
    assert_eq!(url("host=h").unwrap(), "postgres://me@h:3/of-the-environment");
    assert!(url("service=t").unwrap_err().contains("there is no service `t`: it is not in"));
    assert!(url("service=s servicefile=/nowhere").unwrap_err().contains("/nowhere is not there"));
}

#[test]
fn a_service_that_the_environment_names_is_a_server_whatever_else_is_there() {
    let env = |name: &str| (name == "PGSERVICE").then(|| "of-no-file".to_owned());
    assert!(ConnectOptions::env_names_a_server(&env));
    assert!(ConnectOptions::from_env(&env).unwrap_err().to_string().contains("there is no service `of-no-file`"));
}

#[test]
fn what_libpq_tells_the_server_from_the_environment_is_told_in_options() {
    let session = |variables: &[(&str, &str)]| {
        let variables: Variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        options("host=h", &variables).map(|options| options.session.startup().unwrap_or_default())
    };
    assert_eq!(session(&[("PGTZ", "Asia/Tokyo"), ("PGGEQO", "off")]).unwrap(), "-c timezone=Asia/Tokyo -c geqo=off");
    assert_eq!(session(&[("PGOPTIONS", "-c a.b=c"), ("PGDATESTYLE", "ISO, DMY")]).unwrap(), r"-c a.b=c -c datestyle=ISO,\ DMY");
    for (variable, value) in [("PGDATESTYLE", "German"), ("PGOPTIONS", "-c application_name=me"), ("PGOPTIONS", "-B 5")] {
        let error = session(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(variable) && error.contains(&format!("unset {variable}")), "{error}");
    }
    let both: Variables = [("PGOPTIONS".to_owned(), "-c a.b=c".to_owned())].into();
    assert!(options("options='-c a.b=d'", &both).unwrap_err().to_string().contains("only one of them can be obeyed"));
}
