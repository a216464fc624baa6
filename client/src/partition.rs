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
    /// The partition of a non-empty key; 0 when there are no partitions. Records without a key, and with librdkafka's
    /// CRC32 also those with an empty one, are spread at random by producers: they have no partition of their own, and
    /// no entity id is empty.
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

    /// Vectors of librdkafka's own unit test of its murmur2 (`unittest_murmur2`), unaligned keys included.
    #[test]
    fn murmur2_agrees_with_librdkafka() {
        let unaligned = "PreAmbleWillBeRemoved,ThePrePartThatIs";
        let vectors = [
            ("kafka", 0xd067_cf64),
            ("giberish123456789", 0x8f55_2b0c),
            ("1234", 0x9fc9_7b14),
            ("234", 0xe7c0_09ca),
            ("34", 0x8739_30da),
            ("4", 0x5a4b_5ca1),
            (unaligned, 0x7842_4f1c),
            (&unaligned[1..], 0x4a62_b377),
            (&unaligned[2..], 0xe0e4_e09e),
            (&unaligned[3..], 0x62b8_b43f),
            ("", 0x106e_08d9),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key:?}");
        }
    }

    /// Vectors of librdkafka's own test 0048 (`do_test_partitioners`): the hashes it expects modulo 17 partitions.
    #[test]
    fn both_partitioners_agree_with_librdkafka() {
        let long = "this is another string with more length to it perhaps";
        let crc32 = [("23456", 0xb1b4_51d7_u32), (long, 0xb015_0df7), ("hejsan", 0xd077_037e)];
        for (key, hash) in crc32 {
            assert_eq!(crc32fast::hash(key.as_bytes()), hash, "{key:?}");
            assert_eq!(Partitioner::Crc32.partition(key.as_bytes(), 17), hash % 17, "{key:?}");
        }
        let murmur2 = [("23456", 0x058d_780f_u32), (long, 0x4f77_03da), ("hejsan", 0x5ec1_9395)];
        for (key, hash) in murmur2 {
            assert_eq!(Partitioner::Murmur2.partition(key.as_bytes(), 17), hash % 17, "{key:?}");
        }
    }

    #[test]
    fn no_partitions_is_not_a_panic() {
        assert_eq!(Partitioner::Murmur2.partition(b"x", 0), 0);
    }
}
