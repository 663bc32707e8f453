//! Ctrl-C while `scripts/test` runs suites: when it has ended, nothing is left of all that it began.
//!
//! The script is the real one, and so is the suite that it runs: this one, without this test. `cargo` is another one, which builds
//! nothing and leaves a file.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, ensure, eventually, executable, isolation, namespace, seconds};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const NAME: &str = "Ctrl-C of scripts/test leaves nothing behind";

/// In the environment of all that the script begins.
const MARK: &str = "NETD_TESTS_INTERRUPTED";

pub(crate) fn trial() -> Trial {
    test(NAME, || {
        isolation::own_proc()?;
        // In the midst of it, and after the first has tidied up.
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGINT].into_iter().try_for_each(interrupted)
    })
}

fn interrupted(signal: Signal) -> Outcome {
    let folder = tempfile::tempdir().context("make a folder")?;
    ensure!(folder.path().starts_with("/run"), "{} outlives a suite", folder.path().display());
    let links = namespace::own().run("ip -o -br link")?;
    let mut script = start(folder.path())?;
    eventually(seconds(60), "the script runs a suite in namespaces", || {
        let own = fs::read_link("/proc/self/ns/net").context("look at a namespace")?;
        let elsewhere = |of: &String| fs::read_link(format!("/proc/{of}/ns/net")).is_ok_and(|there| there != own);
        ensure!(begun()?.iter().any(elsewhere), "it says\n{}", said(folder.path()));
        Ok(())
    })?;
    killpg(Pid::from_raw(script.id().cast_signed()), signal).context("send the script a signal")?;
    let status = script.wait().context("wait for the script")?;
    let left = begun()?;
    ensure!(left.is_empty(), "of what it began, {left:?} were there when it ended; it says\n{}", said(folder.path()));
    ensure!(status.code() == Some(130), "it ended with {status}; it says\n{}", said(folder.path()));
    let files: Vec<_> = fs::read_dir(folder.path().join("tmp")).context("list a folder")?.collect();
    ensure!(files.is_empty(), "it left {files:?}");
    let after = namespace::own().run("ip -o -br link")?;
    ensure!(after == links, "links were\n{links}and are\n{after}");
    Ok(())
}

/// Starts it with temporary files and built programs below `folder`, and a process group of its own.
fn start(folder: &Path) -> Outcome<Child> {
    let itself = std::env::current_exe().context("find the suite's own file")?;
    let release = folder.join(format!("target/{}-unknown-linux-musl/release", std::env::consts::ARCH));
    for made in [&folder.join("tmp"), &folder.join("bin"), &release] {
        fs::create_dir_all(made).context("make a folder")?;
    }
    // Where the suite is to prepare, `NETD_TESTS_PREPARE` is set; this one has nothing to.
    let cargo = format!(
        "#!/bin/sh\ntouch \"$TMPDIR/unfinished\"\ncase \"${{NETD_TESTS_PREPARE-}} $*\" in ' test '*' --test harness') {} --skip '{NAME}' ;; esac\n",
        itself.display()
    );
    executable::write(&folder.join("bin/cargo"), &cargo)?;
    for name in ["netd", "netd-cni", "netd-proxy"] {
        executable::write(&release.join(name), "#!/bin/sh\n")?;
    }
    let output = fs::File::create(folder.join("said")).context("make a file")?;
    let errors = output.try_clone().context("share a file")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/test"));
    // It begins outside of all suites.
    for name in ["NETD_TESTS_ISOLATED", "NETD_TESTS_OUTSIDE", "NETD_TESTS_PREPARE"] {
        command.env_remove(name);
    }
    command.arg("harness").env(MARK, "1").env("TMPDIR", folder.join("tmp"));
    command
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("PATH", format!("{}:{path}", folder.join("bin").display()));
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    command.spawn().context("start scripts/test")
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("said")).unwrap_or_default()
}

/// The processes that carry the mark.
fn begun() -> Outcome<Vec<String>> {
    let entries = fs::read_dir("/proc").context("list the processes")?.filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_marked = |name: &String| {
        let environment = fs::read(format!("/proc/{name}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(MARK.as_bytes()))
    };
    Ok(names.filter(|name| name.parse::<u32>().is_ok() && is_marked(name)).collect())
}
