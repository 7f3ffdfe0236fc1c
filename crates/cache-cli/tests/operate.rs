//! What nodes tell operators: which keys are hot, who the others are, why an answer is what it is, what differs.

mod support;

use support::Running;

#[test]
fn the_keys_that_are_read_most_are_listed() {
    let node = Running::start(&[]);
    assert!(node.ask(&["--table", "hot-keys"]).out.contains("no key is read often"));
    node.ask(&["put", "inventory", "hot", "--value", "1"]).good();
    let read = |_: &support::Ran| {
        node.ask(&["get", "inventory", "hot"]).good();
    };
    let hot = node.until(&["hot-keys", "--limit", "1"], "the key", |ran| {
        read(ran);
        ran.out.contains("inventory")
    });
    let hot = hot.good();
    assert_eq!(hot["keys"][0]["cache_type"], "inventory", "{hot}");
    let table = node.ask(&["--table", "hot-keys"]);
    assert!(table.out.contains("READS/S") && table.out.contains("hot"), "{table:?}");
}
