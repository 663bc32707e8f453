//! Work that goes on after the program has ended.

use std::fs::File;
use std::io;

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Runs `body` in a detached child process and returns at once. The child's standard streams are `/dev/null`, so a caller
/// that waits for the end of this program's output does not wait for the child.
///
/// Only for a program of one thread: with several threads, the child could wait for a lock whose owner does not exist in the child.
///
/// # Errors
/// Where there are other threads, or no process can be made.
pub fn detach(body: impl FnOnce()) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a program of several threads cannot detach a child"));
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    #[expect(unsafe_code, reason = "fork")]
    // SAFETY: this is the only thread, as checked above, so the child's copy of every lock is free.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let _ = setsid();
            let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
            body();
            std::process::exit(0);
        }
    }
}
