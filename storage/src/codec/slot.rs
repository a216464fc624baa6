//! One place for a scalar: what is usual there and how it is stored. A slot takes the same number of bits whatever its
//! value, so that every field of a block has a known place; a value that does not fit is an escape, whose text is in
//! the tail of the stored payload. Called by encode, decode and bindings; `learn` chooses slots from samples.

use super::bits::{self, BitWriter};
use super::commons::{self, Commons};
use super::number::{self, Form, PRINT_ROOM};
use super::scalar;
use super::tail::{TailWriter, Value};
use super::template::{self, Packed, Template};

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
    /// Numbers of one form: the code less the usual values and 1 is the mantissa less `base`.
    Number { form: Form, base: i64 },
    /// Strings of one template; their digits follow the code field.
    Template(Box<Template>),
}

impl Slot {
    /// Bits of every value.
    pub(super) fn bits(&self) -> u32 {
        match &self.kind {
            Kind::Template(template) => self.width + template.bits(),
            _ => self.width,
        }
    }

    /// Most bytes that `print` writes, working room included; escapes not counted.
    pub(super) fn room(&self) -> usize {
        (self.commons.longest() + commons::HEAD).max(template::MAX_LENGTH).max(PRINT_ROOM)
    }

    /// Reads the scalar at `at`, appends its bits, and returns its end. Nothing if there is no valid scalar.
    #[inline(always)]
    pub(super) fn read(
        &self,
        text: &[u8],
        at: usize,
        bits: &mut BitWriter,
        tail: &mut TailWriter,
    ) -> Option<usize> {
        match &self.kind {
            Kind::Number { form, base } => {
                if let Some(number) = number::scan(text, at)
                    && let Some(mantissa) = form.mantissa(&number)
                {
                    let code =
                        (mantissa.wrapping_sub(*base) as u64).wrapping_add(1 + self.commons.count() as u64);
                    if code >> self.width == 0 && mantissa >= *base {
                        bits.put(code, self.width);
                        tail.skip();
                        return Some(number.end);
                    }
                    bits.put(0, self.width);
                    tail.number(mantissa);
                    return Some(number.end);
                }
            }
            Kind::Template(template) => {
                let mut packed = Packed::default();
                if template.read(text, at, &mut packed) {
                    bits.put(1 + self.commons.count() as u64, self.width);
                    template.put(&packed, bits);
                    tail.skip();
                    return Some(at + template.length());
                }
            }
            Kind::Other => {}
        }
        self.read_token(text, at, bits, tail)
    }

    /// A usual value or an escape.
    fn read_token(
        &self,
        text: &[u8],
        at: usize,
        bits: &mut BitWriter,
        tail: &mut TailWriter,
    ) -> Option<usize> {
        let end = scalar::end(text, at)?;
        match self.commons.find(text, at, end) {
            Some(number) => {
                bits.put(1 + number as u64, self.width);
                tail.skip();
            }
            None => {
                bits.put(0, self.width);
                tail.token(&text[at..end]);
            }
        }
        if let Kind::Template(template) = &self.kind {
            template.put(&Packed::default(), bits);
        }
        Some(end)
    }

    /// Writes the value whose bits are at bit `at` to the start of `out`, which has `room()` bytes, and returns its
    /// length: 0 for an escape, nothing for bits that no value has.
    #[inline(always)]
    pub(super) fn print(&self, stored: &[u8], at: usize, out: &mut [u8]) -> Option<usize> {
        let code = bits::get(stored, at, self.width);
        if code == 0 {
            return Some(0);
        }
        let own = code.wrapping_sub(1 + self.commons.count() as u64);
        match &self.kind {
            Kind::Number { form, base } if (own as i64) >= 0 => {
                Some(form.print(base.wrapping_add(own as i64), out.first_chunk_mut()?))
            }
            Kind::Template(template) if own == 0 => {
                template.print(stored, at + self.width as usize, out.first_chunk_mut()?);
                Some(template.length())
            }
            _ => self.commons.get(code as usize - 1)?.print(out),
        }
    }

    /// Appends the text of an escaped value.
    pub(super) fn print_escape(&self, value: Value<'_>, out: &mut Vec<u8>) -> Option<()> {
        match value {
            Value::Verbatim(text) => out.extend_from_slice(text),
            Value::String(text) => {
                out.push(b'"');
                out.extend_from_slice(text);
                out.push(b'"');
            }
            Value::Mantissa(mantissa) => {
                let Kind::Number { form, .. } = &self.kind else { return None };
                let mut room = [0; PRINT_ROOM];
                let length = form.print(mantissa, &mut room);
                out.extend_from_slice(&room[..length]);
            }
        }
        Some(())
    }
}
