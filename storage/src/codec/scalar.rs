//! Finds the end of one JSON scalar, as strictly as RFC 8259: used by training, by encoding and when a generation is
//! loaded. Knows nothing of shapes. Texts are read with `PAD` readable bytes behind them, which are zero: a zero byte
//! ends every scalar, so no loop here runs past the payload.

/// Zero bytes that must follow a text that is scanned.
pub(super) const PAD: usize = 64;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Eight bytes at `at`, the first in the lowest byte.
#[inline(always)]
pub(super) fn load8(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*text.get(at..)?.first_chunk::<8>()?))
}

/// The end of the scalar that starts at `at`: a string, number, `true`, `false` or `null`.
#[inline]
pub(super) fn end(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at)? {
        b'"' => string_end(text, at),
        b't' => word_end(text, at, b"true"),
        b'f' => word_end(text, at, b"false"),
        b'n' => word_end(text, at, b"null"),
        _ => number_end(text, at),
    }
}

#[inline(always)]
fn word_end<const N: usize>(text: &[u8], at: usize, word: &[u8; N]) -> Option<usize> {
    (text.get(at..)?.first_chunk::<N>()? == word).then_some(at + N)
}

/// The end of the string whose opening quote is at `at`, behind its closing quote.
#[inline]
pub(super) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut next = at + 1;
    loop {
        let word = load8(text, next)?;
        let special = stops(word);
        if special != 0 {
            next += (special.trailing_zeros() / 8) as usize;
            return if text[next] == b'"' { Some(next + 1) } else { unusual_string_end(text, at, next) };
        }
        next += 8;
    }
}

/// Marks the bytes that may not stand in a plain string: quote, backslash, control, not ASCII. The lowest mark is exact.
#[inline(always)]
fn stops(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let escape = word ^ (ONES * b'\\' as u64);
    let zero = |byte: u64| byte.wrapping_sub(ONES) & !byte;
    (zero(quote) | zero(escape) | (word.wrapping_sub(ONES * 0x20) & !word) | word) & HIGHS
}

/// The same for a string with escapes or non-ASCII text, plain up to `next`.
#[cold]
fn unusual_string_end(text: &[u8], at: usize, mut next: usize) -> Option<usize> {
    loop {
        match *text.get(next)? {
            b'"' => break,
            b'\\' => next += escape_length(text.get(next + 1..)?)?,
            byte if byte < 0x20 => return None,
            _ => next += 1,
        }
    }
    std::str::from_utf8(&text[at..next]).ok().map(|_| next + 1)
}

/// Bytes of an escape, backslash included, from what follows the backslash.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

fn digits_end(text: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    while text.get(at)?.is_ascii_digit() {
        at += 1;
    }
    (at > start).then_some(at)
}

fn number_end(text: &[u8], mut at: usize) -> Option<usize> {
    at += usize::from(*text.get(at)? == b'-');
    at = if *text.get(at)? == b'0' { at + 1 } else { digits_end(text, at)? };
    if *text.get(at)? == b'.' {
        at = digits_end(text, at + 1)?;
    }
    if matches!(text.get(at)?, b'e' | b'E') {
        at += 1;
        at += usize::from(matches!(text.get(at)?, b'+' | b'-'));
        at = digits_end(text, at)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> bool {
        let mut padded = text.as_bytes().to_vec();
        padded.resize(text.len() + PAD, 0);
        end(&padded, 0) == Some(text.len())
    }

    #[test]
    fn scalars_are_accepted_as_rfc_8259_says() {
        for good in [
            "0",
            "-0",
            "12.50",
            "1e400",
            "-1.5E-7",
            "true",
            "false",
            "null",
            r#""a\u00e9\n\"""#,
            "\"\u{e9}\"",
            r#""\ud800""#,
        ] {
            assert!(whole(good), "{good}");
        }
        for bad in
            ["01", "-", "1.", ".5", "+1", "1e", "tru", "\"a", "\"\t\"", r#""\x""#, r#""\u12g4""#, "NaN", ""]
        {
            assert!(!whole(bad), "{bad}");
        }
    }

    #[test]
    fn a_string_with_bytes_that_are_not_utf_8_is_refused() {
        let mut text = b"\"plain text \xff\"".to_vec();
        text.resize(text.len() + PAD, 0);
        assert_eq!(end(&text, 0), None);
    }
}
