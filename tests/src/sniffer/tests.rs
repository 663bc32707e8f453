//! Frames made by hand, read back.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::{PacketPath, read};

fn inner() -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 244, 1, 2], [10, 244, 2, 2], 64)
        .tcp(1000, 80, 1, 64)
        .write(&mut frame, b"hello")
        .expect("a frame is written to memory");
    frame
}

fn over_udp(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([6; 6], [8; 6])
        .ipv6([0xfd; 16], [0xfe; 16], 64)
        .udp(5000, 8472)
        .write(&mut frame, payload)
        .expect("a frame is written to memory");
    frame
}

#[test]
fn a_packet_by_itself_is_plain() {
    let packet = read(&inner()).expect("an IPv4 packet");
    assert_eq!(packet.path, PacketPath::Plain);
    assert_eq!(packet.source, IpAddr::from([10, 244, 1, 2]));
    assert_eq!((packet.protocol, packet.bytes), (6, 45));
}

#[test]
fn a_packet_in_vxlan_is_told_with_the_ends_of_its_tunnel() {
    let mut payload = vec![0x08, 0, 0, 0, 0x00, 0x10, 0x01, 0];
    payload.extend(inner());
    let packet = read(&over_udp(&payload)).expect("a packet in a tunnel");
    let path = PacketPath::Tunnel { from: [0xfd; 16].into(), to: [0xfe; 16].into(), port: 8472, vni: 0x1001 };
    assert_eq!(packet.path, path);
    assert_eq!(packet.destination, IpAddr::from([10, 244, 2, 2]));
    assert_eq!((packet.protocol, packet.bytes), (6, 45));
}

#[test]
fn other_udp_is_plain() {
    for payload in [&b""[..], b"\x08", b"\x08\0\0\0\0\0\x01\0", b"what a nice day it is, in a text of some length"] {
        let packet = read(&over_udp(payload)).expect("an IPv6 packet");
        assert_eq!((packet.path, packet.protocol), (PacketPath::Plain, 17), "payload {payload:?}");
    }
}
