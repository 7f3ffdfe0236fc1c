//! GPUs that are put up or changed one by one.

use std::collections::BTreeMap;

use super::commit::Draft;
use super::state::{Gpu, Provider, Stamp, State};
use super::{Committed, GpuRegistration, LedgerError};
use crate::{AvailabilityStatus, Market, kinds};

impl State {
    pub(super) fn put_gpu(&mut self, gpu: GpuRegistration) -> Result<Vec<Committed>, LedgerError> {
        gpu.check()?;
        let mut draft = Draft::default();
        match self.gpus.get(&gpu.gpu_id) {
            None => self.register(&mut draft, gpu),
            Some(known) => {
                self.check_fixed(known, &gpu)?;
                let own = gpu.status.unwrap_or(known.own);
                let same = (known.hardware, known.base, known.own, &known.market.region)
                    == (gpu.hardware, gpu.base_price_per_hour, own, &gpu.region);
                if same {
                    return Ok(vec![]);
                }
                self.alter(&mut draft, &gpu.gpu_id, |known| {
                    known.hardware = gpu.hardware;
                    known.base = gpu.base_price_per_hour;
                    known.own = own;
                    known.market.region = gpu.region;
                });
            }
        }
        Ok(vec![self.commit(draft, kinds::GPU_AVAILABILITY_CHANGED)])
    }

    /// What must not change: provider and model, and of a GPU that came with an offer the region too.
    fn check_fixed(&self, known: &Gpu, gpu: &GpuRegistration) -> Result<(), LedgerError> {
        let stays = |field, is: &str, wanted: &str| {
            if is == wanted {
                return Ok(());
            }
            Err(LedgerError::Invalid { field, why: format!("{:?} is {is:?}, not {wanted:?}", gpu.gpu_id) })
        };
        stays("provider_id", &known.provider, &gpu.provider_id)?;
        stays("gpu_type", &known.market.gpu_type, &gpu.gpu_type)?;
        if self.registered.contains(&gpu.gpu_id) {
            return Ok(());
        }
        stays("region", &known.market.region, &gpu.region)
    }

    fn register(&mut self, draft: &mut Draft, gpu: GpuRegistration) {
        let provider = self.providers.entry(gpu.provider_id.clone()).or_insert_with(Provider::new);
        provider.live += 1;
        draft.provider = Some(gpu.provider_id.clone());
        let facts = Gpu {
            provider: gpu.provider_id,
            market: Market::new(gpu.gpu_type, gpu.region),
            hardware: gpu.hardware,
            base: gpu.base_price_per_hour,
            own: gpu.status.unwrap_or(AvailabilityStatus::Available),
            withdrawn: false,
            schedule: BTreeMap::new(),
            begun: 0,
            stamp: Stamp::default(),
        };
        self.registered.insert(gpu.gpu_id.clone());
        self.gpus.insert(gpu.gpu_id.clone(), facts);
        self.list(draft, &gpu.gpu_id);
        draft.gpus.insert(gpu.gpu_id);
    }
}
