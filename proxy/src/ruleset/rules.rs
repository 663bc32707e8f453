//! The rules, chains and sets of a table, without the elements of Services. Pure.

mod loopback;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dataplane::nft::{
    AddressType, Chain, ChainType, DataType, Element, Expression, Hook, Key, MapLookup, NatFlags, Operand, Reject,
    Rule, Set, SetFlags, Side, Statement, Table, TableFamily, TableId, Type, Value, Verdict, VerdictMap, state, status,
};
use dataplane::types::Family;

pub use self::loopback::rejected_on_loopback;
use super::name::{Destination, Lookup, Pool, SetName};
use super::settings::{LocalPods, NodePorts, Settings};

/// Before destinations are translated (`NF_IP_PRI_NAT_DST`), while a load balancer's address still stands in the packet.
const BEFORE_DSTNAT: i32 = -110;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;
/// How many clients of one endpoint are remembered, each until its timeout.
const MOST_CLIENTS: u32 = 1 << 16;

/// What the table needs of rules and sets, beside those that are always there. It follows from the Services' numbers of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Numbers of endpoints of service ports with several.
    counts: BTreeMap<Lookup, BTreeSet<u32>>,
    /// Numbers of endpoints and timeouts of service ports with affinity.
    affinities: BTreeMap<Lookup, BTreeSet<(u32, Duration)>>,
}

impl Shape {
    /// Makes room for elements of a set. Returns true where that changes the table.
    pub(super) fn extend(&mut self, set: SetName) -> bool {
        match set {
            SetName::Count(lookup, count) => self.counts.entry(lookup).or_default().insert(count),
            SetName::Affinity(lookup, count, timeout) => {
                self.affinities.entry(lookup).or_default().insert((count, timeout))
            }
            _ => false,
        }
    }

    fn counts(&self, lookup: Lookup) -> impl Iterator<Item = u32> {
        self.counts.get(&lookup).into_iter().flatten().copied()
    }

    fn affinities(&self, lookup: Lookup) -> impl Iterator<Item = (u32, Duration)> {
        self.affinities.get(&lookup).into_iter().flatten().copied()
    }

    /// How many endpoints a service port with affinity has at most.
    fn slots(&self, lookup: Lookup) -> u32 {
        self.affinities(lookup).map(|(count, _)| count).max().unwrap_or(0)
    }

    /// For each timeout, how many endpoints a service port with that affinity has at most.
    fn timeouts(&self, lookup: Lookup) -> BTreeMap<Duration, u32> {
        let mut timeouts = BTreeMap::new();
        for (count, timeout) in self.affinities(lookup) {
            let most = timeouts.entry(timeout).or_insert(count);
            *most = count.max(*most);
        }
        timeouts
    }
}

/// The table's family and name.
pub(super) fn id(settings: &Settings) -> TableId {
    TableId::new(table_family(settings.family), settings.table.clone())
}

fn table_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}

/// The table without the elements of Services.
pub(super) fn table(settings: &Settings, shape: &Shape) -> Table {
    let id = id(settings);
    let rules = Rules { settings, shape };
    let mut table = Table::new(id.family, id.name).with_comment("netd: Services");
    table.sets = rules.sets().into_iter().map(|(name, set)| (name.to_string(), set)).collect();
    table.chains = rules.chains();
    table
}

/// The sets of the table.
pub(super) fn sets(settings: &Settings, shape: &Shape) -> BTreeMap<SetName, Set> {
    Rules { settings, shape }.sets()
}

struct Rules<'r> {
    settings: &'r Settings,
    shape: &'r Shape,
}

impl Rules<'_> {
    fn sets(&self) -> BTreeMap<SetName, Set> {
        let address = Type::Address(self.settings.family);
        let by_address = || vec![address, Type::Protocol, Type::Service];
        let by_port = || vec![Type::Protocol, Type::Service];
        let key = |destination| match destination {
            Destination::Address => by_address(),
            Destination::NodePort => by_port(),
        };
        let map = |key| Set { data: Some(DataType::Values(vec![address, Type::Service])), ..Set::of(key) };
        let ranges = |key| Set { flags: SetFlags::INTERVAL, ..Set::of(key) };
        let mut sets: Vec<(SetName, Set)> = vec![
            (SetName::Gate(Destination::Address), Set::of([address])),
            (SetName::Gate(Destination::NodePort), Set::of(by_port())),
            (SetName::ClusterIps, Set::of([address])),
            (SetName::ServiceCidrs, ranges(vec![address])),
            (SetName::NodeIps, ranges(vec![address])),
            (SetName::Restricted, Set::of(by_address())),
            (SetName::Allowed, ranges([by_address(), vec![address]].concat())),
            (SetName::Hairpin, Set::of([address, address])),
        ];
        for destination in [Destination::Address, Destination::NodePort] {
            for name in [SetName::Masquerade, SetName::LocalOnly, SetName::Reject, SetName::Drop] {
                sets.push((name(destination), Set::of(key(destination))));
            }
        }
        for lookup in Lookup::ALL {
            let key = || key(lookup.destination);
            sets.push((SetName::Single(lookup), map(key())));
            sets.push((SetName::Endpoints(lookup), map([key(), vec![Type::Integer]].concat())));
            sets.extend(self.shape.counts(lookup).map(|count| (SetName::Count(lookup, count), Set::of(key()))));
            let affinities = self.shape.affinities(lookup);
            let number = || Some(DataType::Values(vec![Type::Priority]));
            let numbers = || Set { data: number(), ..Set::of(key()) };
            sets.extend(affinities.map(|(count, time)| (SetName::Affinity(lookup, count, time), numbers())));
            sets.extend((0..self.shape.slots(lookup)).map(|slot| (SetName::Slot(lookup, slot), map(key()))));
        }
        let slots = Lookup::ALL.into_iter().map(|lookup| self.shape.slots(lookup)).max().unwrap_or(0);
        let clients = || Set {
            flags: SetFlags(SetFlags::DYNAMIC.0 | SetFlags::TIMEOUT.0),
            size: Some(MOST_CLIENTS),
            ..Set::of([address, Type::Priority])
        };
        sets.extend((0..slots).map(|slot| (SetName::Clients(slot), clients())));
        sets.extend(self.loopback_set());
        let mut sets: BTreeMap<SetName, Set> = sets.into_iter().collect();
        let cidrs = self.settings.service_cidrs.iter().filter(|range| range.family() == self.settings.family);
        fill(&mut sets, SetName::ServiceCidrs, cidrs.map(|range| Key::from(*range)));
        if let NodePorts::Within(ranges) = &self.settings.node_ports {
            fill(&mut sets, SetName::NodeIps, ranges.iter().map(|range| Key::from(*range)));
        }
        sets
    }

    fn chains(&self) -> BTreeMap<String, Chain> {
        let base = |kind, hook, priority, rules: Vec<Rule>| Chain::base(kind, hook, priority).with_rules(rules);
        let filter = |hook, priority, rules| base(ChainType::Filter, hook, priority, rules);
        let nat = |hook, priority, rules| base(ChainType::Nat, hook, priority, rules);
        let jump = |chain: &str| vec![Rule::new([Verdict::Jump(chain.to_owned()).into()])];
        let new =
            |chain: &str| Rule::new([Statement::connection_in(state::NEW), Verdict::Jump(chain.to_owned()).into()]);
        // Packets that are for no Service are looked up once.
        let new_to = |destination, chain: &str| {
            let jump = Verdict::Jump(chain.to_owned()).into();
            Rule::new([Statement::connection_in(state::NEW), self.is_of_service(destination), jump])
        };
        let refuse = || vec![new_to(Destination::Address, "refuse-ports"), self.refuse_addresses()];
        let mut chains = vec![
            ("restrict-prerouting".to_owned(), filter(Hook::Prerouting, BEFORE_DSTNAT, vec![new("restrict")])),
            ("restrict-output".to_owned(), filter(Hook::Output, BEFORE_DSTNAT, vec![new("restrict")])),
            ("restrict".to_owned(), Chain::regular().with_rules([self.restrict()])),
            ("nat-prerouting".to_owned(), nat(Hook::Prerouting, DSTNAT, jump("destinations"))),
            ("nat-output".to_owned(), nat(Hook::Output, DSTNAT, jump("destinations"))),
            ("nat-postrouting".to_owned(), nat(Hook::Postrouting, SRCNAT, self.masquerade().into())),
            ("destinations".to_owned(), Chain::regular().with_rules(self.destinations())),
            ("service-addresses".to_owned(), Chain::regular().with_rules(self.service_addresses())),
            ("node-addresses".to_owned(), Chain::regular().with_rules(self.external(Destination::NodePort))),
            (
                "filter-input".to_owned(),
                filter(
                    Hook::Input,
                    FILTER,
                    self.guard_loopback()
                        .into_iter()
                        .chain([
                            new_to(Destination::NodePort, "refuse-node-ports"),
                            new_to(Destination::Address, "refuse-services"),
                        ])
                        .collect(),
                ),
            ),
            ("filter-forward".to_owned(), filter(Hook::Forward, FILTER, refuse())),
            ("filter-output".to_owned(), filter(Hook::Output, FILTER, refuse())),
            ("refuse-services".to_owned(), Chain::regular().with_rules(self.refuse(Destination::Address))),
            (
                "refuse-node-ports".to_owned(),
                Chain::regular().with_rules(self.refuse_on_loopback()).with_rules(self.refuse(Destination::NodePort)),
            ),
            ("refuse-ports".to_owned(), Chain::regular().with_rules(self.refuse_ports())),
        ];
        chains.extend(self.loopback_chain());
        for lookup in Lookup::ALL {
            chains.push((lookup.to_string(), Chain::regular().with_rules(self.lookup(lookup))));
            for (count, timeout) in self.shape.affinities(lookup) {
                let name = SetName::Affinity(lookup, count, timeout).to_string();
                chains.push((name, Chain::regular().with_rules(self.affinity(lookup, count, timeout))));
            }
            for (timeout, most) in self.shape.timeouts(lookup) {
                chains.extend((0..most).map(|slot| {
                    let rules = self.slot(lookup, slot, timeout);
                    (slot_chain(lookup, slot, timeout), Chain::regular().with_rules(rules))
                }));
            }
        }
        chains.into_iter().collect()
    }

    fn address(&self, side: Side) -> Expression {
        Expression::Address(self.settings.family, side)
    }

    fn key(&self, destination: Destination) -> Vec<Expression> {
        let port = [Expression::Protocol, Expression::Port(Side::Destination)];
        match destination {
            Destination::Address => [&[self.address(Side::Destination)][..], &port].concat(),
            Destination::NodePort => port.into(),
        }
    }

    fn is_in(&self, destination: Destination, set: SetName) -> Statement {
        Statement::is_in(self.key(destination), set.to_string())
    }

    /// Goes on for packets to a destination of some Service. Of addresses the port does not count.
    fn is_of_service(&self, destination: Destination) -> Statement {
        let key = match destination {
            Destination::Address => vec![self.address(Side::Destination)],
            Destination::NodePort => self.key(destination),
        };
        Statement::is_in(key, SetName::Gate(destination).to_string())
    }

    /// Goes on for packets that are not of a pod of this node; `None` where pods are not recognised.
    fn is_no_local_pod(&self) -> Option<Statement> {
        Some(match self.settings.local_pods.as_ref()? {
            LocalPods::Range(range) => Statement::ne(self.address(Side::Source), *range),
            LocalPods::Bridge(name) => Statement::ne(Expression::InputName, Value::IfName(name.clone())),
            LocalPods::InterfacePrefix(prefix) => {
                Statement::ne(Expression::InputName, Operand::NamesLike(prefix.clone()))
            }
        })
    }

    fn mark(&self) -> Statement {
        Statement::SetMark(Expression::Mark.or(self.settings.masquerade_mark))
    }

    /// Load balancers' addresses that not everybody may use.
    fn restrict(&self) -> Rule {
        let client = [self.key(Destination::Address), vec![self.address(Side::Source)]].concat();
        Rule::new([
            self.is_in(Destination::Address, SetName::Restricted),
            Statement::is_not_in(client, SetName::Allowed.to_string()),
            Verdict::Drop.into(),
        ])
        .with_comment("clients outside loadBalancerSourceRanges")
    }

    /// What becomes of the first packet of a connection to a Service.
    fn destinations(&self) -> [Rule; 2] {
        let services = [self.is_of_service(Destination::Address), Verdict::Jump("service-addresses".to_owned()).into()];
        let is_node_port = vec![self.is_of_service(Destination::NodePort)];
        let node = [is_node_port, self.is_node(), vec![Verdict::Goto("node-addresses".to_owned()).into()]].concat();
        [Rule::new(services), Rule::new(node)]
    }

    /// The same for an address that some Service has.
    fn service_addresses(&self) -> Vec<Rule> {
        let is_cluster_ip = Statement::is_in([self.address(Side::Destination)], SetName::ClusterIps.to_string());
        let masquerades: Option<Vec<Statement>> = if self.settings.masquerade_all {
            Some(Vec::new())
        } else {
            self.is_no_local_pod().map(|statement| vec![statement])
        };
        let cluster_ips = masquerades.map(|condition| {
            Rule::new([condition, vec![is_cluster_ip, self.mark()]].concat())
                .with_comment("clients of cluster IPs that are not pods of this node")
        });
        cluster_ips.into_iter().chain(self.external(Destination::Address)).collect()
    }

    /// Goes on for packets to an address of the node that has node ports.
    fn is_node(&self) -> Vec<Statement> {
        let destination = || self.address(Side::Destination);
        let is_own = Statement::eq(Expression::DestinationType, Value::AddressType(AddressType::Local));
        let loopback = self.settings.family.loopback();
        let mut statements = vec![is_own];
        if let NodePorts::Within(_) = &self.settings.node_ports {
            statements.push(Statement::is_in([destination()], SetName::NodeIps.to_string()));
        }
        if self.settings.node_ports.may_be_in(loopback) {
            statements.push(Statement::ne(destination(), loopback));
        }
        statements
    }

    /// External destinations: clients from outside under policy Local first, which only this node's endpoints serve, under the client's
    /// own address.
    fn external(&self, destination: Destination) -> Vec<Rule> {
        let local = || Value::AddressType(AddressType::Local);
        let lookup = |pool| Verdict::Jump(Lookup { destination, pool }.to_string()).into();
        let mut outside: Vec<Statement> = self.is_no_local_pod().into_iter().collect();
        outside.extend([Statement::ne(Expression::SourceType, local()), lookup(Pool::Local)]);
        vec![
            Rule::new(outside).with_comment("clients from outside, policy Local"),
            Rule::new([self.is_in(destination, SetName::Masquerade(destination)), self.mark()]),
            Rule::new([
                Statement::eq(Expression::SourceType, local()),
                self.is_in(destination, SetName::LocalOnly(destination)),
                self.mark(),
            ])
            .with_comment("this node itself, policy Local"),
            Rule::new([lookup(Pool::Cluster)]),
        ]
    }

    /// Looks up a destination and draws an endpoint.
    fn lookup(&self, lookup: Lookup) -> Vec<Rule> {
        let Lookup { destination, pool } = lookup;
        let key = || self.key(destination);
        let affinities = self.shape.affinities(lookup).map(|(count, timeout)| {
            let set = SetName::Affinity(lookup, count, timeout).to_string();
            let number = Expression::MarkFrom(MapLookup::new(key(), set.clone()));
            Rule::new([Statement::SetPriority(number), Verdict::Goto(set).into()])
        });
        let single = Rule::new([self.dnat(key(), SetName::Single(lookup))]);
        let counts = self.shape.counts(lookup).map(|count| {
            let key = [key(), vec![Expression::random(count)]].concat();
            let draw = self.dnat(key, SetName::Endpoints(lookup));
            Rule::new([self.is_in(destination, SetName::Count(lookup, count)), draw])
        });
        // No endpoint of this node: the packet keeps its destination and is dropped where the filter chains see it.
        let none = Rule::new([self.is_in(destination, SetName::LocalOnly(destination)), Verdict::Accept.into()]);
        let none = (pool == Pool::Local).then_some(none);
        affinities.chain([single]).chain(counts).chain(none).collect()
    }

    fn dnat(&self, key: Vec<Expression>, map: SetName) -> Statement {
        Statement::dnat(self.settings.family, key, map.to_string())
    }

    /// A client goes to the endpoint that it had, else to one that is drawn. The packet carries the number of the service port's clients
    /// as its priority, since a rule can put nothing else that a map holds into a key.
    fn affinity(&self, lookup: Lookup, count: u32, timeout: Duration) -> Vec<Rule> {
        let goto = |slot| Verdict::Goto(slot_chain(lookup, slot, timeout));
        let known = (0..count).map(|slot| {
            let set = SetName::Clients(slot).to_string();
            Rule::new([Statement::is_in(self.client(), set), goto(slot).into()])
        });
        let draw = (0..count).map(|slot| (Key::from(Value::Integer(slot)), goto(slot))).collect();
        let draw = Statement::VerdictFrom { key: vec![Expression::random(count)], map: VerdictMap::Anonymous(draw) };
        known.chain([Rule::new([draw])]).collect()
    }

    fn slot(&self, lookup: Lookup, slot: u32, timeout: Duration) -> [Rule; 2] {
        let clients = SetName::Clients(slot).to_string();
        let reset = Statement::SetPriority(Expression::Value(Value::Priority(0)));
        [
            Rule::new([Statement::update(clients, self.client(), timeout), reset]),
            Rule::new([self.dnat(self.key(lookup.destination), SetName::Slot(lookup, slot))]),
        ]
    }

    fn client(&self) -> [Expression; 2] {
        [self.address(Side::Source), Expression::Priority]
    }

    /// Packets that no endpoint got.
    fn refuse(&self, destination: Destination) -> [Rule; 2] {
        let of_node = || if destination == Destination::NodePort { self.is_node() } else { Vec::new() };
        let rule = |set, last| Rule::new([of_node(), vec![self.is_in(destination, set), last]].concat());
        [
            rule(SetName::Reject(destination), self.reject()).with_comment("no endpoints"),
            rule(SetName::Drop(destination), Verdict::Drop.into())
                .with_comment("no endpoint of this node, policy Local"),
        ]
    }

    /// Packets that no endpoint got, and those to ports that a cluster IP does not have.
    fn refuse_ports(&self) -> [Rule; 2] {
        let is_cluster_ip = Statement::is_in([self.address(Side::Destination)], SetName::ClusterIps.to_string());
        [
            Rule::new([Verdict::Jump("refuse-services".to_owned()).into()]),
            Rule::new([is_cluster_ip, self.reject()]).with_comment("no such port"),
        ]
    }

    /// Packets to cluster IPs that no Service has.
    fn refuse_addresses(&self) -> Rule {
        let is_in = Statement::is_in([self.address(Side::Destination)], SetName::ServiceCidrs.to_string());
        Rule::new([Statement::connection_in(state::NEW), is_in, Verdict::Drop.into()]).with_comment("no such Service")
    }

    fn reject(&self) -> Statement {
        Statement::Reject(Reject::PortUnreachable(self.settings.family))
    }

    fn masquerade(&self) -> [Rule; 2] {
        let mark = self.settings.masquerade_mark;
        let masquerade = || Statement::Masquerade(NatFlags { fully_random: true, ..NatFlags::default() });
        let ends = [self.address(Side::Source), self.address(Side::Destination)];
        [
            Rule::new([
                Statement::ne(Expression::Mark.masked(mark), Value::Mark(0)),
                Statement::SetMark(Expression::Mark.xor(mark)),
                masquerade(),
            ]),
            Rule::new([
                Statement::connection_has(status::DNAT),
                Statement::is_in(ends, SetName::Hairpin.to_string()),
                masquerade(),
            ])
            .with_comment("an endpoint to itself"),
        ]
    }
}

fn fill(sets: &mut BTreeMap<SetName, Set>, name: SetName, keys: impl Iterator<Item = Key>) {
    if let Some(set) = sets.get_mut(&name) {
        set.elements = keys.map(|key| (key, Element::default())).collect();
    }
}

fn slot_chain(lookup: Lookup, slot: u32, timeout: Duration) -> String {
    format!("{lookup}-slot-{slot}-for-{}s", timeout.as_secs())
}
