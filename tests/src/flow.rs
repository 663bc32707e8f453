//! Traffic as an assertion: ping, TCP and UDP from one namespace to another, and who the receiver saw.

mod conversation;

pub use conversation::Conversation;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

#[cfg(test)]
mod tests;

/// How long a packet may take. The first to a new neighbour may have to be asked for twice, a second apart.
const TIMEOUT: Duration = seconds(4);

const WORDS: &[u8] = b"is anybody there?";

/// Sends one echo request and waits for its reply.
///
/// # Errors
/// Where no reply comes.
pub fn ping(from: &Namespace, to: IpAddr) -> Outcome {
    from.run(&format!("ping -n -q -c 1 -W {} {to}", TIMEOUT.as_secs())).map(drop)
}

/// Sends one echo request of so many bytes of IP packet, not to be fragmented, and waits for its reply.
///
/// # Errors
/// Where no reply comes or the packet is too big for a link on the way.
pub fn ping_of(from: &Namespace, to: IpAddr, bytes: u32) -> Outcome {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    from.run(&format!("ping -n -q -c 1 -W {} -M do -s {} {to}", TIMEOUT.as_secs(), bytes - headers)).map(drop)
}

/// Sends one echo request of so many bytes, which must not fit into the way.
///
/// # Errors
/// Where it is sent all the same.
pub fn too_big(from: &Namespace, to: IpAddr, bytes: u32) -> Outcome {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let mut command = Command::new("ping");
    command.args(["-n", "-c", "1", "-W", "0.2", "-M", "do", "-s"]);
    let output = from.output(command.args([(bytes - headers).to_string(), to.to_string()]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    crate::ensure!(said.contains("too long"), "a packet of {bytes} bytes was sent to {to}: {said}");
    Ok(())
}

/// A text there and back over TCP. Gives the address that the server saw the client come from.
///
/// # Errors
/// Where it does not arrive, either way.
pub fn tcp(client: &Namespace, server: &Namespace, address: IpAddr) -> Outcome<IpAddr> {
    exchange("TCP", client, server, address, tcp_server, tcp_client)
}

/// A text there and back over UDP. Gives the address that the server saw the client come from.
///
/// # Errors
/// Where it does not arrive, either way.
pub fn udp(client: &Namespace, server: &Namespace, address: IpAddr) -> Outcome<IpAddr> {
    exchange("UDP", client, server, address, udp_server, udp_client)
}

/// Ping, TCP and UDP to `address` in `to`; the receiver must see `source`, so that no NAT was on the way.
///
/// # Errors
/// At the first that does not hold.
pub fn all(from: &Namespace, source: IpAddr, to: &Namespace, address: IpAddr) -> Outcome {
    ping(from, address)?;
    for (name, seen) in [("TCP", tcp(from, to, address)?), ("UDP", udp(from, to, address)?)] {
        crate::ensure!(seen == source, "{name} from {source} to {address} arrived from {seen}: it was translated");
    }
    Ok(())
}

type Server = fn(SocketAddr, &Sender<u16>) -> std::io::Result<IpAddr>;
type Client = fn(SocketAddr) -> std::io::Result<()>;

fn exchange(
    name: &str,
    client: &Namespace,
    server: &Namespace,
    address: IpAddr,
    serve: Server,
    call: Client,
) -> Outcome<IpAddr> {
    let (sender, port) = channel();
    thread::scope(|scope| {
        let listener = scope.spawn(|| {
            // Moved in, so that a server that fails closes the channel.
            let sender = sender;
            server.within(|| serve(SocketAddr::new(address, 0), &sender))
        });
        let called = match port.recv() {
            Ok(port) => client.within(|| call(SocketAddr::new(address, port)))?,
            Err(_) => Ok(()),
        };
        let answered = listener.join().ok().context(format!("the {name} server broke"))??;
        called.context(format!("{name} to {address}: the client"))?;
        answered.context(format!("{name} to {address}: the server"))
    })
}

fn tcp_server(address: SocketAddr, sender: &Sender<u16>) -> std::io::Result<IpAddr> {
    let listener = TcpListener::bind(address)?;
    // Linux lets `accept` end by the receive timeout too.
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::seconds(TIMEOUT.as_secs().cast_signed()))?;
    send_port(sender, listener.local_addr()?);
    let (mut stream, peer) = listener.accept()?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut received = [0; WORDS.len()];
    stream.read_exact(&mut received)?;
    stream.write_all(&received)?;
    Ok(peer.ip())
}

fn tcp_client(server: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(WORDS)?;
    stream.read_exact(&mut [0; WORDS.len()])
}

fn udp_server(address: SocketAddr, sender: &Sender<u16>) -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    send_port(sender, socket.local_addr()?);
    let mut received = [0; WORDS.len()];
    let (length, peer) = again(|| socket.recv_from(&mut received))?;
    socket.send_to(&received[..length], peer)?;
    Ok(peer.ip())
}

fn udp_client(server: SocketAddr) -> std::io::Result<()> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(server)?;
    socket.send(WORDS)?;
    again(|| socket.recv(&mut [0; WORDS.len()])).map(drop)
}

/// Repeats a call that was interrupted: one with a timeout is never restarted by the kernel, even where no handler ran (signal(7)).
fn again<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn send_port(sender: &Sender<u16>, bound: SocketAddr) {
    // The other end waits for exactly this; it can only be gone where the test is over.
    let _ = sender.send(bound.port());
}

/// Echo requests in a steady stream, to sender whether any was lost meanwhile, and when.
#[derive(Debug)]
pub struct Stream {
    child: Child,
    said: File,
}

/// What became of a [`Stream`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Requests without a reply, but for the very last, which may still be under way.
    pub lost: u32,
    /// What was said of late or missing replies, with the time in seconds since 1970.
    pub missing: Vec<String>,
}

impl Stream {
    /// Starts a request every 10 ms.
    ///
    /// # Errors
    /// Where `ping` cannot be started.
    pub fn start(from: &Namespace, to: IpAddr) -> Outcome<Self> {
        let said = tempfile::tempfile().context("make a file for what ping says")?;
        let mut command = Command::new("ping");
        command.args(["-n", "-O", "-D", "-i", "0.01", &to.to_string()]);
        // To a file: nobody reads while it runs, and a pipe would fill.
        let file = || said.try_clone().context("share a file with ping");
        command.stdin(Stdio::null()).stdout(file()?).stderr(file()?);
        Ok(Self { child: from.spawn(&mut command)?, said })
    }

    /// Ends it and counts.
    ///
    /// # Errors
    /// Where `ping` printed no summary.
    pub fn stop(mut self) -> Outcome<Count> {
        // It prints nothing before it has a handler, and a signal before that ends it without a summary.
        let has_ended = eventually(seconds(60), "ping prints something", || {
            let has_ended = self.child.try_wait().context("look at ping")?.is_some();
            let has_printed = self.said.metadata().context("look at what ping prints")?.len() > 0;
            crate::ensure!(has_printed || has_ended, "nothing yet");
            Ok(has_ended)
        })?;
        if !has_ended {
            let process = Pid::from_raw(i32::try_from(self.child.id()).context("name a process")?);
            kill(process, Signal::SIGINT).context("end ping")?;
        }
        self.child.wait().context("wait for ping")?;
        let mut text = String::new();
        self.said.rewind().context("read what ping said")?;
        self.said.read_to_string(&mut text).context("read what ping said")?;
        count(&text).context(format!("no summary in what ping printed: {text}"))
    }

    /// Ends it, and fails where a reply is missing.
    ///
    /// # Errors
    /// With the count where packets were lost.
    pub fn nothing_lost(self) -> Outcome {
        let count = self.stop()?;
        crate::ensure!(count.received > 0, "no reply at all to {} requests", count.sent);
        let lost = count.lost;
        let ends = count.missing.first().into_iter().chain(count.missing.last());
        let ends: Vec<&str> = ends.map(String::as_str).collect();
        crate::ensure!(lost == 0, "{lost} of {} packets were lost: {}", count.sent, ends.join(" to "));
        Ok(())
    }
}

fn count(text: &str) -> Option<Count> {
    let line = text.lines().find(|line| line.contains("packets transmitted"))?;
    let mut numbers = line.split(", ").map(|part| part.split(' ').next().unwrap_or_default().parse());
    let (sent, received) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let missing = text.lines().filter(|line| line.contains("no answer yet")).map(str::to_owned).collect();
    // By number: a missing reply in the middle is a loss, whatever became of the last.
    let replies = text.lines().filter(|line| line.contains("bytes from"));
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<u32>().ok();
    let answered: BTreeSet<u32> = replies.filter_map(number).collect();
    let lost = (1..sent).filter(|number| !answered.contains(number)).count();
    Some(Count { sent, received, lost: u32::try_from(lost).ok()?, missing })
}
