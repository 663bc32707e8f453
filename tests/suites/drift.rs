//! Whatever happens to what netd has made is put right: the kernel is as before, pods talk, and what is not netd's is
//! untouched. Injuries are data; each is done on a node where netd runs.

#[path = "drift/bed.rs"]
mod bed;
#[path = "drift/fight.rs"]
mod fight;
#[path = "drift/forward.rs"]
mod forward;
#[path = "drift/injuries.rs"]
mod injuries;
#[path = "drift/two.rs"]
mod two;

use std::process::ExitCode;

use netd_tests::backend::{direct, host_gw, vxlan};
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, Stack, Topology, ensure, eventually, kernel, seconds};
use serde_json::Value;

use bed::Bed;
use injuries::{CHANGES, INJURIES, NOTHING, UnderlayChange};

/// So many injuries, then netd is started again: it may lose patience with somebody who undoes one thing all the time.
const AT_A_TIME: usize = 4;

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = Vec::new();
        for network in NETWORKS {
            trials.push(test(format!("each object comes back/{}", network.name), move || injured(network)));
            trials
                .push(test(format!("the underlay changes and changes back/{}", network.name), move || moved(network)));
        }
        for network in [&NETWORKS[0], &NETWORKS[5]] {
            trials
                .push(test(format!("the underlay's device is made anew/{}", network.name), move || made_anew(network)));
            trials.push(test(format!("sysctls are put back/{}", network.name), move || sysctls(network)));
        }
        trials.push(test("sysctls without notifications are put back", || quiet_sysctls(&NETWORKS[0])));
        trials.push(test("rules in iptables' chain come back", || forward::heals(NETWORKS[0].start()?)));
        trials.push(test("netd does not fight", || fight::lost(&NETWORKS[0].start()?)));
        trials.push(test("two daemons on one host leave each other alone", two::leave_each_other_alone));
        trials
    })
}

/// A network, and what it runs over.
struct Network {
    name: &'static str,
    backend: fn() -> Value,
    pods: Stack,
    underlay: Stack,
}

const NETWORKS: &[Network] = &[
    Network { name: "vxlan, dual over v4", backend: vxlan, pods: Stack::Dual, underlay: Stack::V4 },
    Network { name: "vxlan, dual over dual", backend: vxlan, pods: Stack::Dual, underlay: Stack::Dual },
    Network { name: "vxlan, v4 over v6", backend: vxlan, pods: Stack::V4, underlay: Stack::V6 },
    Network { name: "vxlan, v6 over v6", backend: vxlan, pods: Stack::V6, underlay: Stack::V6 },
    Network { name: "host-gw, v4 over v4", backend: host_gw, pods: Stack::V4, underlay: Stack::V4 },
    Network { name: "host-gw, dual over dual", backend: host_gw, pods: Stack::Dual, underlay: Stack::Dual },
    Network { name: "host-gw, v6 over v6", backend: host_gw, pods: Stack::V6, underlay: Stack::V6 },
    Network { name: "direct, dual over dual", backend: direct, pods: Stack::Dual, underlay: Stack::Dual },
];

impl Network {
    /// With a netd that learns of drift by notifications alone: its next full read is in an hour.
    fn start(&self) -> Outcome<Bed> {
        self.compared_every("3600")
    }

    fn compared_every(&self, seconds: &str) -> Outcome<Bed> {
        let backend = (self.backend)();
        let is_direct = backend["DirectRouting"] == true;
        let mut topology =
            if is_direct { Topology::two_segments(self.underlay) } else { Topology::one_segment(self.underlay) };
        if !is_direct {
            topology.machines.truncate(2);
        }
        Bed::start(&topology, self.pods, &backend, seconds)
    }
}

fn injured(network: &Network) -> Outcome {
    let mut bed = network.start()?;
    let mut done = 0;
    let mut failures = Vec::new();
    for injury in INJURIES {
        let Some(script) = bed.script(injury)? else { continue };
        if done > 0 && done % AT_A_TIME == 0 {
            bed.restart()?;
        }
        done += 1;
        if let Err(failure) = bed.heals(&script).context(format!("after `{}`", injury.harm)) {
            failures.push(failure);
            // The next one finds a whole network again.
            bed = network.start()?;
        }
    }
    bed::all_of(&failures)
}

fn moved(network: &Network) -> Outcome {
    let mut bed = network.start()?;
    let mut failures = Vec::new();
    for change in CHANGES {
        if let Err(failure) = there_and_back(&bed, change).context(format!("`{}`", change.there)) {
            failures.push(failure);
            bed = network.start()?;
        }
    }
    bed::all_of(&failures)
}

fn there_and_back(bed: &Bed, change: &UnderlayChange) -> Outcome {
    match change.back {
        NOTHING => bed.change(change.there)?,
        _ => bed.change_for_good(change.there)?,
    }
    if change.reachable {
        bed.talk().context("there")?;
    }
    bed.change(change.back)?;
    bed.whole().context("and back")?;
    bed.talk().context("and back")
}

/// The cable is pulled with its device, as a driver that is loaded anew does.
fn made_anew(network: &Network) -> Outcome {
    let bed = network.start()?;
    let n1 = bed.cluster.node("n1").namespace();
    let segment = &bed.cluster.fabric.segments[0];
    let link = kernel::existing_link(n1, "eth0")?;
    let mac = link["address"].as_str().context("eth0 has a hardware address")?;
    segment.run("ip link del n1")?;
    eventually(seconds(5), "eth0 is gone", || {
        ensure!(kernel::link(n1, "eth0")?.is_none(), "it is there");
        Ok(())
    })?;
    let peer = n1.name();
    segment.ip(&format!(
        "link add n1 mtu 1500 type veth peer name eth0 address {mac} netns {peer}\nlink set n1 master br0 up"
    ))?;
    bed.change("%UP eth0")?;
    bed.talk()?;
    bed.whole()
}

/// The kernel sends notifications of these.
fn sysctls(network: &Network) -> Outcome {
    tuned(&network.start()?, &["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"], "0")
}

/// The kernel sends no notification of these; the next full read finds them.
fn quiet_sysctls(network: &Network) -> Outcome {
    tuned(&network.compared_every("1")?, &["net/ipv6/conf/flannel.1/accept_ra"], "2")
}

fn tuned(bed: &Bed, keys: &[&str], wrong: &str) -> Outcome {
    let n1 = bed.cluster.node("n1").namespace();
    let read = || keys.iter().map(|key| n1.run(&format!("cat /proc/sys/{key}"))).collect::<Outcome<Vec<_>>>();
    let before = read()?;
    let harm: Vec<String> = keys.iter().map(|key| format!("echo {wrong} >/proc/sys/{key}")).collect();
    bed.injure(&harm.join("\n"), || {
        ensure!(read()? != before, "{keys:?} are {before:?} as before");
        Ok(())
    })?;
    eventually(seconds(30), "they are as before", || {
        let now = read()?;
        ensure!(now == before, "{keys:?} are {now:?} and were {before:?}");
        Ok(())
    })
    .map_err(|failure| bed.cluster.with_logs(failure))?;
    bed.talk()
}
