//! Search: which GPUs fit, in which order, page by page.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AvailabilityStatus, GpuInfo, MicroUsd};

/// The order of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// The lowest current price first; at one price by id.
    #[default]
    Price,
    /// The highest performance score first; at one score by id.
    Performance,
}

impl Ranking {
    /// By what a GPU is ranked; lower comes first for [`Price`](Self::Price), higher for
    /// [`Performance`](Self::Performance).
    pub fn rank(self, gpu: &GpuInfo) -> u64 {
        match self {
            Self::Price => gpu.current_price_per_hour.0,
            Self::Performance => u64::from(gpu.performance_score),
        }
    }

    /// Where a GPU stands in the order: the smallest comes first.
    fn place(self, rank: u64) -> u64 {
        match self {
            Self::Price => rank,
            Self::Performance => u64::MAX - rank,
        }
    }
}

/// What somebody looks for among the GPUs on offer, and which page of it. Bounds include their value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Only this model.
    pub gpu_type: Option<String>,
    /// Only in this region.
    pub region: Option<String>,
    /// Only of this provider.
    pub provider_id: Option<String>,
    /// Only in this state; without it, in any.
    pub status: Option<AvailabilityStatus>,
    /// Memory in GB, at least.
    pub min_memory_gb: Option<u32>,
    /// CUDA cores, at least.
    pub min_cuda_cores: Option<u32>,
    /// Performance score, at least.
    pub min_performance_score: Option<u32>,
    /// Current price, at most.
    pub max_price_per_hour: Option<MicroUsd>,
    /// The order.
    pub ranking: Ranking,
    /// Behind the last GPU of the page before; `None` = the first page.
    pub after: Option<Cursor>,
    /// GPUs on the page, 1 to [`PAGE_MAX`](crate::ledger::PAGE_MAX).
    pub limit: u32,
}

impl Search {
    /// GPUs on a page unless asked otherwise.
    pub const LIMIT: u32 = 20;

    /// Whether a GPU is what is looked for; that it is on offer is for the caller to see to.
    pub fn fits(&self, gpu: &GpuInfo) -> bool {
        let is = |wanted: &Option<String>, is: &String| wanted.as_ref().is_none_or(|wanted| wanted == is);
        let at_least = |least: Option<u32>, has: u32| least.is_none_or(|least| has >= least);
        is(&self.gpu_type, &gpu.gpu_type)
            && is(&self.region, &gpu.region)
            && is(&self.provider_id, &gpu.provider_id)
            && self.status.is_none_or(|status| status == gpu.availability_status)
            && at_least(self.min_memory_gb, gpu.memory_gb)
            && at_least(self.min_cuda_cores, gpu.cuda_cores)
            && at_least(self.min_performance_score, gpu.performance_score)
            && self.max_price_per_hour.is_none_or(|most| gpu.current_price_per_hour <= most)
    }

    /// The page of what fits among `gpus`: the definition that every ledger must agree with.
    pub fn page(&self, gpus: impl IntoIterator<Item = GpuInfo>) -> SearchPage {
        let place = |rank: u64, id: &str| (self.ranking.place(rank), id.to_owned());
        let behind = self.after.as_ref().map(|after| place(after.rank, &after.gpu_id));
        let mut found: Vec<((u64, String), GpuInfo)> = gpus
            .into_iter()
            .filter(|gpu| self.fits(gpu))
            .map(|gpu| (place(self.ranking.rank(&gpu), &gpu.gpu_id), gpu))
            .filter(|(at, _)| behind.as_ref().is_none_or(|behind| at > behind))
            .collect();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let more = found.len() > self.limit as usize;
        found.truncate(self.limit as usize);
        let gpus: Vec<GpuInfo> = found.into_iter().map(|(_, gpu)| gpu).collect();
        let next = gpus
            .last()
            .filter(|_| more)
            .map(|last| Cursor { rank: self.ranking.rank(last), gpu_id: last.gpu_id.clone() });
        SearchPage { gpus, next }
    }
}

impl Default for Search {
    /// The first page of everything on offer, by price.
    fn default() -> Self {
        Self {
            gpu_type: None,
            region: None,
            provider_id: None,
            status: None,
            min_memory_gb: None,
            min_cuda_cores: None,
            min_performance_score: None,
            max_price_per_hour: None,
            ranking: Ranking::Price,
            after: None,
            limit: Self::LIMIT,
        }
    }
}

/// A place in the order of a search. It is a place and not a count, so nothing is shown twice or left out because
/// something else came or went; a GPU whose own rank moves across it may be.
///
/// As text, also in JSON: `<rank>:<gpu_id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Price or performance score of the last GPU that was shown.
    pub rank: u64,
    /// Its id.
    pub gpu_id: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rank, self.gpu_id)
    }
}

/// A text that is no [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cursor that a search gave")]
pub struct NotACursor(String);

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let wrong = || NotACursor(text.chars().take(80).collect());
        let (rank, gpu_id) = text.split_once(':').ok_or_else(wrong)?;
        let rank = rank.parse().map_err(|_| wrong())?;
        if gpu_id.is_empty() {
            return Err(wrong());
        }
        Ok(Self { rank, gpu_id: gpu_id.to_owned() })
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One page of what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchPage {
    /// In the order of the ranking.
    pub gpus: Vec<GpuInfo>,
    /// Where the next page begins; `None` = this is the last.
    #[serde(rename = "next_cursor")]
    #[schemars(with = "Option<String>")]
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gpu(n: usize, price: u64, score: u32) -> GpuInfo {
        GpuInfo {
            gpu_id: format!("p/H100/{n}"),
            provider_id: "p".into(),
            gpu_type: "H100".into(),
            memory_gb: 80,
            cuda_cores: 16_896,
            base_price_per_hour: MicroUsd(price),
            current_price_per_hour: MicroUsd(price),
            availability_status: AvailabilityStatus::Available,
            region: "europe".into(),
            performance_score: score,
            last_updated: 1,
        }
    }

    #[test]
    fn each_filter_leaves_out_what_does_not_fit() {
        let of = |edit: fn(&mut Search)| {
            let mut search = Search::default();
            edit(&mut search);
            search.fits(&gpu(1, 5, 7))
        };
        assert!(of(|_| {}));
        assert!(of(|s| s.gpu_type = Some("H100".into())) && !of(|s| s.gpu_type = Some("A100".into())));
        assert!(of(|s| s.region = Some("europe".into())) && !of(|s| s.region = Some("us-east".into())));
        assert!(of(|s| s.provider_id = Some("p".into())) && !of(|s| s.provider_id = Some("q".into())));
        assert!(of(|s| s.status = Some(AvailabilityStatus::Available)));
        assert!(!of(|s| s.status = Some(AvailabilityStatus::Busy)));
        assert!(of(|s| s.min_memory_gb = Some(80)) && !of(|s| s.min_memory_gb = Some(81)));
        assert!(of(|s| s.min_cuda_cores = Some(16_896)) && !of(|s| s.min_cuda_cores = Some(16_897)));
        assert!(of(|s| s.min_performance_score = Some(7)) && !of(|s| s.min_performance_score = Some(8)));
        assert!(of(|s| s.max_price_per_hour = Some(MicroUsd(5))));
        assert!(!of(|s| s.max_price_per_hour = Some(MicroUsd(4))));
    }

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor { rank: 1_650_000, gpu_id: "p:q/H100/1".into() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1", "1:", ":a", "-1:a", "x:a"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_pages_together_are_all_that_fits_in_order(
            ranks in proptest::collection::vec((0..4_u64, 0..4_u32), 0..30),
            limit in 1..7_u32,
            by_price: bool,
        ) {
            let gpus: Vec<GpuInfo> =
                ranks.iter().enumerate().map(|(n, &(price, score))| gpu(n, price, score)).collect();
            let ranking = if by_price { Ranking::Price } else { Ranking::Performance };
            let mut search = Search { ranking, limit, ..Search::default() };
            let mut shown = Vec::new();
            loop {
                let page = search.page(gpus.clone());
                prop_assert!(page.gpus.len() <= limit as usize);
                shown.extend(page.gpus);
                let Some(next) = page.next else { break };
                prop_assert_eq!(shown.len() % limit as usize, 0);
                search.after = Some(next);
            }
            let mut expected = gpus;
            expected.sort_by(|a, b| match ranking {
                Ranking::Price => a.current_price_per_hour.cmp(&b.current_price_per_hour),
                Ranking::Performance => b.performance_score.cmp(&a.performance_score),
            }.then(a.gpu_id.cmp(&b.gpu_id)));
            prop_assert_eq!(shown, expected);
        }
    }
}
