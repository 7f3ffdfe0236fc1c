//! The table of a Cluster as one of its nodes tells it (`CLUSTER NODES`).

use crate::topology::Endpoint;

/// All nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes(pub(crate) Vec<Node>);

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: String,
    /// Nothing if its peers do not know it.
    pub(crate) endpoint: Option<Endpoint>,
    /// It is the one that was asked.
    pub(crate) myself: bool,
    pub(crate) is_master: bool,
    /// Whose replica it is.
    pub(crate) master: Option<String>,
    /// Most masters agree that it does not answer.
    pub(crate) failed: bool,
    /// The one that was asked has a connection to it, and does not suspect it.
    pub(crate) reachable: bool,
    /// The slots that it has.
    slots: Vec<(u16, u16)>,
    /// Slots that it is giving away.
    leaving: Vec<u16>,
}

impl Nodes {
    /// Reads the table. A node that does not know its own address is at `host`, where it was reached. What cannot be
    /// read is left out.
    pub(crate) fn parse(text: &str, host: &str) -> Self {
        Self(text.lines().filter_map(|line| Node::parse(line, host)).collect())
    }

    /// The master that has a slot and answers its peers.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Node> {
        self.0.iter().find(|node| node.is_master && !node.failed && node.has(slot))
    }

    /// Whether the node that was asked has a slot and is not giving it away.
    pub(crate) fn holds_firmly(&self, slot: u16) -> bool {
        let myself = self.0.iter().find(|node| node.myself);
        myself.is_some_and(|node| node.is_master && node.has(slot) && !node.leaving.contains(&slot))
    }
}

impl Node {
    fn parse(line: &str, host: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let (id, address, flags, master) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let connected = fields.nth(3)? == "connected";
        let flags: Vec<&str> = flags.split(',').collect();
        let is = |flag: &str| flags.contains(&flag);
        // `address:port@bus-port[,name[,..]]`
        let address = address.split(['@', ',']).next()?;
        let address = if address.starts_with(':') { format!("{host}{address}") } else { address.to_owned() };
        let (mut slots, mut leaving) = (Vec::new(), Vec::new());
        for field in fields {
            if let Some(moving) = field.strip_prefix('[') {
                let slot: Option<u16> = moving.split_once("->-").and_then(|(slot, _)| slot.parse().ok());
                leaving.extend(slot);
            } else {
                let (first, last) = field.split_once('-').unwrap_or((field, field));
                slots.push((first.parse().ok()?, last.parse().ok()?));
            }
        }
        Some(Self {
            id: id.to_owned(),
            endpoint: Endpoint::parse(&address, None).filter(|_| !is("noaddr")),
            myself: is("myself"),
            is_master: is("master"),
            master: (master != "-").then(|| master.to_owned()),
            failed: is("fail") || is("noaddr") || is("handshake"),
            reachable: connected && !is("fail?") && !is("fail"),
            slots,
            leaving,
        })
    }

    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// How many slots it has.
    pub(crate) fn slots(&self) -> u64 {
        self.slots.iter().map(|(first, last)| u64::from(last.saturating_sub(*first)) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
a1 127.0.0.1:7000@17000,name,shard-id=x myself,master - 0 0 1 connected 0-5460 7000 [93->-b2] [77-<-c3]
b2 10.0.0.2:7001@17001 master,fail? - 1 2 2 connected 5461-6999
c3 10.0.0.3:7002@17002 master,fail - 1 2 3 disconnected 7001-16383
d4 10.0.0.4:7003@17003 slave a1 0 5 1 connected
e5 :0@0 slave,noaddr c3 0 5 1 disconnected
what is this";

    #[test]
    fn the_table_tells_who_has_what() {
        let nodes = Nodes::parse(TABLE, "h");
        let owner = |slot| nodes.owner(slot).map(|node| node.id.as_str());
        assert_eq!(
            (owner(0), owner(7000), owner(6000), owner(9000)),
            (Some("a1"), Some("a1"), Some("b2"), None)
        );
        assert!(nodes.holds_firmly(92) && !nodes.holds_firmly(93) && !nodes.holds_firmly(6000));
        let reachable: Vec<bool> = nodes.0.iter().map(|node| node.reachable).collect();
        assert_eq!(reachable, [true, false, false, true, false]);
        assert_eq!((nodes.0[0].slots(), nodes.0[3].master.as_deref()), (5462, Some("a1")));
        assert_eq!(nodes.0[4].endpoint, None);
    }

    #[test]
    fn a_node_that_does_not_know_its_address_is_where_it_was_reached() {
        let nodes = Nodes::parse("a1 :7000@17000 myself,master - 0 0 0 connected", "10.1.1.1");
        assert_eq!(nodes.0[0].endpoint, Some(Endpoint::new("10.1.1.1", 7000)));
    }
}
