//! Policy rules of the host's (`ip rule`) by which packets to pods never come to the main table, where netd's routes are: VPNs add such.
//!
//! Reads, changes nothing. The kernel is asked for routes only where there is a rule that a host does not have by itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::netlink::RouteSocket;
use dataplane::rule::{FoundRoute, PolicyAction, PolicyRule, RouteQuery};
use dataplane::types::{Family, IfName, PerFamily, Prefix};
use network::model::{Cluster, NodeName};
use network::overlay::Outcome;
use nix::libc::EXDEV;

use crate::problem::{Kind, Problem};

/// A rule that diverts packets to pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The rule.
    pub rule: PolicyRule,
    /// The table by which the packets go, and out of which link; none where the rule refuses them.
    pub route: Option<(u32, Option<IfName>)>,
    /// The peers to whose pods the packets are.
    pub peers: BTreeSet<NodeName>,
    /// Packets to this node's own pods are diverted.
    pub own: bool,
    /// What to type.
    pub remedy: String,
}

impl Diversion {
    /// The rule, for a sentence.
    pub fn subject(&self) -> String {
        format!("{} policy rule `{}`", self.rule.family, self.rule)
    }

    /// What it does: with the subject a sentence.
    pub fn detail(&self) -> String {
        let of_peers = self.peers.first().map(|first| format!("of other nodes, such as {first}"));
        let of_own = self.own.then(|| "of this node".to_owned());
        let pods: Vec<_> = of_peers.into_iter().chain(of_own).collect();
        let pods = pods.join(", and ");
        let before = "before the main table with netd's routes is asked";
        match &self.route {
            None => format!("refuses packets to pods {pods}, {before}"),
            Some((table, device)) => {
                let device = device.as_ref().map_or_else(|| "nowhere".to_owned(), |device| format!("out of {device}"));
                format!("sends packets to pods {pods}, {device} by table {table}, {before}")
            }
        }
    }

    /// The problem of it.
    pub fn problem(&self) -> Problem {
        Problem::new(Kind::PodsDiverted, self.subject(), self.detail()).with_remedy(self.remedy.clone())
    }
}

/// The rules that divert packets to this node's pods and to those of each peer.
pub fn find(
    socket: &mut RouteSocket,
    networks: &PerFamily<Prefix>,
    cluster: &Cluster,
    outcome: &Outcome,
) -> Vec<Diversion> {
    let mut found = Vec::new();
    for (family, network) in networks.iter() {
        // A kernel without policy rules has none that divert.
        let rules = socket.rules(family).unwrap_or_default();
        if rules.iter().all(is_usual) {
            continue;
        }
        let bridge = outcome.desired.bridge.as_ref().map(|bridge| &bridge.name);
        let bridge = bridge.and_then(|name| Some((name.clone(), socket.index(name).ok()??)));
        let mut search = Search { socket, rules, network: *network, found: &mut found };
        let own = cluster.own.subnets.get(family).and_then(|subnet| subnet.nth(2));
        let routed = outcome.peer_routes.keys().filter(|(_, of)| *of == family).map(|(name, _)| name);
        let pods = routed.filter_map(|name| Some((name, pod(cluster, name, family)?)));
        for (name, to) in pods {
            let from_pod = own.and_then(|from| bridge.clone().map(|(bridge, index)| (from, bridge, index)));
            let from_pod = from_pod.map(|forwarded| RouteQuery { to, forwarded: Some(forwarded) });
            let flows = from_pod.into_iter().chain([RouteQuery { to, forwarded: None }]);
            search.first_of(flows, |diversion| {
                diversion.peers.insert(name.clone());
            });
        }
        // Before the first pod there is no route to it.
        if let Some(to) = own.filter(|_| outcome.desired.bridge.is_some()) {
            search.first_of([RouteQuery { to, forwarded: None }], |diversion| diversion.own = true);
        }
    }
    found
}

/// True for a rule as every host has them: for the tables `default`, `main` and `local`.
fn is_usual(rule: &PolicyRule) -> bool {
    matches!(rule.action, PolicyAction::Lookup { table: 253..=255, longer_than: None })
}

/// An address that a pod of a peer may have.
fn pod(cluster: &Cluster, name: &NodeName, family: Family) -> Option<IpAddr> {
    cluster.peers.get(name)?.subnets.get(family)?.nth(2)
}

struct Search<'s> {
    socket: &'s mut RouteSocket,
    rules: Vec<PolicyRule>,
    network: Prefix,
    found: &'s mut Vec<Diversion>,
}

impl Search<'_> {
    /// Notes the rule that diverts the first of these packets that one does.
    fn first_of(&mut self, flows: impl IntoIterator<Item = RouteQuery>, note: impl FnOnce(&mut Diversion)) {
        let Some((rule, route)) = flows.into_iter().find_map(|flow| self.rule_for(&flow)) else { return };
        let known = self.found.iter().position(|known| known.rule == rule);
        let place = known.unwrap_or_else(|| {
            let route = route.map(|FoundRoute { table, index }| (table, index.and_then(|index| self.name_of(index))));
            let remedy = rule.bypass(&self.rules, self.network);
            self.found.push(Diversion { rule, route, peers: BTreeSet::new(), own: false, remedy });
            self.found.len() - 1
        });
        note(&mut self.found[place]);
    }

    /// The rule by which a packet does not come to the main table.
    fn rule_for(&mut self, flow: &RouteQuery) -> Option<(PolicyRule, Option<FoundRoute>)> {
        let socket = &mut *self.socket;
        let mut before = PolicyRule::before_main(&self.rules, flow).peekable();
        before.peek()?;
        let found = match socket.lookup(flow) {
            Ok(found) => Some(found),
            // The reverse-path filter says nothing of the way there.
            Err(error) if error.errno() == Some(EXDEV) => return None,
            Err(_) => None,
        };
        before.find_map(|rule| {
            let route = match (rule.action, found) {
                (PolicyAction::Lookup { table, .. }, Some(found)) => (table == found.table).then_some(Some(found)),
                (PolicyAction::Lookup { table, .. }, None) => {
                    socket.refuses(table, flow.to).ok()?.then_some(Some(FoundRoute { table, index: None }))
                }
                (PolicyAction::Refuse(_), None) => Some(None),
                _ => None,
            };
            route.map(|route| (rule.clone(), route))
        })
    }

    fn name_of(&mut self, index: u32) -> Option<IfName> {
        self.socket.links().ok()?.into_iter().find(|link| link.index == index).map(|link| link.name)
    }
}
