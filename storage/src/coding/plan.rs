//! Single fields of stored payloads. A plan is the paths that somebody asks for in a view; per generation it is bound to
//! the shape once. Made by services and kept as long as the view's definition; knows no types of values.

use crate::codec::{self, Binding, Coding};
use crate::coding::keyed::Keyed;
use crate::coding::{Codecs, Known, stored};
use crate::error::ReadError;
use crate::log::segment::Record;

/// Paths into the payloads of a view. Shared freely between threads.
#[derive(Debug)]
pub struct FieldPlan {
    paths: Vec<Vec<String>>,
    avro: bool,
    /// By the identity of the generation.
    bound: Keyed<Binding>,
}

/// The fields of one stored payload that has a shape.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    known: &'a Known,
    binding: &'a Binding,
    bytes: &'a [u8],
}

impl FieldPlan {
    /// Of `paths`: names of members, from the root. With `avro`, intermediate steps look through Avro-JSON wrappers.
    pub fn new(paths: Vec<Vec<String>>, avro: bool) -> FieldPlan {
        FieldPlan { paths, avro, bound: Keyed::new() }
    }

    /// Names of members, from the root.
    pub fn paths(&self) -> &[Vec<String>] {
        &self.paths
    }

    /// Whether intermediate steps look through Avro-JSON wrappers.
    pub fn looks_through_wrappers(&self) -> bool {
        self.avro
    }

    /// The fields of a record's payload; nothing if it is not stored by shape.
    pub(crate) fn fields<'a>(
        &'a self,
        codecs: &'a Codecs,
        record: &Record<'a>,
    ) -> Result<Option<Fields<'a>>, ReadError> {
        let stored = stored(record)?;
        if stored.coding != Coding::Shape {
            return Ok(None);
        }
        let known = codecs.generation(stored.codec)?;
        let bind = || known.generation.bind(&self.paths, self.avro);
        let binding = self.bound.get_or_make(known.identity, bind);
        Ok(Some(Fields { known, binding, bytes: stored.bytes }))
    }
}

/// So many fields are found one by one: each walk ends at its own, where one for all goes to the view's last. Chosen, not
/// measured.
const FEW: usize = 3;

impl Fields<'_> {
    /// Appends the raw JSON text at path number `path` of the plan to `out` and returns it; nothing if the payload has
    /// no such path.
    #[inline]
    pub fn get<'o>(&self, path: usize, out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
        codec::field(&self.known.generation, self.binding, self.bytes, path, out)
    }

    /// Tells `each` the raw JSON text at each of these paths of the plan in turn, in one pass over the payload; nothing
    /// where it has no such path. `text` is used, and left as it was.
    pub fn each(
        &self,
        paths: impl ExactSizeIterator<Item = usize>,
        text: &mut Vec<u8>,
        mut each: impl FnMut(Option<&[u8]>),
    ) {
        if paths.len() <= FEW {
            let start = text.len();
            return paths.for_each(|path| {
                each(self.get(path, text));
                text.truncate(start);
            });
        }
        codec::fields(&self.known.generation, self.binding, self.bytes, paths, text, each);
    }
}
