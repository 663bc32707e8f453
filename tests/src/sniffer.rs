//! What passes on the wire, and which way it took: plain, or inside a tunnel between which ends.
//!
//! A sniffer has no thread: the kernel queues frames from its creation on, and asking reads the queue. So
//! nothing between making it and asking can be missed for want of time.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};

use crate::failure::{Context, Failure, Outcome};
use crate::namespace::Namespace;

#[cfg(test)]
mod tests;

/// A frame that a host is about to send (`PACKET_OUTGOING` in `linux/if_packet.h`). It was seen coming in already.
const OUTGOING: u8 = 4;

/// How a packet travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketPath {
    /// As it is.
    Plain,
    /// Inside VXLAN (RFC 7348).
    Tunnel {
        /// The sending end.
        from: IpAddr,
        /// The receiving end.
        to: IpAddr,
        /// The UDP port sent to.
        port: u16,
        /// The network identifier.
        vni: u32,
    },
}

impl fmt::Display for PacketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketPath::Plain => f.write_str("plain"),
            PacketPath::Tunnel { from, to, port, vni } => write!(f, "tunnel {from} > {to} port {port} vni {vni}"),
        }
    }
}

/// An IP packet that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The sender.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// What is inside: 1 ICMP, 6 TCP, 17 UDP, 58 `ICMPv6` (IANA protocol numbers).
    pub protocol: u8,
    /// The whole length of the packet in bytes, without the link's header.
    pub bytes: usize,
    /// How it travelled.
    pub path: PacketPath,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} protocol {}, {}", self.source, self.destination, self.protocol, self.path)
    }
}

/// Reads the frames of every link of a namespace, from its creation on.
#[derive(Debug)]
pub struct Sniffer {
    socket: OwnedFd,
}

impl Sniffer {
    /// Starts to listen in `namespace`.
    ///
    /// # Errors
    /// Where the kernel gives no packet socket.
    pub fn start(namespace: &Namespace) -> Outcome<Self> {
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            setsockopt(&socket, sockopt::RcvBuf, &(8 << 20))?;
            Ok(socket)
        };
        let socket = namespace.within(open)?.context("open a packet socket")?;
        Ok(Self { socket })
    }

    /// Forgets all that passed so far.
    pub fn forget(&self) {
        while self.frame().is_some() {}
    }

    /// All IP packets that passed since the last question.
    pub fn seen(&self) -> Vec<Packet> {
        std::iter::from_fn(|| self.frame()).filter_map(|frame| read(&frame)).collect()
    }

    /// The way of the next packet from `source` to `destination`.
    ///
    /// # Errors
    /// Where none passes in time; with what passed instead.
    pub fn path_of(&self, source: IpAddr, destination: IpAddr) -> Outcome<PacketPath> {
        let what = format!("a packet from {source} to {destination}");
        self.find(&what, |packet| packet.source == source && packet.destination == destination).map(|found| found.path)
    }

    /// The next packet for which `wanted` holds.
    ///
    /// # Errors
    /// Where none passes in time; with what passed instead.
    pub fn find(&self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Outcome<Packet> {
        let end = Instant::now() + Duration::from_secs(3);
        let mut others = Vec::new();
        loop {
            if let Some(frame) = self.frame() {
                match read(&frame) {
                    Some(packet) if wanted(&packet) => return Ok(packet),
                    other => others.extend(other.map(|packet| packet.to_string())),
                }
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                others.dedup();
                return Err(Failure::new(format!("{what} did not pass")).with("what passed", &others.join("\n")));
            }
            self.await_more(left)?;
        }
    }

    fn await_more(&self, left: Duration) -> Outcome {
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("wait for a frame"),
        }
    }

    /// The next frame of the queue; empty for one that is only leaving again and was read when it came in.
    fn frame(&self) -> Option<Vec<u8>> {
        // The largest IP packet, since offloading joins segments, and the headers around it.
        let mut frame = vec![0; 66_000];
        let (length, from) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame).ok()?;
        let again = from.is_some_and(|link| link.pkttype() == OUTGOING);
        frame.truncate(if again { 0 } else { length });
        Some(frame)
    }
}

/// Reads an Ethernet frame, through one tunnel where there is one.
fn read(frame: &[u8]) -> Option<Packet> {
    let parsed = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let outer = plain(&parsed)?;
    Some(tunnelled(&parsed, &outer).unwrap_or(outer))
}

fn plain(parsed: &LaxSlicedPacket<'_>) -> Option<Packet> {
    let (source, destination, payload, header): (IpAddr, IpAddr, _, _) = match parsed.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload(), header.slice().len())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload(), header.slice().len())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let bytes = header + payload.payload.len();
    Some(Packet { source, destination, protocol: payload.ip_number.0, bytes, path: PacketPath::Plain })
}

/// VXLAN is recognised by its form, not by its port, which is a setting: eight octets with the I flag (and perhaps G, of
/// the group policy extension), a VNI and zeros, and then an Ethernet frame with an IP packet in it.
fn tunnelled(parsed: &LaxSlicedPacket<'_>, outer: &Packet) -> Option<Packet> {
    let Some(TransportSlice::Udp(udp)) = &parsed.transport else {
        return None;
    };
    let (header, frame) = udp.payload().split_at_checked(8)?;
    if !matches!(header[0], 0x08 | 0x88) || header[7] != 0 {
        return None;
    }
    let inner = plain(&LaxSlicedPacket::from_ethernet(frame).ok()?)?;
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    let path = PacketPath::Tunnel { from: outer.source, to: outer.destination, port: udp.destination_port(), vni };
    Some(Packet { path, ..inner })
}
