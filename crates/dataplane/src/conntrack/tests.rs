//! On the real kernel: flows over the loopback device of a namespace that tracks connections.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::netns::scratch;
use crate::nft::{self, Chain, ChainType, Hook, Operation, Rule, Statement, Table, protocol, state};

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Runs `body` in a namespace where connections are tracked, since a rule asks for their state.
fn tracked<T: Send>(body: impl FnOnce(&mut Conntrack) -> T + Send) -> T {
    let run = || {
        let up =
            std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip: install iproute2");
        assert!(up.success(), "the loopback device is up");
        let more = "address add fd00::2/128 dev lo nodad".split(' ');
        let added = std::process::Command::new("ip").args(more).status().expect("ip: install iproute2");
        assert!(added.success(), "a second address of IPv6");
        let rule = Rule::new([Statement::connection_in(state::NEW), Statement::Counter]);
        let chain = Chain::base(ChainType::Filter, Hook::Output, 0).with_rules([rule]);
        let table = Table::new(nft::TableFamily::Inet, "tracks").with_chain("output", chain);
        nft::Socket::open().expect("a socket").apply(&[Operation::ReplaceTable(table)]).expect("a table");
        body(&mut Conntrack::open().expect("a socket for connection tracking"))
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`")
}

/// Sends a datagram, of which nobody answers; a flow of it is there when this is done.
fn send(from: &str, to: &str) {
    let sender = UdpSocket::bind(from).expect("a free port");
    sender.send_to(b"x", to).expect("a datagram on its way");
}

fn protocol_of(family: Family) -> Selector {
    Selector::Protocol { family, protocol: protocol::UDP }
}

fn ends(conntrack: &mut Conntrack, family: Family) -> BTreeSet<(SocketAddr, SocketAddr)> {
    let flows = conntrack.dump(&protocol_of(family)).expect("flows");
    flows.iter().map(|flow| (flow.original.source, flow.original.destination)).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeSet<(SocketAddr, SocketAddr)> {
    pairs.iter().map(|(from, to)| (socket(from), socket(to))).collect()
}

/// Listeners, so that no port is unreachable: that would end a flow at once.
fn listeners(all: &[&str]) -> Vec<UdpSocket> {
    all.iter().map(|address| UdpSocket::bind(address).expect("a free port")).collect()
}

#[test]
fn flows_are_listed_and_deleted_by_destination_and_by_port() {
    type Delete = fn(&mut Conntrack, &Selector) -> Result<(), KernelError>;
    // As a kernel without filters needs it as well.
    let ways: [(&str, Delete); 2] = [("in one message", Conntrack::delete), ("one by one", Conntrack::delete_each)];
    for (way, delete) in ways {
        tracked(|conntrack| {
            let _held =
                listeners(&["127.0.0.1:53", "127.0.0.1:54", "127.0.0.2:53", "[::1]:53", "[::1]:54", "[fd00::2]:53"]);
            for to in ["127.0.0.1:53", "127.0.0.1:54", "127.0.0.2:53"] {
                send("127.0.0.1:4000", to);
            }
            send("127.0.0.1:4001", "127.0.0.1:53");
            send("[::1]:4000", "[::1]:53");
            send("[::1]:4000", "[::1]:54");
            let all = pairs(&[
                ("127.0.0.1:4000", "127.0.0.1:53"),
                ("127.0.0.1:4000", "127.0.0.1:54"),
                ("127.0.0.1:4000", "127.0.0.2:53"),
                ("127.0.0.1:4001", "127.0.0.1:53"),
            ]);
            assert_eq!(ends(conntrack, Family::V4), all, "each flow of the family is listed");
            let to = Selector::Destination { to: socket("127.0.0.1:53"), protocol: protocol::UDP };
            assert_eq!(conntrack.dump(&to).expect("flows").len(), 2, "the kernel lists what is selected");
            delete(conntrack, &to).expect("a deletion");
            let left = pairs(&[("127.0.0.1:4000", "127.0.0.1:54"), ("127.0.0.1:4000", "127.0.0.2:53")]);
            assert_eq!(ends(conntrack, Family::V4), left, "{way}, other ports and addresses stay");
            delete(conntrack, &to).expect("nothing to delete is no error");
            let port = |family, port| Selector::Port { family, protocol: protocol::UDP, port };
            delete(conntrack, &port(Family::V4, 53)).expect("a deletion");
            assert_eq!(ends(conntrack, Family::V4), pairs(&[("127.0.0.1:4000", "127.0.0.1:54")]), "{way}, by port");
            let both = pairs(&[("[::1]:4000", "[::1]:53"), ("[::1]:4000", "[::1]:54")]);
            assert_eq!(ends(conntrack, Family::V6), both, "{way}, the other family stays");
            delete(conntrack, &port(Family::V6, 54)).expect("a deletion");
            assert_eq!(ends(conntrack, Family::V6), pairs(&[("[::1]:4000", "[::1]:53")]), "{way}, by port of IPv6");
            let to = Selector::Destination { to: socket("[::1]:53"), protocol: protocol::TCP };
            delete(conntrack, &to).expect("a deletion");
            assert_eq!(ends(conntrack, Family::V6).len(), 1, "{way}, another protocol is none of ours");
            send("[::1]:4000", "[fd00::2]:53");
            let to = Selector::Destination { to: socket("[::1]:53"), protocol: protocol::UDP };
            assert_eq!(conntrack.dump(&to).expect("flows").len(), 1, "one of two addresses of IPv6");
            delete(conntrack, &to).expect("a deletion");
            let left = pairs(&[("[::1]:4000", "[fd00::2]:53")]);
            assert_eq!(ends(conntrack, Family::V6), left, "{way}, the other address of IPv6 stays");
        });
    }
}

#[test]
fn one_flow_is_deleted_and_no_other() {
    tracked(|conntrack| {
        let _held = listeners(&["127.0.0.1:53"]);
        send("127.0.0.1:4000", "127.0.0.1:53");
        send("127.0.0.1:4001", "127.0.0.1:53");
        let flows = conntrack.dump(&protocol_of(Family::V4)).expect("flows");
        let flow = flows.iter().find(|flow| flow.original.source.port() == 4000).expect("the flow");
        assert_eq!((flow.reply.source, flow.reply.destination), (flow.original.destination, flow.original.source));
        assert_eq!((flow.zone, flow.original.protocol), (0, protocol::UDP), "what else is read");
        assert!(flow.status & 8 != 0, "a packet that has left makes a flow confirmed: {flow:?}");
        assert!(conntrack.delete_flow(flow).expect("a deletion"), "the flow was there");
        assert!(!conntrack.delete_flow(flow).expect("an answer"), "and is gone");
        send("127.0.0.1:4000", "127.0.0.1:53");
        let left = pairs(&[("127.0.0.1:4000", "127.0.0.1:53"), ("127.0.0.1:4001", "127.0.0.1:53")]);
        assert_eq!(ends(conntrack, Family::V4), left, "the client sends again");
    });
}
