//! A market made up from a seed, for when no feed is given.

use crate::feed::OfferRow;
use crate::ledger::Offer;
use crate::{MicroUsd, REGIONS};

const PROVIDERS: [&str; 6] = ["alder", "birch", "cedar", "dogwood", "elm", "fir"];
const MODELS: [(&str, u64); 5] = [
    ("A100_80GB_PCIe", 1_350_000),
    ("A100_80GB_SXM4", 1_650_000),
    ("H100_80GB_PCIe", 2_190_000),
    ("H100_80GB_SXM5", 2_490_000),
    ("H200_141GB", 3_290_000),
];
const OFFERS: std::ops::RangeInclusive<u32> = 0..=24;
const STEP_MS: u64 = 1_000;
const START_MS: u64 = 1_760_000_000_000;

/// An endless feed: first each provider's offer of each model, then price moves and changes of their number.
/// The same seed gives the same rows.
#[derive(Debug, Clone)]
pub struct SeededMarket {
    rng: fastrand::Rng,
    offers: Vec<Offer>,
    emitted: u64,
}

impl SeededMarket {
    /// The market of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut offers = Vec::new();
        for (at, provider) in PROVIDERS.iter().enumerate() {
            for (gpu_model, usual) in MODELS {
                let min = usual / 100 * rng.u64(85..=115);
                offers.push(Offer {
                    provider: (*provider).into(),
                    gpu_model: gpu_model.into(),
                    region: REGIONS[at % REGIONS.len()].into(),
                    count: rng.u32(4..=16),
                    min_price: MicroUsd(min),
                    avg_price: MicroUsd(min + min / 100 * rng.u64(0..=5)),
                });
            }
        }
        Self { rng, offers, emitted: 0 }
    }
}

impl Iterator for SeededMarket {
    type Item = OfferRow;

    fn next(&mut self) -> Option<OfferRow> {
        let number = self.emitted;
        self.emitted += 1;
        let at = match usize::try_from(number) {
            Ok(first) if first < self.offers.len() => first,
            _ => {
                let at = self.rng.usize(..self.offers.len());
                stir(&mut self.rng, &mut self.offers[at]);
                at
            }
        };
        Some(OfferRow { observed_at: START_MS + number * STEP_MS, offer: self.offers[at].clone() })
    }
}

/// Moves the price by up to 3 % or the number by up to 3.
fn stir(rng: &mut fastrand::Rng, offer: &mut Offer) {
    if rng.bool() {
        let percent = rng.u64(97..=103);
        let min = (offer.min_price.0 / 100 * percent).clamp(100_000, 20_000_000);
        offer.min_price = MicroUsd(min);
        offer.avg_price = MicroUsd(min + min / 100 * rng.u64(0..=5));
    } else {
        let (down, up) = (rng.u32(0..=3), rng.u32(0..=3));
        offer.count = (offer.count + up).saturating_sub(down).clamp(*OFFERS.start(), *OFFERS.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let rows = |seed| SeededMarket::new(seed).take(500).collect::<Vec<_>>();
        assert_eq!(rows(7), rows(7));
        assert_ne!(rows(7), rows(8));
    }

    #[test]
    fn prices_move_and_offers_come_and_go() {
        let rows: Vec<OfferRow> = SeededMarket::new(1).take(3_000).collect();
        let of = |row: &&OfferRow| row.offer.provider == "elm" && row.offer.gpu_model == "H200_141GB";
        let counts: std::collections::HashSet<_> =
            rows.iter().filter(of).map(|row| row.offer.count).collect();
        let prices: std::collections::HashSet<_> =
            rows.iter().filter(of).map(|row| row.offer.min_price).collect();
        assert!(counts.len() > 5 && prices.len() > 5, "{counts:?} {prices:?}");
        assert!(
            rows.iter()
                .all(|row| row.offer.avg_price >= row.offer.min_price && row.offer.min_price > MicroUsd(0))
        );
        assert!(rows.windows(2).all(|pair| pair[0].observed_at < pair[1].observed_at));
    }
}
