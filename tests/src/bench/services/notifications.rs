//! The kernel's notifications of changes to nftables, searched for the address of an endpoint: whichever layout a proxy has, the address is
//! in the notification that brings the endpoint.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// `NFNLGRP_NFTABLES` as a bit.
const NFTABLES: u32 = 1 << 6;
/// kube-proxy's first transaction has some hundred thousand notifications.
const BUFFER: usize = 1 << 30;

/// The notifications of one namespace.
#[derive(Debug)]
pub(super) struct Notifications {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Every change from here on is received.
    pub(super) fn open(namespace: &Namespace) -> Outcome<Self> {
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkNetFilter))?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, NFTABLES))?;
            Ok(socket)
        };
        let socket = namespace.within(open)?.context("open a socket for notifications")?;
        Ok(Self { socket, buffer: vec![0; 1 << 16] })
    }

    /// Drops what was received so far.
    pub(super) fn drain(&mut self) -> Outcome {
        while self.receive()?.is_some() {}
        Ok(())
    }

    /// Waits until all of the addresses have been named, and gives the time of the last.
    pub(super) fn await_all(&mut self, addresses: &[Ipv4Addr], within: Duration) -> Outcome<Instant> {
        let end = Instant::now() + within;
        let mut missing = addresses.to_vec();
        loop {
            while let Some(datagram) = self.receive()? {
                let now = Instant::now();
                missing.retain(|address| !names(datagram, *address));
                if missing.is_empty() {
                    return Ok(now);
                }
            }
            crate::ensure!(self.wait(end)?, "endpoints that never came into the kernel: {missing:?}");
        }
    }

    /// Waits until nothing has come for so long, and gives the time of the last.
    pub(super) fn await_silence(&mut self, silence: Duration) -> Outcome<Instant> {
        let mut last = Instant::now();
        while self.wait(Instant::now() + silence)? {
            while self.receive()?.is_some() {
                last = Instant::now();
            }
        }
        Ok(last)
    }

    /// False where the time is over.
    fn wait(&self, end: Instant) -> Outcome<bool> {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut sockets, left).context("wait for notifications")? > 0)
    }

    fn receive(&mut self) -> Outcome<Option<&[u8]>> {
        match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => crate::fail!("notifications were lost, nothing can be measured: {errno}"),
        }
    }
}

/// True where the address is in the bytes, as in an element, or in a name, as kube-proxy calls an endpoint's chain.
fn names(bytes: &[u8], address: Ipv4Addr) -> bool {
    let has = |needle: &[u8]| {
        let first = needle[0];
        let places = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
        places.map(|(place, _)| &bytes[place..]).any(|rest| rest.starts_with(needle))
    };
    has(&address.octets()) || has(format!("__{address}/").as_bytes())
}
