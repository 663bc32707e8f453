//! Two networks on the same machines, below two prefixes of one etcd.

use libtest_mimic::Trial;
use netd_tests::etcd::{Etcd, PREFIX};
use netd_tests::suite::test;
use netd_tests::two_networks::{Stores, Which, live_apart};
use netd_tests::{Fabric, Node, Outcome, ensure};
use serde_json::json;

use crate::bed::{Bed, ENDPOINT, vxlan};

/// It begins like the first one's.
const SECOND: &str = "/coreos.com/network-2";

pub(crate) fn trials() -> Vec<Trial> {
    vec![test("two netd with different VNI and --etcd-prefix on the same hosts leave each other alone", two)]
}

struct Prefixes {
    etcd: Etcd,
}

impl Stores for Prefixes {
    fn flags(&self, which: Which, _: &Node) -> Vec<String> {
        let mut flags = vec![ENDPOINT.to_owned()];
        if which == Which::Second {
            flags.push(format!("--etcd-prefix={SECOND}"));
        }
        flags
    }

    fn records(&self, which: Which, fabric: &Fabric) -> Outcome<Vec<String>> {
        let prefix = if which == Which::First { PREFIX } else { SECOND };
        let keys = self.etcd.below(fabric.node("etcd"), &format!("{prefix}/subnets/"))?;
        Ok(keys.into_iter().map(|(key, value, lease)| format!("{key} {value} {lease:x}")).collect())
    }
}

fn two() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let conf = json!({ "Network": "10.245.0.0/16", "Backend": { "Type": "vxlan", "VNI": 2 } });
    bed.ctl(&["put", &format!("{SECOND}/config"), &conf.to_string()])?;
    let stores = Prefixes { etcd: bed.etcd };
    live_apart(&bed.fabric, &stores)?;
    // Those of the second network's nodes.
    let left = stores.etcd.ctl(bed.fabric.node("etcd"), &["lease", "list"])?;
    ensure!(left.contains("found 2 leases"), "etcd has {left}");
    Ok(())
}
