//! JSON string escapes undone, for names (compared without a copy) and for typed strings. Called by `keys`, `plan` and
//! `typed` with the text between the quotes, which the walk has found to be valid.

/// The text means a character that does not exist: half of a surrogate pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoneSurrogate;

/// The string's value.
pub(super) fn unescape(raw: &str) -> Result<String, LoneSurrogate> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (character, after) = escape(&rest[at + 1..])?;
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// Whether the string's value is `expected`. A string without a value equals nothing.
pub(super) fn unescaped_eq(raw: &[u8], expected: &[u8]) -> bool {
    let Ok(mut rest) = std::str::from_utf8(raw) else { return false };
    let mut expected = expected;
    while let Some(at) = rest.find('\\') {
        let Ok((character, after)) = escape(&rest[at + 1..]) else { return false };
        let mut buffer = [0; 4];
        let found = expected
            .strip_prefix(&rest.as_bytes()[..at])
            .and_then(|left| left.strip_prefix(character.encode_utf8(&mut buffer).as_bytes()));
        let Some(left) = found else { return false };
        (expected, rest) = (left, after);
    }
    expected == rest.as_bytes()
}

/// The character of an escape sequence, and what follows it; `text` starts after the backslash.
fn escape(text: &str) -> Result<(char, &str), LoneSurrogate> {
    let mut characters = text.chars();
    let simple = match characters.next() {
        Some('u') => return unicode(characters.as_str()),
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some(itself) => itself,
        None => return Err(LoneSurrogate),
    };
    Ok((simple, characters.as_str()))
}

/// One or, for a surrogate pair, two code units; `text` starts after the first `\u`.
fn unicode(text: &str) -> Result<(char, &str), LoneSurrogate> {
    let (first, rest) = code_unit(text)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, rest));
    }
    let (second, rest) = rest.strip_prefix("\\u").ok_or(LoneSurrogate).and_then(code_unit)?;
    let paired = (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second);
    let character = char::from_u32(0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff));
    character.filter(|_| paired).map(|character| (character, rest)).ok_or(LoneSurrogate)
}

fn code_unit(text: &str) -> Result<(u32, &str), LoneSurrogate> {
    let (digits, rest) = text.split_at_checked(4).ok_or(LoneSurrogate)?;
    Ok((u32::from_str_radix(digits, 16).map_err(|_| LoneSurrogate)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_mean_their_characters() {
        assert_eq!(unescape(r#"a\"\\\/\b\f\n\r\t\u00e9z"#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\t\u{e9}z");
        assert_eq!(unescape(r"\ud83d\ude00!").unwrap(), "\u{1f600}!");
    }

    #[test]
    fn half_a_surrogate_pair_has_no_value() {
        for text in [r"\ud800", r"\ud800x", r"\udc00\ud800", r"\ud800\u0041", r"\ud800\n"] {
            assert_eq!(unescape(text), Err(LoneSurrogate), "{text}");
            assert!(!unescaped_eq(text.as_bytes(), "\u{fffd}".as_bytes()));
        }
    }

    #[test]
    fn names_are_compared_by_value() {
        assert!(unescaped_eq(br"\u0061b", b"ab"));
        assert!(unescaped_eq(br"a\u0062", b"ab"));
        assert!(!unescaped_eq(br"a\u0062", b"abc"));
        assert!(!unescaped_eq(br"a\u0062c", b"ab"));
    }
}
