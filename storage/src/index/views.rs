//! The numbers that views have in one index: small ones, so that a line names a view with one byte. Known to the
//! index only, and to its checkpoints; they say nothing outside of it.

/// Number of a view in one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dense(u8);

/// Views by number, and back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Views {
    /// By number.
    pub ids: Vec<u16>,
    /// View byte by id; 0: not known.
    bytes: Vec<u8>,
}

/// So many views fit into one index: a byte, without 0.
pub(crate) const MOST_VIEWS: usize = 254;

impl Dense {
    /// What a line has for it; never 0.
    #[inline]
    pub fn byte(self) -> u8 {
        self.0 + 1
    }

    #[inline]
    pub fn of_byte(byte: u8) -> Option<Dense> {
        byte.checked_sub(1).map(Dense)
    }
}

impl Views {
    #[inline]
    pub fn get(&self, id: u16) -> Option<Dense> {
        self.bytes.get(usize::from(id)).copied().and_then(Dense::of_byte)
    }

    /// With a view more; nothing if there are too many.
    pub fn with(&self, id: u16) -> Option<(Views, Dense)> {
        let number = u8::try_from(self.ids.len()).ok().filter(|number| usize::from(*number) < MOST_VIEWS)?;
        let mut views = self.clone();
        views.ids.push(id);
        let bytes = views.bytes.len().max(usize::from(id) + 1);
        views.bytes.resize(bytes, 0);
        views.bytes[usize::from(id)] = number + 1;
        Some((views, Dense(number)))
    }

    /// RAM it takes.
    pub fn heap_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u16>() + self.bytes.capacity()
    }
}
