//! What becomes of the first packet of a connection in a table, without sending one.
//!
//! Pure. The rules are evaluated as the kernel would, one branch for each number that a rule may draw. What is not modelled
//! ([`Statement::Opaque`]) ends the rule, and the trail says so.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use dataplane::nft::{
    AddressType, Chain, ChainType, Comparison, Data, Expression, Hook, Interval, Key, MapLookup, NatTarget, Operand,
    Side, Statement, Table, Value, Verdict, VerdictMap, state, status,
};
use dataplane::types::{Family, IfName};

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Its source.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
    /// Its transport protocol's number.
    pub protocol: u8,
    /// The interface that it came by; `None` for a packet of this node.
    pub input: Option<IfName>,
}

/// Where a packet ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It goes on to this destination.
    Passed {
        /// The destination.
        to: SocketAddr,
        /// The receiver sees the node's own address as the source.
        masqueraded: bool,
    },
    /// The sender receives a refusal.
    Rejected,
    /// It vanishes.
    Dropped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Passed { to, masqueraded: true } => {
                write!(f, "goes to {to} with an address of this node as its source")
            }
            End::Passed { to, masqueraded: false } => write!(f, "goes to {to}"),
            End::Rejected => f.write_str("is rejected"),
            End::Dropped => f.write_str("is dropped"),
        }
    }
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// The chain.
    pub chain: String,
    /// The rule's place in the chain, from 0 on.
    pub rule: usize,
}

/// One way that a packet may take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Where it ends.
    pub end: End,
    /// The rules that matched, in order.
    pub trail: Vec<Step>,
}

/// Every way that a packet may take through the table. `own` are the node's addresses.
pub fn trace(table: &Table, packet: &Packet, own: &BTreeSet<IpAddr>) -> Vec<Way> {
    let tracer = Tracer { table, own };
    let start = Flow {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        input: packet.input.clone(),
        mark: 0,
        priority: 0,
        translated: false,
        masqueraded: false,
        trail: Vec::new(),
    };
    let is_of_node = packet.input.is_none();
    let first = if is_of_node { Hook::Output } else { Hook::Prerouting };
    let mut ways = BTreeSet::new();
    for flow in tracer.hook(first, start, &mut ways) {
        let is_to_node = tracer.is_own(flow.destination.ip());
        let hooks: &[Hook] = match (is_of_node, is_to_node) {
            (true, true) => &[Hook::Postrouting, Hook::Prerouting, Hook::Input],
            (true, false) => &[Hook::Postrouting],
            (false, true) => &[Hook::Input],
            (false, false) => &[Hook::Forward, Hook::Postrouting],
        };
        let mut flows = vec![flow];
        for hook in hooks {
            flows = flows.into_iter().flat_map(|flow| tracer.hook(*hook, flow, &mut ways)).collect();
        }
        ways.extend(flows.into_iter().map(|flow| Way {
            end: End::Passed { to: flow.destination, masqueraded: flow.masqueraded },
            trail: flow.trail,
        }));
    }
    ways.into_iter().collect()
}

/// A packet on its way.
#[derive(Debug, Clone)]
struct Flow {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
    input: Option<IfName>,
    mark: u32,
    priority: u32,
    translated: bool,
    masqueraded: bool,
    trail: Vec<Step>,
}

/// What a chain has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Through,
    Accepted,
    Dropped,
    Rejected,
}

struct Tracer<'t> {
    table: &'t Table,
    own: &'t BTreeSet<IpAddr>,
}

impl Tracer<'_> {
    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.own.contains(&address)
    }

    /// The flows that pass a hook; where the others end goes to `ways`.
    fn hook(&self, hook: Hook, flow: Flow, ways: &mut BTreeSet<Way>) -> Vec<Flow> {
        let mut chains: Vec<(i32, &String, &Chain)> = Vec::new();
        for (name, chain) in &self.table.chains {
            if let Some(base) = chain.base.as_ref().filter(|base| base.hook == hook) {
                chains.push((base.priority, name, chain));
            }
        }
        chains.sort_by_key(|(priority, name, _)| (*priority, *name));
        let mut flows = vec![flow];
        for (_, name, chain) in chains {
            let is_nat = chain.base.as_ref().is_some_and(|base| base.kind == ChainType::Nat);
            let mut passed = Vec::new();
            for flow in flows {
                // One translation of each end is all that a connection gets.
                let is_done = is_nat && if hook == Hook::Postrouting { flow.masqueraded } else { flow.translated };
                if is_done {
                    passed.push(flow);
                    continue;
                }
                for (flow, fate) in self.chain(name, flow) {
                    match fate {
                        Fate::Through | Fate::Accepted => passed.push(flow),
                        Fate::Dropped => drop(ways.insert(Way { end: End::Dropped, trail: flow.trail })),
                        Fate::Rejected => drop(ways.insert(Way { end: End::Rejected, trail: flow.trail })),
                    }
                }
            }
            flows = passed;
        }
        flows
    }

    fn chain(&self, name: &str, flow: Flow) -> Vec<(Flow, Fate)> {
        let rules = self.table.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        let mut ended = Vec::new();
        let mut flows = vec![flow];
        for (number, rule) in rules.iter().enumerate() {
            let mut next = Vec::new();
            for flow in flows {
                for (mut flow, verdict) in self.rule(&rule.statements, flow) {
                    if verdict.is_some() {
                        flow.trail.push(Step { chain: name.to_owned(), rule: number });
                    }
                    match verdict {
                        None | Some(Decision::Verdict(Verdict::Continue)) => next.push(flow),
                        Some(Decision::Rejected) => ended.push((flow, Fate::Rejected)),
                        Some(Decision::Verdict(Verdict::Accept)) => ended.push((flow, Fate::Accepted)),
                        Some(Decision::Verdict(Verdict::Drop)) => ended.push((flow, Fate::Dropped)),
                        Some(Decision::Verdict(Verdict::Return)) => ended.push((flow, Fate::Through)),
                        Some(Decision::Verdict(Verdict::Goto(chain))) => ended.extend(self.chain(&chain, flow)),
                        Some(Decision::Verdict(Verdict::Jump(chain))) => {
                            for (flow, fate) in self.chain(&chain, flow) {
                                match fate {
                                    Fate::Through => next.push(flow),
                                    fate => ended.push((flow, fate)),
                                }
                            }
                        }
                    }
                }
            }
            flows = next;
        }
        ended.extend(flows.into_iter().map(|flow| (flow, Fate::Through)));
        ended
    }

    /// What one rule makes of a flow, for each number that it may draw. No decision where a statement did not hold.
    fn rule(&self, statements: &[Statement], flow: Flow) -> Vec<(Flow, Option<Decision>)> {
        let mut flows = vec![flow];
        let mut ended = Vec::new();
        for statement in statements {
            let mut next = Vec::new();
            for flow in flows {
                for (flow, step) in self.statement(statement, flow) {
                    match step {
                        Progress::On => next.push(flow),
                        Progress::End => ended.push((flow, None)),
                        Progress::Decided(decision) => ended.push((flow, Some(decision))),
                    }
                }
            }
            flows = next;
        }
        ended.extend(flows.into_iter().map(|flow| (flow, Some(Decision::Verdict(Verdict::Continue)))));
        ended
    }

    fn statement(&self, statement: &Statement, mut flow: Flow) -> Vec<(Flow, Progress)> {
        let holds = |is_true: bool| if is_true { Progress::On } else { Progress::End };
        match statement {
            Statement::Compare { left, op, right } => {
                let Some(values) = self.values(left, &flow) else { return vec![(flow, Progress::End)] };
                let is = |value: &Value| matches(value, right) == (*op == Comparison::Eq);
                values.iter().map(|value| (flow.clone(), holds(is(value)))).collect()
            }
            Statement::Lookup { key, op, set } => {
                let keys = self.keys(key, &flow);
                let is_in = |key: &[Value]| self.find(set, key).is_some() == (*op == Comparison::Eq);
                keys.iter().map(|key| (flow.clone(), holds(is_in(key)))).collect()
            }
            Statement::VerdictFrom { key, map } => {
                let verdict = |key: &[Value]| match map {
                    VerdictMap::Named(name) => match self.find(name, key)? {
                        Some(Data::Verdict(verdict)) => Some(verdict.clone()),
                        _ => None,
                    },
                    VerdictMap::Anonymous(map) => {
                        map.iter().find(|(other, _)| covers(other, key)).map(|(_, verdict)| verdict.clone())
                    }
                };
                let keys = self.keys(key, &flow);
                let found = keys.iter().map(|key| match verdict(key) {
                    Some(verdict) => Progress::Decided(Decision::Verdict(verdict)),
                    None => Progress::End,
                });
                found.map(|progress| (flow.clone(), progress)).collect()
            }
            Statement::SetMark(value) => {
                if let Some([Value::Mark(mark)]) = self.values(value, &flow).as_deref() {
                    flow.mark = *mark;
                }
                vec![(flow, Progress::On)]
            }
            Statement::SetPriority(value) => match self.values(value, &flow).as_deref() {
                Some([Value::Priority(priority)]) => {
                    flow.priority = *priority;
                    vec![(flow, Progress::On)]
                }
                _ => vec![(flow, Progress::End)],
            },
            Statement::Nat { side, to, .. } => self.translate(*side, to, &flow),
            Statement::Masquerade(_) => {
                flow.masqueraded = true;
                vec![(flow, Progress::Decided(Decision::Verdict(Verdict::Accept)))]
            }
            Statement::Reject(_) => vec![(flow, Progress::Decided(Decision::Rejected))],
            Statement::Verdict(verdict) => vec![(flow, Progress::Decided(Decision::Verdict(verdict.clone())))],
            Statement::Counter | Statement::NoTrack | Statement::Dynamic { .. } => vec![(flow, Progress::On)],
            Statement::Opaque { .. } => vec![(flow, Progress::End)],
        }
    }

    fn translate(&self, side: Side, to: &NatTarget, flow: &Flow) -> Vec<(Flow, Progress)> {
        let translated = |address: Option<IpAddr>, port: Option<u16>| {
            let mut flow = flow.clone();
            match side {
                Side::Destination => {
                    flow.translated = true;
                    flow.destination.set_ip(address.unwrap_or(flow.destination.ip()));
                    flow.destination.set_port(port.unwrap_or(flow.destination.port()));
                }
                Side::Source => flow.masqueraded = true,
            }
            (flow, Progress::Decided(Decision::Verdict(Verdict::Accept)))
        };
        match to {
            NatTarget::Address(address, port) => vec![translated(Some(*address), *port)],
            NatTarget::Port(port) => vec![translated(None, Some(*port))],
            NatTarget::Map { lookup: MapLookup { key, map }, .. } => {
                let keys = self.keys(key, flow);
                let found = keys.iter().map(|key| match self.find(map, key) {
                    Some(Some(Data::Values(values))) => match values.as_slice() {
                        [Value::Address(address), Value::Service(port)] => translated(Some(*address), Some(*port)),
                        [Value::Address(address)] => translated(Some(*address), None),
                        _ => (flow.clone(), Progress::End),
                    },
                    _ => (flow.clone(), Progress::End),
                });
                found.collect()
            }
        }
    }

    /// Each value that an expression may have; `None` for one that the packet does not have.
    fn values(&self, expression: &Expression, flow: &Flow) -> Option<Vec<Value>> {
        let kind =
            |address| Value::AddressType(if self.is_own(address) { AddressType::Local } else { AddressType::Unicast });
        let end = |side| if side == Side::Source { flow.source } else { flow.destination };
        let one = match expression {
            Expression::Value(value) => value.clone(),
            Expression::NetworkProtocol => Value::NetworkProtocol(Family::of(flow.source.ip())),
            Expression::Protocol => Value::Protocol(flow.protocol),
            Expression::Mark => Value::Mark(flow.mark),
            Expression::Priority => Value::Priority(flow.priority),
            Expression::InputName => Value::IfName(flow.input.clone()?),
            Expression::OutputName => return None,
            Expression::Address(family, side) => {
                let address = end(*side).ip();
                (Family::of(address) == *family).then_some(Value::Address(address))?
            }
            Expression::Port(side) => Value::Service(end(*side).port()),
            Expression::SourceType => kind(flow.source.ip()),
            Expression::DestinationType => kind(flow.destination.ip()),
            Expression::ConnectionState => Value::ConnectionState(state::NEW),
            Expression::ConnectionStatus => Value::ConnectionStatus(if flow.translated { status::DNAT } else { 0 }),
            Expression::Random { modulus, offset } => {
                return Some((*offset..offset + modulus).map(Value::Integer).collect());
            }
            Expression::MarkFrom(MapLookup { key, map }) => {
                return self
                    .keys(key, flow)
                    .iter()
                    .map(|key| match self.find(map, key) {
                        Some(Some(Data::Values(values))) => values.first().cloned(),
                        _ => None,
                    })
                    .collect();
            }
            Expression::Bits { of, mask, xor } => {
                let bits = |value: Value| match value {
                    Value::Mark(bits) => Value::Mark(bits & mask ^ xor),
                    Value::ConnectionState(bits) => Value::ConnectionState(bits & mask ^ xor),
                    Value::ConnectionStatus(bits) => Value::ConnectionStatus(bits & mask ^ xor),
                    other => other,
                };
                return Some(self.values(of, flow)?.into_iter().map(bits).collect());
            }
        };
        Some(vec![one])
    }

    /// Each key that concatenated expressions may have.
    fn keys(&self, expressions: &[Expression], flow: &Flow) -> Vec<Vec<Value>> {
        let mut keys = vec![Vec::new()];
        for expression in expressions {
            let values = self.values(expression, flow).unwrap_or_default();
            keys = keys
                .iter()
                .flat_map(|key: &Vec<Value>| {
                    values.iter().map(|value| [&key[..], std::slice::from_ref(value)].concat())
                })
                .collect();
        }
        keys
    }

    /// The element of a set that covers a key, and what it holds.
    fn find(&self, set: &str, key: &[Value]) -> Option<&Option<Data>> {
        let set = self.table.sets.get(set)?;
        let exact = Key(key.iter().cloned().map(Interval::from).collect());
        let element = set.elements.get(&exact);
        let covering = || set.elements.iter().find(|(other, _)| covers(other, key)).map(|(_, element)| element);
        element
            .or_else(|| set.flags.has(dataplane::nft::SetFlags::INTERVAL).then(covering).flatten())
            .map(|found| &found.data)
    }
}

/// What a statement makes of a rule.
#[derive(Debug, Clone)]
enum Progress {
    On,
    End,
    Decided(Decision),
}

#[derive(Debug, Clone)]
enum Decision {
    Verdict(Verdict),
    Rejected,
}

fn covers(key: &Key, values: &[Value]) -> bool {
    key.0.len() == values.len()
        && key.0.iter().zip(values).all(|(interval, value)| interval.first <= *value && *value <= interval.last)
}

fn matches(value: &Value, operand: &Operand) -> bool {
    match (operand, value) {
        (Operand::Value(other), value) => other == value,
        (Operand::Prefix(prefix), Value::Address(address)) => prefix.contains(*address),
        (Operand::NamesLike(prefix), Value::IfName(name)) => name.as_str().starts_with(prefix.as_str()),
        _ => false,
    }
}
