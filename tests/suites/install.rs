//! How the plugin and its configuration come to a node: `netd install-cni`, the operator's `cni-conf.json`, and `netd cleanup`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use netd_tests::suite::test;
use netd_tests::{Cluster, Context, Fabric, Outcome, Snapshot, Stack, Topology, binaries, ensure, net_conf};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            test("the plugin is installed, and replaced under one that runs", replaced_under_one_that_runs),
            test("a folder that cannot be written is a clear error", read_only),
            test("a full disk is a clear error, and the old plugin stays", full_disk),
            test("the operator's list is installed with readiness, flannel's too", operators_list),
            test("a wrong list is an error before anything is touched", wrong_list),
            test("cleanup takes the plugin when no pod needs it", cleanup),
        ]
    })
}

fn vxlan(topology: &Topology) -> Outcome<Fabric> {
    let fabric = topology.build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": "vxlan" })))?;
    Ok(fabric)
}

/// A folder for plugins that is no node's.
fn bin_dir(fabric: &Fabric) -> Outcome<PathBuf> {
    let folder = fabric.disk().join("bin");
    std::fs::create_dir(&folder).context("make a folder")?;
    Ok(folder)
}

/// Runs `netd install-cni` and gives its exit code and what it said.
fn install(fabric: &Fabric, bin_dir: &Path, plugin: &Path) -> Outcome<(Option<i32>, String)> {
    let (bin_dir, plugin) = (bin_dir.to_string_lossy(), plugin.to_string_lossy());
    let output = fabric.node("n1").run_netd("install-cni", &["--cni-bin-dir", &bin_dir, "--cni-plugin", &plugin])?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn names(folder: &Path) -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(folder).context(format!("list {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn replaced_under_one_that_runs() -> Outcome {
    let fabric = vxlan(&Topology::one_segment(Stack::V4))?;
    let bin_dir = bin_dir(&fabric)?;
    let (plugin, installed) = (binaries::plugin()?, bin_dir.join("netd"));
    let (code, said) = install(&fabric, &bin_dir, &plugin)?;
    ensure!(code == Some(0), "it ended with {code:?}: {said}");

    // It waits for its configuration, as when a runtime has just started it.
    let mut command = Command::new(&installed);
    command.env("CNI_COMMAND", "VERSION").env("CNI_PATH", &bin_dir);
    let mut old = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the plugin")?;
    let newer = fabric.disk().join("newer");
    let mut program = std::fs::read(&plugin).context("read the plugin")?;
    program.extend(b"newer");
    std::fs::write(&newer, &program).context("make another plugin")?;
    let (code, said) = install(&fabric, &bin_dir, &newer)?;
    ensure!(code == Some(0), "it ended with {code:?}: {said}");
    ensure!(std::fs::read(&installed).context("read it")? == program, "the plugin is not the newer one");
    ensure!(names(&bin_dir)? == ["netd"], "the folder holds {:?}", names(&bin_dir)?);

    let mut input = old.stdin.take().context("a way to speak to it")?;
    std::io::Write::write_all(&mut input, br#"{"cniVersion": "1.0.0"}"#).context("speak to the old plugin")?;
    drop(input);
    let answer = old.wait_with_output().context("wait for the old plugin")?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    ensure!(answer.contains("supportedVersions"), "the one that ran said {answer:?}");
    let output = Command::new(&installed).output().context("start the newer one")?;
    ensure!(output.status.success(), "the newer one ended with {}", output.status);
    Ok(())
}

fn read_only() -> Outcome {
    let fabric = vxlan(&Topology::one_segment(Stack::V4))?;
    let bin_dir = bin_dir(&fabric)?;
    // The mount goes with the suite's mount namespace.
    mount(Some("tmpfs"), &bin_dir, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).context("mount a disk")?;
    let (code, said) = install(&fabric, &bin_dir, &binaries::plugin()?)?;
    let wanted = [bin_dir.join("netd").display().to_string(), "--cni-bin-dir".to_owned(), "ead-only".to_owned()];
    ensure!(code == Some(1) && wanted.iter().all(|word| said.contains(word)), "it ended with {code:?}: {said}");
    Ok(())
}

fn full_disk() -> Outcome {
    let fabric = vxlan(&Topology::one_segment(Stack::V4))?;
    let bin_dir = bin_dir(&fabric)?;
    mount(Some("tmpfs"), &bin_dir, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).context("mount a small disk")?;
    std::fs::write(bin_dir.join("netd"), "the old one").context("write an old plugin")?;
    let (code, said) = install(&fabric, &bin_dir, &binaries::plugin()?)?;
    ensure!(code == Some(1) && said.contains("--cni-bin-dir"), "it ended with {code:?}: {said}");
    ensure!(said.contains("No space left"), "it does not say why: {said}");
    ensure!(names(&bin_dir)? == ["netd"], "half-written files stay: {:?}", names(&bin_dir)?);
    let old = std::fs::read_to_string(bin_dir.join("netd")).context("read the old plugin")?;
    ensure!(old == "the old one", "the old plugin is gone");
    Ok(())
}

/// kube-flannel's `cni-conf.json`, word for word.
fn flannels() -> Value {
    json!({
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

fn operators_list() -> Outcome {
    let fabric = vxlan(&Topology::one_segment(Stack::V4))?;
    let source = fabric.disk().join("cni-conf.json");
    std::fs::write(&source, flannels().to_string()).context("write cni-conf.json")?;
    let cluster = Cluster::on(fabric, &["--cni-conf-source", &source.to_string_lossy()])?;
    let n1 = cluster.node("n1");
    let installed = n1.cni_conf_dir().join("10-netd.conflist");
    let list: Value =
        serde_json::from_str(&std::fs::read_to_string(&installed).context("read it")?).context("parse the conflist")?;
    let own = &list["plugins"][0];
    ensure!(list["cniVersion"] == "0.3.1" && list["name"] == "cbr0", "the list is {list}");
    ensure!(own["type"] == "netd" && own["isDefaultGateway"] == true, "netd's entry is {own}");
    ensure!(own["subnetFile"] == json!(n1.subnet_file()), "netd's entry is {own}");
    ensure!(list["plugins"][1] == flannels()["plugins"][1], "portmap's entry is {}", list["plugins"][1]);
    let (a, c) = (cluster.pod("n1", "a")?, cluster.pod("n2", "c")?);
    cluster.settle(&a, &c)?;
    cluster.talk(&a, &c)
}

fn wrong_list() -> Outcome {
    let fabric = vxlan(&Topology::one_segment(Stack::V4))?;
    let n1 = fabric.node("n1");
    let source = fabric.disk().join("cni-conf.json");
    let mut wrong = flannels();
    wrong["plugins"][0]["delegate"]["mtu"] = json!("large");
    std::fs::write(&source, wrong.to_string()).context("write cni-conf.json")?;
    let folders = [n1.cni_conf_dir()];
    n1.await_interface()?;
    let before = Snapshot::take(n1.namespace(), &folders)?;
    let mut daemon = n1.launch_netd(&["--cni-conf-source", &source.to_string_lossy()])?;
    let status = daemon.await_end()?;
    let log = daemon.log();
    for word in ["cni-conf.json", "--cni-conf-source", "plugins[0]", "mtu", "large"] {
        ensure!(
            status.code() == Some(1) && log.contains(word),
            "netd ended with {status} and did not say {word}: {log}"
        );
    }
    before.same_as(&Snapshot::take(n1.namespace(), &folders)?)?;
    ensure!(!n1.subnet_file().exists(), "subnet.env was written");
    Ok(())
}

fn cleanup() -> Outcome {
    let mut cluster =
        Cluster::start(&Topology::one_segment(Stack::V4), &net_conf(Stack::V4, &json!({ "Type": "vxlan" })), &[])?;
    let bin_dir = bin_dir(&cluster.fabric)?;
    let (code, said) = install(&cluster.fabric, &bin_dir, &binaries::plugin()?)?;
    ensure!(code == Some(0), "it ended with {code:?}: {said}");
    let pod = cluster.pod("n1", "a")?;
    cluster.take("n1").terminate()?;
    let clean = || -> Outcome<String> {
        let output = cluster.node("n1").run_netd("cleanup", &["--cni-bin-dir", &bin_dir.to_string_lossy()])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "cleanup ended with {}: {said}", output.status);
        Ok(said)
    };
    let said = clean()?;
    ensure!(names(&bin_dir)? == ["netd"], "the plugin went although a pod needs it");
    ensure!(said.contains("the CNI plugin stays"), "it was not reported: {said}");
    pod.delete()?;
    clean()?;
    ensure!(names(&bin_dir)?.is_empty(), "the plugin stays: {:?}", names(&bin_dir)?);
    Ok(())
}
