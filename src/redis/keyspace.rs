//! Partitions: how names are spread over hash slots, and the one key of this module.
//!
//! Called by everything in `redis` and, through `Redis`, by `keys.rs` of the broker. Never talks
//! to a server.

use std::fmt;

/// Hash slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;
/// Most partitions: three digits in a tag, and far more than a cluster has primaries.
pub const PARTITIONS_MAX: u32 = 999;

/// One of the fixed parts of the key space; all keys of a channel are in the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u16);

impl Partition {
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:03}", self.0)
    }
}

/// The partitions of one configuration.
#[derive(Debug)]
pub(super) struct Keyspace {
    tags: Vec<String>,
}

impl Keyspace {
    /// `count` partitions under a prefix; at least one, at most [`PARTITIONS_MAX`].
    pub(super) fn new(prefix: &str, count: u32) -> Self {
        let tags = (0..count.clamp(1, PARTITIONS_MAX))
            .map(|number| format!("{{{prefix}:p{number:03}}}"))
            .collect();
        Self { tags }
    }

    pub(super) const fn count(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..u16::try_from(self.tags.len()).unwrap_or(u16::MAX)).map(Partition)
    }

    /// The partition of a name: the same on every node, for ever.
    pub(super) fn partition_of(&self, name: &[u8]) -> Partition {
        let count = u32::try_from(self.tags.len()).unwrap_or(1);
        Partition(u16::try_from(crc32fast::hash(name) % count).unwrap_or(0))
    }

    /// What every key of the partition begins with: a hash tag, `{tw:p017}`.
    pub(super) fn tag(&self, partition: Partition) -> &str {
        self.tags.get(partition.index()).map_or("", String::as_str)
    }

    /// The hash that holds the partition's generation; it has no lifetime.
    pub(super) fn generation_key(&self, partition: Partition) -> String {
        format!("{}:generation", self.tag(partition))
    }

    /// The hash slot of the partition in a Redis Cluster.
    pub(super) fn slot(&self, partition: Partition) -> u16 {
        let tag = self.tag(partition);
        let inner = tag.trim_start_matches('{').trim_end_matches('}');
        crc16(inner.as_bytes()) % SLOTS
    }
}

/// CRC-16/XMODEM, as the specification of Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _bit| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn tags_name_their_partition_and_names_are_spread() {
        let keyspace = Keyspace::new("tw", 256);
        let partition = keyspace.partition_of(b"orders:42");
        assert_eq!(
            keyspace.tag(partition),
            format!("{{tw:{partition}}}").as_str()
        );
        let mut used: Vec<_> = (0..4_000)
            .map(|number| keyspace.partition_of(format!("orders:{number}").as_bytes()))
            .collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 256);
    }
}
