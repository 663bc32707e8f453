//! Probes of other machines: an echo request of an exact size that must not be fragmented, and a datagram to a closed port.
//!
//! The other side's kernel answers by itself, so nothing has to run there. What an answer means is the caller's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockopt, recv, sendto,
    setsockopt, socket, sockopt,
};

use crate::types::Family;

mod option;
mod packet;

use packet::{LEAST_BYTES, Token};

/// One echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Echo {
    /// The destination.
    pub to: IpAddr,
    /// The source address; `None` for the kernel's choice.
    pub from: Option<IpAddr>,
    /// Bytes of the whole IP packet.
    pub bytes: u32,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// It was answered.
    Answered,
    /// Nothing came in time.
    Silent,
    /// This machine's own device does not take a packet of that size.
    TooBig,
    /// It could not be sent, with the kernel's error number.
    NotSent(i32),
}

/// So many are sent before answers are looked at, so that neither they nor the answers pile up.
const AT_ONCE: usize = 64;
/// Answers of thousands of machines may arrive together.
const RECEIVE_BYTES: usize = 8 << 20;
/// A port that nothing listens on: the first of `traceroute(8)`, for the same reason.
const CLOSED_PORT: u16 = 33434;

/// Sends all the requests and waits until each is answered, at the longest for `within`. A reply for each, in their order.
///
/// # Errors
/// Where the process may open no such socket: it needs `CAP_NET_RAW`.
pub fn echoes(requests: &[Echo], within: Duration) -> io::Result<Vec<Reply>> {
    let token = Token(RandomState::new().build_hasher().finish().to_be_bytes());
    let mut round = Round { token, replies: vec![Reply::Silent; requests.len()], open: 0 };
    let mut sockets: BTreeMap<(Family, Option<IpAddr>), EchoSocket> = BTreeMap::new();
    let deadline = Instant::now() + within;
    for (place, request) in requests.iter().enumerate() {
        let key = (Family::of(request.to), request.from);
        let socket = match sockets.entry(key) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => match EchoSocket::open(key.0, key.1) {
                Ok(socket) => vacant.insert(socket),
                // The source address does not exist.
                Err(Errno::EADDRNOTAVAIL) => {
                    round.replies[place] = Reply::NotSent(libc::EADDRNOTAVAIL);
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            },
        };
        round.send(socket, place, request);
        if place % AT_ONCE == AT_ONCE - 1 {
            round.receive(sockets.values());
        }
    }
    while round.open > 0 && await_any(sockets.values().map(|socket| socket.fd.as_fd()), deadline)? {
        round.receive(sockets.values());
    }
    Ok(round.replies)
}

/// Waits until one of the sockets has something; false once it is too late.
fn await_any<'f>(sockets: impl Iterator<Item = BorrowedFd<'f>>, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let mut polled: Vec<_> = sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let left = left + Duration::from_millis(1); // a timeout of less than a millisecond would be none
    match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

struct Round {
    token: Token,
    replies: Vec<Reply>,
    /// How many answers are still to come.
    open: usize,
}

impl Round {
    fn send(&mut self, socket: &EchoSocket, place: usize, request: &Echo) {
        let headers = if socket.family == Family::V4 { 20 } else { 40 };
        let bytes = request.bytes.saturating_sub(headers).max(LEAST_BYTES);
        let packet = self.token.request(socket.family, place, bytes as usize);
        let to = SockaddrStorage::from(SocketAddr::new(request.to, 0));
        match sendto(socket.fd.as_raw_fd(), &packet, &to, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => self.open += 1,
            Err(Errno::EMSGSIZE) => self.replies[place] = Reply::TooBig,
            // The queue is full: as good as lost on the way.
            Err(Errno::EAGAIN | Errno::ENOBUFS) => {}
            Err(errno) => self.replies[place] = Reply::NotSent(errno as i32),
        }
    }

    /// Takes the answers that are there.
    fn receive<'s>(&mut self, sockets: impl Iterator<Item = &'s EchoSocket>) {
        // The head is enough; the kernel cuts the rest off.
        let mut head = [0; 128];
        for socket in sockets {
            loop {
                match recv(socket.fd.as_raw_fd(), &mut head, MsgFlags::MSG_DONTWAIT) {
                    Ok(length) => {
                        let message = socket.message(&head[..length.min(head.len())]);
                        let place = message.and_then(|message| self.token.answer(socket.family, message));
                        if let Some(reply @ Reply::Silent) = place.and_then(|place| self.replies.get_mut(place)) {
                            *reply = Reply::Answered;
                            self.open -= 1;
                        }
                    }
                    Err(Errno::EAGAIN) => break,
                    // An error of an earlier packet, reported once.
                    Err(_) => {}
                }
            }
        }
    }
}

struct EchoSocket {
    family: Family,
    fd: OwnedFd,
    raw: bool,
}

impl EchoSocket {
    /// A raw socket, else one of those that `net.ipv4.ping_group_range` permits.
    fn open(family: Family, from: Option<IpAddr>) -> Result<Self, Errno> {
        let (domain, protocol) = match family {
            Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
            Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let open = |kind| socket(domain, kind, SockFlag::SOCK_CLOEXEC, protocol);
        let (fd, raw) = match open(SockType::Raw) {
            Ok(fd) => (fd, true),
            Err(refused) => (open(SockType::Datagram).map_err(|_| refused)?, false),
        };
        // Not to be fragmented, and whatever was learnt of the path before does not count.
        match family {
            Family::V4 => setsockopt(&fd, option::MtuDiscover, &libc::IP_PMTUDISC_PROBE)?,
            Family::V6 => {
                setsockopt(&fd, option::Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_PROBE)?;
                setsockopt(&fd, sockopt::Ipv6DontFrag, &true)?;
            }
        }
        // Without the capability the default stays.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BYTES);
        if let Some(from) = from {
            bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
        }
        Ok(Self { family, fd, raw })
    }

    /// What follows the IP header, which only raw IPv4 sockets give.
    fn message<'m>(&self, packet: &'m [u8]) -> Option<&'m [u8]> {
        if !self.raw || self.family == Family::V6 {
            return Some(packet);
        }
        packet.get(usize::from(packet.first()? & 0x0f) * 4..)
    }
}

/// The largest IP packet that the kernel takes the path to `to` to carry: what it has learnt, else the device's MTU.
///
/// # Errors
/// Where there is no route, or no such source address.
pub fn path_mtu(to: IpAddr, from: Option<IpAddr>) -> io::Result<u32> {
    let socket = datagram_socket(to, from)?;
    let mtu = match Family::of(to) {
        Family::V4 => getsockopt(&socket, sockopt::IpMtu)?,
        Family::V6 => getsockopt(&socket, option::Ipv6Mtu)?,
    };
    u32::try_from(mtu).map_err(io::Error::other)
}

/// A socket connected to a port of `to` that nothing listens on.
fn datagram_socket(to: IpAddr, from: Option<IpAddr>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(from.unwrap_or(Family::of(to).unspecified()), 0))?;
    socket.connect(SocketAddr::new(to, CLOSED_PORT))?;
    Ok(socket)
}

/// Whether a datagram has a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// As always: made by the device, where it offers that.
    Present,
    /// None, which IPv4 permits.
    Absent,
}

/// Sends a datagram to a closed port of each machine, and gives those that refused it: the other kernel refuses a datagram
/// that arrives whole.
///
/// # Errors
/// Where a socket cannot be waited for. One that cannot be sent counts as not refused.
pub fn refusals(to: &[(Option<IpAddr>, IpAddr)], checksum: Checksum, within: Duration) -> io::Result<Vec<bool>> {
    let deadline = Instant::now() + within;
    let asked = to.iter().map(|(from, to)| ask(*to, *from, checksum).ok());
    let mut sockets: Vec<Option<UdpSocket>> = asked.collect();
    let mut refused = vec![false; sockets.len()];
    loop {
        for (place, slot) in sockets.iter_mut().enumerate() {
            let Some(socket) = slot else { continue };
            match socket.recv(&mut [0; 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    refused[place] = true;
                    *slot = None;
                }
                // Somebody does listen there, or another error: no more to learn.
                _ => *slot = None,
            }
        }
        let open = sockets.iter().flatten();
        if open.clone().next().is_none() || !await_any(open.map(AsFd::as_fd), deadline)? {
            return Ok(refused);
        }
    }
}

fn ask(to: IpAddr, from: Option<IpAddr>, checksum: Checksum) -> io::Result<UdpSocket> {
    let socket = datagram_socket(to, from)?;
    if checksum == Checksum::Absent {
        setsockopt(&socket, option::NoCheck, &true)?;
    }
    socket.set_nonblocking(true)?;
    socket.send(b"is anybody there?")?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
