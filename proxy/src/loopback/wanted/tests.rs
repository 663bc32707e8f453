use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fixtures::{resolved, service_port};
use crate::model::Policy;

fn wanted() -> Wanted {
    Wanted::new([Family::V4].into())
}

fn update(wanted: &mut Wanted, ports: impl IntoIterator<Item = Resolved>) -> Changes {
    wanted.update(&ports.into_iter().map(|resolved| (resolved.port.key(), Some(resolved))).collect())
}

fn on_loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The listeners of a service port with endpoints 1 and 2 after a change of it.
fn listeners(change: impl FnOnce(&mut ServicePort, &mut Resolved)) -> Vec<(SocketAddr, Vec<SocketAddr>)> {
    let mut port = service_port("web", Protocol::Tcp);
    let mut resolved = resolved(port.clone(), &[1, 2]);
    change(&mut port, &mut resolved);
    resolved.port = Arc::new(port);
    let changes = update(&mut wanted(), [resolved]).into_iter();
    changes.filter_map(|(address, backend)| Some((address, backend?.endpoints.into()))).collect()
}

#[test]
fn a_node_port_of_tcp_with_endpoints_has_a_listener() {
    let endpoint = |number| SocketAddr::from(([10, 180, 0, number], 80));
    assert_eq!(listeners(|_, _| {}), [(on_loopback(3003), vec![endpoint(1), endpoint(2)])]);
    assert_eq!(listeners(|port, _| port.node_port = None), []);
    assert_eq!(listeners(|port, _| port.name.protocol = Protocol::Udp), []);
    assert_eq!(listeners(|port, _| port.name.protocol = Protocol::Sctp), []);
    assert_eq!(listeners(|port, _| port.family = Family::V6), [], "IPv6 is not asked for");
    assert_eq!(listeners(|_, resolved| resolved.cluster.clear()), []);
    // Of the policy Local only this node's endpoints count, and the policy of the cluster IP does not.
    assert_eq!(listeners(|port, _| port.external_policy = Policy::Local), []);
    let local = listeners(|port, resolved| {
        port.external_policy = Policy::Local;
        resolved.local = vec![endpoint(2)];
    });
    assert_eq!(local, [(on_loopback(3003), vec![endpoint(2)])]);
    assert_eq!(listeners(|port, _| port.internal_policy = Policy::Local).len(), 1);
    // No listener leads to itself.
    assert_eq!(listeners(|_, resolved| resolved.cluster = vec![on_loopback(3003)]), []);
    let rest = listeners(|_, resolved| resolved.cluster = vec![endpoint(1), on_loopback(3003)]);
    assert_eq!(rest, [(on_loopback(3003), vec![endpoint(1)])]);
}

#[test]
fn an_ipv6_node_port_has_the_other_address() {
    let port = ServicePort { family: Family::V6, ..service_port("web", Protocol::Tcp) };
    let changes = update(&mut Wanted::new(Family::BOTH.into()), [resolved(port, &[1])]);
    assert!(changes.keys().eq([&"[::1]:3003".parse().expect("an address")]), "{changes:?}");
}

#[test]
fn a_listener_stays_where_its_port_goes_to_another_service() {
    let mut wanted = wanted();
    let (old, new) = (service_port("old", Protocol::Tcp), service_port("new", Protocol::Tcp));
    update(&mut wanted, [resolved(old.clone(), &[1])]);
    let ports = [(old.key(), None), (new.key(), Some(resolved(new.clone(), &[2])))].into();
    let changes = wanted.update(&ports);
    let names: Vec<_> = changes.values().map(|backend| backend.as_ref().map(|backend| backend.name.clone())).collect();
    assert_eq!(names, [Some(new.name.clone())]);
    assert_eq!(wanted.update(&[(new.key(), None)].into()), [(on_loopback(3003), None)].into());
    assert_eq!(wanted.update(&[(new.key(), None)].into()), Changes::new(), "nothing is left to close");
}

#[test]
fn a_service_port_says_who_takes_its_connections() {
    let mut wanted = wanted();
    let port = service_port("web", Protocol::Tcp);
    update(&mut wanted, [resolved(port.clone(), &[1])]);
    let served = |wanted: &Wanted, port: &ServicePort| wanted.state(port).map(|state| state.served);
    let state = OnLoopback { address: on_loopback(3003), served: Served::Listening };
    assert_eq!(wanted.state(&port), Some(state));
    let udp = ServicePort { name: service_port("web", Protocol::Udp).name, ..port.clone() };
    assert_eq!(served(&wanted, &udp), Some(Served::Rejected));
    assert_eq!(served(&wanted, &ServicePort { node_port: None, ..port.clone() }), None);
    assert_eq!(served(&wanted, &ServicePort { family: Family::V6, ..port.clone() }), None);
    update(&mut wanted, [resolved(port.clone(), &[])]);
    assert_eq!(served(&wanted, &port), Some(Served::NoEndpoint));
}

proptest! {
    /// Whatever comes in between, and however it is cut into updates: the listeners in the end are those of the last state.
    #[test]
    fn the_order_of_changes_does_not_matter(
        history in prop::collection::vec(prop::collection::btree_map(0..4_usize, prop::option::of((0..3_u16, 0..3_u8)), 1..4), 1..12),
    ) {
        let names = ["a", "bb", "ccc", "dddd"];
        let (mut step_by_step, mut last) = (wanted(), BTreeMap::new());
        let mut open = Changes::new();
        let resolve = |(name, state): (usize, Option<(u16, u8)>)| {
            let port = service_port(names[name], Protocol::Tcp);
            let affinity = Some(Duration::from_secs(u64::try_from(name).expect("a small number")));
            let with = |(node_port, endpoints): (u16, u8)| {
                let port = ServicePort { node_port: Some(node_port * 4 + u16::try_from(name).expect("small")), affinity, ..port.clone() };
                resolved(port, &(1..=endpoints).collect::<Vec<_>>())
            };
            (port.key(), state.map(with))
        };
        for update in history {
            let ports: BTreeMap<_, _> = update.into_iter().map(resolve).collect();
            for (address, backend) in step_by_step.update(&ports) {
                match backend {
                    Some(backend) => open.insert(address, Some(backend)),
                    None => open.remove(&address),
                };
            }
            last.extend(ports);
        }
        prop_assert_eq!(open, wanted().update(&last));
    }
}
