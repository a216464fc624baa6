//! What the index and the log have of a key that a data point came for: what decides its place among the versions.

use super::*;
use crate::map;

/// Cache lines of a payload that are asked for ahead; the processor sees by itself how it goes on.
const FIRST_LINES: usize = 4;

impl CurrentVersion {
    pub(super) fn of(header: &RecordHeader) -> CurrentVersion {
        CurrentVersion {
            kind: header.kind(),
            event_time_ms: header.event_time_ms,
            expiry_ms: header.expiry_ms,
            topic: TopicIndex(header.topic),
            offset: header.offset,
        }
    }
}

impl ShardWriter {
    /// Says that data points of a view (entity, payload) are about to be put, so that they, and what the index and the log
    /// have of their entities, are on their way from memory when they are. A hint: it changes nothing. Best with 8 to 32.
    pub fn expect<'e>(&mut self, view: u16, points: impl Iterator<Item = (&'e [u8], &'e [u8])> + Clone) {
        let (shard, expected) = (&self.shard, &mut self.expected);
        for (entity, payload) in points.clone() {
            map::prefetch(entity.as_ptr());
            payload.chunks(map::CACHE_LINE).take(FIRST_LINES).for_each(|line| map::prefetch(line.as_ptr()));
        }
        expected.clear();
        expected.extend(points.map(|(entity, _)| Key::new(shard.entity_hash(entity))));
        let (guard, index) = (&crossbeam_epoch::pin(), &shard.index);
        index.ask_for(expected.iter().copied(), guard);
        if self.keeps.get(usize::from(view)).copied().flatten() == Some(Keep::Full) {
            // Their newest records are looked at, too.
            let segments = shard.segments.load(guard);
            expected.iter().for_each(|key| segments.prefetch(index.slot(*key, view, guard)));
        }
    }

    /// The current version of a key, the batch included; none if it has nothing, or nothing that is still stored. Waits
    /// for the disk if it must look at a record that is not in memory.
    ///
    /// # Errors
    /// `Collision` if the index cannot tell the entity from another; `Damaged` if what the key has cannot be read, which
    /// stops the shard.
    pub fn current(&self, entity: &[u8], view: u16) -> Result<Option<CurrentVersion>, WriteError> {
        self.shard.check()?;
        self.find_current(entity, view, None).inspect_err(|error| self.stop_if_damaged(error))
    }

    /// Whether an entity has anything in one of these views, the batch included; it may be another entity's that the
    /// index takes for it. One look at the index for all of them.
    pub fn may_have(&self, entity: &[u8], mut views: impl Iterator<Item = u16>) -> bool {
        let key = Key::new(self.shard.entity_hash(entity));
        let guard = &crossbeam_epoch::pin();
        let stored = self.shard.index.entity(key, guard);
        views.any(|view| {
            stored.as_ref().is_some_and(|stored| stored.slot(view) != Slot::NONE)
                || self.batch.find(key, entity, view).is_some()
        })
    }

    /// As `current`, and appends that version's payload to `payload`.
    ///
    /// # Errors
    /// As of `current`.
    pub fn current_payload(
        &self,
        entity: &[u8],
        view: u16,
        payload: &mut Vec<u8>,
    ) -> Result<Option<CurrentVersion>, WriteError> {
        self.shard.check()?;
        let found = self.find_current(entity, view, Some(payload));
        found.inspect_err(|error| self.stop_if_damaged(error))
    }

    fn find_current(
        &self,
        entity: &[u8],
        view: u16,
        payload: Option<&mut Vec<u8>>,
    ) -> Result<Option<CurrentVersion>, WriteError> {
        let entity_hash = self.shard.entity_hash(entity);
        let key = Key::new(entity_hash);
        // What the batch knows and has not itself is what the index has.
        let known = self.batch.find(key, entity, view).and_then(|known| self.batch.keys[known].head);
        if let Some(head) = known.filter(|head| head.at.is_pending()) {
            let stored = Stored::of(&head.header, self.batch.payload(head.at, &head.header));
            if let Some((payload, stored)) = payload.zip(stored) {
                payload.extend(self.shard.codecs.decoded(stored).unwrap_or_default());
            }
            return Ok(Some(CurrentVersion::of(&head.header)));
        }
        let guard = &crossbeam_epoch::pin();
        let slot = self.shard.index.slot(key, view, guard);
        let reach = self.reach(guard);
        let Some(newest) = reach.record_of(slot)? else { return Ok(None) };
        if newest.entity != entity {
            return Err(WriteError::Collision { entity: entity.into(), stored: newest.entity.into() });
        }
        let Some(chain) = Chain::from(reach, newest)? else { return Ok(None) };
        if let Some(payload) = payload {
            self.shard.codecs.append(&chain.current, payload)?;
        }
        Ok(Some(CurrentVersion::of(&chain.current.header)))
    }

    /// What the index and the log have of a key. A data point of a `Latest` view that is surely newer than what is there
    /// takes its place without a look at it.
    pub(super) fn load(
        &self,
        key: Key,
        entity_hash: u128,
        put: &Put<'_>,
        guard: &Guard,
    ) -> Result<KeyState, WriteError> {
        let keep = self.keeps.get(usize::from(put.view)).copied().flatten();
        let keep = keep.ok_or(WriteError::Invalid("the view is not one of the shard's"))?;
        let dense = self.view_number(put.view, guard)?;
        let mut state = KeyState::new(key, entity_hash, put.view, dense);
        let slot = self.shard.index.slot(key, put.view, guard);
        let reach = self.reach(guard);
        let Some(segment) = reach.segments().of_slot(slot) else { return Ok(state) };
        let newer = slot.coarse().is_surely_before(segment.coarse(put.event_time_ms));
        if keep == Keep::Latest && newer && !slot.is_late() {
            state.unseen = Location::new(segment.number, slot.byte());
            state.late = state.unseen;
            return Ok(state);
        }
        let Some(newest) = reach.record_of(slot)? else { return Ok(state) };
        if newest.entity != put.entity {
            return Err(WriteError::Collision { entity: put.entity.into(), stored: newest.entity.into() });
        }
        if let Some(chain) = Chain::from(reach, newest)? {
            let header = chain.current.header;
            let rank = self.shard.rank(&header.key());
            state.head = Some(Head { at: chain.current.location(), rank, header });
            state.late = chain.late;
        }
        Ok(state)
    }

    pub(super) fn view_number(&self, view: u16, guard: &Guard) -> Result<Dense, WriteError> {
        let index = &self.shard.index;
        let number = index.view(view, guard).or_else(|| index.add_view(view, guard));
        number.ok_or(WriteError::Invalid("the shard has records of 254 views already; no more fit"))
    }

    pub(super) fn reach<'g>(&'g self, guard: &'g Guard) -> Reach<'g> {
        Reach::new(&self.shard, Some(&self.cold), guard)
    }

    /// Where the jump of the next current version of a key leads.
    pub(super) fn jump(&self, state: &KeyState, guard: &Guard) -> Result<Location, ReadError> {
        let Some(head) = &state.head else { return Ok(Location::NONE) };
        let depth = head.header.depth.saturating_add(1);
        match jump_depth(depth) {
            0 => Ok(Location::NONE),
            to if to == head.header.depth => Ok(head.at),
            // Myers: if it is not the version before, it is where the jump of that one's jump leads.
            _ => {
                let jumped = Location(head.header.jump);
                // An expired record cannot be asked, but what it led to has expired as well: either pointer is dead.
                Ok(self.header(jumped, guard)?.map_or(jumped, |header| Location(header.jump)))
            }
        }
    }

    pub(super) fn header(&self, at: Location, guard: &Guard) -> Result<Option<RecordHeader>, ReadError> {
        if at.is_pending() {
            return Ok(Some(self.batch.header(at)));
        }
        Ok(self.reach(guard).record(at)?.map(|record| record.header))
    }

    /// Whether a new current version says nothing the one before did not say.
    pub(super) fn repeats(&self, put: &Put<'_>, state: &KeyState, guard: &Guard) -> Result<bool, ReadError> {
        let Some(head) = &state.head else { return Ok(false) };
        let same = head.header.event_time_ms == put.event_time_ms && head.header.kind() == put.kind;
        if !same {
            return Ok(false);
        }
        let new = self.coder.stored(put.payload);
        let old = match head.at.is_pending() {
            true => Stored::of(&head.header, self.batch.payload(head.at, &head.header)),
            false => match self.reach(guard).record(head.at)? {
                Some(record) => Some(stored(&record)?),
                None => None,
            },
        };
        Ok(old.is_some_and(|old| self.shard.codecs.are_same(old, new, put.payload)))
    }
}
