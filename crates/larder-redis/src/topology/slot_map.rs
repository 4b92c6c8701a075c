//! Which node owns which slot of a cluster.

use std::sync::Arc;

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use super::redirect::at;
use crate::{config::Address, node::Node};

pub(super) const SLOTS: usize = 16384;

const NOBODY: u16 = u16::MAX;

/// The slot of a key: CRC16 (XMODEM) of the key or, where it has one that is not empty, of its part between the first `{`
/// and the next `}`, modulo 16384. Source: "Redis cluster specification", key distribution model.
pub(crate) fn slot_of(key: &str) -> u16 {
    const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    CRC.checksum(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % 16384
}

/// What a node says of the cluster, in addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Grows with every change that the nodes agree on.
    pub(super) epoch: u64,
    pub(super) ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: Address,
    pub(super) replicas: Vec<Address>,
}

impl Layout {
    /// From the answer to CLUSTER SLOTS of the node at `origin`; what makes no sense is left out.
    pub(super) fn parse(epoch: u64, slots: &Value, origin: &Address) -> Self {
        let Value::Array(ranges) = slots else { return Self { epoch, ranges: Vec::new() } };
        let mut ranges: Vec<_> = ranges.iter().filter_map(|range| parse_range(range, origin)).collect();
        ranges.sort_by_key(|range| range.first);
        Self { epoch, ranges }
    }

    /// Every node with whether it is a primary.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (Address, bool)> {
        self.ranges.iter().flat_map(|range| {
            let replicas = range.replicas.iter().map(|address| (address.clone(), false));
            replicas.chain([(range.primary.clone(), true)])
        })
    }
}

fn parse_range(range: &Value, origin: &Address) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = parts.as_slice() else { return None };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    if first > last || usize::from(last) >= SLOTS {
        return None;
    }
    let primary = parse_node(primary, origin)?;
    Some(Range { first, last, primary, replicas: replicas.iter().filter_map(|it| parse_node(it, origin)).collect() })
}

fn parse_node(node: &Value, origin: &Address) -> Option<Address> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    Some(at(host, u16::try_from(*port).ok().filter(|port| *port > 0)?, origin))
}

/// A layout with the nodes that it names.
#[derive(Debug, Clone)]
pub(super) struct SlotMap {
    pub(super) layout: Layout,
    owners: Vec<u16>,
    shards: Vec<Shard>,
}

#[derive(Debug, Clone)]
struct Shard {
    primary: Arc<Node>,
    replicas: Vec<Arc<Node>>,
}

impl SlotMap {
    pub(super) fn new(layout: Layout, mut node: impl FnMut(&Address, bool) -> Arc<Node>) -> Self {
        let (mut owners, mut shards) = (vec![NOBODY; SLOTS], Vec::<(Address, Shard)>::new());
        for range in &layout.ranges {
            let known = shards.iter().position(|(address, _)| *address == range.primary);
            let index = known.unwrap_or_else(|| {
                let replicas = range.replicas.iter().map(|address| node(address, false)).collect();
                shards.push((range.primary.clone(), Shard { primary: node(&range.primary, true), replicas }));
                shards.len() - 1
            });
            let index = u16::try_from(index).unwrap_or(NOBODY);
            owners[usize::from(range.first)..=usize::from(range.last)].fill(index);
        }
        Self { layout, owners, shards: shards.into_iter().map(|(_, shard)| shard).collect() }
    }

    fn shard(&self, slot: u16) -> Option<&Shard> {
        self.shards.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    pub(super) fn primary(&self, slot: u16) -> Option<&Arc<Node>> {
        self.shard(slot).map(|shard| &shard.primary)
    }

    /// Any replica of the slot's primary.
    pub(super) fn replica(&self, slot: u16) -> Option<&Arc<Node>> {
        self.shard(slot).and_then(|shard| fastrand::choice(&shard.replicas))
    }

    pub(super) fn primaries(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.shards.iter().map(|shard| &shard.primary)
    }

    /// Whether both name the same nodes for everything.
    pub(super) fn has_owners_of(&self, other: &Self) -> bool {
        self.layout == other.layout
            && (0..16384).all(|slot| match (self.primary(slot), other.primary(slot)) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() == other.is_none(),
            })
    }

    /// The same, but for one slot that has moved.
    pub(super) fn with_moved(&self, slot: u16, owner: Arc<Node>) -> Self {
        let mut map = self.clone();
        let known = map.shards.iter().position(|shard| Arc::ptr_eq(&shard.primary, &owner));
        let index = known.unwrap_or_else(|| {
            map.shards.push(Shard { primary: owner, replicas: Vec::new() });
            map.shards.len() - 1
        });
        if let Some(place) = map.owners.get_mut(usize::from(slot)) {
            *place = u16::try_from(index).unwrap_or(NOBODY);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lies_in_the_slot_that_the_servers_compute() {
        // Of redis-server 7.0, CLUSTER KEYSLOT.
        for (key, slot) in [
            ("", 0),
            ("foo", 12182),
            ("123456789", 12739),
            ("{user1000}.following", 3443),
            ("user1000", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("a{b", 13340),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    /// That the servers compute these too is tested in `tests/it/cluster.rs`.
    #[test]
    fn every_slot_of_the_table_is_computed() {
        let table: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/hash-slots.json")).unwrap();
        let slots = table["slots"].as_object().unwrap();
        assert!(slots.len() >= 14);
        for (key, slot) in slots {
            assert_eq!(Some(u64::from(slot_of(key))), slot.as_u64(), "{key}");
        }
    }

    #[test]
    fn what_a_node_says_is_read_and_what_makes_no_sense_is_left_out() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::Nil]);
        let named = |port| node(Value::BulkString(b"h".to_vec()), port);
        let slots = Value::Array(vec![
            Value::Array(vec![Value::Int(100), Value::Int(16383), node(Value::Nil, 2)]),
            Value::Array(vec![Value::Int(0), Value::Int(99), named(1), named(3), named(0)]),
            Value::Array(vec![Value::Int(7), Value::Int(5), named(1)]),
            Value::Array(vec![Value::Int(0), Value::Int(16384), named(1)]),
            Value::Nil,
        ]);
        let layout = Layout::parse(7, &slots, &Address::tcp("origin", 1));
        let range = |first, last, primary: Address, replicas| Range { first, last, primary, replicas };
        assert_eq!(
            layout.ranges,
            [
                range(0, 99, Address::tcp("h", 1), vec![Address::tcp("h", 3)]),
                range(100, 16383, Address::tcp("origin", 2), Vec::new()),
            ]
        );
    }
}
