//! A machine of its own in QEMU, for what the kernel of this machine lacks: Debian's kernel with its modules, programs of this machine,
//! and a script. Without the processor's help, which is not to be had everywhere; it boots in some seconds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Outcome};
use crate::namespace::{Namespace, printed};
use crate::peers;

/// The packages of a kernel for virtual machines, by the architecture.
const KERNEL: &str = "linux-image-cloud-amd64";
/// What the emulator is called, and the seconds after which a machine that hangs is ended.
const EMULATOR: &str = "qemu-system-x86_64";
const MOST: &str = "600";
/// What the machine says last, behind which its script's exit code stands.
const EXIT: &str = "guest: exit ";

const PACK: &str = include_str!("qemu/pack.sh");

/// Downloads the kernel, once, into the user's cache; to be called where the network is.
///
/// # Errors
/// Where apt cannot.
pub fn prepare() -> Outcome {
    let place = kernel()?;
    if place.is_dir() {
        return Ok(());
    }
    eprintln!("downloading Debian's kernel, once, into {}", place.display());
    // By rename, so that one which is there is whole.
    let growing = place.with_extension(std::process::id().to_string());
    std::fs::create_dir_all(&growing).context(format!("make {}", growing.display()))?;
    let script = format!(
        "cd {growing}
        find_it() {{ package=$(apt-cache depends {KERNEL} 2>/dev/null | sed -n 's/.*Depends: //p' | head -n1); test -n \"$package\"; }}
        find_it || {{ apt-get -qq update; find_it; }}
        apt-get -qq download \"$package\"
        dpkg-deb -x ./*.deb .
        rm ./*.deb",
        growing = growing.display()
    );
    let output = Command::new("sh").args(["-e", "-c", &script]).output().context("run a shell")?;
    printed(
        &format!("the download of Debian's package {KERNEL}, for which apt-get update may have to be run as root"),
        &output,
    )?;
    std::fs::rename(&growing, &place).context(format!("put {} in its place", place.display()))
}

fn kernel() -> Outcome<PathBuf> {
    Ok(peers::cache()?.join(KERNEL))
}

/// Boots a machine, makes a call to a function of a script for bash, and gives the lines that were printed. `programs` are paths or
/// names that PATH finds; bash and busybox's programs are there anyway. Connections that the machine makes from 10.0.2.15 through
/// 10.0.2.2 are made in the namespace.
///
/// # Errors
/// Where the machine does not boot or the call fails; with what was printed.
pub fn run(namespace: &Namespace, script: &str, call: &str, programs: &[&Path]) -> Outcome<Vec<String>> {
    let folder = tempfile::Builder::new().prefix("nt-qemu-").tempdir().context("make a folder")?;
    let kernel = kernel()?;
    crate::ensure!(kernel.is_dir(), "{} is not there: the suite must prepare it", kernel.display());
    let file = folder.path().join("script");
    std::fs::write(&file, script).context("write a script")?;
    let mut pack = Command::new("bash");
    pack.args(["-c", PACK, "pack.sh"]).arg(&kernel).arg(&file).arg(call).args(programs).current_dir(&folder);
    printed("pack what a machine starts with", &namespace.output(&mut pack)?)?;
    let images =
        std::fs::read_dir(kernel.join("boot")).context("look for the kernel")?.flatten().map(|entry| entry.path());
    let is_image = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let image = images.into_iter().find(is_image).context("the package has no kernel")?;
    let mut machine = Command::new("timeout");
    machine.args([MOST, EMULATOR, "-accel", "tcg", "-m", "1024", "-nographic", "-no-reboot"]);
    // Without the code by which it could boot from the network.
    machine.args(["-netdev", "user,id=outside", "-device", "virtio-net-pci,netdev=outside,romfile="]);
    machine.arg("-kernel").arg(image).arg("-initrd").arg(folder.path().join("initrd"));
    machine.args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let output = namespace.output(&mut machine).map_err(|failure| {
        failure
            .with("to be had by", "scripts/test, which installs what is missing, or Debian's package qemu-system-x86")
    })?;
    let console = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = console.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
    if lines.iter().any(|line| line.strip_prefix(EXIT) == Some("0")) {
        return Ok(lines);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!("`{call}` fails in a machine of its own ({})", output.status))
        .with("its console", &console)
        .with("the emulator", &said))
}
