//! Whether packets to Services come to an endpoint: the proxy runs alone, and each Service has endpoints that a route leads to. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::types::Family;
use proxy::listing::{Listing, PortListing};

use super::facts::Facts;
use super::finding::Finding;
use crate::config::ProxyMode;

/// So many Services are named for one reason.
const MOST: usize = 10;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let proxy = &facts.kernel.proxy;
    let is_kube_proxy = proxy.has_kube_proxy_rules;
    let Some(listing) = &proxy.listing else {
        return match proxy.mode {
            ProxyMode::Off => vec![Finding::well("netd's proxy is off: Services are not netd's")],
            ProxyMode::Auto if is_kube_proxy => vec![Finding::well("Services are left to kube-proxy")],
            _ => vec![
                Finding::fault("proxy", "no proxy answers on this node, so that nothing follows Services")
                    .remedy("start netd; `netd status` says why its proxy does not run"),
            ],
        };
    };
    let mut findings = Vec::new();
    if is_kube_proxy {
        let what = "kube-proxy's rules stand beside netd's, and a connection goes where the first of them sends it";
        findings.push(
            Finding::warning("kube-proxy", what)
                .remedy("delete kube-proxy's DaemonSet: netd removes the rules that kube-proxy leaves"),
        );
    }
    if !listing.listed {
        let what = "Services are not known yet, so that nothing is programmed";
        findings.push(Finding::fault("proxy", what).remedy("netd status"));
    }
    findings.extend(listing.problems.iter().take(MOST).map(|problem| {
        let finding = Finding::warning(&problem.subject, problem.detail.clone());
        Finding { remedy: problem.remedy.clone(), ..finding }
    }));
    findings.extend(unserved(listing));
    findings.extend(unrouted(facts, listing));
    findings
}

/// Services without an endpoint that takes part.
fn unserved(listing: &Listing) -> impl Iterator<Item = Finding> {
    let unserved = listing.services.iter().filter(|port| port.used().next().is_none());
    unserved.take(MOST).map(|port| {
        let what = match port.endpoints.first() {
            None => "it has no endpoints, so that its clients are refused".to_owned(),
            Some(first) => {
                let why = first.left_out_internally.as_deref().unwrap_or("is left out");
                format!("none of its {} endpoints takes part: {} {why}", port.endpoints.len(), first.address)
            }
        };
        Finding::warning(&port.service, what).remedy(slices(port))
    })
}

/// Endpoints in the pod network that no route of this node leads to.
fn unrouted(facts: &Facts, listing: &Listing) -> Vec<Finding> {
    let mut unrouted: BTreeMap<IpAddr, &PortListing> = BTreeMap::new();
    for port in &listing.services {
        let addresses = port.used().map(|endpoint| endpoint.address.ip());
        let lost = addresses.filter(|address| is_of_pods(facts, *address) && !is_routed(facts, *address));
        unrouted.extend(lost.map(|address| (address, port)));
    }
    let finding = |(address, port): (IpAddr, &PortListing)| {
        let what =
            format!("it is an endpoint of Service {}, and no node has this address: packets end here", port.service);
        Finding::fault(address, what).remedy(format!("{}; netd status", slices(port)))
    };
    unrouted.into_iter().take(MOST).map(finding).collect()
}

fn is_of_pods(facts: &Facts, address: IpAddr) -> bool {
    facts.node.identity.networks.get(Family::of(address)).is_some_and(|network| network.contains(address))
}

fn is_routed(facts: &Facts, address: IpAddr) -> bool {
    let routes = facts.kernel.host.routes.iter().filter(|route| route.destination.contains(address));
    let best = routes.min_by_key(|route| (std::cmp::Reverse(route.destination.len()), route.metric));
    best.is_some_and(|route| route.kind.is_unicast())
}

fn slices(port: &PortListing) -> String {
    let name = port.service.split(':').next().unwrap_or_default();
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!("kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name} -o yaml")
}
