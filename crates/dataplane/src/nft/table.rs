//! What an nftables table is made of, as values. Pure.
//!
//! Names are keys and elements are ordered, so two tables that do the same compare as equal.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::BitOr;
use std::time::Duration;

use serde::Serialize;

use super::expression::{Statement, Verdict};
use super::value::{Key, Type, Value};
use crate::types;

/// The family of a table: which packets it sees (`NFPROTO_*` of `linux/netfilter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFamily {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// ARP.
    Arp = 3,
    /// One device's ingress or egress.
    Netdev = 5,
    /// Frames through a bridge.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

/// The family and name of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// The family.
    pub family: TableFamily,
    /// The name.
    pub name: String,
}

impl TableFamily {
    /// The network protocol of all packets of this family of tables.
    pub(super) fn network(self) -> Option<types::Family> {
        match self {
            TableFamily::Ip => Some(types::Family::V4),
            TableFamily::Ip6 => Some(types::Family::V6),
            TableFamily::Inet | TableFamily::Arp | TableFamily::Netdev | TableFamily::Bridge => None,
        }
    }

    /// The family of tables for packets of one network protocol.
    pub(super) fn of_network(network: types::Family) -> Self {
        match network {
            types::Family::V4 => TableFamily::Ip,
            types::Family::V6 => TableFamily::Ip6,
        }
    }
}

impl TableId {
    /// The table `name` of `family`.
    pub fn new(family: TableFamily, name: impl Into<String>) -> Self {
        Self { family, name: name.into() }
    }
}

/// A table with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Family and name.
    pub id: TableId,
    /// A remark that `nft list` prints.
    pub comment: Option<String>,
    /// True where the table is there but sees no packet (`flags dormant`).
    pub dormant: bool,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

impl Table {
    /// An empty table.
    pub fn new(family: TableFamily, name: impl Into<String>) -> Self {
        Self {
            id: TableId::new(family, name),
            comment: None,
            dormant: false,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
        }
    }

    /// The same with this comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The same with one more set or map.
    #[must_use]
    pub fn with_set(mut self, name: impl Into<String>, set: Set) -> Self {
        self.sets.insert(name.into(), set);
        self
    }

    /// The same with one more chain.
    #[must_use]
    pub fn with_chain(mut self, name: impl Into<String>, chain: Chain) -> Self {
        self.chains.insert(name.into(), chain);
        self
    }

    /// True where the two do the same: the elements of dynamic sets do not count.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.id, &self.comment, self.dormant, &self.chains)
            == (&other.id, &other.comment, other.dormant, &other.chains)
            && self.sets.keys().eq(other.sets.keys())
            && self.sets.values().zip(other.sets.values()).all(|(one, other)| one.is_like(other))
    }
}

/// `NFT_SET_*` of `linux/netfilter/nf_tables.h`, without those that follow from the rest of the set (map, concat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SetFlags(pub u32);

impl SetFlags {
    /// It belongs to one rule and has no name of its own.
    pub(super) const ANONYMOUS: Self = Self(0x1);
    /// Its elements do not change once a rule uses it.
    pub const CONSTANT: Self = Self(0x2);
    /// Its elements may be ranges and prefixes.
    pub const INTERVAL: Self = Self(0x4);
    /// Its elements may expire.
    pub const TIMEOUT: Self = Self(0x10);
    /// Rules may add elements.
    pub const DYNAMIC: Self = Self(0x20);

    /// True where every flag of `other` is set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a map's elements hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// A verdict.
    Verdict,
    /// A value, or several concatenated.
    Values(Vec<Type>),
}

/// What one element of a map holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// A verdict.
    Verdict(Verdict),
    /// A value, or several concatenated.
    Values(Vec<Value>),
}

/// A set, or a map where `data` is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// The types of the key: one, or several concatenated.
    pub key: Vec<Type>,
    /// What the elements hold; `None` for a set.
    pub data: Option<DataType>,
    /// What the set can do.
    pub flags: SetFlags,
    /// The most elements that there may be. With a size the kernel chooses a better hash table.
    pub size: Option<u32>,
    /// The timeout of elements without one of their own.
    pub timeout: Option<Duration>,
    /// True where each element counts the packets that find it ([`Usage::counter`]).
    pub counter: bool,
    /// The elements by key.
    pub elements: BTreeMap<Key, Element>,
}

impl Set {
    /// An empty set with this key.
    pub fn of(key: impl Into<Vec<Type>>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// An empty map from this key.
    pub fn map(key: impl Into<Vec<Type>>, data: DataType) -> Self {
        Self { data: Some(data), ..Self::of(key) }
    }

    /// The same with these flags as well.
    #[must_use]
    pub fn with_flags(mut self, flags: SetFlags) -> Self {
        self.flags = self.flags | flags;
        self
    }

    /// The same with room for so many elements.
    #[must_use]
    pub fn with_size(mut self, size: u32) -> Self {
        self.size = Some(size);
        self
    }

    /// True where rules add and remove elements, which therefore are nobody's desired state.
    pub fn is_dynamic(&self) -> bool {
        self.flags.has(SetFlags::DYNAMIC)
    }

    /// True where the two do the same: the elements of a dynamic set do not count.
    pub fn is_like(&self, other: &Self) -> bool {
        if self.is_dynamic() { self.without_elements() == other.without_elements() } else { self == other }
    }

    /// True where a part of the key or of the data is a number, which `nft` cannot name as a type.
    pub(super) fn has_numbers(&self) -> bool {
        let data = match &self.data {
            Some(DataType::Values(types)) => types.as_slice(),
            _ => &[],
        };
        self.key.iter().chain(data).any(|kind| *kind == Type::Integer)
    }

    /// True where the kernel keeps a range as two elements: its first value, and the first value behind it. So it does where the
    /// key is of one type.
    pub(super) fn has_ends(&self) -> bool {
        self.flags.has(SetFlags::INTERVAL) && self.key.len() == 1
    }
}

/// An element without its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Element {
    /// What a map's element holds.
    pub data: Option<Data>,
    /// Its timeout, counted from when it was added.
    pub timeout: Option<Duration>,
    /// A remark of up to 127 bytes that `nft list` prints.
    pub comment: Option<String>,
    /// What the kernel says of its use.
    pub usage: Usage,
}

/// What the kernel has measured of an element. It is no part of a comparison: any two are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// What its counter has counted, where it has one. It is read and never written.
    pub counter: Option<Counter>,
    /// How long it still has, where it has a timeout. It is written for an element that has a timeout of its own.
    pub expires: Option<Duration>,
}

/// What has been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
}

impl PartialEq for Usage {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Usage {}

impl PartialOrd for Usage {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Usage {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Usage {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl From<Data> for Element {
    fn from(data: Data) -> Self {
        Self { data: Some(data), ..Self::default() }
    }
}

impl BitOr for SetFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainType {
    /// Decides whether packets pass.
    Filter,
    /// Sees the first packet of a connection and translates its addresses.
    Nat,
    /// Routes a packet again where its mark or addresses changed.
    Route,
}

/// The hook of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// To this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
    /// After the routing decision.
    Postrouting,
    /// As it comes from a device.
    Ingress,
    /// As it goes to a device.
    Egress,
}

/// What happens to a packet at the end of a base chain (`NF_DROP`, `NF_ACCEPT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is dropped.
    Drop,
    /// It goes on.
    Accept,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base {
    /// Its type.
    pub kind: ChainType,
    /// Its hook.
    pub hook: Hook,
    /// Its place among the chains of that hook: lower is earlier. `-100` is `dstnat`, `0` `filter`, `100` `srcnat`.
    pub priority: i32,
    /// What happens at its end.
    pub policy: Policy,
    /// The devices of an ingress or egress hook.
    pub devices: Vec<String>,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Where packets enter it by themselves; `None` for a chain that is only jumped to.
    pub base: Option<Base>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// An empty chain that is only jumped to.
    pub fn regular() -> Self {
        Self::default()
    }

    /// An empty base chain with the policy accept.
    pub fn base(kind: ChainType, hook: Hook, priority: i32) -> Self {
        let base = Base { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() };
        Self { base: Some(base), rules: Vec::new() }
    }

    /// The same with these rules at its end.
    #[must_use]
    pub fn with_rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }
}

/// One rule: statements from left to right, until one does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// A remark of up to 127 bytes that `nft list` prints.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule of these statements.
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: None }
    }

    /// The same with this comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleWithHandle {
    /// The kernel's number for it, by which it can be deleted.
    pub handle: u64,
    /// The rule.
    pub rule: Rule,
}

/// A base chain of any table, without its rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseChainFacts {
    /// Family and name of its table.
    pub table: TableId,
    /// Its name.
    pub chain: String,
    /// Its type, hook, priority and policy.
    pub base: Base,
}
