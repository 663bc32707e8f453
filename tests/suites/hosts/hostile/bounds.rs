//! Nothing that is read is read without bound: files that are none, long lists, many records.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use netd_tests::plugin;
use netd_tests::suite::test;
use netd_tests::{Context, Namespace, Node, Outcome, Stack, ensure, eventually, executable, isolation, seconds};
use serde_json::{Value, json};

use crate::hostile_bed::{Bed, caught_up, fabric, said, status, stranger, vxlan};

/// What no program may read to its end, by name and how it is made.
const ENDLESS: [(&str, &str); 2] = [("a pipe", "mkfifo"), ("a link to /dev/zero", "ln -s /dev/zero")];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, how) in ENDLESS {
        trials.push(test(format!("{name} in the place of net-conf.json is named at the start"), move || {
            conf_at_start(how)
        }));
        trials.push(test(format!("{name} in the place of net-conf.json ends no following"), move || conf_later(how)));
        trials.push(test(format!("{name} in the place of a node's record is named"), move || record(how)));
        trials.push(test(format!("{name} in the place of subnet.env does not stop netd"), move || subnet_env(how)));
        trials.push(test(format!("{name} as the plugin's subnetFile is an error"), move || subnet_file(how)));
        trials.push(test(format!("{name} as CNI_NETNS is an error"), move || netns(how)));
    }
    trials.push(test("a record of 12,000 entries is refused and costs nobody", many_entries));
    trials.push(test("a list of more than 16 entries is refused", seventeen));
    trials.push(test("a record of more than 64 kB is refused", large));
    trials.push(test("thousands of records that nobody believes are counted", many_records));
    trials.push(test("thousands of records that nobody believes make a change of another no dearer", cheap_changes));
    trials
}

/// Puts something endless in a file's place, in one step.
fn put(how: &str, path: &Path) -> Outcome {
    let new = path.with_extension("endless");
    let script = format!("{how} {new}; mv -fT {new} {path}", new = new.display(), path = path.display());
    netd_tests::namespace::own().shell(&script).map(drop)
}

/// The usual command with a bound on its memory, so that a mistake harms nobody else.
fn bounded(usual: &Command) -> Command {
    let mut command = Command::new("prlimit");
    command.arg("--as=1500000000").arg(usual.get_program()).args(usual.get_args());
    command
}

fn conf_at_start(how: &str) -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    put(how, &fabric.store.join("net-conf.json"))?;
    let daemon = fabric.node("n1").launch_netd_by(&[], bounded)?;
    daemon.await_log("net-conf.json", seconds(8))?;
    let log = daemon.log();
    ensure!(log.contains("regular file") && !log.contains("panicked"), "it says {log}");
    // It may have ended by itself already.
    let _ = daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let mut daemon = daemon;
    daemon.await_end().map(drop)
}

fn conf_later(how: &str) -> Outcome {
    let bed = bounded_bed()?;
    bed.nothing_lost(|| {
        put(how, &bed.cluster.fabric.store.join("net-conf.json"))?;
        eventually(seconds(8), "status names the file", || {
            let seen = status(bed.node())?;
            ensure!(seen["store"].to_string().contains("net-conf.json"), "{}", seen["store"]);
            Ok(())
        })?;
        bed.caught_up()
    })
}

/// Both daemons have a bound on their memory.
fn bounded_bed() -> Outcome<Bed> {
    let mut bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    for name in ["n1", "n2"] {
        bed.cluster.take(name).terminate()?;
        bed.cluster.resume_by(name, bounded)?;
    }
    Ok(bed)
}

fn record(how: &str) -> Outcome {
    let bed = bounded_bed()?;
    put(how, &netd_tests::peer::file(&bed.cluster.fabric.store, "endless"))?;
    bed.refused("endless", &["regular file"])?;
    bed.caught_up()
}

fn subnet_env(how: &str) -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1");
    put(how, &n1.subnet_file())?;
    let daemon = n1.launch_netd_by(&[], bounded)?;
    daemon.await_log(" ready", seconds(8))?;
    let file = std::fs::symlink_metadata(n1.subnet_file()).context("look at subnet.env")?;
    ensure!(file.is_file(), "subnet.env is {file:?}");
    Ok(())
}

/// The plugin with a bound on its time and memory.
fn bounded_plugin(node: &Node) -> Outcome<PathBuf> {
    let program = node.cni_bin_dir()?.join("netd");
    let wrapper = node.cni_bin_dir()?.join("bounded");
    let text = format!("#!/bin/sh\nexec timeout -s KILL 5 prlimit --as=1500000000 {}\n", program.display());
    executable::write(&wrapper, &text)?;
    Ok(wrapper)
}

/// Calls ADD, which must fail with an error that names `path` and says why.
fn fails(attachment: &plugin::Attachment, path: &Path, why: &str) -> Outcome {
    let output = attachment.call("ADD")?;
    let error: Value = serde_json::from_slice(&output.stdout).context(format!(
        "{}: no error object in {:?}",
        output.status,
        said(&output)
    ))?;
    let message = error["msg"].as_str().unwrap_or_default();
    let right = message.contains(&*path.to_string_lossy()) && message.contains(why);
    ensure!(right, "it does not name {} and {why:?}: {error}", path.display());
    Ok(())
}

fn subnet_file(how: &str) -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let (n1, pod) = (fabric.node("n1"), Namespace::new("pod")?);
    let path = n1.subnet_file();
    put(how, &path)?;
    let conf = json!({
        "cniVersion": "1.0.0", "name": "cbr0", "type": "netd", "subnetFile": path,
        "ipam": { "dataDir": n1.cni_data_dir() },
    });
    let mut attachment = plugin::attachment_by(n1, "one", &pod, conf)?;
    attachment.program = bounded_plugin(n1)?;
    fails(&attachment, &path, "regular file")
}

fn netns(how: &str) -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let (n1, pod) = (fabric.node("n1"), Namespace::new("pod")?);
    let conf = json!({
        "cniVersion": "1.0.0", "name": "alone", "type": "netd", "bridge": "cni9", "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.9.0.0/24", "dataDir": n1.cni_data_dir() },
    });
    let mut attachment = plugin::attachment_by(n1, "one", &pod, conf)?;
    attachment.netns = fabric.disk().join("netns");
    put(how, &attachment.netns)?;
    attachment.program = bounded_plugin(n1)?;
    fails(&attachment, &attachment.netns, "")?;
    let output = attachment.call("DEL")?;
    ensure!(output.status.code().is_some_and(|code| code < 2), "DEL ended with {}: {}", output.status, said(&output));
    Ok(())
}

/// So many encapsulations, of which this node sends in the first.
fn entries(count: usize) -> Vec<Value> {
    let of = |n: usize| json!({ "Type": "vxlan", "VNI": 1 + n, "Port": 8472, "VtepMAC": format!("02:00:00:03:{:02x}:{:02x}", n / 256, n % 256) });
    (0..count).map(of).collect()
}

fn many_entries() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    bed.write(&stranger("flood", 66).set("Receives", entries(12_000)))?;
    bed.refused("flood", &["64 kB"])?;
    bed.caught_up()
}

fn seventeen() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    bed.write(&stranger("most", 66).set("Receives", entries(16)))?;
    netd_tests::node::routed(bed.node(), "10.244.66.0/24", true)?;
    bed.write(&stranger("more", 67).set("Receives", entries(17)))?;
    bed.refused("more", &["Receives", "16"])?;
    bed.write(&stranger("too", 68).set("Sends", entries(17)))?;
    bed.refused("too", &["Sends", "16"])
}

fn large() -> Outcome {
    let bed = Bed::start(Stack::V4, &vxlan(), &[])?;
    bed.write(&stranger("large", 66).set("comment", "y".repeat(70_000)))?;
    bed.refused("large", &["64 kB"])
}

fn many_records() -> Outcome {
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    for n in 0..3000_u32 {
        stranger(&format!("flood{n}"), 66).set("Subnet", "10.99.0.0/24").write(&fabric.store)?;
    }
    let n1 = fabric.node("n1");
    let daemon = n1.start_netd(&[])?;
    caught_up(n1, &fabric)?;
    let output = n1.run_netd("status", &[])?;
    let table = said(&output);
    ensure!(table.lines().count() < 100, "netd status prints {} lines", table.lines().count());
    ensure!(table.contains("3000") || table.contains("3,000"), "nobody counts them: {table}");
    let document = status(n1)?.to_string();
    ensure!(document.len() < 64_000, "the document has {} bytes", document.len());
    let found = said(&n1.run_netd("doctor", &[])?);
    ensure!(found.lines().count() < 100, "netd doctor prints {} lines", found.lines().count());
    ensure!(found.contains("2980 more are left out"), "netd doctor does not count them: {found}");

    // With another number they are no news, until they are few.
    let lines = |text: &str| daemon.log().lines().filter(|line| line.contains(text)).count();
    ensure!(lines("many nodes are left out") == 1, "the log is {}", daemon.log());
    for n in 3000..3003_u32 {
        stranger(&format!("flood{n}"), 66).set("Subnet", "10.99.0.0/24").write(&fabric.store)?;
        caught_up(n1, &fabric)?;
        eventually(seconds(10), "netd status has the new number", || {
            let seen = status(n1)?.to_string();
            ensure!(seen.contains(&format!("are left out ({})", n + 1)), "it says {seen}");
            Ok(())
        })?;
    }
    ensure!(lines("many nodes are left out") == 1, "the log is {}", daemon.log());
    for n in 5..3003_u32 {
        stranger(&format!("flood{n}"), 66).remove(&fabric.store)?;
    }
    daemon.await_log("no longer: many nodes are left out", seconds(10))
}

/// The processor time of a process's first thread so far, in ticks of the kernel's clock: netd's loop, without the polls of the store, which
/// other threads do.
fn ticks(process: u32) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/task/{process}/stat")).context("look at netd")?;
    // Behind the name, which may hold anything, come state and numbers; user and system time are fields 14 and 15.
    let fields = text.rsplit_once(')').context("no name in stat")?.1.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().context("read a time")).sum()
}

fn cheap_changes() -> Outcome {
    isolation::own_proc()?;
    let fabric = fabric(Stack::V4, &vxlan(), &[])?;
    let n1 = fabric.node("n1");
    let daemon = n1.start_netd(&[])?;
    // With one that stays, the changes are of one peer alone: the first and the last peer are more than that.
    stranger("steady", 221).write(&fabric.store)?;
    netd_tests::node::routed(n1, "10.244.221.0/24", true)?;
    let cost = || -> Outcome<u64> {
        let before = ticks(daemon.id())?;
        (0..20).try_for_each(|_| caught_up(n1, &fabric))?;
        Ok((ticks(daemon.id())? - before).max(5))
    };
    let alone = cost()?;
    for n in 0..3000_u32 {
        stranger(&format!("flood{n}"), 66).set("Subnet", "10.99.0.0/24").write(&fabric.store)?;
    }
    caught_up(n1, &fabric)?;
    let beside = cost()?;
    ensure!(beside < alone * 4, "changes cost {beside} ticks beside 3000 refused records, and {alone} alone");
    Ok(())
}
