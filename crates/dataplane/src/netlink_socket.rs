//! A netlink socket of any protocol: how it is opened, and how bytes are sent and received.

use std::io;

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkBuffer};
use nix::libc::{EAGAIN, EINTR, ENOBUFS, MSG_DONTWAIT};
use nix::sys::socket::{setsockopt, sockopt};

use crate::netlink_message::{Refusal, messages, parse_answer};

/// The kernel's largest dump message is 32 KiB; an error answer repeats at most a request.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Room for a burst of about 30,000 notifications, or for an answer to each message of a large batch; the default holds 256.
const BUFFER_BYTES: usize = 8 << 20;

/// The socket itself failed. Whether a request was done is not known.
#[derive(Debug, thiserror::Error)]
#[error("netlink socket: cannot {action}")]
pub struct SocketError {
    /// What was tried.
    pub action: &'static str,
    /// The system's error.
    pub source: io::Error,
}

/// What was received.
#[derive(Debug)]
pub(crate) enum Received<'s> {
    /// A datagram of messages.
    Some(&'s [u8]),
    /// Datagrams were dropped, since the buffer was full (`ENOBUFS`).
    Lost,
    /// No datagram waits.
    Nothing,
}

/// A socket of the network namespace of the thread that opened it, for its whole life.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    pub(crate) inner: netlink_sys::Socket,
    /// Its port: notifications of changes that it made hold it.
    pub(crate) port: u32,
    received: Vec<u8>,
}

fn fault(action: &'static str) -> impl Fn(io::Error) -> SocketError {
    move |source| SocketError { action, source }
}

impl NetlinkSocket {
    /// A socket for requests, with the kernel's own sentences in refusals.
    pub(crate) fn request(protocol: isize) -> Result<Self, SocketError> {
        let socket = Self::open(protocol)?;
        socket.inner.set_ext_ack(true).map_err(fault("ask for extended ACKs"))?;
        socket.inner.set_cap_ack(true).map_err(fault("ask for short ACKs"))?;
        Ok(socket)
    }

    /// A socket that receives these multicast groups from now on. It never blocks.
    pub(crate) fn multicast(protocol: isize, groups: impl IntoIterator<Item = u32>) -> Result<Self, SocketError> {
        let socket = Self::open(protocol)?;
        socket.inner.set_non_blocking(true).map_err(fault("make non-blocking"))?;
        for group in groups {
            socket.inner.add_membership(group).map_err(fault("join a multicast group of"))?;
        }
        Ok(socket)
    }

    fn open(protocol: isize) -> Result<Self, SocketError> {
        let mut inner = netlink_sys::Socket::new(protocol).map_err(fault("open"))?;
        let port = inner.bind_auto().map_err(fault("bind"))?.port_number();
        // Beyond the system's limit where permitted. In a smaller buffer, dumps start over more often and bursts end in
        // `Received::Lost`; nothing else changes.
        if setsockopt(&inner, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            let _ = setsockopt(&inner, sockopt::RcvBuf, &BUFFER_BYTES);
        }
        Ok(Self { inner, port, received: Vec::with_capacity(RECEIVE_BYTES) })
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), SocketError> {
        self.inner.send(bytes, 0).map(drop).map_err(fault("send"))
    }

    /// A datagram; `flags` are 0 to wait for it, where the socket is for requests, or `MSG_DONTWAIT`.
    pub(crate) fn receive(&mut self, flags: i32) -> Result<Received<'_>, SocketError> {
        loop {
            self.received.clear();
            match self.inner.recv(&mut self.received, flags) {
                Ok(_) => return Ok(Received::Some(&self.received)),
                Err(error) => match error.raw_os_error() {
                    Some(ENOBUFS) => return Ok(Received::Lost),
                    Some(EAGAIN) => return Ok(Received::Nothing),
                    Some(EINTR) => {}
                    _ => return Err(fault("receive from")(error)),
                },
            }
        }
    }

    /// Calls `visit` for each message that answers the request of this number. It reads to the end also where the list is known to be
    /// inconsistent, since the kernel begins no second dump before. Gives true where the list changed during the dump or lacks a part,
    /// and the refusal where the kernel refused the request.
    pub(crate) fn answers<E: From<SocketError>>(
        &mut self,
        sequence: u32,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<bool, Refusal>, E> {
        let (mut spoilt, mut flags) = (false, 0);
        loop {
            let datagram = match self.receive(flags)? {
                Received::Some(datagram) => datagram,
                Received::Lost => {
                    // The end may be what was lost. The kernel answers while it is asked, so that nothing more is to be waited for.
                    (spoilt, flags) = (true, MSG_DONTWAIT);
                    continue;
                }
                Received::Nothing => {
                    return Err(fault("receive every answer")(io::Error::from_raw_os_error(ENOBUFS)).into());
                }
            };
            for message in messages(datagram) {
                let header = NetlinkBuffer::new(message);
                if header.sequence_number() != sequence {
                    continue;
                }
                spoilt |= header.flags() & NLM_F_DUMP_INTR != 0;
                match parse_answer(message) {
                    Some(answer) => return Ok(answer.map(|()| spoilt)),
                    None => visit(message)?,
                }
            }
        }
    }
}
