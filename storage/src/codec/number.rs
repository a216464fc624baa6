//! Plain decimal numbers as an integer mantissa and back, eight digits at a time. Called by slots. A number whose text
//! this module would not print back identically (exponents, `-0`, more than 18 digits, other zeros at the end) is
//! refused here and kept as text by the caller.

use super::scalar::load8;

/// Largest number of decimals of a form, and one more than the largest decimal power of a mantissa's digits.
pub(super) const MAX_DIGITS: u32 = 18;
/// Longest number: sign, a zero, point, 18 decimals, or 19 digits.
pub(super) const MAX_LENGTH: usize = 21;
/// Most bytes that `Form::print` writes, its working room included.
pub(super) const PRINT_ROOM: usize = 48;

const ZEROS: u64 = 0x3030_3030_3030_3030;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const POW10: [u64; 19] = {
    let mut powers = [1u64; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Per power of ten, the largest factor for a mantissa.
const LIMITS: [u64; 19] = {
    let mut limits = [0; 19];
    let mut i = 0;
    while i < 19 {
        limits[i] = MAX_MANTISSA / POW10[i];
        i += 1;
    }
    limits
};
const MAX_MANTISSA: u64 = i64::MAX as u64 / 4;

/// How a slot's numbers are written: with at least `least` and at most `scale` decimals, and no zero at the end that
/// `least` does not ask for. `least == scale`: fixed decimals; 0: JavaScript's `12`; 1: Java's and Python's `12.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) scale: u8,
    pub(super) least: u8,
}

/// The numbers of one slot: those of a form from `base`, as many as its code field can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) form: Form,
    pub(super) base: i64,
    /// How many numbers from `base`.
    span: u64,
    /// With fixed decimals: the marks of the point and of what ends the number, counted from the first; 0 if open.
    marks: u64,
    /// The bits that `marks` is compared with.
    seen: u64,
    /// With fixed decimals: bits of the point and the decimals.
    behind: u32,
}

/// A plain decimal number as it stands in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    /// All digits as one integer, below 10^18.
    magnitude: u64,
    pub(super) decimals: u32,
    negative: bool,
    pub(super) end: usize,
}

/// Reads the number at `at`; nothing if it is not plain, has over 18 digits, or is no JSON number.
#[inline(always)]
pub(super) fn scan(text: &[u8], at: usize) -> Option<Decimal> {
    let negative = *text.get(at)? == b'-';
    scan_from(text, at + usize::from(negative), negative)
}

#[inline(always)]
fn scan_from(text: &[u8], start: usize, negative: bool) -> Option<Decimal> {
    let digits = load8(text, start)? ^ ZEROS;
    let stops = stops(digits);
    if stops == 0 {
        return scan_long(text, start, negative);
    }
    let whole = stops.trailing_zeros() / 8;
    let after = (digits >> (8 * whole)) as u8 ^ 0x30;
    if whole == 0 || (whole > 1 && digits as u8 == 0) || after | 0x20 == b'e' {
        return None;
    }
    if after != b'.' {
        let magnitude = parse8(digits << (64 - 8 * whole));
        return Some(Decimal { magnitude, decimals: 0, negative, end: start + whole as usize });
    }
    let stops = stops & (stops - 1);
    if stops == 0 {
        return scan_long(text, start, negative);
    }
    let length = stops.trailing_zeros() / 8;
    let end = start + length as usize;
    let low = (1u64 << (8 * whole)) - 1;
    let joined = (digits & low) | ((digits >> 8) & !low);
    let decimals = length - whole - 1;
    if decimals == 0 || exponent(text, end) {
        return None;
    }
    Some(Decimal { magnitude: parse8(joined << (72 - 8 * length)), decimals, negative, end })
}

/// Marks the bytes that are no digit values. The lowest mark is exact, and the second, if the first is a point.
#[inline(always)]
fn stops(digits: u64) -> u64 {
    (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & HIGHS
}

#[inline(always)]
fn exponent(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| byte | 0x20 == b'e')
}

/// Eight digit values, the most significant in the lowest byte, as a number.
#[inline(always)]
fn parse8(digits: u64) -> u64 {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & MASK).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & MASK).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// A run of digits and its length, at most 24.
fn run(text: &[u8], at: usize) -> Option<(u64, u32)> {
    let (mut value, mut length) = (0u64, 0);
    loop {
        let digits = load8(text, at + length as usize)? ^ ZEROS;
        let count = stops(digits).trailing_zeros() / 8;
        // Shifted in two steps: the first digits may be none.
        let aligned = if count == 8 { digits } else { digits << (56 - 8 * count) << 8 };
        value = value.wrapping_mul(POW10[count as usize]).wrapping_add(parse8(aligned));
        length += count;
        if count < 8 || length > MAX_DIGITS {
            return Some((value, length));
        }
    }
}

#[inline(never)]
fn scan_long(text: &[u8], start: usize, negative: bool) -> Option<Decimal> {
    let (whole, length) = run(text, start)?;
    let mut end = start + length as usize;
    if length == 0 || length > MAX_DIGITS || (length > 1 && text[start] == b'0') {
        return None;
    }
    let (mut magnitude, mut decimals) = (whole, 0);
    if *text.get(end)? == b'.' {
        let (part, count) = run(text, end + 1)?;
        let digits = count + if whole == 0 { 0 } else { length };
        if count == 0 || digits > MAX_DIGITS {
            return None;
        }
        magnitude = whole * POW10[count as usize] + part;
        decimals = count;
        end += 1 + count as usize;
    }
    (!exponent(text, end)).then_some(Decimal { magnitude, decimals, negative, end })
}

impl Range {
    pub(super) fn new(form: Form, base: i64, span: u64) -> Range {
        let behind = if form.scale == 0 { 0 } else { 8 * (u32::from(form.scale) + 1) };
        let fixed = form.least == form.scale && form.scale < 7;
        let (marks, seen) = if fixed { (1 | 1 << behind, (2 << behind) - 1) } else { (0, 0) };
        Range { form, base, span, marks, seen, behind }
    }

    /// The number at `at`, counted from `base`, and its end.
    #[inline(always)]
    pub(super) fn read(&self, text: &[u8], at: usize) -> Option<(u64, usize)> {
        let negative = self.base < 0 && *text.get(at)? == b'-';
        let start = at + usize::from(negative);
        let word = load8(text, start)?;
        let digits = word ^ ZEROS;
        let stops = stops(digits);
        let first = stops.trailing_zeros();
        // No mark at all: first is 64, and what is compared is not what a fixed form has.
        if self.marks == 0 || stops == 0 || (stops >> first) & self.seen != self.marks {
            return self.read_open(text, at);
        }
        let bits = first - 7 + self.behind;
        let after = (word >> bits) as u8;
        let zero = digits as u8 == 0 && first != 15;
        if zero || first == 7 || after | 0x20 == b'e' || after == b'.' {
            return None;
        }
        let aligned = digits << (64 - bits);
        let mut magnitude = aligned;
        if self.behind > 0 {
            if (word >> (first - 7)) as u8 != b'.' {
                return None;
            }
            let low = u64::MAX >> (self.behind - 8);
            magnitude = ((aligned << 8) & low) | (aligned & !low);
        }
        let magnitude = parse8(magnitude);
        let mantissa = if negative { (magnitude as i64).wrapping_neg() } else { magnitude as i64 };
        let own = (mantissa as u64).wrapping_sub(self.base as u64);
        let fits = own < self.span && !(negative && magnitude == 0);
        fits.then_some((own, start + (bits / 8) as usize))
    }

    /// The same with any number of decimals, or more than eight characters.
    #[inline(never)]
    fn read_open(&self, text: &[u8], at: usize) -> Option<(u64, usize)> {
        let negative = self.base < 0 && *text.get(at)? == b'-';
        let start = at + usize::from(negative);
        let word = load8(text, start)?;
        let digits = word ^ ZEROS;
        let stops = stops(digits);
        let second = stops & stops.wrapping_sub(1);
        if second == 0 || self.form.scale > 10 {
            return self.own(&scan_long(text, start, negative)?);
        }
        // Without a branch on the point: whether there are decimals is often chance.
        let first = stops.trailing_zeros();
        let point = (word >> (first - 7)) as u8 == b'.';
        let last = if point { second.trailing_zeros() } else { first };
        let bits = last - 7;
        let decimals = if point { (last - first) / 8 - 1 } else { 0 };
        let after = (word >> bits) as u8;
        let zero = digits as u8 == 0 && first != 15;
        if zero || first == 7 || after | 0x20 == b'e' || (point && decimals == 0) {
            return None;
        }
        let aligned = digits << (64 - bits);
        let low = u64::MAX >> (8 * decimals);
        let joined = ((aligned << 8) & low) | (aligned & !low);
        let magnitude = parse8(if point { joined } else { aligned });
        let number = Decimal { magnitude, decimals, negative, end: start + (bits / 8) as usize };
        self.own(&number)
    }

    #[inline(always)]
    fn own(&self, number: &Decimal) -> Option<(u64, usize)> {
        let mantissa = self.form.mantissa(number)?;
        let own = (mantissa as u64).wrapping_sub(self.base as u64);
        (own < self.span).then_some((own, number.end))
    }
}

impl Decimal {
    /// Decimals that are not zeros at the end.
    pub(super) fn needed_decimals(&self) -> u32 {
        let mut needed = self.decimals;
        let mut rest = self.magnitude;
        while needed > 0 && rest.is_multiple_of(10) {
            rest /= 10;
            needed -= 1;
        }
        needed
    }
}

impl Form {
    /// The mantissa that prints as `number` in this form, if one does.
    #[inline(always)]
    pub(super) fn mantissa(self, number: &Decimal) -> Option<i64> {
        let missing = u32::from(self.scale).checked_sub(number.decimals)?;
        let open = number.decimals > self.least as u32;
        if number.decimals < self.least as u32
            || (open && number.magnitude.is_multiple_of(10))
            || (number.negative && number.magnitude == 0)
        {
            return None;
        }
        let missing = missing as usize;
        if number.magnitude > LIMITS[missing] {
            return None;
        }
        let mantissa = number.magnitude.wrapping_mul(POW10[missing]) as i64;
        Some(if number.negative { -mantissa } else { mantissa })
    }

    /// Writes the number at the start of `out`, which has at least `PRINT_ROOM` bytes, and returns its length.
    #[inline(always)]
    pub(super) fn print(self, mantissa: i64, out: &mut [u8; PRINT_ROOM]) -> usize {
        let magnitude = mantissa.unsigned_abs();
        let sign = usize::from(mantissa < 0);
        out[0] = b'-';
        if magnitude >= 100_000_000 || self.scale > 7 {
            return sign + self.print_long(magnitude, sign, out);
        }
        let digits = eight_digits(magnitude);
        let scale = u32::from(self.scale);
        let used = 8 - digits.trailing_zeros() / 8;
        let length = used.max(scale + 1);
        let dropped = (digits.leading_zeros() / 8).min(scale - u32::from(self.least));
        let chars = (digits | ZEROS) >> (8 * (8 - length));
        let whole = (length - scale) as usize;
        let decimals = (scale - dropped) as usize;
        // Without a branch: whether there are decimals is often chance.
        put8(out, sign, chars);
        out[(sign + whole) & 31] = b'.';
        put8(out, sign + whole + 1, chars >> (8 * (whole & 7)));
        sign + whole + decimals + usize::from(decimals > 0)
    }

    #[inline(never)]
    fn print_long(self, magnitude: u64, sign: usize, out: &mut [u8; PRINT_ROOM]) -> usize {
        let words =
            [magnitude / POW10[16], magnitude / POW10[8] % POW10[8], magnitude % POW10[8]].map(eight_digits);
        let mut digits = [b'0'; 48];
        for (chunk, word) in digits.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&(word | ZEROS).to_le_bytes());
        }
        let (scale, least) = (usize::from(self.scale), usize::from(self.least));
        let length = (24 - zeros(words, u64::trailing_zeros)).max(scale + 1);
        let [high, middle, low] = words;
        let dropped = zeros([low, middle, high], u64::leading_zeros).min(scale - least);
        let whole = length - scale;
        let decimals = scale - dropped;
        out[sign..sign + 24].copy_from_slice(&digits[24 - length..48 - length]);
        out[sign + whole] = b'.';
        out[sign + whole + 1..sign + whole + 25].copy_from_slice(&digits[24 - scale..48 - scale]);
        whole + decimals + usize::from(decimals > 0)
    }
}

/// Zero bytes before the first other one, of three words of digits counted from one side.
#[inline(always)]
fn zeros(words: [u64; 3], zeros: impl Fn(u64) -> u32) -> usize {
    let [first, second, third] = words.map(|word| zeros(word) as usize / 8);
    match (first, second) {
        (8, 8) => 16 + third,
        (8, _) => 8 + second,
        _ => first,
    }
}

#[inline(always)]
fn put8(out: &mut [u8; PRINT_ROOM], at: usize, word: u64) {
    // `at` is at most sign + 8 digits + point; the mask tells the compiler.
    let at = at & 31;
    out[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// The eight decimal digits of a number below 10^8, the most significant in the lowest byte.
#[inline(always)]
fn eight_digits(value: u64) -> u64 {
    let halves = (value / 10_000) | ((value % 10_000) << 32);
    let top = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let hundreds = top + ((halves - 100 * top) << 16);
    let tens = ((hundreds * 103) >> 10) & 0x000f_000f_000f_000f;
    tens + ((hundreds - 10 * tens) << 8)
}

#[cfg(test)]
mod tests {
    use super::super::scalar::{self, PAD};
    use super::*;
    use proptest::prelude::*;

    fn forms() -> impl Strategy<Value = Form> {
        (0u8..=18, 0u8..=18).prop_map(|(a, b)| Form { scale: a.max(b), least: a.min(b) })
    }

    fn back(form: Form, text: &str) -> Option<String> {
        let mut padded = text.as_bytes().to_vec();
        padded.resize(text.len() + PAD, 0);
        let number = scan(&padded, 0)?;
        assert_eq!(scalar::end(&padded, 0), Some(number.end), "{text}");
        let mut out = [0; PRINT_ROOM];
        let length = form.print(form.mantissa(&number)?, &mut out);
        Some(String::from_utf8(out[..length].to_vec()).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_taken_is_printed_back(form in forms(), text in "-?[0-9]{1,10}(\\.[0-9]{1,10})?([eE][0-9])?") {
            if let Some(printed) = back(form, &text) {
                prop_assert_eq!(printed, text);
            }
        }

        #[test]
        fn every_mantissa_of_a_form_comes_back(form in forms(), mantissa in -999_999_999_999_999_999i64..=999_999_999_999_999_999) {
            let mut out = [0; PRINT_ROOM + PAD];
            for mantissa in [mantissa, mantissa % 100_000_000, mantissa % 1000, mantissa / 1000 * 1000] {
                let length = form.print(mantissa, out.first_chunk_mut().unwrap());
                out[length..].fill(0);
                let number = scan(&out, 0);
                let long = out[..length].iter().filter(|byte| byte.is_ascii_digit()).count() > 18;
                prop_assert!(long || form.mantissa(&number.unwrap()) == Some(mantissa));
            }
        }
    }

    #[test]
    fn numbers_that_print_otherwise_are_refused() {
        let fixed = Form { scale: 2, least: 2 };
        let short = Form { scale: 3, least: 1 };
        for text in ["-0", "-0.00", "1.5", "1", "01.50", "1.500", "1.50e1", "1.5E1", "1234567890123456789.00"]
        {
            assert_eq!(back(fixed, text), None, "{text}");
        }
        for text in ["12", "12.50", "12.1234", "-0.0"] {
            assert_eq!(back(short, text), None, "{text}");
        }
        assert_eq!(back(short, "12.0").unwrap(), "12.0");
        assert_eq!(back(short, "-12.25").unwrap(), "-12.25");
    }
}
