//! Own node: `me`, 10.244.1.0/24 and `fd00:10:244:1::/64` of 10.244.0.0/16 and `fd00:10:244::/56`, public 192.0.2.1.

use super::*;
use crate::backend::vxlan::{TunnelId, Vtep};
use dataplane::types::Vni;
use std::collections::BTreeSet;

fn name(text: &str) -> NodeName {
    text.parse().expect("node name")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn lease(node: &str, v4: &str, public: &str, mac: u8) -> Lease {
    let vtep = BackendData::Vxlan(Vtep { vni: Vni::ONE, mac: Mac::local([mac; 6]) });
    Lease {
        node: name(node),
        subnets: PerFamily { v4: Some(prefix(v4)), v6: None },
        public: PerFamily { v4: Some(public.parse().expect("address")), v6: None },
        backend: BackendType::Vxlan,
        data: PerFamily { v4: Some(vtep), v6: None },
        encapsulations: None,
    }
}

fn own() -> Lease {
    let mut own = lease("me", "10.244.1.0/24", "192.0.2.1", 0x10);
    own.subnets.v6 = Some(prefix("fd00:10:244:1::/64"));
    own
}

fn networks() -> PerFamily<Prefix> {
    PerFamily { v4: Some(prefix("10.244.0.0/16")), v6: Some(prefix("fd00:10:244::/56")) }
}

fn believed(
    own: Lease,
    candidates: Vec<Lease>,
    previous: Option<&Cluster>,
    networks: &PerFamily<Prefix>,
) -> (Cluster, Vec<Rejected>) {
    let host = ["192.0.2.1", "192.0.2.99"].map(|address| (address.parse().expect("address"), 24)).into();
    let rules = AdmissionRules { networks: *networks, subnet_len: PerFamily::none(), host };
    let was_first = |lease: &Lease| previous.is_some_and(|previous| previous.has_all_of(lease));
    let (cluster, admission) = Admission::new(own, candidates, was_first, rules);
    (cluster, admission.rejected())
}

fn admit(candidates: Vec<Lease>, previous: Option<&Cluster>) -> (Vec<String>, Vec<(String, String)>) {
    let (cluster, rejected) = believed(own(), candidates, previous, &networks());
    let reasons = rejected.iter().map(|it| (it.node.to_string(), it.reason.clone())).collect();
    (cluster.peers.keys().map(ToString::to_string).collect(), reasons)
}

#[test]
fn node_names_are_file_names() {
    for good in ["a", "node-1.example.com", "N_1", &"a".repeat(253)] {
        assert_eq!(name(good).to_string(), good);
    }
    for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a\0", "a\n", &"a".repeat(254)] {
        bad.parse::<NodeName>().expect_err(bad);
    }
}

#[test]
fn backend_types_are_read_in_any_case_and_print_flannels_names() {
    for (text, printed) in [("VXLAN", "vxlan"), ("Host-GW", "host-gw"), ("WireGuard", "wireguard")] {
        assert_eq!(BackendType::from(text).to_string(), printed);
    }
}

#[test]
fn a_peer_that_lies_is_left_out_and_the_others_stay() {
    type Lie = fn(&mut Lease);
    fn receives(l: &mut Lease, mac: Mac) {
        let received =
            (Encapsulation::Vxlan(TunnelId { vni: Vni::ONE, port: 8472 }), PerFamily { v4: Some(mac), v6: None });
        l.encapsulations =
            Some(EncapsulationSupport { receives: [received].into(), ..EncapsulationSupport::default() });
    }
    let good = || lease("good", "10.244.9.0/24", "192.0.2.9", 9);
    let before = believed(own(), vec![good()], None, &networks()).0;
    let lies: [(Lie, &str); 23] = [
        (|l| l.subnets.v4 = Some(prefix("10.244.1.0/25")), "overlaps this node's own 10.244.1.0/24"),
        (|l| l.subnets.v4 = Some(prefix("10.244.0.0/16")), "overlaps"),
        (|l| l.subnets.v4 = Some(prefix("10.245.2.0/24")), "is not inside the Network 10.244.0.0/16"),
        (|l| l.subnets.v4 = Some(prefix("fd00::/64")), "its IPv4 subnet fd00::/64 is not IPv4"),
        (|l| l.subnets.v6 = Some(prefix("fd00:10:245::/64")), "is not inside the Network fd00:10:244::/56"),
        (|l| l.subnets = PerFamily::none(), "it has no subnet of a family that this node's pods have (IPv4 and IPv6)"),
        (|l| l.public.v4 = "192.0.2.1".parse().ok(), "its public address 192.0.2.1 is this node's own"),
        (|l| l.public.v4 = "127.0.0.1".parse().ok(), "cannot be a node's"),
        (|l| l.public.v4 = "10.244.7.7".parse().ok(), "inside the pods' Network 10.244.0.0/16"),
        (|l| l.public = PerFamily { v4: None, v6: "2001:db8::1".parse().ok() }, "that this node can send from (IPv4)"),
        (|l| l.public.v4 = "192.0.2.99".parse().ok(), "its public address 192.0.2.99 is this node's own"),
        (|l| l.public.v4 = "192.0.2.9".parse().ok(), "its public address 192.0.2.9 is that of node good"),
        (|l| l.public.v4 = "192.0.2.255".parse().ok(), "broadcast address of 192.0.2.0/24"),
        (|l| l.public.v4 = "255.255.255.255".parse().ok(), "unicast"),
        (|l| l.public.v4 = "240.0.0.1".parse().ok(), "unicast"),
        (|l| l.public.v4 = "169.254.169.254".parse().ok(), "unicast"),
        (|l| l.public.v6 = "fe80::1".parse().ok(), "unicast"),
        (|l| l.public.v6 = "::ffff:192.0.2.7".parse().ok(), "unicast"),
        (|l| receives(l, Mac::local([0x10; 6])), "is that of node me"),
        (|l| receives(l, Mac::local([9; 6])), "is that of node good"),
        (|l| receives(l, Mac([0; 6])), "cannot be a device's"),
        (|l| l.data = own().data, "is that of node me"),
        (|l| l.data.v4 = Some(BackendData::Vxlan(Vtep { vni: Vni::ONE, mac: Mac([1; 6]) })), "cannot be a device's"),
    ];
    for (lie, expected) in lies {
        let mut bad = lease("bad", "10.244.2.0/24", "192.0.2.2", 2);
        lie(&mut bad);
        let (peers, reasons) = admit(vec![bad, good()], Some(&before));
        assert_eq!(peers, ["good"], "{expected}");
        assert!(
            reasons.len() == 1 && reasons[0].0 == "bad" && reasons[0].1.contains(expected),
            "{expected}: {reasons:?}"
        );
    }
}

#[test]
fn of_two_claims_to_one_subnet_the_older_stays_and_else_the_first_by_name() {
    let claim = |node: &str, mac| lease(node, "10.244.2.0/24", &format!("192.0.2.{mac}"), mac);
    let (peers, reasons) = admit(vec![claim("b", 2), claim("a", 3)], None);
    assert_eq!(peers, ["a"]);
    assert!(reasons[0].1.contains("overlaps 10.244.2.0/24 of node a"), "{reasons:?}");

    let (before, _) = believed(own(), vec![claim("b", 2)], None, &networks());
    assert_eq!(admit(vec![claim("b", 2), claim("a", 3)], Some(&before)).0, ["b"], "b was there first");

    // Having been there with another subnet gives no right to this one.
    let (before, _) = believed(own(), vec![lease("b", "10.244.5.0/24", "192.0.2.2", 2)], None, &networks());
    assert_eq!(admit(vec![claim("b", 2), claim("a", 3)], Some(&before)).0, ["a"]);
}

#[test]
fn claims_that_cover_or_lie_inside_others_overlap_them() {
    let inside = lease("b", "10.244.4.128/25", "192.0.2.3", 3);
    let cover = lease("c", "10.244.4.0/22", "192.0.2.4", 4);
    let (peers, _) = admit(vec![lease("a", "10.244.4.0/24", "192.0.2.2", 2), inside, cover], None);
    assert_eq!(peers, ["a"]);
    let (peers, _) =
        admit(vec![lease("x", "10.244.6.0/24", "192.0.2.2", 2), lease("c", "10.244.4.0/22", "192.0.2.4", 4)], None);
    assert_eq!(peers, ["c"], "a wider claim that starts earlier reaches into x");
}

#[test]
fn two_peers_with_one_mac_cannot_both_be_reached() {
    let (peers, reasons) =
        admit(vec![lease("a", "10.244.2.0/24", "192.0.2.2", 2), lease("b", "10.244.3.0/24", "192.0.2.3", 2)], None);
    assert_eq!((peers, reasons[0].0.as_str()), (vec!["a".to_owned()], "b"));
}

#[test]
fn own_lease_is_no_peer_and_families_without_pods_here_are_dropped() {
    let mut mine = own();
    mine.subnets.v6 = None;
    let mut dual = lease("dual", "10.244.2.0/24", "192.0.2.2", 2);
    dual.subnets.v6 = Some(prefix("fd00:10:244:2::/64"));
    dual.data.v6 = dual.data.v4.clone();
    let v4_only = PerFamily { v6: None, ..networks() };
    let (cluster, rejected) = believed(mine.clone(), vec![mine, dual], None, &v4_only);
    assert!(rejected.is_empty(), "{rejected:?}");
    let peer = cluster.peers.get(&name("dual")).expect("kept for its IPv4 subnet");
    assert_eq!(cluster.peers.len(), 1);
    assert!(peer.subnets.v6.is_none() && peer.data.v6.is_none());
}

#[test]
fn pods_and_underlay_may_have_different_families() {
    let v6 = |last: u16| PerFamily { v4: None, v6: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])) };
    let mine = Lease { public: v6(1), ..lease("me", "10.244.1.0/24", "192.0.2.1", 1) };
    let peer = Lease { public: v6(2), ..lease("peer", "10.244.2.0/24", "192.0.2.2", 2) };
    let (cluster, rejected) = believed(mine, vec![peer], None, &networks());
    assert_eq!((cluster.peers.len(), rejected), (1, vec![]));
}

#[test]
fn encapsulations_beside_former_ones_take_nothing_back() {
    let tunnel = |vni: i64| Encapsulation::Vxlan(TunnelId { vni: Vni::try_from(vni).expect("a VNI"), port: 8472 });
    let support = |vni: i64, direct: bool, mac: u8| {
        let direct = direct.then_some((Encapsulation::Direct, PerFamily::none()));
        let tunnel = [(tunnel(vni), PerFamily { v4: Some(Mac([2, 0, 0, 0, 0, mac])), v6: None })];
        let (receives, sends) = (tunnel.into_iter().chain(direct).collect(), tunnel.map(|(tunnel, _)| tunnel).into());
        EncapsulationSupport { receives, sends, ..EncapsulationSupport::default() }
    };
    let (former, now) = (support(1, true, 1), support(7, false, 7));
    let both = now.clone().beside(&former);
    let expected: BTreeSet<_> = now.receives.keys().chain(former.receives.keys()).copied().collect();
    assert!(both.receives.keys().eq(&expected));
    assert_eq!(both.sends, now.sends.iter().chain(former.sends.iter()).copied().collect());
    let moved = support(1, false, 9).beside(&former);
    assert_eq!(
        moved.receives[&tunnel(1)],
        support(1, false, 9).receives[&tunnel(1)],
        "a hardware address is the new one"
    );
}

#[test]
fn subnets_of_another_size_than_the_configured_are_refused() {
    let rules = |v4| {
        let subnet_len = PerFamily { v4, v6: None };
        AdmissionRules { networks: networks(), subnet_len, ..AdmissionRules::default() }
    };
    let half = lease("half", "10.244.128.0/17", "192.0.2.2", 2);
    let (cluster, admission) = Admission::new(own(), [half.clone()], |_| false, rules(Some(24)));
    assert!(cluster.peers.is_empty(), "{:?}", cluster.peers);
    assert!(
        admission.rejected()[0].reason.contains("its subnet 10.244.128.0/17 is no /24"),
        "{:?}",
        admission.rejected()
    );
    assert_eq!(Admission::new(own(), [half], |_| false, rules(None)).0.peers.len(), 1, "the store gives subnets");
}

#[test]
fn a_node_that_is_left_out_comes_in_when_the_holder_of_its_place_goes() {
    let claim = |node: &str, mac| Arc::new(lease(node, "10.244.2.0/24", &format!("192.0.2.{mac}"), mac));
    let rules = AdmissionRules { networks: networks(), ..AdmissionRules::default() };
    let (mut cluster, mut admission) = Admission::new(own(), [claim("a", 2), claim("b", 3)], |_| false, rules);
    let other = Arc::new(lease("c", "10.244.3.0/24", "192.0.2.4", 4));
    let (changes, same) = admission.update(&mut cluster, [(name("c"), Some(other))].into());
    assert_eq!((changes.len(), same, admission.rejected().len()), (1, true, 1), "b waits for a alone");
    let (changes, same) = admission.update(&mut cluster, [(name("a"), None)].into());
    assert_eq!((changes.len(), same, admission.rejected().len()), (2, false, 0));
    assert!(cluster.peers.keys().eq(&[name("b"), name("c")]));
    let (_, same) = admission.update(&mut cluster, [(name("a"), Some(claim("a", 2)))].into());
    assert!(!same && admission.is_disputed() && cluster.peers.contains_key(&name("b")), "b was first this time");
}
