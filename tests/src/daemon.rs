//! A running netd: what it says, when it is ready, and its end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::deadline::seconds;
use crate::failure::{Context, Failure, Outcome};
use crate::namespace::Namespace;
use crate::signals;

/// How long a daemon may take to start or to end. Far more than it needs, for machines under load.
const TIMEOUT: Duration = seconds(20);

#[derive(Debug, Default)]
struct Captured {
    log: String,
    ready: bool,
    /// Output streams that have not ended yet.
    open: usize,
}

/// What the daemon's streams and its readiness socket said so far, and the changed that there is more.
#[derive(Debug, Default)]
struct Capture {
    received: Mutex<Captured>,
    changed: Condvar,
}

impl Capture {
    fn received(&self) -> MutexGuard<'_, Captured> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Captured)) {
        change(&mut self.received());
        self.changed.notify_all();
    }

    /// Waits until `enough`, or gives what there is as a failure.
    fn wait(&self, what: &str, within: Duration, enough: impl Fn(&Captured) -> bool) -> Outcome {
        let guard = self.received();
        let (received, _) = self
            .changed
            .wait_timeout_while(guard, within, |received| !enough(received) && received.open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if enough(&received) {
            return Ok(());
        }
        let reason = if received.open == 0 { "it ended" } else { "time is over" };
        Err(Failure::new(format!("{what}: {reason}")).with("its log", &received.log))
    }
}

/// A netd in a node's namespace. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    capture: Arc<Capture>,
}

impl Daemon {
    /// Starts a program in a namespace; its readiness socket is in `disk`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn launch(namespace: &Namespace, mut command: Command, name: &str, disk: &Path) -> Outcome<Self> {
        let socket = disk.join("notify");
        // A socket of an earlier run of the same node.
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).context("make the readiness socket")?;
        command.env("NOTIFY_SOCKET", &socket).env("NO_COLOR", "1");
        let has_level = command.get_envs().any(|(name, _)| name == "RUST_LOG");
        if !has_level && std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info,netd=debug");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.spawn(&mut command)?;
        let capture = Arc::new(Capture::default());
        capture.note(|received| received.open = 2);
        if let Some(stream) = child.stdout.take() {
            listen(stream, Arc::clone(&capture));
        }
        if let Some(stream) = child.stderr.take() {
            listen(stream, Arc::clone(&capture));
        }
        await_notification(notify, Arc::clone(&capture));
        Ok(Self { name: name.to_owned(), child, capture })
    }

    /// Its number.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its `READY=1`.
    ///
    /// # Errors
    /// Where it ended or said nothing in time.
    pub fn await_ready(&self) -> Outcome {
        self.capture.wait(&format!("netd on {} is not ready", self.name), TIMEOUT, |received| received.ready)
    }

    /// Waits until its log holds `text`.
    ///
    /// # Errors
    /// Where it ended or did not say it in time.
    pub fn await_log(&self, text: &str, within: Duration) -> Outcome {
        let what = format!("netd on {} did not say {text:?}", self.name);
        self.capture.wait(&what, within, |received| received.log.contains(text))
    }

    /// What it printed so far, both streams.
    pub fn log(&self) -> String {
        self.capture.received().log.clone()
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn terminate(mut self) -> Outcome<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.await_end()
    }

    /// Ends it as a crash would (SIGKILL).
    ///
    /// # Errors
    /// Where it is gone already.
    pub fn crash(mut self) -> Outcome<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.await_end()
    }

    /// Waits until it ends by itself, and gives its exit status.
    ///
    /// # Errors
    /// Where it goes on.
    pub fn await_end(&mut self) -> Outcome<ExitStatus> {
        self.capture.wait(&format!("netd on {} does not end", self.name), TIMEOUT, |received| received.open == 0)?;
        self.child.wait().context("wait for netd")
    }

    /// Its process, as this process names it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops its process (SIGSTOP), and returns when it stands still. It goes on with [`Daemon::go_on`].
    ///
    /// # Errors
    /// Where it is gone.
    pub fn stand_still(&self) -> Outcome {
        signals::stand_still(&self.child).context(format!("stop netd on {}", self.name))
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn go_on(&self) -> Outcome {
        self.signal(Signal::SIGCONT)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) -> Outcome {
        signals::send(&self.child, signal).context(format!("netd on {}", self.name))
    }
}

fn listen(stream: impl Read + Send + 'static, capture: Arc<Capture>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            capture.note(|received| {
                received.log.push_str(&String::from_utf8_lossy(&line));
                received.log.push('\n');
            });
        }
        capture.note(|received| received.open -= 1);
    });
}

/// Ends with the first `READY=1`; where that never comes, with the suite.
fn await_notification(socket: UnixDatagram, capture: Arc<Capture>) {
    thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return capture.note(|received| received.ready = true);
            }
        }
    });
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; then both say so, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
