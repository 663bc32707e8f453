//! A network namespace of a test: commands and sockets in it, and gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use dataplane::netns;
use serde_json::Value;

use crate::failure::{Context, Failure, Outcome};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One network namespace, named `nt-<process>-<number>-<label>`.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
    /// `None` for one that was here before the test, which is not removed.
    name: Option<String>,
}

/// The namespace in which the suite itself runs; no node or pod lives there.
pub fn own() -> Namespace {
    Namespace { path: PathBuf::from("/proc/self/ns/net"), name: None }
}

impl Namespace {
    /// Makes a namespace with `lo` up and IPv6 without duplicate address detection, which would only cost seconds.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn new(label: &str) -> Outcome<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nt-{}-{number}-{label}", std::process::id());
        let path = netns::create(&name).context("make a namespace")?;
        let made = Self { path, name: Some(name) };
        made.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// One that somebody else made and takes away.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), name: None }
    }

    /// The same namespace for somebody else, who does not take it away.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { path: self.path.clone(), name: None }
    }

    /// The file that stands for it, as `CNI_NETNS` names it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name for `ip netns`; empty for the suite's own.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Runs `body` on a thread inside.
    ///
    /// # Errors
    /// Where the namespace is gone.
    pub fn within<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Outcome<T> {
        netns::within(&self.path, body).context("enter a namespace")
    }

    /// Starts `command` inside.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Outcome<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.within(|| command.spawn())?.context(format!("start {program}"))
    }

    /// Runs `command` inside to its end, whatever its exit code.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn output(&self, command: &mut Command) -> Outcome<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(command)?.wait_with_output().context("wait for a command")
    }

    /// Runs a command line, split at white space, and gives what it printed.
    ///
    /// # Errors
    /// Where it cannot be started or ends with anything but 0.
    pub fn run(&self, line: &str) -> Outcome<String> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        let output = self.output(command.args(words))?;
        printed(line, &output)
    }

    /// Runs a text as `sh -e` does.
    ///
    /// # Errors
    /// Where one of its commands fails.
    pub fn shell(&self, script: &str) -> Outcome<String> {
        let output = self.output(Command::new("sh").args(["-e", "-c", script]))?;
        printed(script, &output)
    }

    /// Runs several lines of `ip`, without the word `ip`, in one process.
    ///
    /// # Errors
    /// At the first line that fails.
    pub fn ip(&self, lines: &str) -> Outcome {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        if let Some(mut input) = child.stdin.take() {
            std::io::Write::write_all(&mut input, format!("{}\n", lines.trim()).as_bytes()).context("speak to ip")?;
        }
        let output = child.wait_with_output().context("wait for ip")?;
        printed(&format!("ip -batch in {}:\n{lines}", self.name()), &output).map(drop)
    }

    /// Runs a command line that prints a JSON list, and gives its items.
    ///
    /// # Errors
    /// Where the command fails or prints something else.
    pub fn json(&self, line: &str) -> Outcome<Vec<Value>> {
        let text = self.run(line)?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).context(format!("read what `{line}` printed"))
    }

    /// Writes a value under `/proc/sys`.
    ///
    /// # Errors
    /// Where the kernel has no such setting.
    pub fn sysctl(&self, key: &str, value: &str) -> Outcome {
        let path = Path::new("/proc/sys").join(key);
        self.within(|| std::fs::write(&path, value))?.context(format!("write {value} to {key}"))
    }

    /// Takes the name away before the test is over, as a runtime does; what lives in it dies.
    ///
    /// # Errors
    /// Where it is gone already.
    pub fn remove(&mut self) -> Outcome {
        match self.name.take() {
            Some(name) => netns::remove(&name).context("remove a namespace"),
            None => Ok(()),
        }
    }
}

/// What a command printed, or all that is known about its failure.
///
/// # Errors
/// Where it ended with anything but 0.
pub fn printed(line: &str, output: &Output) -> Outcome<String> {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let said = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    Err(Failure::new(format!("`{}` ended with {}: {}", line.trim(), output.status, said.trim())))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The mount namespace of the suite ends soon and takes what is left with it.
        let _ = self.remove();
    }
}
