//! `dbstress serve`: an API to be tested, on the dataset; as right as it says, or with a known mistake.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::{Global, env, interrupt, target};
use crate::api::limits::Rule;
use crate::api::{LISTEN, Mistake, Server, Settings};
use crate::pace::parse_duration;
use crate::report::screen::Screen;
use crate::report::serve as report;
use crate::strategy::Strategy;
use crate::token::Secret;
use crate::verdict::Exit;
use crate::workload::keyed::InFlight;
use crate::{Error, Result, state};

/// Chosen by somebody, instead of the one in the state directory.
const SECRET: &str = "DBSTRESS_API_SECRET";

/// What is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Limits {
    /// Everything
    #[default]
    None,
    /// By the tier of the organisation: 100, 1000, 10000 or 100000 requests a minute; and 5 logins a minute
    Tiers,
}

/// Flags of `serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to listen: ADDRESS:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = LISTEN)]
    pub listen: SocketAddr,
    /// Listen where others than this machine can reach it: passwords and tokens go over the wire in the clear
    #[arg(long)]
    pub allow_remote: bool,
    /// How rows are protected
    #[arg(long, value_enum, value_name = "NAME", default_value = "serializable")]
    pub strategy: Strategy,
    /// Sessions at the database, of all threads together
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub pool_size: u32,
    /// Threads that answer [default: half of the processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<u16>,
    /// The application's pause between reading and writing
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub hold: Option<Duration>,
    /// No attempt begins later than this after its request came
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub retry_deadline: Duration,
    /// What is let through
    #[arg(long, value_enum, default_value_t)]
    pub limits: Limits,
    /// So many in a window, for each organisation, or for each account that logs in: ROUTE=COUNT/WINDOW, as all=100/15m; ROUTE is all, read, write or
    /// login; repeatable
    #[arg(long = "limit", value_name = "ROUTE=COUNT/WINDOW", conflicts_with = "limits")]
    pub limit: Vec<Rule>,
    /// How long a token is good
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    pub token_lifetime: Duration,
    /// What is said to a request whose idempotency key is in flight
    #[arg(long, value_name = "HOW", default_value = "refuse", value_parser = in_flight)]
    pub in_flight: InFlight,
    /// How long an idempotency key is known, on the clock of the dataset
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    pub key_lifetime: Duration,
    /// Make a known mistake on purpose: one of the API's, or one of `dbstress bugs list`
    #[arg(long, value_name = "NAME")]
    pub bug: Option<Mistake>,
    /// Without the audit trail: changes leave no row in dbstress.audit_entry
    #[arg(long)]
    pub no_audit: bool,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub lasts: Option<Duration>,
}

fn in_flight(word: &str) -> Result<InFlight, String> {
    let known = [InFlight::Refuse, InFlight::Wait];
    known.into_iter().find(|how| how.word() == word).ok_or_else(|| "it is refuse, or wait".into())
}

/// Runs the command until it is told to stop.
///
/// # Errors
/// Usage: an address that others can reach, or that is taken; settings that cannot be; a database that is not ours or not loaded.
pub async fn run(args: &Args, global: &Global, screen: Screen) -> Result<Exit> {
    global.refuse_via("the server goes")?;
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        return Err(Error::usage(format!(
            "{} can be reached from other machines, and nothing that is said there is secret",
            args.listen
        ))
        .cure(format!("--listen 127.0.0.1:{}; or --allow-remote, if the network is yours alone", args.listen.port())));
    }
    let secret = secret(global)?;
    let target = target::existing(global, screen).await?;
    let mut settings = Settings::new(target.options.clone(), secret);
    settings.listen = args.listen;
    settings.strategy = args.strategy;
    settings.pool_size = args.pool_size;
    settings.threads = args.threads.unwrap_or(settings.threads);
    settings.hold = args.hold.unwrap_or_default();
    settings.retry_deadline = args.retry_deadline;
    settings.limits = match args.limits {
        Limits::None => args.limit.clone(),
        Limits::Tiers => Rule::tiers(),
    };
    settings.token_lifetime = args.token_lifetime;
    settings.in_flight = args.in_flight;
    settings.key_lifetime = args.key_lifetime;
    settings.mistake = args.bug;
    settings.audit = !args.no_audit;
    let lasts = args.lasts;
    interrupt::until_told(screen, |stopped| serve(settings, lasts, stopped, screen)).await
}

async fn serve(settings: Settings, lasts: Option<Duration>, mut stopped: watch::Receiver<bool>, screen: Screen) -> Result<Exit> {
    let mistake = settings.mistake;
    let server = Server::start(settings).await?;
    screen.line(&report::listening(&server.address(), server.about(), mistake));
    let end = async {
        match lasts {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = end => {}
        // Whoever would have told it is gone, or has.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    let summary = server.stop().await;
    screen.line(&report::stopped(&summary));
    Ok(if summary.audit_lost == 0 { Exit::Pass } else { Exit::Inconclusive })
}

/// What tokens are signed with: what the environment says, else what is kept in the state directory, made if there is none.
///
/// # Errors
/// Usage: too short, or it can neither be read nor made.
pub(super) fn secret(global: &Global) -> Result<Secret> {
    match env(SECRET).filter(|text| !text.is_empty()) {
        Some(text) => Secret::chosen(&text),
        None => Secret::ensure(&state::directory(global.state_dir.as_deref(), &env)?),
    }
}
