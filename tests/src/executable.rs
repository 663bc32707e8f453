//! Programs that tests make. A child writes them: a process that starts another one passes on, for a moment, the files that it has open,
//! and the kernel starts no program that is open for writing somewhere.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Context, Outcome};

/// Writes a script that can be run.
///
/// # Errors
/// Where that fails.
pub fn write(path: &Path, text: &str) -> Outcome {
    let mut install = install().arg("/dev/stdin").arg(path).stdin(Stdio::piped()).spawn().context("start install")?;
    let mut input = install.stdin.take().context("install has an input")?;
    input.write_all(text.as_bytes()).context("write a script")?;
    drop(input);
    let status = install.wait().context("wait for install")?;
    crate::ensure!(status.success(), "a script cannot be written to {}: {status}", path.display());
    Ok(())
}

/// Copies a program.
///
/// # Errors
/// Where that fails.
pub fn copy(from: &Path, to: &Path) -> Outcome {
    let status = install().arg(from).arg(to).status().context("run install")?;
    crate::ensure!(status.success(), "{} cannot be copied to {}: {status}", from.display(), to.display());
    Ok(())
}

fn install() -> Command {
    let mut command = Command::new("install");
    command.args(["-m", "755"]);
    command
}
