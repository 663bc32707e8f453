//! Answers `netd services` and `netd-proxy services`: one JSON document a line.
//!
//! The socket has a name in the network namespace, and no file: one proxy works in a network namespace, so the name keeps a second one
//! away, and nothing is left of a process that was killed. Any local process could connect, so that only root and the proxy's own user get
//! an answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use listener::accept_all;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, socket, sockopt};
use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// The socket's name.
const NAME: &str = "netd-proxy";
/// The request for one document.
pub(super) const ONCE: &str = "services";
/// The request for one document now and one after each change.
pub(super) const WATCH: &str = "watch";
/// Clients at a time; the oldest makes room for one more.
const CLIENTS: usize = 16;
/// How long a client may take to send its line, and to read a document.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The length limit of a request.
const REQUEST_BYTES: u64 = 64;
/// The shortest time between two documents for one client: each is made anew.
const PACE: Duration = Duration::from_millis(200);

/// A question to the proxy, which answers with the document.
pub type Question = oneshot::Sender<String>;

/// Opens the socket. `None` where a process of another user has its name: then nobody can ask.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] where a proxy of root's or of this user's answers already.
pub fn open() -> io::Result<Option<UnixListener>> {
    match UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?) {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            Ok(Some(listener))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match connect() {
            Ok(Some(_)) => Err(error),
            _ => Ok(None),
        },
        Err(error) => Err(error),
    }
}

/// Connects to the proxy in this network namespace. `None` where none runs. A listener of anybody's that accepts nobody is an error
/// ([`io::ErrorKind::WouldBlock`]), not a wait.
pub(super) fn connect() -> io::Result<Option<UnixStream>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new_abstract(NAME.as_bytes())?) {
        Ok(()) => {
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(false)?;
            Ok(is_trusted(&stream).then_some(stream))
        }
        Err(Errno::ECONNREFUSED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// True where a proxy runs in the network namespace of the calling thread.
pub fn is_running() -> bool {
    connect().is_ok_and(|stream| stream.is_some())
}

/// True where root or the own user is at the other end.
fn is_trusted(stream: &impl AsFd) -> bool {
    let user = getsockopt(stream, sockopt::PeerCredentials).map(|credentials| credentials.uid());
    user.is_ok_and(|user| user == 0 || user == geteuid().as_raw())
}

/// Answers until the future is dropped, within a tokio runtime. `changes` changes with what is listed.
pub async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>, changes: watch::Receiver<u64>) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    let answer = |stream| {
        let (questions, changes) = (questions.clone(), changes.clone());
        // A client that goes away needs no answer.
        async move { drop(answer(stream, &questions, changes).await) }
    };
    accept_all(|| listener.accept(), CLIENTS, answer).await;
}

async fn answer(
    stream: tokio::net::UnixStream,
    questions: &mpsc::Sender<Question>,
    mut changes: watch::Receiver<u64>,
) -> io::Result<()> {
    if !is_trusted(&stream) {
        return Ok(());
    }
    let (reader, mut writer) = stream.into_split();
    let mut request = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES));
    timeout(TIMEOUT, reader.read_line(&mut request)).await??;
    let is_watch = request.trim() == WATCH;
    let mut reader = reader.into_inner().into_inner();
    loop {
        changes.borrow_and_update();
        let (question, document) = oneshot::channel();
        let (Ok(()), Ok(document)) = (questions.send(question).await, document.await) else { return Ok(()) };
        timeout(TIMEOUT, writer.write_all((document + "\n").as_bytes())).await??;
        if !is_watch {
            return Ok(());
        }
        sleep(PACE).await;
        // A client that goes away must not keep its place until the next change.
        let mut rest = [0];
        tokio::select! {
            next = changes.changed() => if next.is_err() { return Ok(()) },
            gone = reader.read(&mut rest) => return gone.map(drop),
        }
    }
}
