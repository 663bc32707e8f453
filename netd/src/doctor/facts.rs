//! What the checks judge, and the one place that reads it: kernel, store, files, and the peers' answers. Changes nothing.

mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use dataplane::address::Address;
use dataplane::kernel::{Kernel, Linux};
use dataplane::link::Link;
use dataplane::netlink::KernelError;
use dataplane::nft::{self, BaseChainFacts, Hook, Policy, Rule, TableId};
use dataplane::offload;
use dataplane::types::{Family, IfName};
use network::model::{Cluster, Lease, NodeName, Rejected};
use network::observe::{self, Host};
use network::overlay::Outcome;
use network::plan::Plan;

use super::peers::{self, Answer, Questions};
use crate::config::{CniConfig, Config, RulesConfig};
use crate::daemon;
use crate::node::{Node, NodeError};
use crate::reconcile::{self, ReconcileError};
use crate::store::{Store, StoreError};

pub(super) mod sysctl;

/// The bridge that the plugin makes.
pub const BRIDGE: &str = "cni0";
/// Where runtimes look, if netd is not told another place.
const CONF_DIR: &str = "/etc/cni/net.d";

/// Why the doctor cannot say anything.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The kernel cannot be asked.
    #[error("cannot read the kernel's state: netd needs the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// The node cannot take part.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The leases cannot be read.
    #[error("cannot read the nodes' leases")]
    Store(#[from] StoreError),
    /// There is nothing to compare with.
    #[error("cannot say what the kernel should look like")]
    Reconcile(#[from] ReconcileError),
    /// Peers cannot be asked.
    #[error("cannot ask the peers: netd doctor needs the capability NET_RAW")]
    Probe(#[source] io::Error),
}

/// Everything that checks judge.
#[derive(Debug)]
pub struct Facts {
    /// The node, with its network and underlay.
    pub node: Node,
    /// The node's lease and its peers; none before netd has taken a lease.
    pub cluster: Option<Cluster>,
    /// Peers that cannot be believed.
    pub rejected: Vec<Rejected>,
    /// What the kernel should have.
    pub outcome: Outcome,
    /// What would make it so.
    pub plan: Plan,
    /// Links, routes and base chains.
    pub host: Host,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// The sysctls of [`sysctl`] that are there.
    pub sysctls: BTreeMap<String, String>,
    /// Every nftables chain.
    pub chains: BTreeSet<(TableId, String)>,
    /// The rules of the chains that drop forwarded packets by policy.
    pub rules: BTreeMap<(TableId, String), Vec<Rule>>,
    /// What tells the plugin its subnet.
    pub subnet_file: SubnetFile,
    /// Where runtimes find the plugin's configuration.
    pub conf_dir: ConfDir,
    /// Devices that were asked whether they make checksums.
    pub tx_checksum: BTreeMap<IfName, bool>,
    /// What the peers were asked.
    pub questions: Questions,
    /// What came of it.
    pub answers: BTreeMap<(NodeName, Family), Answer>,
}

/// `subnet.env`.
#[derive(Debug, Clone)]
pub struct SubnetFile {
    /// Its path.
    pub path: PathBuf,
    /// What is in it, where it is there.
    pub text: Option<String>,
}

impl SubnetFile {
    /// The MTU that pods are told.
    pub fn mtu(&self) -> Option<u32> {
        let mut lines = self.text.as_deref()?.lines();
        lines.find_map(|line| line.trim().strip_prefix("FLANNEL_MTU=")?.trim().parse().ok())
    }
}

/// The folder of CNI configurations.
#[derive(Debug, Clone)]
pub struct ConfDir {
    /// Its path.
    pub path: PathBuf,
    /// The name of netd's file.
    pub own: String,
    /// True where netd has been told to write it.
    pub wanted: bool,
    /// The names of the files in it.
    pub files: BTreeSet<String>,
}

impl Facts {
    /// A sysctl's value.
    pub fn sysctl(&self, key: &str) -> Option<&str> {
        self.sysctls.get(key).map(String::as_str)
    }

    /// A link.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.host.links.values().find(|link| link.name.as_str() == name)
    }

    /// A link's name.
    pub fn name_of(&self, index: u32) -> Option<&IfName> {
        self.host.links.values().find(|link| link.index == index).map(|link| &link.name)
    }

    /// True for the tunnel devices of this daemon.
    pub fn is_own(&self, index: u32) -> bool {
        let link = self.host.links.values().find(|link| link.index == index);
        link.is_some_and(|link| {
            let marked = link.alias.as_ref() == Some(&self.node.identity.mark);
            link.tunnel().is_some() && (marked || self.outcome.desired.devices.contains_key(&link.name))
        })
    }

    /// The devices that pods' packets pass: the underlay's, the tunnels and the bridge, where they are there.
    pub fn devices(&self) -> impl Iterator<Item = &IfName> {
        let links = self.host.links.values();
        links.map(|link| &link.name).filter(|name| {
            **name == self.node.underlay.ifname
                || name.as_str() == BRIDGE
                || self.outcome.desired.devices.contains_key(*name)
        })
    }

    /// The peers that are believed.
    pub fn peers(&self) -> impl Iterator<Item = (&NodeName, &Lease)> {
        self.cluster.iter().flat_map(|cluster| &cluster.peers).map(|(node, lease)| (node, lease.as_ref()))
    }

    /// The rules of a chain that drops forwarded packets by policy.
    pub fn rules_of(&self, chain: &BaseChainFacts) -> &[Rule] {
        self.rules.get(&(chain.table.clone(), chain.chain.clone())).map_or(&[], Vec::as_slice)
    }
}

/// Reads all of it.
pub async fn read(config: &Config, store: &impl Store) -> Result<Facts, FactsError> {
    let mut kernel = Linux::open()?;
    let node = Node::discover(config, store, &mut kernel).await?;
    let leases = store.leases().await?;
    let own = node.own_among(&leases);
    let (mut cluster, mut rejected) = (None, Vec::new());
    let (mut plan, mut outcome) = (Plan::default(), Outcome { settled: true, one_way: true, ..Outcome::default() });
    if let Some(own) = own {
        let (admitted, left_out) = Cluster::admit(own, leases, None, &node.identity.networks);
        // What a chain of others drops is told even where netd has been told not to mind.
        let rules = RulesConfig { accept_forwarded: true, ..config.rules };
        let left = daemon::left_by_a_change(&config.subnet_file);
        let planned = reconcile::plan(&mut kernel, &node, &admitted, rules, &left)?;
        (plan, outcome) = (planned.plan, planned.outcome);
        (cluster, rejected) = (Some(admitted), left_out);
    }
    let host = observe::host(&mut kernel, &node.identity)?;
    let text = std::fs::read_to_string(&config.subnet_file).ok();
    let mut facts = Facts {
        node,
        cluster,
        rejected,
        outcome,
        plan,
        addresses: kernel.addresses()?,
        sysctls: BTreeMap::new(),
        chains: nft::Socket::open()
            .and_then(|mut nft| nft.chain_names())
            .map_err(KernelError::from)?
            .into_iter()
            .collect(),
        rules: rules(&mut kernel, &host)?,
        host,
        subnet_file: SubnetFile { path: config.subnet_file.clone(), text },
        conf_dir: conf_dir(&config.cni),
        tx_checksum: BTreeMap::new(),
        questions: Questions::new(),
        answers: BTreeMap::new(),
    };
    let keys = sysctl::all(facts.devices(), &facts.node.underlay.ifname);
    // One that is not there belongs to a module or a family that is not there.
    facts.sysctls = keys.filter_map(|key| Some((key.clone(), kernel.sysctl(&key).ok()?))).collect();
    facts.tx_checksum =
        facts.devices().filter_map(|device| Some((device.clone(), offload::tx_checksum(device).ok()?))).collect();
    facts.questions = peers::questions(&facts);
    facts.answers = ask::all(&facts.questions).map_err(FactsError::Probe)?;
    Ok(facts)
}

fn rules(kernel: &mut Linux, host: &Host) -> Result<BTreeMap<(TableId, String), Vec<Rule>>, KernelError> {
    let mut rules = BTreeMap::new();
    let dropping = |chain: &&BaseChainFacts| chain.base.hook == Hook::Forward && chain.base.policy == Policy::Drop;
    for chain in host.base_chains.iter().filter(dropping) {
        let placed = kernel.rules(&chain.table, &chain.chain)?;
        let key = (chain.table.clone(), chain.chain.clone());
        rules.insert(key, placed.into_iter().map(|placed| placed.rule).collect());
    }
    Ok(rules)
}

fn conf_dir(config: &CniConfig) -> ConfDir {
    let path = config.conf_dir.clone().unwrap_or_else(|| Path::new(CONF_DIR).to_owned());
    // A folder that is not there is an empty one.
    let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ConfDir { path, own: config.conf_name.clone(), wanted: config.conf_dir.is_some(), files }
}
