//! Clients and servers: each server answers with its own address and the client's as it sees it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netd_tests::{Context, Failure, Namespace, Outcome, fail, seconds};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long an answer may take that comes at last.
pub(crate) const PATIENT: Duration = seconds(10);
/// How long to wait for an answer that must not come.
pub(crate) const BRIEF: Duration = seconds(1);

/// The protocols that the kernel has sockets of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A server's words.
    From {
        /// In which namespace it is.
        place: String,
        /// Its own address.
        server: SocketAddr,
        /// The client's address, as the server sees it.
        client: IpAddr,
    },
    /// A refusal: ICMP's "port unreachable", or a reset.
    Refused,
    /// Nothing.
    Silence,
}

/// Sends one request from an address and waits for the answer. To be called in the client's namespace.
pub(crate) fn ask(from: IpAddr, to: SocketAddr, protocol: Protocol, patience: Duration) -> Outcome<Answer> {
    let what = || format!("{from} asks {to} over {protocol:?}");
    match exchange(from, to, protocol, patience) {
        Ok(words) => read(&words).context(what()),
        Err(Errno::ECONNREFUSED) => Ok(Answer::Refused),
        Err(Errno::EINPROGRESS | Errno::EAGAIN | Errno::ETIMEDOUT) => Ok(Answer::Silence),
        Err(errno) => Err(Failure::new(format!("{}: {errno}", what()))),
    }
}

fn exchange(from: IpAddr, to: SocketAddr, protocol: Protocol, patience: Duration) -> nix::Result<String> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
    let client = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
    // The send timeout bounds `connect` too.
    setsockopt(&client, sockopt::SendTimeout, &patience)?;
    setsockopt(&client, sockopt::ReceiveTimeout, &patience)?;
    bind(client.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    connect(client.as_raw_fd(), &SockaddrStorage::from(to))?;
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    match protocol {
        Protocol::Tcp => {
            let mut words = String::new();
            TcpStream::from(client).read_to_string(&mut words).map_err(errno)?;
            Ok(words)
        }
        Protocol::Udp => {
            let client = UdpSocket::from(client);
            client.send(b"?").map_err(errno)?;
            let mut words = [0; 200];
            let length = client.recv(&mut words).map_err(errno)?;
            Ok(String::from_utf8_lossy(&words[..length]).into_owned())
        }
    }
}

/// What a server has answered.
pub(crate) fn read(words: &str) -> Outcome<Answer> {
    let mut parts = words.split(' ');
    let mut next = || parts.next().unwrap_or_default();
    let place = next().to_owned();
    let server = next().parse().context(format!("read {words:?}"))?;
    let client = next().parse().context(format!("read {words:?}"))?;
    Ok(Answer::From { place, server, client })
}

/// Servers of many addresses in several namespaces, on one thread. They end with it.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Closed to end the thread.
    end: Option<std::os::unix::net::UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// A socket that waits for clients.
enum Server {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Server {
    fn open(address: SocketAddr, protocol: Protocol) -> std::io::Result<Self> {
        match protocol {
            Protocol::Tcp => TcpListener::bind(address).map(Self::Tcp),
            Protocol::Udp => UdpSocket::bind(address).map(Self::Udp),
        }
    }

    fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }

    fn answer(&self, place: &str, address: SocketAddr) -> std::io::Result<()> {
        let words = |client: SocketAddr| format!("{place} {address} {}", client.ip());
        match self {
            Self::Tcp(listener) => {
                let (mut stream, client) = listener.accept()?;
                stream.write_all(words(client).as_bytes())
            }
            Self::Udp(socket) => {
                let (_, client) = socket.recv_from(&mut [0; 16])?;
                socket.send_to(words(client).as_bytes(), client).map(drop)
            }
        }
    }
}

impl Servers {
    /// Serves each address in the namespace that it is named with.
    pub(crate) fn start(wanted: &[(&Namespace, &str, SocketAddr, Protocol)]) -> Outcome<Self> {
        let mut servers = Vec::new();
        for (namespace, place, address, protocol) in wanted {
            let server = namespace.within(|| Server::open(*address, *protocol))?;
            servers.push(((*place).to_owned(), *address, server.context(format!("serve {address} in {place}"))?));
        }
        let (end, ended) = std::os::unix::net::UnixStream::pair().context("make a pipe")?;
        let ended = OwnedFd::from(ended);
        let thread = thread::spawn(move || serve(&servers, &ended));
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

fn serve(servers: &[(String, SocketAddr, Server)], ended: &OwnedFd) {
    let descriptors = servers.iter().map(|(_, _, server)| server.descriptor()).chain([ended.as_fd()]);
    let mut polled: Vec<PollFd<'_>> =
        descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)).collect();
    while poll(&mut polled, PollTimeout::NONE) != Err(Errno::EBADF) {
        let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
        if polled.last().is_none_or(is_ready) {
            return;
        }
        for ((place, address, server), _) in servers.iter().zip(&polled).filter(|(_, polled)| is_ready(polled)) {
            // A client that is gone already has its own complaint.
            let _ = server.answer(place, *address);
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The endpoint that answers, and what it says of the client.
pub(crate) fn answered(answer: Answer) -> Outcome<(String, SocketAddr, IpAddr)> {
    match answer {
        Answer::From { place, server, client } => Ok((place, server, client)),
        other => fail!("{other:?} in place of an answer"),
    }
}
