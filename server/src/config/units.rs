//! Durations and sizes as people write them: "500ms", "7d", "8MiB". Called by `table` for configuration and definitions,
//! and by the command line.

const DURATIONS: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What `duration_ms` takes, for messages.
pub const DURATION: &str = r#"a duration such as "500ms", "5s", "10m", "1h" or "7d""#;
/// What `size_bytes` takes, for messages.
pub const SIZE: &str = r#"a size such as "512B", "64KiB", "8MiB" or "1GiB""#;

/// A whole number and a unit, in ms. May be negative: whether that makes sense is the caller's to say.
pub fn duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = split(text);
    let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<i64>().ok()?.checked_mul(*factor)
}

/// A whole number and a unit, in bytes.
pub fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest way to write a duration.
pub fn show_duration(ms: i64) -> String {
    let exact = DURATIONS.iter().find(|(_, factor)| ms != 0 && ms % factor == 0);
    let (unit, factor) = exact.unwrap_or(&("s", 1000));
    format!("{}{unit}", ms / factor)
}

/// The shortest way to write a size.
pub fn show_size(bytes: u64) -> String {
    let exact = SIZES.iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration_ms("500ms"), Some(500));
        assert_eq!(duration_ms("7d"), Some(604_800_000));
        assert_eq!(duration_ms("-5s"), Some(-5000));
        assert_eq!(size_bytes("8MiB"), Some(8 << 20));
        for text in ["", "5", "s", "5 s", "1.5h", "5S", "5weeks", "é", "9223372036854775807d", "+-5s"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
        for text in ["8MB", "8", "-1B", "8mib", "99999999999GiB"] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for ms in [0, 1, 1500, 60_000, 86_400_000, 90_000_000, -5000] {
            assert_eq!(duration_ms(&show_duration(ms)), Some(ms));
        }
        for bytes in [0, 1, 1024, 1 << 30, 1500] {
            assert_eq!(size_bytes(&show_size(bytes)), Some(bytes));
        }
    }
}
