//! One clear sentence for what cannot be.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libtest_mimic::Trial;
use netd_tests::plugin::{self, Attachment};
use netd_tests::suite::test;
use netd_tests::{
    Context, Fabric, Namespace, Node, Outcome, Stack, ensure, eventually, executable, isolation, seconds,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::hostile_bed::{fabric, said, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("the plugin without CAP_SYS_ADMIN says what it lacks", no_capability),
        test("the plugin where no thread is to be had says so", no_thread),
        test("a container's name that is too long is refused by its length", long_name),
        test("a full disk at subnet.env is one problem for as long as it lasts", full_disk),
    ]
}

/// An attachment by a configuration that needs no daemon.
fn alone(node: &Node, container: &str, pod: &Namespace) -> Outcome<Attachment> {
    let conf = json!({
        "cniVersion": "1.0.0", "name": "alone", "type": "netd", "bridge": "cni9", "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.9.0.0/24", "dataDir": node.cni_data_dir() },
    });
    plugin::attachment_by(node, container, pod, conf)
}

/// Calls ADD by a program that runs the plugin under `prefix`; gives the error object, which is all that it may say.
fn error_under(prefix: &str) -> Outcome<Value> {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let (n1, pod) = (fabric.node("n1"), Namespace::new("pod")?);
    let mut attachment = alone(n1, "one", &pod)?;
    open(&fabric, n1)?;
    let wrapper = n1.cni_bin_dir()?.join("under");
    // It wants to be called by its own name.
    let copy = n1.cni_bin_dir()?.join("copy/netd");
    std::fs::create_dir(n1.cni_bin_dir()?.join("copy")).context("make a folder")?;
    executable::copy(&attachment.program, &copy)?;
    let text = format!("#!/bin/sh\nexec {prefix} {}\n", copy.display());
    executable::write(&wrapper, &text)?;
    attachment.program = wrapper;
    error_of(&attachment)
}

/// Lets everybody into a node's folders and write its reservations.
fn open(fabric: &Fabric, node: &Node) -> Outcome {
    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("open a folder")
    };
    set(fabric.disk(), 0o755)?;
    set(&node.cni_data_dir(), 0o777)
}

fn error_of(attachment: &Attachment) -> Outcome<Value> {
    let output = attachment.call("ADD")?;
    ensure!(output.status.code() == Some(1), "it ended with {}: {}", output.status, said(&output));
    let error: Value =
        serde_json::from_slice(&output.stdout).context(format!("no error object in {:?}", said(&output)))?;
    ensure!(output.stderr.is_empty(), "it wrote to stderr: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(error["code"].is_u64() && error["msg"].is_string(), "it says {error}");
    Ok(error)
}

fn no_capability() -> Outcome {
    let error = error_under("setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin")?;
    ensure!(error["msg"].to_string().contains("CAP_SYS_ADMIN"), "it says {error}");
    Ok(())
}

fn no_thread() -> Outcome {
    // The bound counts for those without rights alone, who lack something else too.
    let mapped = std::env::var_os(isolation::MAPPED).is_some();
    let user = if mapped { "" } else { "setpriv --reuid=65533 --regid=65533 --clear-groups" };
    let error = error_under(&format!("{user} prlimit --nproc=1"))?;
    let message = error["msg"].to_string();
    ensure!(message.contains("thread") || message.contains("CAP_SYS_ADMIN"), "it says {error}");
    Ok(())
}

fn long_name() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let (n1, pod) = (fabric.node("n1"), Namespace::new("pod")?);
    let error = error_of(&alone(n1, &"c".repeat(250), &pod)?)?;
    let message = error["msg"].as_str().unwrap_or_default();
    ensure!(error["code"] == 4 && message.contains("CNI_CONTAINERID"), "it says {error}");
    ensure!(message.contains("too long") && message.contains("250"), "it says {error}");
    Ok(())
}

fn full_disk() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1");
    let folder = fabric.disk().join("small");
    std::fs::create_dir(&folder).context("make a folder")?;
    // A few pages; the mount goes with the suite's mount namespace at the latest.
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=32k")).context("mount a small disk")?;
    let done = on_full_disk(n1, &folder);
    umount2(&folder, MntFlags::MNT_DETACH).context("unmount the small disk")?;
    done
}

fn on_full_disk(n1: &Node, folder: &Path) -> Outcome {
    let filler = folder.join("filler");
    ensure!(std::fs::write(&filler, vec![0; 64 * 1024]).is_err(), "the disk is full now");
    let (file, socket) = (folder.join("subnet.env"), folder.with_extension("sock"));
    let (file, socket) = (file.to_string_lossy().into_owned(), socket.to_string_lossy().into_owned());
    let daemon = n1.launch_netd(&["--subnet-file", &file, "--status-socket", &socket])?;
    let problem = || -> Outcome<Value> {
        let output = n1.run_netd("status", &["-o", "json", "--subnet-file", &file, "--status-socket", &socket])?;
        let seen: Value = serde_json::from_slice(&output.stdout).context(said(&output))?;
        let problems = seen["problems"].as_array().cloned().unwrap_or_default();
        let [problem] = &problems[..] else { netd_tests::fail!("{} problems: {problems:?}", problems.len()) };
        ensure!(problem.to_string().contains("subnet.env"), "{problem}");
        Ok(problem.clone())
    };
    let named = eventually(seconds(8), "the full disk is named", problem)
        .map_err(|failure| failure.with("netd", &daemon.log()))?;
    let file_name = named.to_string().contains(".subnet.env.");
    ensure!(!file_name, "it names a file that nobody knows: {named}");
    // Some tries later it is the same one, of the same age.
    let tries = |log: &str| log.lines().filter(|line| line.contains("No space left on device")).count();
    daemon.await_log("No space left on device", seconds(8))?;
    let first = tries(&daemon.log());
    netd_tests::sleep(seconds(3));
    ensure!(problem()? == named, "it was {named} and is {}", problem()?);
    let more = tries(&daemon.log()) - first;
    ensure!(more == 0, "the log has {more} more lines of one cause:\n{}", daemon.log());
    std::fs::remove_file(&filler).context("make room")?;
    daemon.await_ready()?;
    daemon.terminate().map(drop)
}
