use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::*;
use crate::kernel::{Kernel, Linux};
use crate::link::{Kind, Link, Tunnel, Vxlan};
use crate::netns;
use crate::op::Op;
use crate::types::{Mtu, Vni};

fn ours() -> Ipip {
    Ipip { local: Some(Ipv4Addr::new(192, 168, 1, 1)), remote: None, underlay: None, foreign: false }
}

fn mtu() -> Mtu {
    Mtu::try_from(1480).expect("an MTU")
}

/// A message as the kernel would get and send it: bytes and back.
fn over_the_wire(message: LinkMessage) -> Link {
    let message = RouteNetlinkMessage::NewLink(message);
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut header = NetlinkHeader::default();
    header.message_type = message.message_type();
    let read = RouteNetlinkMessage::deserialize(&header, &bytes).expect("a message");
    Link::from_message(&read).expect("a link")
}

/// A device as the kernel reports one (`ipip_fill_info`).
fn reported(kind: InfoKind, data: Vec<InfoIpTunnel>) -> Link {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName("flannel.ipip".to_owned()));
    message.attributes.push(LinkAttribute::Address(vec![192, 168, 1, 1]));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(InfoData::IpTunnel(data))]));
    over_the_wire(message)
}

fn usual() -> Vec<InfoIpTunnel> {
    vec![
        InfoIpTunnel::Link(0),
        InfoIpTunnel::Local(Ipv4Addr::new(192, 168, 1, 1).into()),
        InfoIpTunnel::Remote(Ipv4Addr::UNSPECIFIED.into()),
        InfoIpTunnel::Ttl(0),
        InfoIpTunnel::Tos(0),
        InfoIpTunnel::Protocol(IpProtocol::Ipip),
        InfoIpTunnel::PMtuDisc(false),
        InfoIpTunnel::EncapType(TunnelEncapType::None),
    ]
}

#[test]
fn what_is_asked_for_reads_back_after_its_way_over_the_wire() {
    for ipip in [ours(), Ipip { remote: Some(Ipv4Addr::new(10, 0, 0, 2)), underlay: Some(7), ..ours() }] {
        let link = reported(InfoKind::IpIp, ipip.data());
        assert_eq!(link.kind, Kind::Tunnel(Tunnel::Ipip(ipip)));
    }
}

#[test]
fn flannels_device_is_one_of_ours_and_tunl0_is_not() {
    assert_eq!(reported(InfoKind::IpIp, usual()).kind, Kind::Tunnel(Tunnel::Ipip(ours())));
    assert_eq!(reported(InfoKind::IpIp, usual()).mac, None, "four octets are no hardware address");
    let tunl0 = usual().into_iter().filter(|info| !matches!(info, InfoIpTunnel::Local(_))).collect();
    let tunl0 = reported(InfoKind::IpIp, tunl0);
    assert_eq!(tunl0.kind, Kind::Tunnel(Tunnel::Ipip(Ipip { local: None, ..ours() })));
    let Some(tunnel) = tunl0.tunnel() else { panic!("it is a tunnel") };
    assert!(!tunnel.excludes(&Tunnel::Ipip(ours())) && tunnel.is_like(&Tunnel::Ipip(ours())), "both can be there");
    for other in [
        InfoIpTunnel::Ttl(64),
        InfoIpTunnel::PMtuDisc(true),
        InfoIpTunnel::Protocol(IpProtocol::Mpls),
        InfoIpTunnel::EncapType(TunnelEncapType::Fou),
        InfoIpTunnel::CollectMetadata,
    ] {
        let link = reported(InfoKind::IpIp, [usual(), vec![other]].concat());
        assert_eq!(link.kind, Kind::Tunnel(Tunnel::Ipip(Ipip { foreign: true, ..ours() })));
    }
    assert_eq!(reported(InfoKind::SitTun, usual()).kind, Kind::Other("sit".to_owned()), "sit is another kind");
}

#[test]
fn it_prints_as_a_line_for_a_shell() {
    let (name, underlay) = ("flannel.ipip".parse().expect("a name"), "eth0".parse().expect("a name"));
    let op = Op::AddTunnel { name, tunnel: Tunnel::Ipip(ours()), underlay, mac: None, mtu: mtu() };
    let line = "ip link add flannel.ipip mtu 1480 up type ipip local 192.168.1.1 ttl inherit nopmtudisc";
    assert_eq!((op.to_string().as_str(), op.kind()), (line, "add_ipip"));
}

/// Whatever this kernel has: the answer is the one that making a device gives, and nothing is made.
#[test]
fn the_kernel_says_whether_it_has_such_devices() {
    netns::scratch(|| {
        let mut kernel = Linux::open().expect("sockets");
        let before = kernel.links().expect("links").len();
        let tunnel = Tunnel::Ipip(ours());
        let has = kernel.has_kind(&tunnel).expect("an answer");
        let vxlan = Tunnel::Vxlan(Vxlan {
            vni: Vni::ONE,
            local: None,
            underlay: None,
            port: 8472,
            learning: false,
            gbp: false,
            foreign: false,
        });
        assert!(kernel.has_kind(&vxlan).expect("an answer"), "every kernel of the suites has VXLAN");
        let after: Vec<_> =
            kernel.links().expect("links").into_iter().filter(|link| link.name.as_str() != "tunl0").collect();
        assert!(after.len() <= before, "nothing is made: {after:?}");
        let (name, underlay) = ("flannel.ipip".parse().expect("a name"), "lo".parse().expect("a name"));
        let made = kernel.apply(&[Op::AddTunnel { name, tunnel, underlay, mac: None, mtu: mtu() }]);
        assert_eq!(made.iter().all(Result::is_ok), has, "{made:?}");
    })
    .expect("a namespace");
}
