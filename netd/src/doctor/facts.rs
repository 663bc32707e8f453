//! What the checks judge: values from the kernel, the store, files and the peers' answers.
//!
//! Pure; [`super::gather`] reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dataplane::link::Link;
use dataplane::nft::{BaseChainFacts, Rule, TableId};
use dataplane::types::{Family, IfName};
use netd_cni::attachment::Port;
use network::model::{Cluster, Lease, NodeName, Rejected};
use network::observe::Host;
use network::overlay::{self, Outcome};
use network::plan::Plan;

use proxy::listing::Listing;

use super::probe::{Answer, Questions};
use crate::config::ProxyMode;
use crate::diversion::Diversion;
use crate::node::Node;

/// Everything that checks judge.
#[derive(Debug)]
pub(super) struct Facts {
    /// The node, with its network and underlay.
    pub node: Node,
    /// The node's lease and its peers; none before netd has taken a lease.
    pub cluster: Option<Cluster>,
    /// Nodes that are left out.
    pub rejected: Vec<Rejected>,
    /// The desired state, and the reasons.
    pub outcome: Outcome,
    /// The difference between the kernel and the desired state.
    pub plan: Plan,
    /// The kernel.
    pub kernel: KernelFacts,
    /// The file with the subnets for the plugin.
    pub subnet_file: SubnetFile,
    /// Where runtimes find the plugin's configuration.
    pub conf_dir: ConfDir,
    /// The questions to the peers.
    pub questions: Questions,
    /// The answers.
    pub answers: BTreeMap<(NodeName, Family), Answer>,
}

/// What the kernel has.
#[derive(Debug)]
pub(super) struct KernelFacts {
    /// The policy rules that send packets to pods elsewhere.
    pub diversions: Vec<Diversion>,
    /// Links, addresses, routes and base chains.
    pub host: Host,
    /// The sysctls of [`super::sysctl`] that exist.
    pub sysctls: BTreeMap<String, String>,
    /// Every nftables chain.
    pub chains: BTreeSet<(TableId, String)>,
    /// The rules of the chains that drop forwarded packets by policy.
    pub rules: BTreeMap<(TableId, String), Vec<Rule>>,
    /// The ports of the pods' bridge, and what is behind them.
    pub ports: Vec<Port>,
    /// Which devices make checksums.
    pub tx_checksum: BTreeMap<IfName, bool>,
    /// Services.
    pub proxy: ProxyFacts,
}

/// The proxy for Services.
#[derive(Debug)]
pub(super) struct ProxyFacts {
    /// Whether netd's should run.
    pub mode: ProxyMode,
    /// What the running proxy has programmed.
    pub listing: Option<Listing>,
    /// kube-proxy has rules on the node, in any of its modes.
    pub has_kube_proxy_rules: bool,
}

/// `subnet.env`.
#[derive(Debug, Clone)]
pub(super) struct SubnetFile {
    /// Its path.
    pub path: PathBuf,
    /// Its text, if the file exists.
    pub text: Option<String>,
}

impl SubnetFile {
    /// The MTU for pods.
    pub(super) fn mtu(&self) -> Option<u32> {
        let mut lines = self.text.as_deref()?.lines();
        lines.find_map(|line| line.trim().strip_prefix("FLANNEL_MTU=")?.trim().parse().ok())
    }
}

/// The folder of CNI configurations.
#[derive(Debug, Clone)]
pub(super) struct ConfDir {
    /// Its path.
    pub path: PathBuf,
    /// The name of netd's file.
    pub own: String,
    /// True if netd is configured to write the file.
    pub wanted: bool,
    /// The names of the files in it.
    pub files: BTreeSet<String>,
}

impl Facts {
    /// A sysctl's value.
    pub(super) fn sysctl(&self, key: &str) -> Option<&str> {
        self.kernel.sysctls.get(key).map(String::as_str)
    }

    /// A link.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.kernel.host.links.values().find(|link| link.name.as_str() == name)
    }

    /// A link's name.
    pub(super) fn name_of(&self, index: u32) -> Option<&IfName> {
        self.by_index(index).map(|link| &link.name)
    }

    fn by_index(&self, index: u32) -> Option<&Link> {
        self.kernel.host.links.values().find(|link| link.index == index)
    }

    /// True for the tunnel devices of this daemon.
    pub(super) fn is_own(&self, index: u32) -> bool {
        self.by_index(index).is_some_and(|link| {
            let marked = link.alias.as_ref() == Some(&self.node.identity.mark);
            link.tunnel().is_some() && (marked || self.outcome.desired.devices.contains_key(&link.name))
        })
    }

    /// The devices that pods' packets pass, as far as they exist: the underlay's, the tunnels and the bridge.
    pub(super) fn devices(&self) -> impl Iterator<Item = &IfName> {
        let links = self.kernel.host.links.values();
        links.map(|link| &link.name).filter(|name| {
            **name == self.node.underlay.ifname
                || **name == self.node.bridge
                || self.outcome.desired.devices.contains_key(*name)
        })
    }

    /// The links with an IPv6 default route that a router has announced.
    pub(super) fn announced(&self) -> impl Iterator<Item = &IfName> {
        overlay::announced(&self.kernel.host.routes, &self.kernel.host.links)
    }

    /// True where a policy rule sends packets to a peer's pods elsewhere.
    pub(super) fn is_diverted(&self, peer: &NodeName, family: Family) -> bool {
        self.kernel.diversions.iter().any(|diversion| diversion.rule.family == family && diversion.peers.contains(peer))
    }

    /// The peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&NodeName, &Lease)> {
        self.cluster.iter().flat_map(|cluster| &cluster.peers).map(|(node, lease)| (node, lease.as_ref()))
    }

    /// The rules of a chain that drops forwarded packets by policy.
    pub(super) fn rules_of(&self, chain: &BaseChainFacts) -> &[Rule] {
        self.kernel.rules.get(&(chain.table.clone(), chain.chain.clone())).map_or(&[], Vec::as_slice)
    }
}
