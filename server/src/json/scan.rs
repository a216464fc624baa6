//! The strict walk over JSON text (RFC 8259, at most 128 levels): strings, numbers, literals, whole values. Called by
//! `plan`, which decides what to keep. Reads every byte once, allocates nothing, and must not know what a view is.

use super::eight::{digits, plain};
use super::unescape::{unescape, unescaped_eq};

/// Most levels of objects and arrays, the root included.
pub const MAX_DEPTH: u32 = 128;

/// Why a payload is not a data point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON by RFC 8259 (or not UTF-8).
    #[error("not JSON at byte {at}: {detail}")]
    NotJson {
        /// Byte offset in the payload.
        at: usize,
        /// What was found and expected.
        detail: &'static str,
    },
    /// JSON, but a scalar or array.
    #[error("JSON, but not an object")]
    NotObject,
    /// Nested deeper than 128 levels.
    #[error("nested deeper than 128 levels")]
    TooDeep,
}

/// A string of the payload without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'p> {
    /// The bytes between the quotes.
    pub raw: &'p [u8],
    /// Whether there is a backslash in it.
    pub escaped: bool,
}

impl Text<'_> {
    /// Whether its value is `expected`.
    pub fn is(self, expected: &str) -> bool {
        if self.escaped {
            unescaped_eq(self.raw, expected.as_bytes())
        } else {
            self.raw == expected.as_bytes()
        }
    }

    /// Whether two names are the same. Escapes are rare enough in names for a copy.
    pub fn same(self, other: Text<'_>) -> bool {
        if self.raw == other.raw || !(self.escaped || other.escaped) {
            return self.raw == other.raw;
        }
        let value = std::str::from_utf8(other.raw).ok().and_then(|raw| unescape(raw).ok());
        value.is_some_and(|value| self.is(&value))
    }
}

/// Where a string is: small enough for registers, which the loop over members needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
    escaped: bool,
}

/// The walk has ended: `Cursor::error` says why. Empty, so that what may fail returns in registers.
#[derive(Debug)]
pub(super) struct Stop;

/// A place in a payload. Every method starts on the first byte of what it names and ends after its last.
#[derive(Debug)]
pub(super) struct Cursor<'p> {
    bytes: &'p [u8],
    at: usize,
    depth: u32,
    error: Option<JsonError>,
}

impl<'p> Cursor<'p> {
    /// At the first byte that is not white space, of text that is UTF-8.
    pub fn new(bytes: &'p [u8]) -> Result<Self, JsonError> {
        if let Err(error) = simdutf8::compat::from_utf8(bytes) {
            return Err(JsonError::NotJson { at: error.valid_up_to(), detail: "not UTF-8" });
        }
        if bytes.len() > u32::MAX as usize {
            return Err(JsonError::NotJson { at: 0, detail: "larger than 4 GiB" });
        }
        let mut cursor = Cursor::inside(bytes);
        cursor.skip_space();
        Ok(cursor)
    }

    /// At the start of a value captured from text that is known to be JSON.
    pub fn inside(bytes: &'p [u8]) -> Self {
        Cursor { bytes, at: 0, depth: 0, error: None }
    }

    /// The text from `start` to here.
    pub fn since(&self, start: usize) -> &'p [u8] {
        &self.bytes[start..self.at]
    }

    /// Why the walk has ended.
    pub fn error(self, _: Stop) -> JsonError {
        self.error.unwrap_or(JsonError::TooDeep)
    }

    /// The string at a span of this payload.
    #[inline(always)]
    pub fn text(&self, span: Span) -> Text<'p> {
        Text { raw: &self.bytes[span.start as usize..span.end as usize], escaped: span.escaped }
    }

    /// Byte offset in the payload.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The byte here; 0, which is not JSON anywhere, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), Stop> {
        self.skip_space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.unexpected("expected nothing after the value"))
        }
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// Steps into the object here; `None` if it is empty, else its first name with the cursor on the value.
    #[inline]
    pub fn enter_object(&mut self) -> Result<Option<Span>, Stop> {
        self.enter()?;
        if self.peek() == b'}' {
            self.leave();
            return Ok(None);
        }
        self.name().map(Some)
    }

    /// After a member's value: the next name with the cursor on its value, or `None` after the object's end.
    #[inline]
    pub fn next_member(&mut self) -> Result<Option<Span>, Stop> {
        self.skip_space();
        match self.peek() {
            b',' => {
                self.at += 1;
                self.skip_space();
                self.name().map(Some)
            }
            b'}' => {
                self.leave();
                Ok(None)
            }
            _ => Err(self.unexpected("expected `,` or `}` after a value of an object")),
        }
    }

    #[inline(always)]
    fn enter(&mut self) -> Result<(), Stop> {
        if self.depth == MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    #[inline(always)]
    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    #[inline(always)]
    fn name(&mut self) -> Result<Span, Stop> {
        if self.peek() != b'"' {
            return Err(self.unexpected("expected a name in double quotes"));
        }
        let name = self.string()?;
        self.skip_space();
        if self.peek() != b':' {
            return Err(self.unexpected("expected `:` after a name"));
        }
        self.at += 1;
        self.skip_space();
        Ok(name)
    }

    /// Any value. Not recursive: bit 0 of `objects` says whether the innermost open container is an object.
    pub fn value(&mut self) -> Result<(), Stop> {
        let outside = self.depth;
        let mut objects = 0u128;
        loop {
            match self.peek() {
                b'{' => {
                    objects = objects << 1 | 1;
                    if self.enter_object()?.is_some() {
                        continue;
                    }
                    objects >>= 1;
                }
                b'[' => {
                    objects <<= 1;
                    self.enter()?;
                    if self.peek() != b']' {
                        continue;
                    }
                    self.leave();
                    objects >>= 1;
                }
                _ => self.scalar()?,
            }
            while self.depth > outside && !self.another(objects & 1 == 1)? {
                objects >>= 1;
            }
            if self.depth == outside {
                return Ok(());
            }
        }
    }

    /// After a value inside an object or array: whether another one follows (the cursor is on it) or it has ended.
    #[inline(always)]
    fn another(&mut self, object: bool) -> Result<bool, Stop> {
        if object {
            return Ok(self.next_member()?.is_some());
        }
        self.skip_space();
        match self.peek() {
            b',' => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            b']' => {
                self.leave();
                Ok(false)
            }
            _ => Err(self.unexpected("expected `,` or `]` after a value of an array")),
        }
    }

    #[inline(always)]
    fn scalar(&mut self) -> Result<(), Stop> {
        match self.peek() {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(self.unexpected("expected a value")),
        }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), Stop> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.unexpected("expected `true`, `false` or `null`"));
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), Stop> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            _ => self.digits("expected a digit")?,
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits("expected a digit after the decimal point")?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits("expected a digit in the exponent")?;
        }
        Ok(())
    }

    #[inline(always)]
    fn digits(&mut self, expected: &'static str) -> Result<(), Stop> {
        let count = digits(&self.bytes[self.at..]);
        self.at += count;
        if count == 0 { Err(self.unexpected(expected)) } else { Ok(()) }
    }

    #[inline(always)]
    fn string(&mut self) -> Result<Span, Stop> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.broken_string()),
            }
        }
        // Payloads are below 4 GiB.
        let span = Span { start: start as u32, end: self.at as u32, escaped };
        self.at += 1;
        Ok(span)
    }

    fn escape(&mut self) -> Result<(), Stop> {
        self.at += 1;
        let length = match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 1,
            b'u' => {
                let digits = self.bytes.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.unexpected("expected four hexadecimal digits after `\\u`"));
                }
                5
            }
            _ => return Err(self.unexpected("expected one of `\"\\/bfnrtu` after a backslash")),
        };
        self.at += length;
        Ok(())
    }

    #[cold]
    fn too_deep(&mut self) -> Stop {
        self.error = Some(JsonError::TooDeep);
        Stop
    }

    #[cold]
    fn broken_string(&mut self) -> Stop {
        let detail = match self.bytes.get(self.at) {
            None => "the text ends inside a string",
            Some(_) => "a control character inside a string: it must be escaped",
        };
        self.error = Some(JsonError::NotJson { at: self.at, detail });
        Stop
    }

    /// The error for what is here instead of what is `expected`.
    #[cold]
    fn unexpected(&mut self, expected: &'static str) -> Stop {
        let detail = match self.bytes.get(self.at) {
            None if self.bytes.is_empty() => "the payload is empty",
            None => "the text ends too early",
            Some(0) => "a NUL byte",
            Some(0xef) if self.bytes[self.at..].starts_with(b"\xef\xbb\xbf") => {
                "a byte order mark: JSON starts without one"
            }
            Some(_) => expected,
        };
        self.error = Some(JsonError::NotJson { at: self.at, detail });
        Stop
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, Slots};
    use super::*;

    fn scan(text: impl AsRef<[u8]>) -> Result<(), JsonError> {
        Plan::default().scan(text.as_ref(), &mut Slots::new())
    }

    fn not_json(text: impl AsRef<[u8]>) -> (usize, &'static str) {
        match scan(&text) {
            Err(JsonError::NotJson { at, detail }) => (at, detail),
            other => panic!("{other:?} for {:?}", String::from_utf8_lossy(text.as_ref())),
        }
    }

    fn nested(levels: usize, open: &str, inside: &str, close: &str) -> String {
        format!("{{\"a\":{}{inside}{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    }

    #[test]
    fn bad_06_an_empty_value_is_not_json() {
        assert_eq!(not_json(""), (0, "the payload is empty"));
        assert_eq!(not_json(" \n").1, "the text ends too early");
    }

    #[test]
    fn bad_09_not_json_is_named_with_its_place() {
        assert_eq!(not_json("hello"), (0, "expected a value"));
        assert_eq!(not_json(r#"{"a":1} x"#), (8, "expected nothing after the value"));
        assert_eq!(not_json(r#"{"a" 1}"#), (5, "expected `:` after a name"));
        assert_eq!(not_json(r#"{"a":1 "b":2}"#), (7, "expected `,` or `}` after a value of an object"));
        assert_eq!(not_json(r#"{"a":[1 2]}"#), (8, "expected `,` or `]` after a value of an array"));
        assert_eq!(not_json(r#"{a:1}"#), (1, "expected a name in double quotes"));
        assert_eq!(not_json(r#"{"a":tru}"#), (5, "expected `true`, `false` or `null`"));
        for text in [
            r#"{"a":1,}"#,
            r#"{,}"#,
            r#"{"a":[1,]}"#,
            r#"{'a':1}"#,
            r#"{"a":1]"#,
            r#"{"a":[1}}"#,
            r#"{"a":}"#,
        ] {
            not_json(text);
        }
    }

    #[test]
    fn bad_10_json_cut_off_anywhere_is_not_json() {
        let text = r#"{"a": [1.5e3, "x\u00e9y\n", {"b": null}], "c": {"d": true, "e": -0}}"#;
        scan(text).unwrap();
        for end in 0..text.len() {
            not_json(&text[..end]);
        }
    }

    #[test]
    fn bad_11_a_scalar_or_an_array_is_no_data_point() {
        for text in ["1", "null", "\"text\"", " [{\"a\": 1}] ", "[]", "true"] {
            assert_eq!(scan(text), Err(JsonError::NotObject), "{text}");
        }
        not_json("[1");
        not_json("1 2");
    }

    #[test]
    fn bad_12_nesting_ends_at_128_levels() {
        scan(nested(128, "[", "", "]")).unwrap();
        scan(nested(128, "{\"a\":", "1", "}")).unwrap();
        for levels in [129, 10_000] {
            assert_eq!(scan(nested(levels, "[", "", "]")), Err(JsonError::TooDeep));
            assert_eq!(scan(nested(levels, "{\"a\":", "1", "}")), Err(JsonError::TooDeep));
        }
        assert_eq!(scan("[".repeat(10_000)), Err(JsonError::TooDeep));
        let wide = format!("{{\"a\":[{}1]}}", "[[]],".repeat(1000));
        scan(wide).unwrap();
    }

    #[test]
    fn bad_12_nesting_counts_inside_captured_paths_too() {
        let path: Vec<String> = vec!["a".into(); 200];
        let plan = Plan::compile(&[path], true);
        plan.scan(nested(128, "{\"a\":", "1", "}").as_bytes(), &mut Slots::new()).unwrap();
        let deep = nested(10_000, "{\"a\":", "1", "}");
        assert_eq!(plan.scan(deep.as_bytes(), &mut Slots::new()), Err(JsonError::TooDeep));
    }

    #[test]
    fn bad_14_numbers_are_those_of_the_grammar() {
        for number in [
            "0",
            "-0",
            "1e400",
            "9223372036854775808",
            "1E+2",
            "1e-2",
            "0.5",
            "-1.25e10",
            "1234567890123456789012",
        ] {
            scan(format!("{{\"a\":{number}}}")).unwrap();
        }
        for number in [
            "NaN",
            "Infinity",
            "-Infinity",
            "-",
            "+1",
            ".5",
            "1.",
            "01",
            "-01",
            "1e",
            "1e+",
            "0x10",
            "1_000",
            "1.e2",
            "--1",
        ] {
            not_json(format!("{{\"a\":{number}}}"));
        }
    }

    #[test]
    fn bad_15_text_is_utf_8_without_mark_and_nul() {
        assert_eq!(not_json(b"\xef\xbb\xbf{}"), (0, "a byte order mark: JSON starts without one"));
        assert_eq!(not_json(b"{\"a\":\"\xff\"}"), (6, "not UTF-8"));
        assert_eq!(not_json(b"{\"a\":\"\xed\xa0\x80\"}"), (6, "not UTF-8"));
        assert_eq!(not_json(b"{\0}"), (1, "a NUL byte"));
        assert_eq!(not_json(b"{}\0"), (2, "a NUL byte"));
        assert_eq!(
            not_json(b"{\"a\":\"\0\"}"),
            (6, "a control character inside a string: it must be escaped")
        );
        assert_eq!(not_json("{\"a\":\"0123456789\n\"}").0, 16);
        scan(r#"{"a":"\ud800","b":"\udc00\ud800","\ud800":"\u0000","del":""}"#).unwrap();
    }

    #[test]
    fn strings_end_where_they_end_at_every_length() {
        for length in 0..40 {
            let text = "é".repeat(length) + &"x".repeat(length);
            scan(format!("{{\"{text}\":\"{text}\\\"{text}\\\\\"}}")).unwrap();
            for bad in ["\\x", "\\u12g4", "\\u123", "\x1f", "\\"] {
                not_json(format!("{{\"a\":\"{text}{bad}\"}}"));
            }
        }
    }
}
