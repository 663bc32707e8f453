//! Checks on facts made by hand. The addresses are in [`network`](network::fixtures).

mod host;
mod others;
mod peers;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dataplane::fake::global_address;
use dataplane::kernel::Kernel;
use dataplane::types::PerFamily;
use network::fixtures::{Network, address, name, node_name};
use network::observe;

use super::facts::{ConfDir, Facts, KernelFacts, ProxyFacts, SubnetFile};
use super::peers::questions;
use super::probe::{Answer, Questions};
use super::{Finding, Verdict, judge, table};
use crate::config::ProxyMode;
use crate::node::Node;

/// What node 1 finds in a network where all is well and every peer answers.
fn well(network: &Network) -> Facts {
    let mut kernel = network.fake();
    let plan = network.plan(&mut kernel);
    assert!(kernel.apply(&plan.ops).iter().all(Result::is_ok), "the kernel takes the network");
    let host = observe::host(&mut kernel, &network.identity()).expect("a readable kernel");
    let (cluster, conf, identity) = (network.cluster(), network.conf(), network.identity());
    let mut facts = Facts {
        node: Node {
            name: node_name(1),
            conf,
            underlay: network.underlay(1),
            tunnel_devices: PerFamily::none(),
            identity,
            public: PerFamily::none(),
            subnet_len: PerFamily::none(),
            bridge: name("cni0"),
        },
        cluster: Some(cluster),
        rejected: Vec::new(),
        outcome: network.outcome(&mut kernel).expect("a network that can be carried"),
        plan: network.plan(&mut kernel),
        kernel: KernelFacts {
            diversions: Vec::new(),
            host,
            sysctls: BTreeMap::new(),
            chains: BTreeSet::new(),
            rules: BTreeMap::new(),
            ports: Vec::new(),
            tx_checksum: BTreeMap::new(),
            proxy: ProxyFacts { mode: ProxyMode::Off, listing: None, has_kube_proxy_rules: false },
        },
        subnet_file: SubnetFile { path: PathBuf::from("/run/flannel/subnet.env"), text: Some(String::new()) },
        conf_dir: ConfDir {
            path: PathBuf::from("/etc/cni/net.d"),
            own: "10-netd.conflist".to_owned(),
            wanted: true,
            files: BTreeSet::from(["10-netd.conflist".to_owned()]),
        },
        questions: Questions::new(),
        answers: BTreeMap::new(),
    };
    for (key, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")] {
        facts.kernel.sysctls.insert(key.to_owned(), value.to_owned());
    }
    facts.questions = questions(&facts);
    let answer = Answer { inner: true, inner_full: true, outer: true, outer_full: true, ..Answer::default() };
    facts.answers = facts.questions.keys().map(|key| (key.clone(), answer)).collect();
    facts
}

/// Subject, verdict and remedy of each finding.
fn findings_of(judge: super::Judge, facts: &Facts) -> Vec<(String, Verdict, String)> {
    let findings = judge(facts).into_iter();
    findings.map(|finding| (finding.subject, finding.verdict, finding.remedy.unwrap_or_default())).collect()
}

/// The facts that a link has an address.
fn give(facts: &mut Facts, index: u32, ip: &str, prefix_len: u8) {
    facts.kernel.host.addresses.push(global_address(index, address(ip), prefix_len));
}

#[test]
fn the_table_shows_what_to_type_below_what_is_wrong() {
    let finding = |check, verdict, subject: &str, remedy: Option<&str>| Finding {
        check,
        subject: subject.to_owned(),
        verdict,
        what: format!("what of {check}"),
        remedy: remedy.map(str::to_owned),
    };
    let findings = [
        finding("mtu", Verdict::Ok, "", None),
        finding("peers", Verdict::Fault, "n2", Some("one\ntwo")),
        finding("subnets", Verdict::Warning, "br9", None),
    ];
    let lines = [
        "ok       mtu      what of mtu",
        "FAULT    peers    n2   what of peers",
        "                  > one",
        "                  > two",
        "warning  subnets  br9  what of subnets",
        "",
    ];
    assert_eq!(table(&findings), lines.join("\n"), "a line each, aligned");
}

#[test]
fn every_check_says_something() {
    let facts = well(&network::fixtures::vxlan(network::fixtures::DUAL, network::fixtures::DUAL));
    let findings = judge(&facts);
    let bad: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
    assert!(bad.is_empty(), "a healthy node is well: {bad:?}");
    assert_eq!(findings.len(), super::CHECKS.len(), "one line for each check");
}
