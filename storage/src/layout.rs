//! Fixed little-endian structures of the files. One macro gives a struct its encoding, field after field without
//! gaps, and checks its size when compiled. Knows nothing of what the fields mean; `FORMAT.md` does.

/// A field that has one encoding.
pub(crate) trait Field: Copy {
    fn put(self, out: &mut [u8]);
    fn get(from: &[u8]) -> Self;
}

macro_rules! integer {
    ($($ty:ty)*) => {$(
        impl Field for $ty {
            #[inline]
            fn put(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn get(from: &[u8]) -> Self {
                <$ty>::from_le_bytes(from.try_into().expect("the layout gives a field its own size"))
            }
        }
    )*};
}

integer!(u8 u16 u32 u64 i64);

impl<const N: usize> Field for [u8; N] {
    #[inline]
    fn put(self, out: &mut [u8]) {
        out.copy_from_slice(&self);
    }
    #[inline]
    fn get(from: &[u8]) -> Self {
        from.try_into().expect("the layout gives a field its own size")
    }
}

/// Declares a structure of the files: `struct Name: BYTES { field: type, ... }`.
macro_rules! layout {
    ($(#[$meta:meta])* struct $name:ident: $size:literal { $($(#[$doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name { $($(#[$doc])* pub $field: $ty,)* }

        const _: () = assert!(0 $(+ size_of::<$ty>())* == $size, "fields must fill the layout exactly");

        impl $name {
            /// Bytes it takes.
            pub const SIZE: usize = $size;

            /// Writes it to the front of `out`, which has room.
            #[inline]
            #[allow(unused_assignments)]
            pub fn encode(&self, out: &mut [u8]) {
                let out = &mut out[..$size];
                let mut at = 0;
                $(
                    crate::layout::Field::put(self.$field, &mut out[at..at + size_of::<$ty>()]);
                    at += size_of::<$ty>();
                )*
            }

            /// Reads it from the front of `from`, which is long enough.
            #[inline]
            #[allow(unused_assignments)]
            pub fn decode(from: &[u8]) -> Self {
                let from = &from[..$size];
                let mut at = 0;
                $(
                    let $field = crate::layout::Field::get(&from[at..at + size_of::<$ty>()]);
                    at += size_of::<$ty>();
                )*
                $name { $($field,)* }
            }
        }
    };
}
pub(crate) use layout;

/// Rounds up to the 8 bytes everything in a segment is aligned to.
pub(crate) const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// Writes the checksum of a structure that ends in one: over all before its last 8 bytes, which take it. Returns it.
#[inline]
pub(crate) fn seal(bytes: &mut [u8]) -> u64 {
    let (summed, place) = bytes.split_last_chunk_mut().expect("a structure that ends in a checksum");
    let sum = checksum(summed);
    *place = sum.to_le_bytes();
    sum
}

/// Whether the checksum that a structure ends in is right.
#[inline]
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk().is_some_and(|(summed, sum)| *sum == checksum(summed).to_le_bytes())
}

/// The checksum of the files.
#[inline]
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
