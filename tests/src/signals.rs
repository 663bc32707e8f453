//! Signals to child processes.

use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::ensure;
use crate::failure::{Context, Outcome};

fn number(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Sends a signal to a child.
///
/// # Errors
/// Where it is gone.
pub fn send(child: &Child, signal: Signal) -> Outcome {
    kill(number(child), signal).context(format!("send {signal}"))
}

/// Stops a child (SIGSTOP), and returns when each of its threads stands still: on a busy machine they go on for a while after the signal.
///
/// # Errors
/// Where it is gone.
pub fn stand_still(child: &Child) -> Outcome {
    send(child, Signal::SIGSTOP)?;
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let status = waitid(Id::Pid(number(child)), flags).context("wait until it stands still")?;
    ensure!(matches!(status, WaitStatus::Stopped(..)), "it has ended: {status:?}");
    Ok(())
}
