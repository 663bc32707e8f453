//! 50,000 Services with 5 endpoints each from a directory: until they are in the kernel, and memory.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use super::contender::Running;
use super::notifications::Notifications;
use super::objects::{self, Slice};
use crate::bench::figures::{millis, note, to_f64};
use crate::binaries;
use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::topology::{Stack, Topology};

const SIZE: u32 = 50_000;
const ENDPOINTS: u32 = 5;
/// Objects of a file.
const PER_FILE: u32 = 1_000;
const TIMEOUT: Duration = seconds(600);

/// Prints the figures.
pub(super) fn measure() -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).build()?;
    let folder = fabric.disk().join("services");
    std::fs::create_dir(&folder).context("make a folder for Services")?;
    for file in 0..SIZE / PER_FILE {
        let mut text = String::new();
        for number in file * PER_FILE..(file + 1) * PER_FILE {
            let (service, slice) = (objects::service(number), Slice::of(number, ENDPOINTS).object());
            // JSON is YAML.
            let _ = write!(text, "{service}\n---\n{slice}\n---\n");
        }
        std::fs::write(folder.join(format!("{file:03}.yaml")), text).context("write Services")?;
    }
    let node = fabric.node("n1");
    let mut notifications = Notifications::open(node.namespace())?;
    let log = fabric.disk().join("netd-proxy.log");
    let mut command = Command::new(binaries::proxy()?);
    command.arg("--services-dir").arg(&folder).args(["--hostname-override=n1", "--cluster-cidr=10.0.0.0/8"]);
    let begun = Instant::now();
    let running = Running::launch(&mut command, node.namespace(), &log)?;
    let read = || std::fs::read_to_string(&log).context("read the log");
    let parsed = eventually(TIMEOUT, "the Services are parsed", || {
        crate::ensure!(read()?.contains("Services and endpoints are known"), "{}", read()?);
        Ok(Instant::now())
    })?;
    notifications.await_all(&[Slice::of(SIZE - 1, ENDPOINTS).addresses[4]], TIMEOUT)?;
    let last = notifications.await_silence(seconds(2))?;
    running.process().rest()?;
    let memory = running.process().memory()?;
    println!("{SIZE} Services x {ENDPOINTS} from a directory");
    note(&format!("start of the process to all objects parsed: {:.0} ms", millis(parsed - begun)));
    note(&format!("from there to all in the kernel: {:.0} ms", millis(last.saturating_duration_since(parsed))));
    let mib = |kib| to_f64(kib) / 1024.0;
    note(&format!("RSS at rest {:.1} MiB, at its peak {:.1} MiB", mib(memory.resident), mib(memory.peak)));
    Ok(())
}
