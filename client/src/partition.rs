//! Which partition a producer puts a key on: the two hashes in use, as their clients compute them. Used to route
//! requests and, by the server, to check what it consumes. Knows nothing of connections.

/// How the producers of a lane map entity ids to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Partitioner {
    /// Kafka's Java clients (`murmur2_random` in librdkafka).
    Murmur2,
    /// librdkafka's default (`consistent_random`).
    Crc32,
}

impl Partitioner {
    /// The partition of a non-empty key; 0 when there are no partitions.
    pub fn partition(self, key: &[u8], partitions: u32) -> u32 {
        let hash = match self {
            Partitioner::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Partitioner::Crc32 => crc32fast::hash(key),
        };
        hash.checked_rem(partitions).unwrap_or(0)
    }
}

/// MurmurHash 2 by Austin Appleby, 32 bits, with the seed of `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        let vectors: [(&str, i32); 7] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
            ("", 275646681),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
    }

    /// Vectors of librdkafka's own `rdcrc32` and murmur2 partitioner unit tests use the same functions; these are
    /// the standard check value of CRC-32 and the partition it gives.
    #[test]
    fn crc32_is_the_ieee_one() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(Partitioner::Crc32.partition(b"123456789", 10), 0xcbf4_3926 % 10);
    }

    #[test]
    fn no_partitions_is_not_a_panic() {
        assert_eq!(Partitioner::Murmur2.partition(b"x", 0), 0);
    }
}
