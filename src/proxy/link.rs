//! What becomes of the bytes between one client and its server?
//!
//! Whole pieces are passed on as they are read; what they mean is looked at on the way. A disturbance ends the session, except for a delay.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{consume_budget, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::frames::{Frames, HEADER, Opening, opening};
use super::hub::{Hub, Order, later};
use super::session::{Answer, Session, ends_request, is_verdict};
use super::stream::Stream;
use super::{Disturbance, Truth};

/// What is read at once.
const PIECE: usize = 16 * 1024;
/// How much may be on its way late in one direction before its sender has to wait.
const LATE: usize = 1024 * 1024;
/// How long the server may take to be connected to, and to act on a cancel request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to answer a COMMIT whose answer will be lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read what it is told last.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much of an answer that is lost may get through.
const LEAK: usize = 64;

/// One session.
pub(super) struct Link {
    /// What the client called itself when it connected.
    pub application_name: String,
    session: RefCell<Session>,
    /// A disturbance has chosen it; no other will.
    is_struck: Cell<bool>,
    fate: Cell<Option<Fate>>,
    fate_is_known: Notify,
    /// A COMMIT whose answer will be lost.
    losing: RefCell<Option<Losing>>,
}

/// How a session ends that is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Both sides are closed.
    Close,
    /// Both sides are reset.
    Reset,
    /// Both sides are closed after so long, in which nobody hears anything.
    Silence(Duration),
}

/// An answer on its way to being lost.
struct Losing {
    order: Order,
    answer: Answer,
    /// The request has passed to its end.
    is_sent: bool,
    has_verdict: bool,
    /// What gets through of the answer in the end, where that is something.
    leak: Option<Vec<u8>>,
}

/// How far a piece of a request is passed on.
enum Passage {
    Whole,
    /// So many bytes, and nothing behind them; a request that is lost has its order here.
    Until(usize, Option<Order>),
}

/// Takes care of somebody who has connected, until the end.
pub(super) async fn serve(hub: Rc<Hub>, client: Stream) {
    // Whatever fails, the connection is closed, which is all that its client can be told.
    let _ = open(&hub, &client).await;
}

async fn open(hub: &Rc<Hub>, client: &Stream) -> io::Result<()> {
    let mut said = Vec::new();
    let (length, application_name) = loop {
        match opening(&said) {
            Opening::Incomplete => {
                let mut piece = [0; 512];
                match client.read(&mut piece).await? {
                    0 => return Ok(()),
                    count => said.extend_from_slice(&piece[..count]),
                }
            }
            Opening::Nonsense => return Ok(()),
            Opening::Encryption { length } => {
                said.drain(..length);
                client.write(b"N").await?;
            }
            Opening::Cancel { length } => return cancel(hub, &said[..length]).await,
            Opening::Session { length, application_name } => break (length, application_name),
        }
    };
    let server = connect(hub).await?;
    let (first, rest) = said.split_at(length);
    server.write(first).await?;
    let link = Rc::new(Link {
        application_name,
        session: RefCell::new(Session::counting(&hub.begun)),
        is_struck: Cell::new(false),
        fate: Cell::new(None),
        fate_is_known: Notify::new(),
        losing: RefCell::default(),
    });
    hub.add(&link);
    link.run(hub, client, &server, rest).await;
    Ok(())
}

async fn connect(hub: &Hub) -> io::Result<Stream> {
    timeout(CONNECT_TIMEOUT, Stream::connect(&hub.upstream)).await?
}

/// Passes a cancel request on. The client sees the end when the server has acted on it.
async fn cancel(hub: &Hub, request: &[u8]) -> io::Result<()> {
    let server = connect(hub).await?;
    server.write(request).await?;
    timeout(CONNECT_TIMEOUT, drain(&server)).await?;
    Ok(())
}

/// Reads to the end.
async fn drain(stream: &Stream) {
    let mut piece = [0; 512];
    while let Ok(1..) = stream.read(&mut piece).await {
        // Of one that never stops talking there is always something to read: whoever limits the time would never get to look at the clock.
        consume_budget().await;
    }
}

impl Link {
    /// Whether it has been let in.
    pub fn has_begun(&self) -> bool {
        self.session.borrow().has_begun()
    }

    /// Whether it is in a transaction.
    pub fn is_open(&self) -> bool {
        self.session.borrow().is_open()
    }

    /// Whether no disturbance has chosen it.
    pub fn is_free(&self) -> bool {
        !self.is_struck.get()
    }

    /// Ends it. From here on nothing is passed on.
    pub fn doom(&self, fate: Fate) {
        self.is_struck.set(true);
        self.fate.set(Some(fate));
        self.fate_is_known.notify_one();
    }

    async fn fate(&self) -> Fate {
        loop {
            if let Some(fate) = self.fate.get() {
                return fate;
            }
            self.fate_is_known.notified().await;
        }
    }

    /// Passes on what both sides say, until one has ended or a disturbance ends both.
    async fn run(self: &Rc<Self>, hub: &Rc<Hub>, client: &Stream, server: &Stream, rest: &[u8]) {
        let fate = tokio::select! {
            biased;
            fate = self.fate() => fate,
            () = self.pass(hub, client, server, rest) => Fate::Close,
        };
        hub.remove(self);
        match fate {
            Fate::Close => {}
            Fate::Reset => {
                client.reset_when_closed();
                server.reset_when_closed();
            }
            Fate::Silence(hold) => sleep(hold).await,
        }
    }

    async fn pass(self: &Rc<Self>, hub: &Rc<Hub>, client: &Stream, server: &Stream, rest: &[u8]) {
        let up = async {
            let mut frames = Frames::default();
            if rest.is_empty() || self.pass_up(hub, &mut frames, server, rest).await {
                self.pump(hub, client, async |piece| self.pass_up(hub, &mut frames, server, piece).await).await;
            }
            // What the server says to that is still passed on.
            server.finish();
            pending().await
        };
        let down = async {
            let mut frames = Frames::default();
            self.pump(hub, server, async |piece| self.pass_down(hub, &mut frames, client, piece).await).await;
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
        hub.remove(self);
        let truth = self.losing.borrow().as_ref().map(|losing| losing.answer.ends());
        if let Some(truth) = truth {
            return self.lose(client, truth).await;
        }
        // Closed while something of the client is unread, the connection would be reset, and with it might go what the server said last.
        client.finish();
        let _ = timeout(FAREWELL, drain(client)).await;
    }

    /// Calls `pass` with every piece that is read, when it is due, until there are no more or it says that no more can be passed.
    async fn pump(&self, hub: &Hub, from: &Stream, mut pass: impl AsyncFnMut(&[u8]) -> bool) {
        let mut buffer = vec![0; PIECE];
        // What is on its way late; an empty piece is the end.
        let mut late: VecDeque<(Instant, Box<[u8]>)> = VecDeque::new();
        let mut waiting = 0;
        let mut has_ended = false;
        loop {
            consume_budget().await;
            let due = late.front().map(|(due, _)| *due);
            tokio::select! {
                read = from.read(&mut buffer), if !has_ended && waiting < LATE => {
                    let piece = &buffer[..read.unwrap_or(0)];
                    has_ended = piece.is_empty();
                    let by = hub.lateness(&self.application_name);
                    if by.is_zero() && late.is_empty() {
                        if has_ended || !pass(piece).await {
                            return;
                        }
                    } else {
                        let due = later(Instant::now(), by);
                        waiting += piece.len();
                        late.push_back((late.back().map_or(due, |(last, _)| due.max(*last)), piece.into()));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let Some((_, piece)) = late.pop_front() else { continue };
                    waiting -= piece.len();
                    if piece.is_empty() || !pass(&piece).await {
                        return;
                    }
                }
            }
        }
    }

    /// Passes a piece of what the client says; false if the server takes no more.
    async fn pass_up(self: &Rc<Self>, hub: &Hub, frames: &mut Frames, server: &Stream, piece: &[u8]) -> bool {
        match self.look_at_request(hub, frames, piece) {
            Passage::Whole => server.write(piece).await.is_ok(),
            Passage::Until(end, lost) => {
                let passed = server.write(&piece[..end]).await.is_ok();
                if let Some(order) = lost {
                    // Whether the beginning has arrived makes no difference.
                    order.strike(&self.application_name, Truth::NeverSent);
                    self.doom(Fate::Close);
                } else if !passed {
                    return false;
                }
                pending().await
            }
        }
    }

    fn look_at_request(self: &Rc<Self>, hub: &Hub, frames: &mut Frames, piece: &[u8]) -> Passage {
        let mut session = self.session.borrow_mut();
        let mut losing = self.losing.borrow_mut();
        let mut passage = Passage::Whole;
        // The first message here of the present request. What came of it in earlier pieces has been passed on and does nothing by itself.
        let mut first: Option<(usize, usize)> = None;
        frames.read(piece, |message| {
            if let Passage::Until(..) = passage {
                return;
            }
            let (start, end) = *first.get_or_insert((message.start.unwrap_or(0), message.end));
            let commit = session.asks(message.kind, message.body);
            if let Some(commit) = commit
                && let Some((order, is_within)) = hub.at_commit(self)
            {
                self.is_struck.set(true);
                if order.what == Disturbance::RequestLost {
                    let part = if is_within { (end - start) / 2 } else { 0 };
                    passage = Passage::Until(start + part, Some(order));
                    return;
                }
                self.expect_answer();
                let leak = is_within.then(Vec::new);
                *losing = Some(Losing { order, answer: Answer::to(commit), is_sent: false, has_verdict: false, leak });
            }
            if ends_request(message.kind) {
                first = None;
                if let Some(losing) = losing.as_mut().filter(|losing| !losing.is_sent) {
                    losing.is_sent = true;
                    passage = Passage::Until(message.end, None);
                }
            }
        });
        passage
    }

    /// Gives the server so much time to answer a COMMIT.
    fn expect_answer(self: &Rc<Self>) {
        let link = self.clone();
        spawn_local(async move {
            sleep(ANSWER_TIMEOUT).await;
            if let Some(losing) = link.losing.take() {
                losing.order.strike(&link.application_name, Truth::Unanswered);
                link.doom(Fate::Close);
            }
        });
    }

    /// Passes a piece of what the server says; false if the client takes no more.
    async fn pass_down(&self, hub: &Hub, frames: &mut Frames, client: &Stream, piece: &[u8]) -> bool {
        if self.losing.borrow().is_some() {
            if let Some(truth) = self.look_at_lost_answer(frames, piece) {
                self.lose(client, truth).await;
                pending().await
            }
            return true;
        }
        let mut is_ready = false;
        frames.read(piece, |message| {
            is_ready |= message.kind == b'Z';
            self.session.borrow_mut().answers(message.kind, message.body);
        });
        let passed = client.write(piece).await.is_ok();
        if is_ready && self.is_open() {
            hub.look();
        }
        passed
    }

    fn look_at_lost_answer(&self, frames: &mut Frames, piece: &[u8]) -> Option<Truth> {
        let mut losing = self.losing.borrow_mut();
        let losing = losing.as_mut()?;
        let mut truth = None;
        let mut leaking = if losing.has_verdict { 0 } else { piece.len() };
        frames.read(piece, |message| {
            if is_verdict(message.kind) && !losing.has_verdict {
                losing.has_verdict = true;
                // The verdict announces itself, and that is all.
                leaking = message.start.map_or(0, |start| start + HEADER);
            }
            truth = truth.or(losing.answer.hears(message.kind, message.body));
        });
        if let Some(leak) = &mut losing.leak {
            leak.extend_from_slice(&piece[..leaking.min(LEAK.saturating_sub(leak.len()))]);
        }
        truth
    }

    /// The answer is lost, and with it the session.
    async fn lose(&self, client: &Stream, truth: Truth) {
        let Some(losing) = self.losing.take() else { return };
        if let Some(leak) = losing.leak {
            // A client that reads nothing gets nothing.
            let _ = timeout(FAREWELL, client.write(&leak)).await;
        }
        losing.order.strike(&self.application_name, truth);
        self.doom(Fate::Close);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot::{Receiver, channel};
    use tokio::task::LocalSet;

    use super::super::Strike;
    use super::super::frames::tests::message;
    use super::*;
    use crate::pg::{ConnectOptions, Host, SslMode};

    /// A session in a transaction that wrote, and a disturbance that waits for its COMMIT.
    struct Scene {
        hub: Rc<Hub>,
        link: Rc<Link>,
        up: Frames,
        down: Frames,
        strike: Receiver<Strike>,
    }

    impl Scene {
        /// `is_within`: the cut that will be made is one within a message.
        fn new(what: Disturbance, is_within: bool) -> Self {
            let upstream = ConnectOptions {
                host: Host::Tcp("127.0.0.1".into()),
                port: 1,
                user: String::new(),
                password: None,
                database: String::new(),
                ssl_mode: SslMode::Disable,
                ssl_root_cert: None,
                counted: Default::default(),
                same: Default::default(),
            };
            let hub = Rc::new(Hub::new(upstream, Arc::default()));
            if is_within {
                // Every other one is.
                assert!(matches!(Self::with(&hub, what).asks(&request()), Passage::Until(..)));
            }
            Self::with(&hub, what)
        }

        fn with(hub: &Rc<Hub>, what: Disturbance) -> Self {
            let link = Rc::new(Link {
                application_name: "vu0".into(),
                session: RefCell::default(),
                is_struck: Cell::new(false),
                fate: Cell::new(None),
                fate_is_known: Notify::new(),
                losing: RefCell::default(),
            });
            let (reply, strike) = channel();
            hub.take(Order { what, prefix: "vu".into(), patience: Duration::from_secs(3600), reply, number: 0 });
            let mut scene = Self { hub: hub.clone(), link, up: Frames::default(), down: Frames::default(), strike };
            scene.hears(&message(b'Z', b"I"));
            assert!(matches!(scene.asks(&message(b'P', b"s0\0COMMIT\0\0\0")), Passage::Whole));
            assert!(matches!(scene.asks(&message(b'Q', b"BEGIN\0")), Passage::Whole));
            scene.hears(&[message(b'C', b"BEGIN\0"), message(b'Z', b"T")].concat());
            assert!(matches!(scene.asks(&message(b'Q', b"DELETE FROM t\0")), Passage::Whole));
            scene.hears(&[message(b'C', b"DELETE 1\0"), message(b'Z', b"T")].concat());
            scene
        }

        fn asks(&mut self, piece: &[u8]) -> Passage {
            self.link.look_at_request(&self.hub, &mut self.up, piece)
        }

        fn hears(&mut self, piece: &[u8]) {
            self.down.read(piece, |m| self.link.session.borrow_mut().answers(m.kind, m.body));
        }
    }

    fn request() -> Vec<u8> {
        [message(b'B', b"\0s0\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat()
    }

    /// Both pieces of something, cut in every place.
    fn cuts(bytes: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
        (0..=bytes.len()).map(|at| [&bytes[..at], &bytes[at..]])
    }

    async fn locally(test: impl Future<Output = ()>) {
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn of_a_request_that_is_lost_no_whole_execution_passes() {
        locally(async {
            let extended = request();
            let simple = message(b'Q', b"/* op */ COMMIT;\0");
            let behind = message(b'Q', b"SELECT 1\0");
            for (bytes, commit) in [(&extended, extended.len() - HEADER), (&simple, simple.len())] {
                let bytes = [&bytes[..], &behind].concat();
                for is_within in [false, true] {
                    for pieces in cuts(&bytes) {
                        let mut scene = Scene::new(Disturbance::RequestLost, is_within);
                        let (mut passed, mut lost) = (Vec::new(), None);
                        for piece in pieces {
                            match scene.asks(piece) {
                                Passage::Whole => passed.extend_from_slice(piece),
                                Passage::Until(end, order) => {
                                    passed.extend_from_slice(&piece[..end]);
                                    lost = order;
                                    break;
                                }
                            }
                        }
                        assert!(lost.is_some() && !scene.link.is_free());
                        assert!(bytes.starts_with(&passed) && passed.len() < commit, "{} of {commit}", passed.len());
                        if pieces[0].is_empty() {
                            assert_eq!(
                                !passed.is_empty(),
                                is_within,
                                "where it comes in one piece, either nothing or half a message passes"
                            );
                        }
                    }
                }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn of_a_response_that_is_lost_no_whole_verdict_passes() {
        locally(async {
            let request = request();
            let [committed, refused, bound, ready] =
                [message(b'C', b"COMMIT\0"), message(b'E', b"SERROR\0C23505\0\0"), message(b'2', b""), message(b'Z', b"I")];
            let rolled_back = message(b'C', b"ROLLBACK\0");
            let notice = message(b'N', &[b'x'; 200]);
            let table = [
                ([&bound[..], &committed, &ready], Truth::Committed),
                ([&bound[..], &refused, &ready], Truth::NotCommitted),
                ([&notice[..], &rolled_back, &ready], Truth::NotCommitted),
            ];
            for (messages, truth) in table {
                let answer = messages.concat();
                for is_within in [false, true] {
                    for pieces in cuts(&answer) {
                        let mut scene = Scene::new(Disturbance::ResponseLost, is_within);
                        // What comes behind the request does not pass.
                        let asked = [&request[..], b"Q\0\0\0\x04"].concat();
                        assert!(matches!(scene.asks(&asked), Passage::Until(end, None) if end == request.len()));
                        let first = scene.link.look_at_lost_answer(&mut scene.down, pieces[0]);
                        let whole = pieces[1].is_empty();
                        assert_eq!(first, whole.then_some(truth));
                        if !whole {
                            assert_eq!(scene.link.look_at_lost_answer(&mut scene.down, pieces[1]), Some(truth));
                        }
                        let leak = scene.link.losing.take().unwrap().leak;
                        assert_eq!(leak.is_some(), is_within);
                        if let Some(leak) = leak {
                            let verdict = messages[0].len() + messages[1].len();
                            assert!(answer.starts_with(&leak) && !leak.is_empty() && leak.len() < verdict && leak.len() <= LEAK);
                        }
                    }
                }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_request_whose_answer_is_lost_passes_to_its_end_however_it_comes() {
        locally(async {
            let request = request();
            for pieces in cuts(&request) {
                let mut scene = Scene::new(Disturbance::ResponseLost, false);
                let mut passed = 0;
                for piece in pieces {
                    passed += match scene.asks(piece) {
                        Passage::Whole => piece.len(),
                        Passage::Until(end, order) => {
                            assert!(order.is_none() && scene.link.losing.borrow().as_ref().unwrap().is_sent);
                            end
                        }
                    };
                }
                assert_eq!(passed, request.len());
                assert!(scene.strike.try_recv().is_err(), "it is not struck before the truth is known");
            }
        })
        .await;
    }
}
