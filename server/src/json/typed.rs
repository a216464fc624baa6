//! Captured JSON text as typed values: fields of typed reads, and event times. Called for text that a scan has found to
//! be valid JSON; knows the declared types and nothing of views or rows.

use std::borrow::Cow;

use super::scan::{Cursor, Text};
use super::unescape::unescape;
use crate::definitions::{Field, FieldType, TimeUnit};

/// Event times are from the year 2000 on and before the year 2100, in ms: seconds taken for milliseconds, microseconds
/// taken for milliseconds and unset clocks are all outside.
pub const EVENT_TIME_RANGE_MS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// One field of one data point.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'p> {
    /// JSON null, or absent without default.
    Null,
    /// Not of the declared type.
    Invalid,
    /// Type `double`.
    Double(f64),
    /// Types `int64` and `timestamp`.
    Int(i64),
    /// Type `bool`.
    Bool(bool),
    /// Type `string`, unescaped.
    Str(Cow<'p, str>),
    /// Type `json`, as text.
    Json(Cow<'p, [u8]>),
}

/// The typed value of `field` from its captured text; absent and null give its default.
pub fn cell<'p>(field: &'p Field, avro: bool, raw: Option<&'p [u8]>) -> Cell<'p> {
    let Some(raw) = raw.filter(|raw| !is_null(raw)) else { return default(field) };
    match unwrapped(field.field_type, avro, raw) {
        Some(text) if is_null(text) && field.field_type == FieldType::Json => default(field),
        Some(text) => typed(field.field_type, text).unwrap_or(Cell::Invalid),
        None => Cell::Invalid,
    }
}

/// The value of a type, without defaults and wrappers; `None` if the text is of another type or out of range.
pub fn typed(field_type: FieldType, text: &[u8]) -> Option<Cell<'_>> {
    match field_type {
        FieldType::Double => double(text).map(Cell::Double),
        FieldType::Int64 | FieldType::Timestamp => integer(text).map(Cell::Int),
        FieldType::Bool => boolean(text).map(Cell::Bool),
        FieldType::String => string(text).map(Cell::Str),
        FieldType::Json => Some(Cell::Json(Cow::Borrowed(text))),
    }
}

/// An event time in ms from its captured text, or what is wrong with it. (A null is no event time rather than a bad
/// one: ask `is_null` first.)
pub fn event_time(raw: &[u8], unit: TimeUnit, avro: bool) -> Result<i64, String> {
    let number = unwrapped(FieldType::Int64, avro, raw).and_then(integer);
    let number = number.ok_or_else(|| format!("the event time is {}, not an integer", excerpt(raw)))?;
    let factor = match unit {
        TimeUnit::Milliseconds => 1,
        TimeUnit::Seconds => 1000,
    };
    check_event_time(number.checked_mul(factor).unwrap_or(i64::MAX)).map_err(|error| {
        format!("{error} (the payload has {}{})", excerpt(raw), if factor == 1 { "" } else { ", in seconds" })
    })
}

/// Refuses an event time outside [`EVENT_TIME_RANGE_MS`], wherever it was found.
pub fn check_event_time(ms: i64) -> Result<i64, String> {
    if EVENT_TIME_RANGE_MS.contains(&ms) {
        return Ok(ms);
    }
    Err(format!("the event time {ms} ms is not between the years 2000 and 2100"))
}

/// Whether captured text is JSON null.
pub fn is_null(raw: &[u8]) -> bool {
    raw == b"null"
}

fn default(field: &Field) -> Cell<'_> {
    match &field.default {
        None => Cell::Null,
        Some(Cell::Str(text)) => Cell::Str(Cow::Borrowed(text)),
        Some(Cell::Json(text)) => Cell::Json(Cow::Borrowed(text)),
        Some(number) => number.clone(),
    }
}

/// The text without its Avro-JSON wrapper, if it has one; `None` if the wrapper is of no branch that fits the type.
fn unwrapped(field_type: FieldType, avro: bool, raw: &[u8]) -> Option<&[u8]> {
    if !avro || raw.first() != Some(&b'{') {
        return Some(raw);
    }
    if let Some(value) = plainly_wrapped(field_type, raw) {
        return Some(value);
    }
    match (only_member(raw), field_type) {
        (Some((_, value)), FieldType::Json) => Some(value),
        (None, FieldType::Json) => Some(raw),
        (Some((branch, value)), _) => {
            branches(field_type).iter().any(|name| branch.is(name)).then_some(value)
        }
        (None, _) => None,
    }
}

/// Names of the Avro types whose values fit a declared type. Any fits `Json`.
fn branches(field_type: FieldType) -> &'static [&'static str] {
    match field_type {
        FieldType::Double => &["double", "float", "int", "long"],
        FieldType::Int64 | FieldType::Timestamp => &["long", "int"],
        FieldType::Bool => &["boolean"],
        FieldType::String => &["string"],
        FieldType::Json => &[],
    }
}

/// The number or bool in a wrapper written as Avro's own encoder does, without spaces: nearly all are, and nothing need be
/// parsed to know it.
fn plainly_wrapped(field_type: FieldType, raw: &[u8]) -> Option<&[u8]> {
    let inner = raw.strip_prefix(b"{\"")?.strip_suffix(b"}")?;
    let value = |name: &&str| inner.strip_prefix(name.as_bytes())?.strip_prefix(b"\":");
    let value = branches(field_type).iter().find_map(value)?;
    let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E');
    value.iter().all(plain).then_some(value)
}

/// The name and value of an object that has one name only (if it is repeated, its last value).
fn only_member(raw: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let mut cursor = Cursor::inside(raw);
    let first = cursor.enter_object().ok()??;
    let first = cursor.text(first);
    let mut value = member_value(&mut cursor)?;
    while let Some(name) = cursor.next_member().ok()? {
        if !cursor.text(name).same(first) {
            return None;
        }
        value = member_value(&mut cursor)?;
    }
    Some((first, value))
}

fn member_value<'p>(cursor: &mut Cursor<'p>) -> Option<&'p [u8]> {
    let start = cursor.at();
    cursor.value().ok()?;
    Some(cursor.since(start))
}

fn double(text: &[u8]) -> Option<f64> {
    if let Some(number) = Short::of(text).and_then(Short::double) {
        return Some(number);
    }
    text.first().filter(|first| matches!(first, b'-' | b'0'..=b'9'))?;
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

fn integer(text: &[u8]) -> Option<i64> {
    match Short::of(text) {
        Some(Short { negative, digits, behind: None }) => Some(digits * if negative { -1 } else { 1 }),
        _ => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// A number written in few digits and no exponent, as nearly all are: read here at a fraction of what parsing any costs.
#[derive(Debug, Clone, Copy)]
struct Short {
    negative: bool,
    /// All digits as one number.
    digits: i64,
    /// How many of them are behind the point, if there is one.
    behind: Option<usize>,
}

/// Longest text that is read so, without its sign: its digits fit any integer type here.
const SHORT_CHARS: usize = 18;
/// From here on not every integer is a double.
const DOUBLES_END: i64 = 1 << 53;
/// Powers of ten, all of them exact: 18 characters have no more than 16 digits behind a point.
const TENS: [f64; 17] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16];

impl Short {
    fn of(text: &[u8]) -> Option<Short> {
        let (negative, unsigned) = match text {
            [b'-', unsigned @ ..] => (true, unsigned),
            unsigned => (false, unsigned),
        };
        let is_digit = |end: Option<&u8>| end.is_some_and(u8::is_ascii_digit);
        if unsigned.len() > SHORT_CHARS || !is_digit(unsigned.first()) || !is_digit(unsigned.last()) {
            return None;
        }
        let mut number = Short { negative, digits: 0, behind: None };
        for byte in unsigned {
            match (byte, &mut number.behind) {
                (b'0'..=b'9', behind) => {
                    number.digits = number.digits * 10 + i64::from(byte - b'0');
                    if let Some(behind) = behind {
                        *behind += 1;
                    }
                }
                (b'.', behind @ None) => *behind = Some(0),
                _ => return None,
            }
        }
        Some(number)
    }

    /// One rounding of two exact doubles is the nearest there is (Clinger, "How to Read Floating Point Numbers Accurately",
    /// 1990).
    fn double(self) -> Option<f64> {
        let ten = TENS.get(self.behind.unwrap_or(0))?;
        let number = (self.digits < DOUBLES_END).then(|| self.digits as f64 / ten)?;
        Some(if self.negative { -number } else { number })
    }
}

fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

fn string(text: &[u8]) -> Option<Cow<'_, str>> {
    let raw = simdutf8::basic::from_utf8(text.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()?;
    if raw.as_bytes().contains(&b'\\') {
        Some(Cow::Owned(unescape(raw).ok()?))
    } else {
        Some(Cow::Borrowed(raw))
    }
}

/// The beginning of a text, for messages.
fn excerpt(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    if text.chars().count() <= 40 {
        text.into_owned()
    } else {
        text.chars().take(40).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(field_type: FieldType, default: Option<Cell<'static>>) -> Field {
        Field { name: "f".into(), path: vec!["f".into()], field_type, default, slot: 0 }
    }

    fn plain(field_type: FieldType, text: &str) -> Cell<'static> {
        of(field_type, false, text)
    }

    fn of(field_type: FieldType, avro: bool, text: &str) -> Cell<'static> {
        match cell(&field(field_type, None), avro, Some(text.as_bytes())) {
            Cell::Str(text) => Cell::Str(Cow::Owned(text.into_owned())),
            Cell::Json(text) => Cell::Json(Cow::Owned(text.into_owned())),
            Cell::Double(number) => Cell::Double(number),
            Cell::Int(number) => Cell::Int(number),
            Cell::Bool(value) => Cell::Bool(value),
            Cell::Null => Cell::Null,
            Cell::Invalid => Cell::Invalid,
        }
    }

    use FieldType::*;

    #[test]
    fn values_have_their_declared_type() {
        assert_eq!(plain(Double, "1.5"), Cell::Double(1.5));
        assert_eq!(plain(Double, "7"), Cell::Double(7.0));
        assert_eq!(plain(Int64, "-7"), Cell::Int(-7));
        assert_eq!(plain(Timestamp, "1700000000000"), Cell::Int(1_700_000_000_000));
        assert_eq!(plain(Bool, "true"), Cell::Bool(true));
        assert_eq!(plain(String, r#""a\u00e9""#), Cell::Str("a\u{e9}".into()));
        assert_eq!(plain(Json, "[1, 2]"), Cell::Json(b"[1, 2]".as_slice().into()));
        assert!(matches!(typed(String, b"\"plain\""), Some(Cell::Str(Cow::Borrowed("plain")))));
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_what_the_standard_library_reads(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?") {
            let begins_well = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            let expected = text.parse::<f64>().ok().filter(|number| begins_well && number.is_finite());
            let bits = |number: Option<f64>| number.map(f64::to_bits);
            proptest::prop_assert_eq!(bits(double(text.as_bytes())), bits(expected));
            proptest::prop_assert_eq!(integer(text.as_bytes()), text.parse::<i64>().ok());
        }
    }

    #[test]
    fn absent_and_null_give_the_default() {
        let with = field(Int64, Some(Cell::Int(7)));
        assert_eq!(cell(&with, false, None), Cell::Int(7));
        assert_eq!(cell(&with, false, Some(b"null")), Cell::Int(7));
        assert_eq!(cell(&with, false, Some(b"\"x\"")), Cell::Invalid);
        assert_eq!(cell(&field(Int64, None), false, None), Cell::Null);
        assert_eq!(of(Json, true, r#"{"R": null}"#), Cell::Null);
    }

    #[test]
    fn bad_14_numbers_out_of_range_are_invalid() {
        assert_eq!(plain(Double, "1e400"), Cell::Invalid);
        assert_eq!(plain(Int64, "9223372036854775808"), Cell::Invalid);
        assert_eq!(plain(Int64, "9223372036854775807"), Cell::Int(i64::MAX));
        assert_eq!(plain(Int64, "-9223372036854775808"), Cell::Int(i64::MIN));
        assert_eq!(plain(Int64, "-0"), Cell::Int(0));
        let Cell::Double(zero) = plain(Double, "-0") else { panic!("-0 is a double") };
        assert!(zero == 0.0 && zero.is_sign_negative());
        assert_eq!(plain(Double, "1e-400"), Cell::Double(0.0));
        for text in ["1.0", "1e3", "1E0"] {
            assert_eq!(plain(Int64, text), Cell::Invalid, "{text}");
        }
    }

    #[test]
    fn bad_15_a_lone_surrogate_is_no_string() {
        assert_eq!(plain(String, r#""\ud800""#), Cell::Invalid);
        assert_eq!(plain(String, r#""\ud83d\ude00\u0000""#), Cell::Str("\u{1f600}\0".into()));
        assert_eq!(plain(Json, r#""\ud800""#), Cell::Json(br#""\ud800""#.as_slice().into()));
    }

    #[test]
    fn bad_16_event_times_are_integers_of_this_century() {
        let ms = |text: &str| event_time(text.as_bytes(), TimeUnit::Milliseconds, false);
        let seconds = |text: &str| event_time(text.as_bytes(), TimeUnit::Seconds, false);
        assert_eq!(ms("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(seconds("1700000000"), Ok(1_700_000_000_000));
        assert_eq!(ms("946684800000"), Ok(946_684_800_000));
        let not = |text: &str| ms(text).unwrap_err();
        assert_eq!(not("\"2024-01-01\""), "the event time is \"2024-01-01\", not an integer");
        assert!(not("-5").contains("-5 ms is not between the years 2000 and 2100"));
        assert!(not("1700000000").contains("not between"), "seconds taken for ms");
        assert!(not("253370764800000").contains("not between"), "the year 9999");
        assert!(seconds("1700000000000").unwrap_err().contains("in seconds"), "ms taken for seconds");
        for text in [
            "1700000000000.0",
            "1.7e12",
            "true",
            "{}",
            "[1]",
            "4102444800000",
            "946684799999",
            "9223372036854775808",
        ] {
            not(text);
        }
        assert!(is_null(b"null"));
    }

    #[test]
    fn avro_branches_that_fit_are_unwrapped() {
        assert_eq!(of(Double, true, r#"{"double": 1.5}"#), Cell::Double(1.5));
        assert_eq!(of(Double, true, r#"{"long":2}"#), Cell::Double(2.0));
        assert_eq!(of(Int64, true, r#"{"int":3}"#), Cell::Int(3));
        assert_eq!(of(String, true, r#"{"string":"x"}"#), Cell::Str("x".into()));
        assert_eq!(of(String, true, r#""bare""#), Cell::Str("bare".into()));
        assert_eq!(of(Bool, true, r#"{"b\u006folean":false}"#), Cell::Bool(false));
        assert_eq!(of(Int64, true, r#"{"long":1,"long":2}"#), Cell::Int(2));
        assert_eq!(of(Json, true, r#"{"com.x.R":{"a":1}}"#), Cell::Json(br#"{"a":1}"#.as_slice().into()));
        assert_eq!(of(Json, true, r#"{"a":1,"b":2}"#), Cell::Json(br#"{"a":1,"b":2}"#.as_slice().into()));
        assert_eq!(
            event_time(br#"{"long":1700000000000}"#, TimeUnit::Milliseconds, true),
            Ok(1_700_000_000_000)
        );
        event_time(br#"{"string":"x"}"#, TimeUnit::Milliseconds, true).unwrap_err();
        event_time(br#"{"long":1700000000000}"#, TimeUnit::Milliseconds, false).unwrap_err();
    }

    #[test]
    fn bad_23_branches_that_do_not_fit_are_invalid() {
        assert_eq!(of(Double, true, r#"{"string":"1.5"}"#), Cell::Invalid);
        assert_eq!(of(Int64, true, r#"{"double":1}"#), Cell::Invalid);
        assert_eq!(of(String, true, r#"{"com.x.Color":"RED"}"#), Cell::Invalid);
        assert_eq!(of(Int64, true, r#"{"long":1,"int":2}"#), Cell::Invalid);
        assert_eq!(of(Int64, true, r#"{"long":null}"#), Cell::Invalid);
        assert_eq!(of(Int64, true, "{}"), Cell::Invalid);
        assert_eq!(of(Int64, false, r#"{"long":1}"#), Cell::Invalid);
    }

    #[test]
    fn bad_24_a_field_of_the_wrong_type_is_invalid() {
        for (field_type, text) in [
            (Double, "\"1.5\""),
            (Double, "true"),
            (Int64, "\"7\""),
            (Timestamp, "\"2024-01-01T00:00:00Z\""),
            (Bool, "1"),
            (Bool, "\"true\""),
            (String, "7"),
            (String, "[\"x\"]"),
        ] {
            assert_eq!(plain(field_type, text), Cell::Invalid, "{field_type:?} {text}");
        }
    }
}
