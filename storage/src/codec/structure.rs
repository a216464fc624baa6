//! The structure of JSON between its scalars: containers, names, commas, white space. A payload is pieces of structure
//! with a scalar between each two; a place is the stack of containers with the names that lead there. Called by
//! training (to cut samples), by loading (every walk of a shape must be valid JSON) and by bindings (to find paths).

use super::scalar;

/// Deepest nesting.
pub(super) const MAX_DEPTH: usize = 128;

/// A container on the way to a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Level {
    Array,
    Object {
        /// The name of the member here, unescaped where that is possible.
        name: Vec<u8>,
        /// All members so far have this name: what may be an Avro-JSON wrapper.
        only: bool,
    },
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Expect {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    CommaOrEnd,
}

/// What happens in a piece, at a byte offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A value starts; the levels lead to it.
    Start(usize),
    /// A value has ended; the levels lead to it.
    End(usize),
    /// A second, other member of an object starts; the levels but the last lead to the object, the last has the
    /// first member's name.
    Second,
}

/// A place in a document, moved by pieces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Structure {
    levels: Vec<Level>,
    expect: Expect,
}

impl Structure {
    /// Before a document.
    pub(super) fn start() -> Structure {
        Structure { levels: Vec::new(), expect: Expect::Value }
    }

    /// The way to the value that is about to start or has just ended.
    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Nothing but white space may follow.
    pub(super) fn is_done(&self) -> bool {
        self.levels.is_empty() && self.expect == Expect::CommaOrEnd
    }

    /// Walks the structure at the front of `text`, which is padded, to the next scalar or to the end of the document
    /// and its white space: how many bytes, if it is valid. The scalar counts as read.
    pub(super) fn advance(&mut self, text: &[u8], mut event: impl FnMut(&Structure, Event)) -> Option<usize> {
        if self.expect == Expect::CommaOrEnd && !self.levels.is_empty() {
            event(self, Event::End(0));
        }
        let mut at = 0;
        loop {
            let byte = *text.get(at)?;
            match (self.expect, byte) {
                (_, b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                (Expect::CommaOrEnd, _) if self.levels.is_empty() => return Some(at),
                (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                    event(self, Event::Start(at));
                    self.open(byte)?;
                    at += 1;
                }
                (Expect::ValueOrEnd | Expect::CommaOrEnd, b']')
                | (Expect::NameOrEnd | Expect::CommaOrEnd, b'}') => {
                    at += 1;
                    self.close(byte)?;
                    event(self, Event::End(at));
                }
                (Expect::CommaOrEnd, b',') => {
                    self.expect = match self.levels.last()? {
                        Level::Array => Expect::Value,
                        Level::Object { .. } => Expect::Name,
                    };
                    at += 1;
                }
                (Expect::Name | Expect::NameOrEnd, b'"') => at = self.name(text, at, &mut event)?,
                (Expect::Value | Expect::ValueOrEnd, b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                    event(self, Event::Start(at));
                    self.expect = Expect::CommaOrEnd;
                    return Some(at);
                }
                _ => return None,
            }
        }
    }

    fn open(&mut self, byte: u8) -> Option<()> {
        let (level, expect) = match byte {
            b'[' => (Level::Array, Expect::ValueOrEnd),
            _ => (Level::Object { name: Vec::new(), only: false }, Expect::NameOrEnd),
        };
        self.levels.push(level);
        self.expect = expect;
        (self.levels.len() <= MAX_DEPTH).then_some(())
    }

    fn close(&mut self, byte: u8) -> Option<()> {
        let array = matches!(self.levels.pop()?, Level::Array);
        self.expect = Expect::CommaOrEnd;
        (array == (byte == b']')).then_some(())
    }

    /// The name at `at` and its colon.
    fn name(&mut self, text: &[u8], at: usize, event: &mut impl FnMut(&Structure, Event)) -> Option<usize> {
        let end = scalar::string_end(text, at)?;
        let new = unescaped(&text[at..end]);
        let first = self.expect == Expect::NameOrEnd;
        let Level::Object { name, only } = self.levels.last()? else { return None };
        let still = first || (*only && *name == new);
        if *only && !still {
            event(self, Event::Second);
        }
        *self.levels.last_mut()? = Level::Object { name: new, only: still };
        self.expect = Expect::Value;
        let white =
            text[end..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        (*text.get(end + white)? == b':').then_some(end + white + 1)
    }
}

/// The text of a string token; as it stands, with its quotes, if its escapes are no text (a lone surrogate).
fn unescaped(token: &[u8]) -> Vec<u8> {
    match token.contains(&b'\\') {
        false => token[1..token.len() - 1].to_vec(),
        true => serde_json::from_slice::<String>(token).map_or_else(|_| token.to_vec(), String::into_bytes),
    }
}
