//! netd-proxy on a real API server, and in the place of a real kube-proxy.

use std::process::ExitCode;

use netd_tests::suite::test;
use netd_tests::{apiserver, peers};

#[path = "services/ask.rs"]
mod ask;
#[path = "proxy/bed.rs"]
mod bed;
#[path = "proxy/events.rs"]
mod events;
#[path = "proxy/load.rs"]
mod load;
#[path = "proxy/metrics.rs"]
mod metrics;
#[path = "proxy/objects.rs"]
mod objects;
#[path = "proxy/outage.rs"]
mod outage;
#[path = "proxy/semantics.rs"]
mod semantics;
#[path = "proxy/take_over.rs"]
mod take_over;

fn main() -> ExitCode {
    netd_tests::suite::run_with(
        || peers::prepare(&[&apiserver::PROGRAMS[..], &[peers::KUBE_PROXY]].concat()),
        || {
            vec![
                test("objects of the API server are in force, by the Pod's own account", objects::in_force),
                test("fields of objects mean what they do to kube-proxy", semantics::of_fields),
                test("a conflict of two Services is an Event of the younger one", events::of_conflicts),
                test("a health check's port that is taken is an Event of the Service", events::of_health_checks),
                test("kube-proxy's dashboards are fed", metrics::of_dashboards),
                test("the API server goes away and comes back", outage::is_survived),
                test("kube-proxy is replaced and comes back under load/nftables", || take_over::of("nftables")),
                test("kube-proxy is replaced and comes back under load/iptables", || take_over::of("iptables")),
            ]
        },
    )
}
