//! Which of several masters has a partition: rendezvous hashing.
//!
//! Each master draws a number for each partition from both their names, and the highest has it. Another master changes
//! only the partitions that it wins, a removed one only those that it had. Thaler and Ravishankar, "Using Name-Based
//! Mappings to Increase Hit Rates", IEEE/ACM Transactions on Networking 6 (1998).

use cache_events::hash64;

/// For each partition the index of its master. The order of the names does not matter.
pub(crate) fn place(masters: &[String], partitions: u32) -> Box<[usize]> {
    let draw = |master: &str, partition: u32| {
        (hash64([master.as_bytes(), &partition.to_be_bytes()[..]]), master.to_owned())
    };
    let winner = |partition| {
        (0..masters.len()).max_by_key(|&index| draw(&masters[index], partition)).unwrap_or_default()
    };
    (0..partitions).map(winner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_master_has_its_share_and_the_order_does_not_matter() {
        let masters = names(&["m1", "m2", "m3"]);
        let placed = place(&masters, 1024);
        for index in 0..3 {
            let share = placed.iter().filter(|&&placed| placed == index).count();
            assert!((280..=400).contains(&share), "{share} of 1,024");
        }
        let turned = names(&["m3", "m1", "m2"]);
        let of = |masters: &[String], placed: &[usize]| -> Vec<String> {
            placed.iter().map(|&index| masters[index].clone()).collect()
        };
        assert_eq!(of(&turned, &place(&turned, 1024)), of(&masters, &placed));
    }

    #[test]
    fn a_further_master_takes_only_what_it_wins() {
        let (three, four) = (names(&["a", "b", "c"]), names(&["a", "b", "c", "d"]));
        let (before, after) = (place(&three, 1024), place(&four, 1024));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == 3));
        assert!((180..=340).contains(&moved.count()));
    }
}
