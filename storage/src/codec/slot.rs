//! One place for a scalar: what is usual there and how it is stored. A slot takes the same number of bits whatever its
//! value, so that every field of a block has a known place; a value that does not fit is an escape, whose text is in
//! the tail of the stored payload. Called by encode, decode and bindings; `learn` chooses slots from samples.

use super::bits;
use super::commons::{self, Commons};
use super::number::{self, Form, PRINT_ROOM};
use super::scalar;
use super::symbols::Symbols;
use super::tail::Value;
use super::template::{self, Packed, Template};

/// The code of an escape.
pub(super) const ESCAPE: u64 = 0;
/// Room that printing needs behind the longest text.
pub(super) const PRINT_SLACK: usize = 64;
const _: () =
    assert!(PRINT_SLACK >= template::MAX_LENGTH && PRINT_SLACK >= PRINT_ROOM && PRINT_SLACK >= commons::HEAD);

/// A slot. Its code field is 0 for an escape, 1.. for the usual values, and the numbers behind those are its kind's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// Bits of the code field.
    pub(super) width: u32,
    pub(super) commons: Commons,
    pub(super) kind: Kind,
}

/// What a slot holds beside its usual values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: all else are escapes.
    Other,
    /// Numbers of one form: the code less the usual values and 1 is the mantissa less the base.
    Number(number::Range),
    /// Strings of one template; their digits follow the code field.
    Template(Box<Template>),
}

impl Slot {
    /// A slot of numbers in `form` from `base`, as many as are left of `width` bits.
    pub(super) fn numbers(width: u32, commons: Commons, form: Form, base: i64) -> Slot {
        let span = (1u64 << width.min(63)).saturating_sub(1 + commons.count() as u64);
        Slot { width, commons, kind: Kind::Number(number::Range::new(form, base, span)) }
    }

    /// Bits of every value.
    pub(super) fn bits(&self) -> u32 {
        match &self.kind {
            Kind::Template(template) => self.width + template.bits(),
            _ => self.width,
        }
    }

    /// Longest text that `print` gives.
    pub(super) fn longest(&self) -> usize {
        let own = match &self.kind {
            Kind::Other => 0,
            Kind::Number(_) => number::MAX_LENGTH,
            Kind::Template(template) => template.length(),
        };
        own.max(self.commons.longest())
    }

    /// Reads the scalar at `at`: its code and its end. The digits of a template go to `packed`. Nothing if there is no
    /// valid scalar.
    #[inline(always)]
    pub(super) fn read(&self, text: &[u8], at: usize, packed: &mut Packed) -> Option<(u64, usize)> {
        match &self.kind {
            Kind::Number(range) => {
                if let Some((own, end)) = range.read(text, at) {
                    return Some((own + 1 + self.commons.count() as u64, end));
                }
            }
            Kind::Template(template) => {
                if template.read(text, at, packed) {
                    return Some((1 + self.commons.count() as u64, at + template.length()));
                }
                *packed = Packed::default();
            }
            Kind::Other => {}
        }
        self.read_token(text, at)
    }

    /// The same by the token's text: a usual value or an escape.
    pub(super) fn read_token(&self, text: &[u8], at: usize) -> Option<(u64, usize)> {
        let end = scalar::end(text, at)?;
        Some((self.commons.find(text, at, end).map_or(ESCAPE, |number| 1 + number as u64), end))
    }

    /// What the tail keeps of a scalar that was read as an escape. `token` is its text, padded behind `length`.
    #[cold]
    pub(super) fn escape<'t>(&self, token: &'t [u8], length: usize) -> Value<'t> {
        if let Kind::Number(range) = &self.kind
            && let Some(mantissa) = number::scan(token, 0).and_then(|number| range.form.mantissa(&number))
        {
            return Value::Mantissa(mantissa);
        }
        match &token[..length] {
            [b'"', inner @ .., b'"'] => Value::String(inner),
            other => Value::Verbatim(other),
        }
    }

    /// Writes the value whose bits are at bit `at` to the start of `out`, which has `longest() + PRINT_SLACK`
    /// bytes, and returns its length: 0 for an escape, nothing for bits that no value has.
    #[inline(always)]
    pub(super) fn print(&self, stored: &[u8], at: usize, out: &mut [u8]) -> Option<usize> {
        let code = bits::get(stored, at, self.width);
        if code == ESCAPE {
            return Some(0);
        }
        let own = code.wrapping_sub(1 + self.commons.count() as u64);
        match &self.kind {
            Kind::Number(range) if (own as i64) >= 0 => {
                Some(range.form.print(range.base.wrapping_add(own as i64), out.first_chunk_mut()?))
            }
            Kind::Template(template) if own == 0 => {
                template.print(stored, at + self.width as usize, out.first_chunk_mut()?);
                Some(template.length())
            }
            _ => self.commons.print(code as usize - 1, out),
        }
    }

    /// Appends the text of an escaped value.
    pub(super) fn print_escape(&self, value: Value<'_>, symbols: &Symbols, out: &mut Vec<u8>) -> Option<()> {
        match value {
            Value::Verbatim(text) => out.extend_from_slice(text),
            Value::String(text) => {
                out.push(b'"');
                out.extend_from_slice(text);
                out.push(b'"');
            }
            Value::Symbols(codes) => {
                out.push(b'"');
                symbols.unpack(codes, out)?;
                out.push(b'"');
            }
            Value::Mantissa(mantissa) => {
                let Kind::Number(range) = &self.kind else { return None };
                let mut room = [0; PRINT_ROOM];
                let length = range.form.print(mantissa, &mut room);
                out.extend_from_slice(&room[..length]);
            }
        }
        Some(())
    }
}
