//! Hash tags: which slot, and so which master of a Cluster, a partition has.
//!
//! The tag of partition `p` of `P` is the smallest number that begins at `p`, grows by `P`, and whose slot lies in the
//! p-th of `P` equal shares of all slots. So partitions spread evenly over whatever contiguous ranges the masters have,
//! and the remainder by `P` tells the partition. Slots are those of the Redis Cluster specification: CRC16 (XMODEM) of
//! the tag, modulo 16,384.

/// How many slots a Cluster has.
const SLOTS: u32 = 16_384;

/// The slot of a hash tag.
pub(crate) fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS as u16
}

/// The tag of a partition of a Cluster.
pub(crate) fn tag(partition: u32, partitions: u32) -> String {
    let bound = |number: u32| number * SLOTS / partitions;
    let share = bound(partition)..bound(partition + 1);
    let mut number = partition;
    // A share is never empty (at most 1,024 partitions), and every slot has a number.
    loop {
        let tag = number.to_string();
        if share.contains(&u32::from(slot(&tag))) {
            return tag;
        }
        number += partitions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!((slot("123456789"), slot("foo"), slot("")), (0x31C3, 12_182, 0));
    }

    #[test]
    fn partitions_spread_evenly_over_the_slots() {
        for partitions in [1, 2, 3, 32, 1024] {
            for partition in 0..partitions {
                let tag = tag(partition, partitions);
                let share = u32::from(slot(&tag)) * partitions / SLOTS;
                assert!(share.abs_diff(partition) <= 1, "{partition} of {partitions}: {tag}");
                assert_eq!(tag.parse::<u32>().unwrap() % partitions, partition);
            }
            let mut of_three = [0_u32; 3];
            for partition in 0..partitions {
                of_three[usize::from(slot(&tag(partition, partitions))) * 3 / SLOTS as usize] += 1;
            }
            let (least, most) = (of_three.iter().min().unwrap(), of_three.iter().max().unwrap());
            assert!(partitions < 32 || most - least <= 2, "{partitions}: {of_three:?}");
        }
    }
}
