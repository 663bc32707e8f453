//! Hosts as they are: what people met on such networks, in namespaces, with packets counted before, during and after.

#[path = "hosts/bridge.rs"]
mod bridge;
#[path = "hosts/hostile.rs"]
mod hostile;
#[path = "hosts/hostile_bed.rs"]
mod hostile_bed;
#[path = "hosts/identity.rs"]
mod identity;
#[path = "hosts/kept.rs"]
mod kept;
#[path = "hosts/plugin.rs"]
mod plugin;
#[path = "hosts/settings.rs"]
mod settings;
#[path = "hosts/underlay.rs"]
mod underlay;

use std::process::ExitCode;

fn main() -> ExitCode {
    let prepare = || netd_tests::peers::prepare(&[netd_tests::peers::ETCD, netd_tests::peers::ETCDCTL]);
    netd_tests::suite::run_with(prepare, || {
        let rooms = [
            bridge::trials,
            hostile::trials,
            identity::trials,
            kept::trials,
            plugin::trials,
            settings::trials,
            underlay::trials,
        ];
        rooms.into_iter().flat_map(|trials| trials()).collect()
    })
}
