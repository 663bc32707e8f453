//! Tables and changes in the language of `nft`, for people to read and to paste. Pure.
//!
//! `nft` 1.0.6 takes all of it. What we write to the kernel does not come from here.

use std::fmt::{self, Display, Formatter, Result};
use std::time::Duration;

use super::change::{Change, Elements};
use super::expression::{AddressType, Expression, NatFlags, Op, Operand, Side, Statement, Type, Value, Verdict, state};
use super::table::{
    Base, Chain, Data, DataType, Element, Family, Hook, Interval, Key, Policy, Rule, Set, SetFlags, Table, TableId,
};
use crate::words::{self, Prefix};

const INDENT: &str = "\t";

/// What prints its parts with something between them.
struct Joined<I>(I, &'static str);

impl<I: Clone + IntoIterator<Item: Display>> Display for Joined<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, part) in self.0.clone().into_iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Arp => "arp",
            Family::Netdev => "netdev",
            Family::Bridge => "bridge",
            Family::Ip6 => "ip6",
        })
    }
}

impl Display for TableId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        })
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        })
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "type {} hook {}", self.kind.name(), self.hook)?;
        match self.devices.as_slice() {
            [] => {}
            [one] => write!(f, " device \"{one}\"")?,
            several => write!(f, " devices = {{ {} }}", Joined(several, ", "))?,
        }
        write!(f, " priority {}; policy {};", self.priority, self.policy)
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Type::Address(words::Family::V4) => "ipv4_addr",
            Type::Address(words::Family::V6) => "ipv6_addr",
            Type::Protocol => "inet_proto",
            Type::Service => "inet_service",
            Type::Mark => "mark",
            Type::IfName => "ifname",
            Type::NetworkProtocol => "nf_proto",
            Type::AddressType => "fib_addrtype",
            Type::ConnectionState => "ct_state",
            Type::Other { id, bytes } => return write!(f, "type{id}_{bytes}_bytes"),
        })
    }
}

impl Display for AddressType {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            AddressType::Unicast => "unicast",
            AddressType::Local => "local",
            AddressType::Broadcast => "broadcast",
            AddressType::Anycast => "anycast",
            AddressType::Multicast => "multicast",
            AddressType::Blackhole => "blackhole",
            AddressType::Unreachable => "unreachable",
            AddressType::Prohibit => "prohibit",
        })
    }
}

const PROTOCOLS: [(u8, &str); 4] = [(6, "tcp"), (17, "udp"), (132, "sctp"), (1, "icmp")];
const STATES: [(u32, &str); 5] = [
    (state::INVALID, "invalid"),
    (state::ESTABLISHED, "established"),
    (state::RELATED, "related"),
    (state::NEW, "new"),
    (state::UNTRACKED, "untracked"),
];

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Value::Address(address) => write!(f, "{address}"),
            Value::Protocol(number) => match PROTOCOLS.iter().find(|(known, _)| known == number) {
                Some((_, name)) => f.write_str(name),
                None => write!(f, "{number}"),
            },
            Value::Service(port) => write!(f, "{port}"),
            Value::Mark(bits) => write!(f, "{bits:#010x}"),
            Value::IfName(name) => write!(f, "\"{name}\""),
            Value::NetworkProtocol(words::Family::V4) => f.write_str("ipv4"),
            Value::NetworkProtocol(words::Family::V6) => f.write_str("ipv6"),
            Value::AddressType(kind) => kind.fmt(f),
            Value::ConnectionState(bits) => match StateNames::of(*bits) {
                Some(names) => names.fmt(f),
                None => write!(f, "{bits:#x}"),
            },
            Value::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// `established,related`; made only where every bit has a name.
struct StateNames(u32);

impl StateNames {
    fn of(bits: u32) -> Option<Self> {
        let known = STATES.iter().fold(0, |known, (bit, _)| known | bit);
        (bits != 0 && bits & !known == 0).then_some(Self(bits))
    }
}

impl Display for StateNames {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let names = STATES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name);
        Joined(names, ",").fmt(f)
    }
}

impl Display for Interval {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.prefix(), self.first == self.last) {
            (_, true) => self.first.fmt(f),
            (Some(prefix), _) => prefix.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Interval {
    /// The interval as a prefix, where it is one.
    fn prefix(&self) -> Option<Prefix> {
        let (Value::Address(first), Value::Address(last)) = (&self.first, &self.last) else { return None };
        let differing = words::number(*first) ^ words::number(*last);
        let free = u8::try_from(u128::BITS - differing.leading_zeros()).ok()?;
        let prefix = Prefix::new(*first, words::Family::of(*first).bits().checked_sub(free)?)?;
        (prefix.first() == words::number(*first) && prefix.last() == words::number(*last)).then_some(prefix)
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0.is_empty() { f.write_str("*") } else { Joined(&self.0, " . ").fmt(f) }
    }
}

/// A time with its units, as `nft` reads it: it takes none below a second.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            rest => write!(f, "{}s{rest}ms", self.0.as_secs()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Continue => f.write_str("continue"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Data {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Data::Verdict(verdict) => verdict.fmt(f),
            Data::Values(values) => Joined(values, " . ").fmt(f),
        }
    }
}

/// A set's elements.
struct Entry<'e>((&'e Key, &'e Element));

impl Display for Entry<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self((key, element)) = self;
        key.fmt(f)?;
        if let Some(timeout) = element.timeout {
            write!(f, " timeout {}", Time(timeout))?;
        }
        match &element.data {
            Some(data) => write!(f, " : {data}"),
            None => Ok(()),
        }
    }
}

impl Set {
    /// `set`, or `map` where it maps.
    fn noun(&self) -> &'static str {
        if self.data.is_some() { "map" } else { "set" }
    }

    /// What stands between the braces, a part each.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("type {}", Joined(&self.key, " . "))];
        match &self.data {
            None => {}
            Some(DataType::Verdict) => lines[0] += " : verdict",
            Some(DataType::Values(types)) => lines[0] += &format!(" : {}", Joined(types, " . ")),
        }
        if let Some(size) = self.size {
            lines.push(format!("size {size}"));
        }
        let flags = [
            (SetFlags::CONSTANT, "constant"),
            (SetFlags::INTERVAL, "interval"),
            (SetFlags::TIMEOUT, "timeout"),
            (SetFlags::DYNAMIC, "dynamic"),
        ];
        let flags: Vec<_> = flags.iter().filter(|(flag, _)| self.flags.has(*flag)).map(|(_, name)| name).collect();
        if !flags.is_empty() {
            lines.push(format!("flags {}", Joined(flags, ",")));
        }
        if let Some(timeout) = self.timeout {
            lines.push(format!("timeout {}", Time(timeout)));
        }
        if !self.elements.is_empty() {
            lines.push(format!("elements = {{ {} }}", Joined(self.elements.iter().map(Entry), ", ")));
        }
        lines
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Expression::Value(value) => value.fmt(f),
            Expression::NetworkProtocol => f.write_str("meta nfproto"),
            Expression::Protocol => f.write_str("meta l4proto"),
            Expression::Mark => f.write_str("meta mark"),
            Expression::InputName => f.write_str("iifname"),
            Expression::OutputName => f.write_str("oifname"),
            Expression::Address(family, side) => {
                let header = match family {
                    words::Family::V4 => "ip",
                    words::Family::V6 => "ip6",
                };
                write!(f, "{header} {}addr", side.letter())
            }
            Expression::Port(side) => write!(f, "th {}port", side.letter()),
            Expression::DestinationType => f.write_str("fib daddr type"),
            Expression::ConnectionState => f.write_str("ct state"),
            Expression::Bits { of, mask, xor: 0 } => write!(f, "{of} & {mask:#010x}"),
            Expression::Bits { of, mask, xor } if !mask == *xor => write!(f, "{of} | {xor:#010x}"),
            Expression::Bits { of, mask, xor } => write!(f, "({of} & {mask:#010x}) ^ {xor:#010x}"),
        }
    }
}

impl Side {
    fn letter(self) -> char {
        match self {
            Side::Source => 's',
            Side::Destination => 'd',
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Operand::Value(value) => value.fmt(f),
            Operand::Prefix(prefix) if prefix.len() == prefix.family().bits() => prefix.address().fmt(f),
            Operand::Prefix(prefix) => prefix.fmt(f),
            Operand::NamesLike(start) => write!(f, "\"{start}*\""),
        }
    }
}

impl Display for NatFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let names = [(self.random, "random"), (self.fully_random, "fully-random"), (self.persistent, "persistent")];
        Joined(names.iter().filter(|(set, _)| *set).map(|(_, name)| name), ",").fmt(f)
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Statement::Compare {
                left: Expression::Bits { of, mask, xor: 0 },
                op: Op::Ne,
                right: Operand::Value(Value::ConnectionState(0)),
            } if let Some(names) = StateNames::of(*mask) => write!(f, "{of} {names}"),
            Statement::Compare { left: left @ Expression::Bits { .. }, op: Op::Eq, right } => {
                write!(f, "{left} == {right}")
            }
            Statement::Compare { left, op, right } => write!(f, "{left} {}{right}", op.sign()),
            Statement::Lookup { key, op, set } => write!(f, "{} {}@{set}", Joined(key, " . "), op.sign()),
            Statement::Counter => f.write_str("counter"),
            Statement::SetMark(value) => write!(f, "meta mark set {value}"),
            Statement::Masquerade(flags) if *flags == NatFlags::default() => f.write_str("masquerade"),
            Statement::Masquerade(flags) => write!(f, "masquerade {flags}"),
            Statement::Verdict(verdict) => verdict.fmt(f),
            Statement::Opaque { name, data } => write!(f, "# {name}: {} bytes that are not understood", data.len()),
        }
    }
}

impl Op {
    fn sign(self) -> &'static str {
        match self {
            Op::Eq => "",
            Op::Ne => "!= ",
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Joined(&self.statements, " ").fmt(f)?;
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "table {} {{", self.id)?;
        if let Some(comment) = &self.comment {
            writeln!(f, "{INDENT}comment \"{comment}\"")?;
        }
        if self.dormant {
            writeln!(f, "{INDENT}flags dormant")?;
        }
        for (name, set) in &self.sets {
            writeln!(f, "{INDENT}{} {name} {{", set.noun())?;
            set.lines().iter().try_for_each(|line| writeln!(f, "{INDENT}{INDENT}{line}"))?;
            writeln!(f, "{INDENT}}}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "{INDENT}chain {name} {{")?;
            chain.base.iter().try_for_each(|base| writeln!(f, "{INDENT}{INDENT}{base}"))?;
            chain.rules.iter().try_for_each(|rule| writeln!(f, "{INDENT}{INDENT}{rule}"))?;
            writeln!(f, "{INDENT}}}")?;
        }
        f.write_str("}")
    }
}

impl Display for Elements {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let entries = Joined(self.elements.iter().map(Entry), ", ");
        write!(f, "element {} {} {{ {entries} }}", self.table, self.set)
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Change::AddTable(id) => write!(f, "add table {id}"),
            Change::DeleteTable(id) => write!(f, "delete table {id}"),
            Change::ReplaceTable(table) => write!(f, "add table {0}\ndelete table {0}\n{table}", table.id),
            Change::AddChain { table, name, chain } => add_chain(f, table, name, chain),
            Change::FlushChain { table, name } => write!(f, "flush chain {table} {name}"),
            Change::DeleteChain { table, name } => write!(f, "delete chain {table} {name}"),
            Change::AddSet { table, name, set } => {
                write!(f, "add {} {table} {name} {{ {}; }}", set.noun(), Joined(set.lines(), "; "))
            }
            Change::DeleteSet { table, name } => write!(f, "delete set {table} {name}"),
            Change::AddRule { table, chain, rule } => write!(f, "add rule {table} {chain} {rule}"),
            Change::InsertRule { table, chain, rule } => write!(f, "insert rule {table} {chain} {rule}"),
            Change::DeleteRule { table, chain, handle } => write!(f, "delete rule {table} {chain} handle {handle}"),
            Change::AddElements(elements) => write!(f, "add {elements}"),
            Change::DeleteElements(elements) => write!(f, "delete {elements}"),
        }
    }
}

fn add_chain(f: &mut Formatter<'_>, table: &TableId, name: &str, chain: &Chain) -> fmt::Result {
    write!(f, "add chain {table} {name}")?;
    chain.base.iter().try_for_each(|base| write!(f, " {{ {base} }}"))?;
    chain.rules.iter().try_for_each(|rule| write!(f, "\nadd rule {table} {name} {rule}"))
}
