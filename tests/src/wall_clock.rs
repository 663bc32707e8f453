//! A wall clock of a program's own, which a test sets while the program runs.
//!
//! The kernel has one for all namespaces. So a library that is loaded before the C library (libfaketime) answers in its place; the
//! monotonic clock and the times of files stay the kernel's. What ships is static and loads nothing: the netd that looks at this
//! clock is another build of the same source.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::binaries;
use crate::failure::{Context, Outcome};

const YEAR: i64 = 365 * 24 * 60 * 60;

/// The clock.
#[derive(Debug)]
pub struct WallClock {
    /// What the library reads whenever it is asked for the time.
    file: PathBuf,
    library: PathBuf,
    netd: PathBuf,
}

/// Where a clock may jump to: the name of it, and how many seconds that is from the machine's own clock. Each is a jump from the
/// one before.
#[must_use]
pub fn jumps() -> [(&'static str, i64); 4] {
    let to_1970 = 1000 - now();
    [("20 years on", 20 * YEAR), ("20 years back", -20 * YEAR), ("in 1970", to_1970), ("now again", 0)]
}

/// The machine's own clock, in seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// Builds the netd that can be shown another clock; to be called where the network is.
///
/// # Errors
/// Where it cannot be built.
pub fn prepare() -> Outcome {
    binaries::cargo_build(&[])
}

impl WallClock {
    /// One that shows the machine's time, kept in this folder.
    ///
    /// # Errors
    /// Where the library is missing or netd was not built.
    pub fn new(folder: &Path) -> Outcome<Self> {
        let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        let library = PathBuf::from(library);
        crate::ensure!(library.is_file(), "there is no {}: install the package libfaketime", library.display());
        let clock = Self { file: folder.join("clock"), library, netd: binaries::dynamic_netd()? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it to so many seconds ahead of the machine's, or behind.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn set(&self, ahead: i64) -> Outcome {
        let new = self.file.with_extension("new");
        let text = format!("{ahead:+}\n");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.file)).context("set a clock")
    }

    /// A command of netd's as one that looks at this clock.
    #[must_use]
    pub fn shown_to(&self, usual: &Command) -> Command {
        let mut command = Command::new(&self.netd);
        command.args(usual.get_args()).env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]);
        command
    }
}
