//! Packets as bytes, and questions that a machine asks itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::packet::Token;
use super::{Checksum, Echo, Reply, echoes, path_mtu, refusals};
use crate::link::{self, Device};
use crate::netlink::RouteSocket;
use crate::netns;
use crate::types::Family;

const TOKEN: Token = Token(*b"01234567");
const SOON: Duration = Duration::from_millis(500);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn an_ipv4_request_has_a_right_checksum() {
    let packet = TOKEN.request(Family::V4, 3, 21);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0))).sum();
    assert_eq!((packet.len(), packet[0], sum % 0xffff), (21, 8, 0), "length, type and ones' complement sum");
}

#[test]
fn an_answer_is_known_by_its_token() {
    for (family, kind) in [(Family::V4, 0), (Family::V6, 129)] {
        let mut packet = TOKEN.request(family, 70_000, 64);
        assert_eq!(TOKEN.answer(family, &packet), None, "a request is no answer");
        packet[0] = kind;
        assert_eq!(TOKEN.answer(family, &packet), Some(70_000), "the number of the request");
        assert_eq!(Token(*b"76543210").answer(family, &packet), None, "an answer to somebody else");
        assert_eq!(TOKEN.answer(family, &packet[..19]), None, "a cut-off answer");
    }
}

/// Runs in a namespace with nothing but loopback.
fn alone<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    netns::scratch(|| {
        let mut socket = RouteSocket::open().expect("a netlink socket");
        let lo = "lo".parse().expect("a name");
        let up = link::LinkChange { up: Some(true), ..Default::default() };
        socket.request(link::set(Device::Name(&lo), &up)).expect("loopback up");
        body()
    })
    .expect("a namespace: run as root or in `unshare -Urnm`")
}

#[test]
fn a_machine_answers_itself() {
    alone(|| {
        let ask = |to, from, bytes| Echo { to, from, bytes };
        let requests = [
            ask(V4, None, 40),
            ask(V6, Some(V6), 1280),
            ask(V4, Some(Ipv4Addr::new(192, 0, 2, 1).into()), 40),
            ask(Ipv4Addr::new(192, 0, 2, 7).into(), None, 40),
        ];
        let replies = echoes(&requests, SOON).expect("sockets");
        let not_sent = |errno| Reply::NotSent(errno);
        let expected =
            [Reply::Answered, Reply::Answered, not_sent(nix::libc::EADDRNOTAVAIL), not_sent(nix::libc::ENETUNREACH)];
        assert_eq!(replies, expected, "both answered, no such source, no route");
    });
}

#[test]
fn a_closed_port_refuses() {
    alone(|| {
        let all = [(None, V4), (None, V6)];
        assert_eq!(refusals(&all, Checksum::Present, SOON).expect("sockets"), [true, true], "with a checksum");
        assert_eq!(refusals(&all[..1], Checksum::Absent, SOON).expect("sockets"), [true], "without one");
        assert_eq!(path_mtu(V4, None).expect("a route"), 65535, "loopback's MTU");
    });
}
