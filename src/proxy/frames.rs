//! Where in a stream of bytes does a message begin and end?
//!
//! Both directions look the same once a connection is opened: a byte that says what it is, a length that counts itself, a body. Only what a
//! client says first has no such byte. <https://www.postgresql.org/docs/current/protocol-message-formats.html>

/// How much of a body is kept. Names and statements are at its beginning; rows and parameters, which are long, are nobody's business here.
pub(super) const KEPT: usize = 16 * 1024;

/// Kind and length of a message.
pub(super) const HEADER: usize = 5;

/// Finds the messages in one direction of a connection, however its bytes are cut into pieces.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the body that are still to come.
    left: usize,
    /// What has come of a body that came in more than one piece, up to [`KEPT`].
    body: Vec<u8>,
    /// What came is no message: from here on nobody knows where one begins.
    is_lost: bool,
}

/// A message whose last byte has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'m> {
    /// What it is; what that means depends on the direction.
    pub kind: u8,
    /// Its body, up to [`KEPT`] bytes of it.
    pub body: &'m [u8],
    /// Its first byte in the piece; `None` if that was in an earlier one.
    pub start: Option<usize>,
    /// The byte behind it in the piece.
    pub end: usize,
}

impl Frames {
    /// Calls `visit` for each message that ends in `piece`, the next bytes of the stream.
    pub fn read(&mut self, piece: &[u8], mut visit: impl FnMut(Message<'_>)) {
        let (mut at, mut start) = (0, None);
        while at < piece.len() && !self.is_lost {
            if self.have < HEADER {
                if self.have == 0 {
                    start = Some(at);
                }
                let more = (HEADER - self.have).min(piece.len() - at);
                self.header[self.have..self.have + more].copy_from_slice(&piece[at..at + more]);
                self.have += more;
                at += more;
                if self.have < HEADER {
                    return;
                }
                let [_, length @ ..] = self.header;
                let Some(left) = (u32::from_be_bytes(length) as usize).checked_sub(4) else {
                    self.is_lost = true;
                    return;
                };
                self.left = left;
                self.body.clear();
            }
            let here = &piece[at..at + self.left.min(piece.len() - at)];
            at += here.len();
            self.left -= here.len();
            if self.left > 0 {
                self.keep(here);
                return;
            }
            let body = if self.body.is_empty() {
                &here[..here.len().min(KEPT)]
            } else {
                self.keep(here);
                &self.body
            };
            visit(Message { kind: self.header[0], body, start, end: at });
            self.have = 0;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT - self.body.len();
        self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// No client has more to say at first, and no server would listen to it.
const LONGEST_OPENING: usize = 10_000;

/// What a client says first, without a byte that says what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// There is more to come.
    Incomplete,
    /// Nothing that a client of PostgreSQL says.
    Nonsense,
    /// May we encrypt? Whoever asks waits for a byte and then begins again.
    Encryption {
        /// Bytes of the question.
        length: usize,
    },
    /// A statement of another session is to be cancelled.
    Cancel {
        /// Bytes of the request.
        length: usize,
    },
    /// A session.
    Session {
        /// Bytes of the request.
        length: usize,
        /// What it calls itself; empty if it does not.
        application_name: String,
    },
}

/// Reads what has come of a client's first words.
pub(super) fn opening(bytes: &[u8]) -> Opening {
    let Some(length) = bytes.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else { return Opening::Incomplete };
    if !(8..=LONGEST_OPENING).contains(&length) {
        return Opening::Nonsense;
    }
    let Some((code, body)) = bytes.get(4..length).and_then(<[u8]>::split_first_chunk) else { return Opening::Incomplete };
    match u32::from_be_bytes(*code) {
        80_877_102 => Opening::Cancel { length },
        // SSLRequest, GSSENCRequest.
        80_877_103 | 80_877_104 => Opening::Encryption { length },
        _ => Opening::Session { length, application_name: setting(body, b"application_name") },
    }
}

/// The value of `name` in a list of names and values, each with a zero behind it; empty if there is none.
fn setting(list: &[u8], name: &[u8]) -> String {
    let mut words = list.split(|byte| *byte == 0);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == name {
            return String::from_utf8_lossy(value).into_owned();
        }
    }
    String::new()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message as it is sent.
    pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// What is found in pieces, and where in the whole stream it begins and ends.
    fn found(pieces: &[&[u8]]) -> Vec<(u8, Vec<u8>, usize, usize)> {
        let (mut frames, mut all, mut before, mut begun) = (Frames::default(), Vec::new(), 0, 0);
        for piece in pieces {
            frames.read(piece, |m| {
                if let Some(start) = m.start {
                    begun = before + start;
                }
                all.push((m.kind, m.body.to_vec(), begun, before + m.end));
                begun = before + m.end;
            });
            before += piece.len();
        }
        all
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let bodies: [(u8, &[u8]); 5] = [(b'B', b"\0s0\0\0\0"), (b'S', b""), (b'H', b""), (b'Q', b"COMMIT\0"), (b'Z', b"I")];
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (kind, body) in bodies {
            let start = stream.len();
            stream.extend(message(kind, body));
            expected.push((kind, body.to_vec(), start, stream.len()));
        }
        assert_eq!(found(&[&stream]), expected);
        for one in 0..=stream.len() {
            for two in one..=stream.len() {
                assert_eq!(found(&[&stream[..one], &stream[one..two], &stream[two..]]), expected, "cut at {one} and {two}");
            }
        }
        assert_eq!(found(&stream.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_message_that_began_earlier_has_no_start_here() {
        let mut frames = Frames::default();
        let bytes = message(b'Q', b"COMMIT\0");
        frames.read(&bytes[..7], |m| panic!("{m:?} is not whole"));
        let mut seen = 0;
        frames.read(&bytes[7..], |m| {
            assert_eq!(m, Message { kind: b'Q', body: b"COMMIT\0", start: None, end: bytes.len() - 7 });
            seen += 1;
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn of_a_long_body_only_the_beginning_is_kept() {
        let mut long = vec![b'x'; 3 * KEPT];
        long[0] = b'y';
        let mut stream = message(b'D', &long);
        stream.extend(message(b'Z', b"T"));
        for size in [stream.len(), KEPT, 1000, 1] {
            let all = found(&stream.chunks(size).collect::<Vec<_>>());
            assert_eq!(all.len(), 2, "in pieces of {size}");
            assert_eq!((all[0].1.len(), all[0].1[0], all[0].3), (KEPT, b'y', 3 * KEPT + HEADER));
            assert_eq!((all[1].0, &*all[1].1), (b'Z', &b"T"[..]));
        }
    }

    #[test]
    fn behind_what_is_no_message_nothing_is_found() {
        let mut stream = vec![b'Q', 0, 0, 0, 3];
        stream.extend(message(b'Z', b"I"));
        assert_eq!(found(&[&stream]), []);
        assert_eq!(found(&stream.chunks(1).collect::<Vec<_>>()), []);
    }

    #[test]
    fn the_first_words_of_a_client_are_told_apart_and_waited_for() {
        let session = packet(196_608, b"user\0bob\0application_name\0dbstress/run1\0\0");
        let nameless = packet(196_608, b"user\0application_name\0\0");
        let opened = |bytes: &[u8], name: &str| Opening::Session { length: bytes.len(), application_name: name.into() };
        let table = [
            (packet(80_877_103, b""), Opening::Encryption { length: 8 }),
            (packet(80_877_104, b""), Opening::Encryption { length: 8 }),
            (packet(80_877_102, b"pidxkeyx"), Opening::Cancel { length: 16 }),
            (packet(80_877_102, &[7; 36]), Opening::Cancel { length: 44 }),
            (session.clone(), opened(&session, "dbstress/run1")),
            (nameless.clone(), opened(&nameless, "")),
        ];
        for (bytes, expected) in table {
            for cut in 0..bytes.len() {
                assert_eq!(opening(&bytes[..cut]), Opening::Incomplete, "{expected:?} cut at {cut}");
            }
            assert_eq!(opening(&bytes), expected);
            let more = [&bytes[..], b"\0\0\0\x08more"].concat();
            assert_eq!(opening(&more), expected, "what follows is another matter");
        }
        for nonsense in [&b"GET / HTTP/1.1"[..], b"\0\0\0\x07\0\0\0", &[0x16, 3, 1, 2, 0]] {
            assert_eq!(opening(nonsense), Opening::Nonsense);
        }
    }
}
