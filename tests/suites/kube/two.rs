//! Two networks on the same machines, by two prefixes of annotations on the same Nodes: IPv4's ranges are the first's, IPv6's the second's.

use std::path::PathBuf;

use libtest_mimic::Trial;
use netd_tests::apiserver::ApiServer;
use netd_tests::suite::test;
use netd_tests::two_networks::{Stores, Which, live_apart};
use netd_tests::{Context, Fabric, Node, Outcome, Stack, Topology, net_conf};
use serde_json::json;

use crate::bed::{self, Bed, PREFIX, vxlan};

/// It begins like the first one's.
const SECOND: &str = "flannel.alpha.coreos.com/second";

pub(crate) fn trials() -> Vec<Trial> {
    vec![test("two netd with different VNI and --kube-annotation-prefix on the same hosts leave each other alone", two)]
}

struct Prefixes {
    server: ApiServer,
    kubeconfig: PathBuf,
    /// The second network's configuration.
    file: PathBuf,
    disk: PathBuf,
}

impl Stores for Prefixes {
    fn flags(&self, which: Which, node: &Node) -> Vec<String> {
        let disk = self.disk.join(node.name());
        match which {
            Which::First => bed::flags(&self.kubeconfig.display().to_string(), &disk.display().to_string()),
            Which::Second => vec![
                "--kube-subnet-mgr".to_owned(),
                format!("--kubeconfig-file={}", self.kubeconfig.display()),
                format!("--kube-annotation-prefix={SECOND}"),
                format!("--net-config-path={}", self.file.display()),
                format!("--state-dir={}", disk.join("second-state").display()),
            ],
        }
    }

    fn records(&self, which: Which, fabric: &Fabric) -> Outcome<Vec<String>> {
        let mut records = Vec::new();
        for node in fabric.nodes.iter().filter(|node| node.name() != "api") {
            let object = self.server.get(&bed::path(node.name()))?;
            let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
            let of_second = |name: &str| name.starts_with(SECOND);
            let own = annotations.filter(|(name, _)| match which {
                Which::First => name.starts_with(PREFIX) && !of_second(name),
                Which::Second => of_second(name),
            });
            records.extend(own.map(|(name, value)| format!("{} {name} {value}", node.name())));
        }
        Ok(records)
    }
}

fn two() -> Outcome {
    let mut topology = Topology::one_segment(Stack::Dual);
    topology.machines.truncate(2);
    let bed = Bed::bare(&topology.with("api", 1), &vxlan())?;
    for name in ["n1", "n2"] {
        let ranges = bed::ranges(name, Stack::Dual);
        bed.add_node(name, &ranges.iter().map(String::as_str).collect::<Vec<_>>(), &json!({}))?;
    }
    let Bed { fabric, server, kubeconfig } = bed;
    let file = fabric.disk().join("second.json");
    let conf = net_conf(Stack::V6, &json!({ "Type": "vxlan", "VNI": 2 }));
    std::fs::write(&file, conf.to_string()).context("write a configuration")?;
    let disk = fabric.disk().to_owned();
    live_apart(&fabric, &Prefixes { server, kubeconfig, file, disk })
}
