//! Changes through the marketplace: committed in the ledger, then announced to every cache.

use cache_events::WriteToken;
use cache_tiered::Answer;

use crate::ledger::{BookOutcome, BookingRequest, CancelOutcome, Committed, GpuRegistration};
use crate::{
    Availability, AvailabilityStatus, GpuPrice, Market, MarketError, Marketplace, MicroUsd, ProviderState,
};

/// What came of a change, and whether the caches know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made<T> {
    /// What the ledger said.
    pub outcome: T,
    /// To be shown to other nodes: who has it sees the change. Empty if nothing changed, or nothing could be announced.
    pub token: WriteToken,
    /// Whether all of the change was acknowledged by the caches. If not, it is committed all the same, and it will be
    /// announced: by this node, and by the relay of a ledger that has one.
    pub published: bool,
}

impl Marketplace {
    /// Rents a GPU. Asking twice with the same request is asking once, and announces it again.
    ///
    /// # Errors
    /// [`MarketError`]; what the ledger refuses for a reason of its own is an outcome.
    pub async fn create_booking(&self, request: BookingRequest) -> Result<Made<BookOutcome>, MarketError> {
        let outcome = self.ledger().book(request, self.wall()).await?;
        let committed = match &outcome {
            BookOutcome::Booked { committed, .. } => std::slice::from_ref(committed),
            _ => &[],
        };
        let (token, published) = self.announce_all(committed).await?;
        Ok(Made { outcome, token, published })
    }

    /// Calls a booking off.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn cancel_booking(
        &self,
        booking_id: &str,
        gpu_id: &str,
    ) -> Result<Made<CancelOutcome>, MarketError> {
        let outcome = self.ledger().cancel(booking_id, gpu_id, self.wall()).await?;
        let committed = match &outcome {
            CancelOutcome::Cancelled { committed, .. } => std::slice::from_ref(committed),
            _ => &[],
        };
        let (token, published) = self.announce_all(committed).await?;
        Ok(Made { outcome, token, published })
    }

    /// Puts up one GPU, or changes it.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn put_gpu(&self, gpu: GpuRegistration) -> Result<Made<Vec<Committed>>, MarketError> {
        let committed = self.ledger().put_gpu(gpu, self.wall()).await?;
        self.made(committed).await
    }

    /// Takes a GPU out or puts it back.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn update_gpu_status(
        &self,
        gpu_id: &str,
        status: AvailabilityStatus,
    ) -> Result<Made<Vec<Committed>>, MarketError> {
        let committed = self.ledger().set_gpu_status(gpu_id, status, self.wall()).await?;
        self.made(committed).await
    }

    /// Sets the base price of all GPUs of a type in a region; the current price follows from it.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn update_gpu_pricing(
        &self,
        gpu_type: &str,
        price: MicroUsd,
        region: &str,
    ) -> Result<Made<Vec<Committed>>, MarketError> {
        let market = Market::new(gpu_type, region);
        let committed = self.ledger().set_price(&market, price, self.wall()).await?;
        self.made(committed).await
    }

    /// Takes a provider out or puts it back; all its GPUs follow.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn update_provider_status(
        &self,
        provider_id: &str,
        status: ProviderState,
    ) -> Result<Made<Vec<Committed>>, MarketError> {
        let committed = self.ledger().set_provider_status(provider_id, status, self.wall()).await?;
        self.made(committed).await
    }

    /// Lets bookings begin and end that have come to it by now, and old ones leave the figures of 24 hours.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn pass_time(&self) -> Result<Made<Vec<Committed>>, MarketError> {
        let committed = self.ledger().pass_time(self.wall()).await?;
        self.made(committed).await
    }

    /// How many GPUs of a type are free in a region.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn get_gpu_availability(
        &self,
        region: &str,
        gpu_type: &str,
    ) -> Result<Answer<Availability>, MarketError> {
        self.availability(&Market::new(gpu_type, region)).await
    }

    /// What a type costs in a region.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn get_gpu_pricing(
        &self,
        gpu_type: &str,
        region: &str,
    ) -> Result<Answer<GpuPrice>, MarketError> {
        self.price(&Market::new(gpu_type, region)).await
    }

    /// Announces changes one after the other: the token of all, and whether all were acknowledged.
    ///
    /// # Errors
    /// [`MarketError`], but not [`Unannounced`](MarketError::Unannounced).
    pub async fn announce_all(&self, committed: &[Committed]) -> Result<(WriteToken, bool), MarketError> {
        let (mut token, mut published) = (WriteToken::default(), true);
        for committed in committed {
            match self.announce(committed).await {
                Ok(written) => {
                    for (partition, position) in written.token.positions() {
                        token.add(partition, position);
                    }
                }
                Err(MarketError::Unannounced(_)) => published = false,
                Err(error) => return Err(error),
            }
        }
        Ok((token, published))
    }

    async fn made(&self, outcome: Vec<Committed>) -> Result<Made<Vec<Committed>>, MarketError> {
        let (token, published) = self.announce_all(&outcome).await?;
        Ok(Made { outcome, token, published })
    }

    /// The time of the ledger, in Unix milliseconds.
    fn wall(&self) -> u64 {
        self.cache().clock().wall()
    }
}
