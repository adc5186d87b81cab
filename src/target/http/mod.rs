//! How is the reference server asked for a booking, or for a change of a schedule?
//!
//! One attempt is one request. It is certain not to have been done only if it was never sent, or if the server says so.

mod answer;
mod tokens;

use serde::Serialize;

use super::{Attempt, Who};
use crate::contract::{self, Assign, Call, Cancel, Swap, Units};
use crate::history::{Asking, OperationKind};
use crate::http::{Address, Body, Client, HeaderValue, Method, Request};
use crate::outcome::Abort;
use crate::pg::load::{Failure, Phase};
use crate::workload::booking;
use crate::workload::contest::{self, Change};
use crate::workload::keyed::Key;

use self::answer::Expected;
pub use self::answer::{FailedThere, Told, abort_of, words};
pub use self::tokens::{Mint, Purse, Whom};

/// Asks the reference server, for a run that may name its operations.
#[derive(Clone)]
pub struct Caller {
    address: Address,
    authority: HeaderValue,
    grant: HeaderValue,
    mint: Mint,
}

/// What a user carries from one request to the next.
#[derive(Default)]
pub struct Carried {
    /// Tokens that are good for a while.
    purse: Purse,
    /// What the last answer said besides how it ended.
    pub told: Told,
}

/// What is asked.
struct Ask {
    method: Method,
    path: String,
    body: Vec<u8>,
    whom: Whom,
}

impl Ask {
    fn post(path: String, body: &impl Serialize, whom: Whom) -> Self {
        // Numbers and words: it can be written.
        Self { method: Method::POST, path, body: serde_json::to_vec(body).unwrap_or_default(), whom }
    }
}

impl Caller {
    /// Asks at `address` with the secret of a grant, as those whom `mint` makes tokens for; `None` if a secret or an address cannot stand in a
    /// header.
    pub fn new(address: &Address, grant: &str, mint: Mint) -> Option<Self> {
        let mut grant = HeaderValue::from_str(grant).ok()?;
        grant.set_sensitive(true);
        Some(Self { address: address.clone(), authority: HeaderValue::from_str(address.authority()).ok()?, grant, mint })
    }

    /// Makes one attempt at a booking; `key` is what it is asked for with, where requests carry keys.
    pub async fn book(
        &self,
        client: &mut Client,
        carried: &mut Carried,
        proposal: &booking::Proposal,
        key: Option<&Key>,
        who: Who,
        phase: &Phase,
    ) -> Attempt {
        let (whom, authorisation) = (Whom::Practitioner(proposal.actor), proposal.authorisation);
        let path = format!("/v1/authorisations/{authorisation}");
        if proposal.kind == OperationKind::Browse {
            let ask = Ask { method: Method::GET, path, body: Vec::new(), whom };
            return match self.ask(client, carried, ask, None, who, phase, Expected::Seen).await {
                // It changes nothing: whatever became of it, it can be asked again.
                Attempt::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
                ended => ended,
            };
        }
        let ask = Ask::post(format!("{path}/{}", proposal.kind.word()), &Units { units: proposal.units }, whom);
        if matches!(proposal.key, Some((Asking::HangUp, _))) && who.unanswered == 0 {
            carried.told = Told::default();
            let Some(request) = self.request(carried, ask, key, who) else { return unspeakable() };
            phase.commits();
            // Half of those who hang up are gone while it is performed, the others when its answer begins to come.
            client.hang_up_on(request, who.op_id.n() % 2 == 1).await;
            return Attempt::Unknown;
        }
        let expected = Expected::Booked { authorisation, is_attack: proposal.is_attack };
        self.ask(client, carried, ask, key, who, phase, expected).await
    }

    /// Makes one attempt at a change of a schedule.
    pub async fn change(
        &self,
        client: &mut Client,
        carried: &mut Carried,
        proposal: &contest::Proposal,
        who: Who,
        phase: &Phase,
    ) -> Attempt {
        let programme = proposal.programme;
        let whom = Whom::Coordinator(programme);
        let ask = match proposal.change {
            Change::Assign { person, block, template } => {
                Ask::post("/v1/assignments".into(), &Assign { programme, person, block, template }, whom)
            }
            Change::Cancel { person, block, assignment } => {
                Ask::post(format!("/v1/assignments/{assignment}/cancel"), &Cancel { programme, person, block }, whom)
            }
            Change::Call { person, night, kind } => {
                Ask::post("/v1/calls".into(), &Call { programme, person, night, kind: kind.word().to_owned() }, whom)
            }
            Change::Swap { from, to, source, target } => {
                Ask::post("/v1/swaps".into(), &Swap { programme, from, to, source, target }, whom)
            }
        };
        self.ask(client, carried, ask, None, who, phase, Expected::Changed { programme }).await
    }

    #[expect(clippy::too_many_arguments, reason = "each is another's: the connection's, the user's, the attempt's, the answer's")]
    async fn ask(
        &self,
        client: &mut Client,
        carried: &mut Carried,
        ask: Ask,
        key: Option<&Key>,
        who: Who,
        phase: &Phase,
        expected: Expected,
    ) -> Attempt {
        carried.told = Told::default();
        let Some(request) = self.request(carried, ask, key, who) else { return unspeakable() };
        // From its first byte on nobody knows how far the server has come.
        phase.commits();
        match client.send(request).await {
            Ok(answer) => {
                let attempt = answer::attempt(&answer, expected, &mut carried.told);
                if let Some(began) = carried.told.began {
                    phase.begun_at(began);
                }
                attempt
            }
            Err(broken) if broken.may_have_arrived => Attempt::Unknown,
            Err(_) => {
                phase.settled();
                Attempt::Failed(Failure::local(Abort::ConnectionLost))
            }
        }
    }

    /// `None` if something cannot stand in a request.
    fn request(&self, carried: &mut Carried, ask: Ask, key: Option<&Key>, who: Who) -> Option<Request<Body>> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(self.address.path(&ask.path))
            .header("host", &self.authority)
            .header("authorization", self.mint.bearer(&mut carried.purse, &ask.whom)?)
            .header(contract::LOAD_TEST, "true")
            .header(contract::RUN, &self.grant)
            .header(contract::OPERATION, who.op_id.0)
            .header(contract::ATTEMPT, who.attempt);
        if let Some(key) = key {
            request = request.header(contract::IDEMPOTENCY_KEY, &key.text);
            if key.later > 0 {
                request = request.header(contract::LATER, key.later);
            }
        }
        if !ask.body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Body::from(ask.body)).ok()
    }
}

/// What has been checked before the load began does not fail here.
fn unspeakable() -> Attempt {
    Attempt::GivenUp(Failure::local(Abort::Other), Some("the request cannot be written: this is a bug in dbstress".into()))
}
