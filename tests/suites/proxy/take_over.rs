//! The real kube-proxy is replaced by netd-proxy, and the other way round, while connections go on.

use std::process::Command;

use netd_tests::apiserver::Credentials;
use netd_tests::daemon::Daemon;
use netd_tests::{Context, Outcome, binaries, ensure, eventually, peers, seconds};

use crate::bed::{Bed, WEB};
use crate::load::Load;

/// The rules that kube-proxy alone makes: what shows them.
const SHOW: &str = "nft list tables | grep -w kube-proxy || true
    { iptables-save; ip6tables-save; iptables-legacy-save; ip6tables-legacy-save; } 2>/dev/null |
        grep -E 'KUBE-(SERVICES|EXTERNAL|NODEPORTS|POSTROUTING|MARK-MASQ|FORWARD|PROXY|SVC|SVL|SEP|EXT|FW)' || true";

/// The mode of a kube-proxy that finds iptables-legacy under the name of iptables.
const LEGACY: &str = "iptables-legacy";

fn kube_proxy(bed: &Bed, mode: &str) -> Outcome<Daemon> {
    let kubeconfig = bed.server.kubeconfig("kube-proxy", &Credentials::control_token("system:kube-proxy"))?;
    let file = bed.fabric.disk().join("kube-proxy.yml");
    // Some limits of connection tracking are the machine's below, and cannot be written.
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {}\n\
         clientConnection: {{kubeconfig: {}}}\nclusterCIDR: 10.244.0.0/16\nconntrack: {{maxPerCore: 0}}\n",
        if mode == LEGACY { "iptables" } else { mode },
        kubeconfig.display()
    );
    std::fs::write(&file, text).context("write kube-proxy's configuration")?;
    let mut command = Command::new(peers::KUBE_PROXY.path()?);
    command.arg("--config").arg(file).arg("--hostname-override=n1");
    if mode == LEGACY {
        let folder = bed.fabric.disk().join("legacy");
        let links = "for name in iptables ip6tables; do for end in '' -save -restore; do
            ln -sf $(command -v xtables-legacy-multi) $1/$name$end; done; done";
        let line = format!("set -- {0}; mkdir -p {0}; {links}", folder.display());
        bed.node().shell(&line)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).context("put a folder before others")?);
    }
    bed.launch(command, "kube-proxy")
}

/// Waits until kube-proxy has made its rules for `web`.
fn await_rules(bed: &Bed, daemon: &Daemon, mode: &str) -> Outcome {
    let show = match mode {
        "nftables" => "nft list map ip kube-proxy service-ips",
        LEGACY => "iptables-legacy-save -t nat",
        _ => "iptables-nft-save -t nat",
    };
    eventually(seconds(60), "kube-proxy makes its rules", || {
        let rules = bed.node().run(show)?;
        ensure!(rules.contains(&WEB.0.to_string()), "they are {rules}");
        Ok(())
    })
    .map_err(|failure| failure.with("kube-proxy", &daemon.log()))
}

pub(crate) fn of(mode: &str) -> Outcome {
    let bed = Bed::start()?;
    Load::prepare(&bed)?;
    let former = kube_proxy(&bed, mode)?;
    await_rules(&bed, &former, mode)?;
    bed.serves(&[1, 2])?;
    let load = Load::start(&bed)?;
    load.goes_on()?;

    // Both stand while kube-proxy runs.
    let daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    daemon.await_log("kube-proxy answers on 127.0.0.1:10249: its rules stay", seconds(60))?;
    load.goes_on()?;
    ensure!(!bed.node().shell(SHOW)?.is_empty(), "the rules of a kube-proxy that runs are gone");
    former.crash()?;
    daemon.await_log("the rules that it left are removed", seconds(60))?;
    let left = bed.node().shell(SHOW)?;
    ensure!(left.is_empty(), "of kube-proxy's rules there are {left}");
    load.goes_on()?;
    bed.set_endpoints(&[2, 3])?;
    bed.serves(&[2, 3]).map_err(|failure| bed.with_logs(failure, &daemon))?;
    daemon.await_log("answering on 0.0.0.0:10256", seconds(60))?;

    // And back.
    let later = kube_proxy(&bed, mode)?;
    await_rules(&bed, &later, mode)?;
    load.goes_on()?;
    ensure!(!bed.node().shell(SHOW)?.is_empty(), "the rules of a kube-proxy that was started later are gone");
    daemon.terminate()?;
    load.goes_on()?;
    bed.node().run(&format!("{} --cleanup", binaries::proxy()?.display()))?;
    let tables = bed.node().run("nft list tables")?;
    ensure!(!tables.contains("netd-proxy"), "the tables are {tables}");
    bed.set_endpoints(&[1, 3])?;
    bed.serves(&[1, 3]).map_err(|failure| failure.with("kube-proxy", &later.log()))?;
    load.unharmed()?;

    // Rules of a kube-proxy that ended before netd-proxy starts.
    later.crash()?;
    let daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    daemon.await_log("the rules that it left are removed", seconds(60))?;
    let left = bed.node().shell(SHOW)?;
    ensure!(left.is_empty(), "of kube-proxy's rules there are {left}");
    bed.serves(&[1, 3]).map_err(|failure| bed.with_logs(failure, &daemon))
}
