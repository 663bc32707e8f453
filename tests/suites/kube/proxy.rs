//! What stands between a node and its API server, and answers in its place when a test wants it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use netd_tests::{Context, Namespace, Outcome};

/// A proxy at a node's own `127.0.0.1:8001`. It ends with this.
pub(crate) struct Proxy {
    namespace: Namespace,
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    faults: Mutex<Vec<Fault>>,
    held: Mutex<Held>,
    released: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

/// The requests whose answers are held back.
#[derive(Default)]
struct Held {
    /// The beginning of their first line.
    request: Option<&'static str>,
    /// How many answers of the API server wait.
    answers: usize,
}

/// What some requests get for an answer.
struct Fault {
    /// The beginning of the request's first line, such as `GET /api/v1/nodes`.
    request: &'static str,
    answer: &'static str,
    /// How many are answered so.
    left: usize,
    answered: usize,
}

pub(crate) const URL: &str = "--kube-api-url=http://127.0.0.1:8001";

impl Proxy {
    /// Between the node with this namespace and the API server behind a socket.
    pub(crate) fn start(namespace: &Namespace, socket: &Path) -> Outcome<Self> {
        let listener = namespace.within(|| TcpListener::bind("127.0.0.1:8001"))?.context("listen as a proxy")?;
        let rules: Arc<Rules> = Arc::default();
        let (shared, socket) = (Arc::clone(&rules), socket.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let (rules, socket) = (Arc::clone(&shared), socket.clone());
                rules.connections.lock().unwrap_or_else(PoisonError::into_inner).extend(stream.try_clone());
                // A connection that breaks is the client's to notice.
                thread::spawn(move || {
                    let _ = serve(&stream, &rules, &socket);
                    // A clone of it is held for `cut`.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Ok(Self { namespace: namespace.again(), rules })
    }

    /// From now on so many of these requests get this answer: a status line, headers, an empty line, a body.
    pub(crate) fn answer(&self, request: &'static str, answer: &'static str, times: usize) {
        let fault = Fault { request, answer, left: times, answered: 0 };
        self.rules.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// From now on the API server gets these requests, and its answers are held back.
    pub(crate) fn hold(&self, request: &'static str) {
        self.rules.held().request = Some(request);
    }

    /// How many answers are held back.
    pub(crate) fn held(&self) -> usize {
        self.rules.held().answers
    }

    /// Passes on what is held back.
    pub(crate) fn release(&self) {
        self.rules.held().request = None;
        self.rules.released.notify_all();
    }

    /// Ends all connections that there are.
    pub(crate) fn cut(&self) {
        for connection in self.rules.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// How many requests were answered so.
    pub(crate) fn answered(&self) -> usize {
        let faults = self.rules.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().map(|fault| fault.answered).sum()
    }

    /// From now on the API server answers.
    pub(crate) fn let_pass(&self) {
        self.rules.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Rules {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, head: &str) -> bool {
        self.held().request.is_some_and(|request| head.starts_with(request))
    }

    /// An answer has come. Returns once it may be passed on.
    fn await_release(&self) {
        let mut held = self.held();
        held.answers += 1;
        held = self.released.wait_while(held, |held| held.request.is_some()).unwrap_or_else(PoisonError::into_inner);
        held.answers -= 1;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.rules.over.store(true, Ordering::Relaxed);
        self.release();
        // So that it sees that.
        let _ = self.namespace.within(|| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 8001))));
    }
}

/// One request, and its answer until that ends.
fn serve(mut client: &TcpStream, rules: &Rules, socket: &PathBuf) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body)?;
    let answer = {
        let mut faults = rules.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = faults.iter_mut().find(|fault| fault.left > 0 && head.starts_with(fault.request));
        fault.map(|fault| {
            fault.left = fault.left.saturating_sub(1);
            fault.answered += 1;
            fault.answer
        })
    };
    if let Some(answer) = answer {
        return client.write_all(answer.as_bytes());
    }
    let is_held = rules.holds(&head);
    let mut server = UnixStream::connect(socket)?;
    // One request for each connection: then the answer ends where the stream does.
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes())?;
    server.write_all(&body)?;
    if is_held {
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        rules.await_release();
        return client.write_all(&answer);
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match server.read(&mut buffer)? {
            0 => return Ok(()),
            read => client.write_all(&buffer[..read])?,
        }
    }
}
