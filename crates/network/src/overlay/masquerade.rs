//! Which packets leave the pod network under the node's own address: flannel's decisions, as one nftables table.
//!
//! Pure. Nothing between pods is rewritten. A pod's packet to a node's own address is, whatever the backend. Through a tunnel, the answer
//! would come back by another route than the packet went, and strict reverse-path filters would drop it. On a plain route, an exemption
//! would have to believe a peer's record: a host that a record names need not have a route to pods.

use std::net::IpAddr;

use dataplane::nft::{
    AddressType, Chain, ChainType, Expression, Hook, NatFlags, Rule, Side, Statement, Table, TableFamily, Value,
    Verdict, protocol,
};
use dataplane::types::{Family, Prefix};

use super::{Desired, Input};

/// The bit of the packet mark by which kube-proxy asks for masquerading; other bits are other programs'.
const KUBE_PROXY_MARK: u32 = 0x4000;
/// After the routing decision, where source addresses are rewritten (`NF_IP_PRI_NAT_SRC`).
const SRCNAT: i32 = 100;
const FILTER: i32 = 0;
/// Before connections are tracked (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;

/// How masquerading picks source ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// At random, so that many connections at once to one destination do not race for a port.
    FullyRandom,
    /// In the way of the kernel (`--ip-masq-fully-random-disable`).
    Kernel,
}

/// Our table; `None` where neither masquerading nor forward rules are wanted.
pub(super) fn table(input: &Input<'_>) -> Option<Table> {
    let id = input.identity.table();
    let mut table = Table::new(TableFamily::Inet, id.name).with_comment("netd: the pod network");
    if let Some(ports) = input.masquerade {
        let mut rules = vec![
            Rule::new([
                Statement::eq(Expression::Mark.masked(KUBE_PROXY_MARK), Value::Mark(KUBE_PROXY_MARK)),
                Verdict::Return.into(),
            ])
            .with_comment("kube-proxy masquerades this itself"),
        ];
        for (family, network) in input.identity.networks.iter() {
            let Some(own) = input.cluster.own.subnets.get(family) else { continue };
            rules.extend(decisions(family, *network, *own, ports));
        }
        table =
            table.with_chain("postrouting", Chain::base(ChainType::Nat, Hook::Postrouting, SRCNAT).with_rules(rules));
    }
    if input.forward_rules {
        let rules = input.identity.networks.iter().flat_map(|(family, network)| {
            [Side::Source, Side::Destination].map(|side| {
                Rule::new([Statement::family(family), address(family, side, *network), Verdict::Accept.into()])
            })
        });
        table = table.with_chain("forward", Chain::base(ChainType::Filter, Hook::Forward, FILTER).with_rules(rules));
    }
    (!table.chains.is_empty()).then_some(table)
}

/// Keeps the tunnels' own packets out of the table of connections, where each inner flow would have entries. A family in which this node
/// has another public address is left out: a translation between needs the entries.
pub(super) fn exempt_tunnels(input: &Input<'_>, desired: &mut Desired) {
    let Some(table) = &mut desired.table else { return };
    let (mut received, mut sent) = (Vec::new(), Vec::new());
    for device in desired.devices.values() {
        let Some((port, Some(local))) = device.tunnel.udp() else { continue };
        if !has_address(input, local) {
            continue;
        }
        let packets = [
            Statement::family(Family::of(local)),
            Statement::eq(Expression::Protocol, Value::Protocol(protocol::UDP)),
            Statement::eq(Expression::Port(Side::Destination), Value::Service(port)),
        ];
        let is_received = Statement::eq(Expression::DestinationType, Value::AddressType(AddressType::Local));
        for (rules, condition) in [(&mut received, Some(is_received)), (&mut sent, None)] {
            let rule = Rule::new([&packets[..], condition.as_slice(), &[Statement::NoTrack]].concat());
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    for (name, hook, rules) in [("received", Hook::Prerouting, received), ("sent", Hook::Output, sent)] {
        if !rules.is_empty() {
            let chain = Chain::base(ChainType::Filter, hook, RAW).with_rules(rules);
            table.chains.insert(format!("tunnel-{name}"), chain);
        }
    }
}

/// True where peers send to the address that the interface has.
fn has_address(input: &Input<'_>, local: IpAddr) -> bool {
    let family = Family::of(local);
    input.underlay.public.get(family) == input.underlay.addresses.get(family)
}

fn address(family: Family, side: Side, range: Prefix) -> Statement {
    Statement::eq(Expression::Address(family, side), range)
}

/// The rules for one family; the first that matches decides.
fn decisions(family: Family, network: Prefix, own: Prefix, ports: Ports) -> [Rule; 5] {
    use Side::{Destination, Source};
    let fully_random = ports == Ports::FullyRandom;
    let masquerade = || Statement::Masquerade(NatFlags { fully_random, ..NatFlags::default() });
    let stays = || Statement::from(Verdict::Return);
    let to = |range| address(family, Destination, range);
    let from = |range| address(family, Source, range);
    let other = |side, range| Statement::ne(Expression::Address(family, side), range);
    let rule = |first, second, last, comment| {
        Rule::new([Statement::family(family), first, second, last]).with_comment(comment)
    };
    [
        rule(from(own), to(network), stays(), "own pods to pods"),
        rule(from(network), to(own), stays(), "pods to own pods"),
        rule(other(Source, network), to(own), stays(), "others to own pods: the client's address is kept"),
        rule(from(network), other(Destination, family.multicast()), masquerade(), "pods to the world"),
        rule(other(Source, network), to(network), masquerade(), "others to pods of other nodes"),
    ]
}
