//! A second router of a machine, on a NIC of its own, that announces itself and a prefix over IPv6 (RFC 4861).

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt, socket, sockopt,
};
use serde_json::Value;

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// What lies behind it, by the default route that the machine has learnt.
pub const BEHIND: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);

/// RFC 4861, section 4.2: a router for 1800 s, and a prefix for addresses that machines make themselves.
const ADVERTISEMENT: [u8; 48] = [
    134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0,
    0, // type, code, checksum, hop limit, flags, lifetime, two timers
    3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0,
    0, // prefix: 64 bits, on-link and autonomous, two lifetimes
    0x20, 1, 0x0d, 0xb8, 0, 0x66, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 2001:db8:66::
];

/// The router. Its namespace goes with it, and the NIC with that.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
}

impl Router {
    /// Gives `machine` a NIC with a router behind it, and waits until the machine has its default route from an announcement.
    ///
    /// # Errors
    /// Where the machine takes none.
    pub fn plug(machine: &Namespace, nic: &str) -> Outcome<Self> {
        let namespace = Namespace::new("uplink")?;
        namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        namespace.ip(&format!(
            "link add eth0 type veth peer name {nic} netns {}\naddress add 2001:db8:66::1/64 dev eth0 nodad
             address add {BEHIND}/128 dev lo nodad\nlink set eth0 up",
            machine.name()
        ))?;
        machine.ip(&format!("link set {nic} up"))?;
        let router = Self { namespace };
        eventually(seconds(10), &format!("{nic} learns its router"), || {
            router.announce(machine, nic)?;
            let learnt = machine.run(&format!("ip -6 route show default dev {nic} proto ra"))?;
            crate::ensure!(learnt.contains("default"), "it has no default route");
            machine.run(&format!("ping -n -q -c 1 -W 1 {BEHIND}")).map(drop)
        })?;
        Ok(router)
    }

    /// Announces itself once more.
    ///
    /// # Errors
    /// Where the NIC has no address yet.
    pub fn announce(&self, machine: &Namespace, nic: &str) -> Outcome {
        let to = link_local(machine, nic)?;
        let (own, index) = (link_local(&self.namespace, "eth0")?, index(&self.namespace)?);
        let send = || -> nix::Result<()> {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
            // Only one from the link itself is believed.
            setsockopt(&socket, sockopt::Ipv6Ttl, &255)?;
            let from = SockaddrIn6::from(SocketAddrV6::new(own, 0, 0, index));
            nix::sys::socket::bind(socket.as_raw_fd(), &from)?;
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, index));
            sendto(socket.as_raw_fd(), &ADVERTISEMENT, &to, MsgFlags::empty()).map(drop)
        };
        self.namespace.within(send)?.context("announce a router")
    }
}

fn index(namespace: &Namespace) -> Outcome<u32> {
    let links = namespace.json("ip -j link show dev eth0")?;
    let index = links.first().and_then(|link| link["ifindex"].as_u64());
    index.and_then(|index| index.try_into().ok()).context("eth0 has no number")
}

fn link_local(namespace: &Namespace, nic: &str) -> Outcome<Ipv6Addr> {
    let links = namespace.json(&format!("ip -j -6 address show dev {nic} scope link"))?;
    let entries = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
    let usable = |entry: &&Value| entry["tentative"] != true;
    let address = entries.filter(usable).find_map(|entry| entry["local"].as_str()?.parse().ok());
    address.context(format!("{nic} has no address of the link yet"))
}
