//! Local users without rights: they neither stop netd nor write through it.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Fabric, Outcome, Stack, ensure, eventually, health, isolation, seconds};

use crate::hostile_bed::{fabric, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("nobody's lock on the folder of the status socket does not stop netd", folder_locked),
        test("nobody's lock on the folder of the status socket does not make netd deaf", deaf),
        test("nobody's lock on the store's lock does not stop netd", store_locked),
        test("the store's lock is open to nobody else", lock_is_private),
        test("a link in the place of the store's lock is not written through", linked),
        test("slow connections keep nobody from /healthz", slow_connections),
    ]
}

/// A lock that nobody holds. Ended with the test.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes a lock as the user nobody, on a file that everybody may read.
fn lock(path: &Path) -> Outcome<Held> {
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    // A user namespace that has one user alone has nobody else; a lock is a lock.
    let user = if std::env::var_os(isolation::MAPPED).is_some() { &["env"][..] } else { &user };
    let mut command = Command::new(user[0]);
    command.args(&user[1..]).args(["flock", "--no-fork"]).arg(path).args(["sleep", "300"]).stdin(Stdio::null());
    let held = Held(command.spawn().context("start flock as nobody")?);
    eventually(seconds(5), "nobody holds the lock", || {
        let free = Command::new("flock").arg("--nonblock").arg(path).arg("true").status().context("try the lock")?;
        ensure!(free.code() == Some(1), "the lock of {} is free", path.display());
        Ok(())
    })?;
    Ok(held)
}

/// A node whose folders everybody may enter and read, as `/run/flannel` is.
fn open_fabric() -> Outcome<Fabric> {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fabric.disk(), readable).context("open the disk")?;
    Ok(fabric)
}

fn folder(fabric: &Fabric) -> Outcome<std::path::PathBuf> {
    Ok(fabric.node("n1").subnet_file().parent().context("the file is in a folder")?.to_owned())
}

fn folder_locked() -> Outcome {
    let fabric = open_fabric()?;
    let _held = lock(&folder(&fabric)?)?;
    let daemon = fabric.node("n1").launch_netd(&[])?;
    daemon.await_log(" ready", seconds(8))?;
    daemon.terminate().map(drop)
}

/// True where a process handles SIGTERM itself.
fn catches_sigterm(process: u32) -> Outcome<bool> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).context("look at netd")?;
    let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).context("no SigCgt")?;
    let mask = u64::from_str_radix(mask.trim(), 16).context("read SigCgt")?;
    // Signal 15 is bit 14.
    Ok(mask & (1 << 14) != 0)
}

fn deaf() -> Outcome {
    isolation::own_proc()?;
    let fabric = open_fabric()?;
    let _held = lock(&folder(&fabric)?)?;
    let daemon = fabric.node("n1").launch_netd(&[])?;
    eventually(seconds(5), "netd handles SIGTERM", || {
        ensure!(catches_sigterm(daemon.id())?, "not yet");
        Ok(())
    })?;
    daemon.terminate().map(drop)
}

fn store_locked() -> Outcome {
    let fabric = open_fabric()?;
    // What a netd of today leaves there.
    let path = fabric.store.join("lock");
    std::fs::write(&path, "").context("make a lock file")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).context("open it")?;
    let _held = lock(&path)?;
    let daemon = fabric.node("n1").launch_netd(&[])?;
    daemon.await_log(" ready", seconds(12))?;
    daemon.terminate().map(drop)
}

fn lock_is_private() -> Outcome {
    let fabric = open_fabric()?;
    let _daemon = fabric.node("n1").start_netd(&[])?;
    for folder in [folder(&fabric)?, fabric.store.clone()] {
        for entry in std::fs::read_dir(&folder).context("list a folder")?.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.contains("lock") {
                continue;
            }
            let mode = entry.metadata().context("look at a lock")?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{} has mode {mode:o}", entry.path().display());
        }
    }
    Ok(())
}

fn linked() -> Outcome {
    let fabric = open_fabric()?;
    let victim = fabric.disk().join("victim");
    std::fs::write(&victim, "precious\n").context("write a file")?;
    for name in ["lock", "netd.lock", ".lock"] {
        std::os::unix::fs::symlink(&victim, fabric.store.join(name)).context("make a link")?;
    }
    let daemon = fabric.node("n1").launch_netd(&[])?;
    eventually(seconds(10), "netd is ready, or says what is in its way", || {
        let log = daemon.log();
        ensure!(log.contains(" ready") || log.contains("lock"), "its log is {log}");
        Ok(())
    })?;
    let text = std::fs::read_to_string(&victim).context("read the file")?;
    ensure!(text == "precious\n", "the file that the link leads to holds {text:?}");
    Ok(())
}

fn slow_connections() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1");
    let _daemon = n1.start_netd(&[health::FLAG])?;
    let open = || (0..100).map(|_| TcpStream::connect(("127.0.0.1", health::PORT))).collect::<Result<Vec<_>, _>>();
    let _slow = n1.namespace().within(open)?.context("open connections")?;
    for path in ["/healthz", "/readyz"] {
        let (line, _) = health::ask(n1, [127, 0, 0, 1].into(), &format!("GET {path}"))?;
        ensure!(line.contains(" 200 "), "{path}: {line}");
    }
    Ok(())
}
