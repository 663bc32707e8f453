//! Netlink messages as this kernel writes them, recorded from a namespace with a bit of everything in it.

use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

const HEADER: usize = 16;
/// `NLM_F_REQUEST | NLM_F_DUMP` (`linux/netlink.h`).
const DUMP: u16 = 0x301;
/// `RTM_GETLINK`, `RTM_GETADDR`, `RTM_GETROUTE`, `RTM_GETNEIGH`, each with the family asked for (7 is `AF_BRIDGE`).
const ROUTE: [(u16, u8); 6] = [(18, 0), (22, 0), (26, 2), (26, 10), (30, 0), (30, 7)];
/// `NFT_MSG_GETTABLE`, `GETCHAIN`, `GETRULE`, `GETSET` (`linux/netfilter/nf_tables.h`), of the subsystem 10.
const NFTABLES: [(u16, u8); 4] = [(0x0a01, 1), (0x0a04, 1), (0x0a07, 1), (0x0a0a, 1)];

const SCENE: &str = "ip link add br0 type bridge
    ip link add v0 type veth peer name v1
    ip link set v0 master br0 up
    ip address add 10.9.0.1/24 dev br0
    ip address add fd00:9::1/64 dev br0 nodad
    ip link set br0 up
    ip link add vx0 type vxlan id 9 dstport 8472 local 10.9.0.1 nolearning
    ip link set vx0 up
    bridge fdb append 02:00:00:00:00:09 dev vx0 dst 10.9.0.9
    ip neigh add 10.9.9.9 lladdr 02:00:00:00:00:09 nud permanent dev vx0
    ip route add 10.99.0.0/24 via 10.9.9.9 dev vx0 onlink
    ip route add 10.98.0.0/24 nexthop via 10.9.0.2 nexthop via 10.9.0.3
    nft add table inet t
    nft add chain inet t c '{ type nat hook postrouting priority 100; }'
    nft add set inet t s '{ typeof ip saddr; flags interval; elements = { 10.0.0.0/8 }; }'
    nft add map inet t m '{ type ipv4_addr . inet_service : verdict; }'
    nft add rule inet t c meta mark and 0x4000 == 0x4000 ip saddr @s counter masquerade fully-random comment hello";

/// rtnetlink's messages: links, addresses, routes, neighbours, FDB.
///
/// # Errors
/// Where the kernel refuses the scene or the question.
pub fn rtnetlink() -> Outcome<Vec<Vec<u8>>> {
    record(SockProtocol::NetlinkRoute, &ROUTE, 24)
}

/// nftables' messages: tables, chains, rules, sets.
///
/// # Errors
/// Where the kernel refuses the scene or the question.
pub fn nftables() -> Outcome<Vec<Vec<u8>>> {
    record(SockProtocol::NetlinkNetFilter, &NFTABLES, 4)
}

/// Asks each question, with a body of so many bytes that starts with the family, and gives the answers' messages.
fn record(protocol: SockProtocol, questions: &[(u16, u8)], body: usize) -> Outcome<Vec<Vec<u8>>> {
    let namespace = Namespace::new("recorded")?;
    namespace.shell(SCENE)?;
    let ask = || -> nix::Result<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        for (kind, family) in questions {
            let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
            let question = question(*kind, *family, body);
            sendto(socket.as_raw_fd(), &question, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
            while !collect(&socket, &mut messages)? {}
        }
        Ok(messages)
    };
    namespace.within(ask)?.context("record netlink messages")
}

fn question(kind: u16, family: u8, body: usize) -> Vec<u8> {
    // Every body is shorter than 2^32 bytes by far.
    let length = u32::try_from(HEADER + body).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.push(family);
    bytes.resize(HEADER + body, 0);
    bytes
}

/// Adds one datagram's messages; true once the dump is over.
fn collect(socket: &impl AsRawFd, messages: &mut Vec<Vec<u8>>) -> nix::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let mut rest = &buffer[..length];
    while let Some((head, _)) = rest.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let message = &rest[..length.clamp(HEADER, rest.len())];
        messages.push(message.to_vec());
        // NLMSG_ERROR or NLMSG_DONE
        if kind == 2 || kind == 3 {
            return Ok(true);
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(false)
}
