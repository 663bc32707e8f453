use dataplane::link::{Kind, Port};
use dataplane::types::IfName;

use super::*;

fn link(name: &str, index: u32, kind: Kind) -> Link {
    Link {
        index,
        name: name.parse().expect("name"),
        up: true,
        carrier: true,
        mtu: 1500,
        mac: None,
        master: None,
        lower: None,
        alias: None,
        kind,
        port: None::<Port>,
    }
}

#[test]
fn the_pods_bridges_with_all_their_ports_are_never_the_underlay() {
    let of_pod = |network: &str| {
        let ifname: IfName = "eth0".parse().expect("name");
        Attachment { network: network.parse().expect("name"), container: "c1".parse().expect("id"), ifname }
    };
    let port = |of: Attachment, index, master| Link {
        alias: Some(of.alias()),
        master,
        ..link(of.host_veth().as_str(), index, Kind::Veth)
    };
    let links = [
        link("eth0", 2, Kind::Other(String::new())),
        link("br-pods", 3, Kind::Bridge),
        Link { master: Some(3), ..link("eth1", 4, Kind::Other(String::new())) },
        port(of_pod(NETWORK), 5, None),
        link("br0", 6, Kind::Bridge),
        // A second network's pods may be on a bridge that has the node's address.
        port(of_pod("lan"), 7, Some(6)),
        link("docker0", 8, Kind::Bridge),
    ];
    let bridge = "br-pods".parse().expect("name");
    assert_eq!(own_devices(links.iter(), &bridge), BTreeSet::from([3, 4, 5]));
    let renamed = Link { master: Some(6), ..links[3].clone() };
    assert_eq!(own_devices([links[4].clone(), renamed].iter(), &bridge), BTreeSet::from([5, 6]));
}
