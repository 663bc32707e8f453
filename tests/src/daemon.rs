//! A running netd: what it says, when it is ready, and its end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline::seconds;
use crate::failure::{Failure, Outcome, Told};
use crate::namespace::Namespace;

/// How long a daemon may take to start or to end. Far more than it needs, for machines under load.
const PATIENCE: Duration = seconds(20);

#[derive(Debug, Default)]
struct Heard {
    log: String,
    ready: bool,
    /// Output streams that have not ended yet.
    open: usize,
}

/// What the daemon's streams and its readiness socket said so far, and the news that there is more.
#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Condvar,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard());
        self.news.notify_all();
    }

    /// Waits until `enough`, or gives what there is as a failure.
    fn wait(&self, what: &str, within: Duration, enough: impl Fn(&Heard) -> bool) -> Outcome {
        let guard = self.heard();
        let (heard, _) = self
            .news
            .wait_timeout_while(guard, within, |heard| !enough(heard) && heard.open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if enough(&heard) {
            return Ok(());
        }
        let reason = if heard.open == 0 { "it ended" } else { "time is over" };
        Err(Failure::new(format!("{what}: {reason}")).with("its log", &heard.log))
    }
}

/// A netd in a node's namespace. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    ear: Arc<Ear>,
}

impl Daemon {
    pub(crate) fn launch(namespace: &Namespace, mut command: Command, name: &str, disk: &Path) -> Outcome<Self> {
        let socket = disk.join("notify");
        // A socket of an earlier run of the same node.
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).told("make the readiness socket")?;
        command.env("NOTIFY_SOCKET", &socket).env("NO_COLOR", "1");
        let told = command.get_envs().any(|(name, _)| name == "RUST_LOG");
        if !told && std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info,netd=debug");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.spawn(&mut command)?;
        let ear = Arc::new(Ear::default());
        ear.note(|heard| heard.open = 2);
        if let Some(stream) = child.stdout.take() {
            listen(stream, Arc::clone(&ear));
        }
        if let Some(stream) = child.stderr.take() {
            listen(stream, Arc::clone(&ear));
        }
        await_notification(notify, Arc::clone(&ear));
        Ok(Self { name: name.to_owned(), child, ear })
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
        self.ear.wait(&format!("netd on {} is not ready", self.name), PATIENCE, |heard| heard.ready)
    }

    /// Waits until its log holds `text`.
    ///
    /// # Errors
    /// Where it ended or did not say it in time.
    pub fn await_log(&self, text: &str, within: Duration) -> Outcome {
        let what = format!("netd on {} did not say {text:?}", self.name);
        self.ear.wait(&what, within, |heard| heard.log.contains(text))
    }

    /// What it printed so far, both streams.
    pub fn log(&self) -> String {
        self.ear.heard().log.clone()
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
        self.ear.wait(&format!("netd on {} does not end", self.name), PATIENCE, |heard| heard.open == 0)?;
        self.child.wait().told("wait for netd")
    }

    /// Its process, as this process names it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) -> Outcome {
        let pid = i32::try_from(self.child.id()).told("name a process")?;
        kill(Pid::from_raw(pid), signal).told(format!("send {signal} to netd on {}", self.name))
    }
}

fn listen(stream: impl Read + Send + 'static, ear: Arc<Ear>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            ear.note(|heard| {
                heard.log.push_str(&String::from_utf8_lossy(&line));
                heard.log.push('\n');
            });
        }
        ear.note(|heard| heard.open -= 1);
    });
}

/// Ends with the first `READY=1`; where that never comes, with the suite.
fn await_notification(socket: UnixDatagram, ear: Arc<Ear>) {
    thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return ear.note(|heard| heard.ready = true);
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
