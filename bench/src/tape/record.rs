//! One record as bytes and back. Knows nothing of blocks and files.

use bytes::{Buf, BufMut, Bytes};

use super::Record;

const NULL: u32 = u32::MAX;

impl Record {
    /// Bytes of the keys, payload and headers: what Kafka would count.
    pub fn size(&self) -> u64 {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) as u64;
        let headers = self.headers.iter().map(|(name, value)| name.len() as u64 + length(value));
        length(&self.key) + length(&self.payload) + headers.sum::<u64>()
    }

    /// Appends the record. Its parts are shorter than a block may be.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.put_u32_le(self.topic as u32);
        into.put_u32_le(self.partition);
        into.put_i64_le(self.offset);
        into.put_i64_le(self.timestamp_ms);
        put(into, self.key.as_deref());
        put(into, self.payload.as_deref());
        into.put_u32_le(self.headers.len() as u32);
        for (name, value) in &self.headers {
            put(into, Some(name.as_bytes()));
            put(into, value.as_deref());
        }
    }

    /// Takes the next record, none if it is not whole.
    pub(super) fn decode(from: &mut Bytes) -> Option<Record> {
        let topic = from.try_get_u32_le().ok()? as usize;
        let partition = from.try_get_u32_le().ok()?;
        let offset = from.try_get_i64_le().ok()?;
        let timestamp_ms = from.try_get_i64_le().ok()?;
        let (key, payload) = (take(from)?, take(from)?);
        let count = from.try_get_u32_le().ok()?;
        let header = |_| Some((String::from_utf8(take(from)??.into()).ok()?, take(from)?));
        let headers = (0..count).map(header).collect::<Option<Vec<_>>>()?;
        Some(Record { topic, partition, offset, timestamp_ms, key, headers, payload })
    }
}

fn put(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    into.put_u32_le(bytes.map_or(NULL, |bytes| bytes.len() as u32));
    into.extend_from_slice(bytes.unwrap_or_default());
}

/// A length and so many bytes, shared with the block; none if they are not there.
fn take(from: &mut Bytes) -> Option<Option<Bytes>> {
    match from.try_get_u32_le().ok()? {
        NULL => Some(None),
        length => (from.remaining() >= length as usize).then(|| Some(from.split_to(length as usize))),
    }
}
