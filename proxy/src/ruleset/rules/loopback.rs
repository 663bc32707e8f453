//! The rules about packets to loopback addresses, where node ports are on loopback. Pure.
//!
//! The kernel translates none of these packets. Connections of TCP pass to the proxy's own listeners.

use dataplane::nft::{
    Chain, Element, Expression, Key, Rule, Set, Side, Statement, TableId, Type, Value, Verdict, state, status,
};
use dataplane::types::{Family, IfName};

use super::super::name::SetName;
use super::super::settings::TABLE;
use super::{Rules, table_family};
use crate::model::Protocol;

const GUARD: &str = "guard-loopback";

/// Where the kernel counts what it rejects on loopback: table, set, and the set's definition, whose elements are the protocols.
pub fn rejected_on_loopback(family: Family) -> (TableId, SetName, Set) {
    let protocols = [Protocol::Udp, Protocol::Sctp].map(|protocol| Key::from(Value::Protocol(protocol.number())));
    let elements = protocols.into_iter().map(|key| (key, Element::default())).collect();
    let set = Set { counter: true, elements, ..Set::of([Type::Protocol]) };
    (TableId::new(table_family(family), TABLE), SetName::RejectedOnLoopback, set)
}

impl Rules<'_> {
    pub(super) fn loopback_set(&self) -> Option<(SetName, Set)> {
        let (_, name, set) = rejected_on_loopback(self.settings.family);
        self.settings.has_loopback.then_some((name, set))
    }

    fn is_to_loopback(&self) -> Statement {
        Statement::eq(self.address(Side::Destination), self.settings.family.loopback())
    }

    /// Nobody outside may reach what listens on loopback. The kernel sees to that by itself, unless somebody has set `route_localnet`, as
    /// kube-proxy's mode iptables does (CVE-2020-8558).
    pub(super) fn guard_loopback(&self) -> Option<Rule> {
        let device: IfName = "lo".parse().ok()?;
        let is_from_outside = Statement::ne(Expression::InputName, Value::IfName(device));
        let rule = Rule::new([self.is_to_loopback(), is_from_outside, Verdict::Jump(GUARD.to_owned()).into()]);
        self.settings.has_loopback.then_some(rule)
    }

    pub(super) fn loopback_chain(&self) -> Option<(String, Chain)> {
        let passes = |statement| Rule::new([statement, Verdict::Return.into()]);
        let rules = [
            passes(Statement::connection_in(state::ESTABLISHED | state::RELATED)),
            passes(Statement::connection_has(status::DNAT)),
            Rule::new([Verdict::Drop.into()]).with_comment("from outside to loopback, CVE-2020-8558"),
        ];
        self.settings.has_loopback.then(|| (GUARD.to_owned(), Chain::regular().with_rules(rules)))
    }

    /// Packets to node ports of other protocols than TCP.
    pub(super) fn refuse_on_loopback(&self) -> Option<Rule> {
        let is_of = Statement::is_in([Expression::Protocol], SetName::RejectedOnLoopback.to_string());
        let rule = Rule::new([self.is_to_loopback(), is_of, self.reject()]);
        self.settings.has_loopback.then(|| rule.with_comment("node ports on loopback are of TCP alone"))
    }
}
