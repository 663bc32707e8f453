//! The cgroups of a node: made in each hierarchy, and gone with the suite however that ends.
//!
//! Of all that a suite makes they alone are in no namespace, so that somebody outside has to take them away.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::isolation;

const ROOT: &str = "/sys/fs/cgroup";

/// Its standard input ends when all programs of the suite have.
const CLEANER: &str = r#"
cat
tries=0
while [ $tries -lt 50 ]; do
    left=
    for folder in /sys/fs/cgroup/"$1"-* /sys/fs/cgroup/*/"$1"-*; do
        [ -d "$folder" ] || continue
        find "$folder" -depth -type d -exec rmdir {} + || left=yes
    done
    [ -n "$left" ] || exit 0
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// Before a suite enters its namespaces: starts what will take its cgroups away.
///
/// # Errors
/// Where this is not root, or that cannot be started.
pub fn watch_over() -> Outcome {
    crate::ensure!(
        nix::unistd::geteuid().is_root(),
        "kubelets and containers need root, and more than that of a user namespace: run this suite as root"
    );
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let mut cleaner = Command::new("sh");
    // A group of its own, so that Ctrl-C leaves it.
    cleaner.args(["-c", CLEANER, "sh", &prefix()]).process_group(0);
    cleaner.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
    cleaner.spawn().context("start what takes cgroups away")?;
    // From now on all that the suite starts inherits it, and nobody writes to it.
    fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty())).context("pass a pipe on")?;
    std::mem::forget(writer);
    Ok(())
}

fn prefix() -> String {
    format!("netd-tests-{}", isolation::number())
}

/// One node's cgroup, in each hierarchy.
#[derive(Debug)]
pub(super) struct Cgroup {
    name: String,
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes it. `label` is different from others of this suite.
    pub(super) fn make(label: &str) -> Outcome<Self> {
        let name = format!("{}-{label}", prefix());
        let mut folders = Vec::new();
        for hierarchy in hierarchies()? {
            let folder = hierarchy.join(&name);
            if !folder.is_dir() {
                std::fs::create_dir(&folder).context(format!("make the cgroup {}", folder.display()))?;
            }
            // A new cpuset of version 1 permits nothing.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (hierarchy.join(file), folder.join(file));
                if from.is_file() && to.is_file() {
                    let permitted = std::fs::read(&from).context(format!("read {}", from.display()))?;
                    std::fs::write(&to, permitted).context(format!("write {}", to.display()))?;
                }
            }
            folders.push(folder);
        }
        Ok(Self { name, folders })
    }

    /// Its path, the same in each hierarchy.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Kills all that runs in it, and takes it away.
    pub(super) fn remove(&self) -> Outcome {
        eventually(seconds(20), "a node's cgroups go", || {
            for process in self.processes() {
                // It may just have ended.
                let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
            }
            self.folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| remove(folder))
        })
    }

    /// All that runs in it.
    pub(super) fn processes(&self) -> BTreeSet<i32> {
        self.folders.iter().flat_map(|folder| processes(folder)).collect()
    }
}

/// The folders that have cgroups in them: one of version 2, or one for each controller of version 1.
fn hierarchies() -> Outcome<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.procs").is_file() {
        return Ok(vec![root.to_owned()]);
    }
    let entries = std::fs::read_dir(root).context(format!("list {ROOT}"))?;
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // Some have two names, and `unified` belongs to nobody but systemd.
    let own = |path: &PathBuf| !path.is_symlink() && path.join("cgroup.procs").is_file() && !path.ends_with("unified");
    Ok(folders.filter(own).collect())
}

fn below(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir())
}

fn processes(folder: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    own.chain(below(folder).flat_map(|folder| processes(&folder))).collect()
}

fn remove(folder: &Path) -> Outcome {
    below(folder).try_for_each(|folder| remove(&folder))?;
    std::fs::remove_dir(folder).context(format!("remove {}", folder.display()))
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is left goes with the suite.
        let _ = self.remove();
    }
}
