//! A world of its own for each suite: new mount, network and process namespaces, entered by running itself again.
//!
//! Whatever a test makes lives in there and dies with the program, even by SIGKILL: processes with the process
//! namespace, links with the network namespace, `/run/netns` and `/run/flannel` with the mount namespace. As root
//! the namespaces are taken directly; anybody else first becomes root of a user namespace.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use nix::mount::{MsFlags, mount};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Context, Failure, Outcome};

const MARK: &str = "NETD_TESTS_ISOLATED";

/// Set where root is only that of a user namespace.
pub const MAPPED: &str = "NETD_TESTS_MAPPED_ROOT";

/// The number that the suite had before it entered its namespaces, where every process has another.
const OUTSIDE: &str = "NETD_TESTS_OUTSIDE";

/// The folders in which the programs under test, `ip` and `iptables` keep state outside the kernel.
const PRIVATE: [&str; 4] = ["/run", "/var/lib/cni", "/etc/cni", "/opt/cni"];

/// True in the namespaces that [`enter`] makes.
pub fn is_entered() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Goes on in fresh namespaces: the calling program starts again from `main`, and only then does this return.
///
/// # Errors
/// Where this machine permits no namespaces. A test that cannot run fails; it never skips.
pub fn enter() -> Outcome {
    if !is_entered() {
        return Err(start_again());
    }
    end_on_signal()?;
    for folder in PRIVATE {
        if Path::new(folder).is_dir() {
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .context(format!("mount a private tmpfs on {folder}"))?;
        }
    }
    crate::namespace::own().ip("link set lo up")
}

/// Set in a run of one test by [`in_user_namespace`].
const ALONE: &str = "NETD_TESTS_ALONE";

/// For a test that sets limits of its user: true where it runs in a user namespace that no other test shares. Elsewhere the suite
/// runs the test of this name in one, and the answer is false where it has passed.
///
/// # Errors
/// Where the test failed there, with what it said, or where this machine permits no such namespace.
pub fn in_user_namespace(test: &str) -> Outcome<bool> {
    if std::env::var_os(ALONE).is_some() {
        return Ok(true);
    }
    let itself = std::env::current_exe().context("find the program's own file")?;
    let mut command = unshare();
    command.args(["--user", "--map-root-user", "--"]).arg(itself).args(["--exact", test]);
    let output = command.env(ALONE, "1").output().context("run `unshare`")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // A suite that has no such test passes too.
    crate::ensure!(output.status.success() && said.contains("1 passed"), "in a user namespace: {}", said.trim());
    Ok(false)
}

/// `unshare` with new namespaces of every kind but of users, for a program that is named next.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    // Processes die with the first one of their namespace, and that one with `unshare` itself: nothing that a test
    // started can outlive it.
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation", "private"]);
    command
}

/// A number that no other suite on this machine has now, the same before and after [`enter`].
pub fn number() -> String {
    std::env::var(OUTSIDE).unwrap_or_else(|_| std::process::id().to_string())
}

/// Gives the suite a `/proc` with its own process numbers, where it has none yet.
///
/// # Errors
/// Where this machine does not permit it.
pub fn own_proc() -> Outcome {
    let known = std::fs::read_link("/proc/self").context("ask /proc for this process")?;
    if known.to_string_lossy() == std::process::id().to_string() {
        return Ok(());
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).context("mount /proc")
}

/// [`enter`] for a `main`: prints why it was impossible.
///
/// # Errors
/// Gives the exit code of a failure.
pub fn enter_or_exit() -> Result<(), ExitCode> {
    enter().map_err(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}

/// Only returns where it failed.
fn start_again() -> Failure {
    let root = nix::unistd::geteuid().is_root();
    let mut command = unshare();
    if !root {
        command.arg("--map-root-user").env(MAPPED, "1");
    }
    command.arg("--");
    match std::env::current_exe() {
        Ok(itself) => command.arg(itself),
        Err(error) => return Failure::new(format!("find the program's own file: {error}")),
    };
    command.args(std::env::args_os().skip(1)).env(MARK, "1").env(OUTSIDE, std::process::id().to_string());
    // Temporary files of a suite that is killed go with its /run.
    command.env("TMPDIR", "/run");
    let error = command.exec();
    Failure::new(format!(
        "cannot run `unshare` (package util-linux), which gives the tests namespaces of their own: {error}"
    ))
}

/// The first process of a namespace ignores SIGINT and SIGTERM unless it asks for them.
fn end_on_signal() -> Outcome {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listen for Ctrl-C")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Runs a benchmark in namespaces of its own, with a `/proc` that has their process numbers, and says what went wrong.
pub fn measure(body: impl FnOnce() -> Outcome) -> ExitCode {
    if let Err(code) = enter_or_exit() {
        return code;
    }
    match own_proc().and_then(|()| body()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
