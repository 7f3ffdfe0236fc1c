//! The ledger in memory keeps the contract.

use cache_marketplace::MemoryLedger;
use cache_marketplace::ledger::contract;

#[tokio::test]
async fn memory_keeps_the_contract() {
    let ledger = MemoryLedger::new();
    let violations = contract::all(&ledger).await;
    assert!(violations.is_empty(), "{violations:#?}");
    crate::sound(&ledger);
}
