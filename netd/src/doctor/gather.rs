//! Reads what the checks judge: kernel, store, files, and the peers' answers. Changes nothing.

use std::collections::BTreeMap;
use std::io;

use dataplane::kernel::{Kernel, Linux};
use dataplane::netlink::{KernelError, RouteSocket};
use dataplane::nft::{self, BaseChainFacts, Hook, Policy, Rule, TableId};
use dataplane::offload;
use dataplane::types::IfName;
use netd_cni::attachment::Port;
use netd_cni::netlink::ports;
use network::observe::{self, Host};
use network::overlay::Outcome;
use network::plan::Plan;
use proxy::kube_proxy;
use proxy::listing::client;

use super::facts::{ConfDir, Facts, KernelFacts, ProxyFacts, SubnetFile};
use super::probe::{self, Questions};
use super::{peers, sysctl};
use crate::bridge;
use crate::config::{CniConfig, Config, RulesConfig};
use crate::conflist::NETWORK;
use crate::diversion;
use crate::node::{Node, NodeError};
use crate::reconcile::{self, ReconcileError};
use crate::relaxed_rp_filter;
use crate::store::{Store, StoreError};
use crate::whole_file;

/// Where runtimes look for CNI configurations by default.
const CONF_DIR: &str = "/etc/cni/net.d";

/// The facts cannot be read.
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
    /// There is no desired state to compare with.
    #[error("cannot say what the kernel should look like")]
    Reconcile(#[from] ReconcileError),
    /// Peers cannot be asked.
    #[error("cannot ask the peers: netd doctor needs the capability NET_RAW")]
    Probe(#[source] io::Error),
}

/// Reads everything that the checks judge.
///
/// # Errors
/// If the kernel or the store cannot be read, or the peers cannot be asked.
pub(super) async fn read(config: &Config, store: &Store) -> Result<Facts, FactsError> {
    let mut kernel = Linux::open()?;
    let node = Node::discover(config, store, &mut kernel).await?;
    let leases = store.leases().await?;
    let own = node.own_among(&leases);
    let host = observe::host(&mut kernel, &node.identity)?;
    let (mut cluster, mut rejected, mut diversions) = (None, Vec::new(), Vec::new());
    let (mut plan, mut outcome) = (Plan::default(), Outcome { settled: true, one_way: true, ..Outcome::default() });
    if let Some(own) = own {
        let (admitted, admission) = reconcile::admit(&mut kernel, &node, &host, own, &leases, None)?;
        // Chains that drop packets are reported even if netd is configured not to accept forwarded packets.
        let rules = RulesConfig { accept_forwarded: true, ..config.rules };
        let transition = relaxed_rp_filter::transition(&config.subnet_file);
        let memory = bridge::Memory::read(&config.subnet_file);
        let planned = reconcile::plan(&mut kernel, host.clone(), &node, &admitted, rules, &transition, memory)?;
        (plan, outcome) = (planned.plan, planned.outcome);
        let networks = &node.identity.networks;
        diversions = diversion::find(kernel.socket(), networks, &admitted, &outcome);
        (cluster, rejected) = (Some(admitted), admission.rejected());
    }
    let text = whole_file::read(&config.subnet_file).ok();
    let chains = nft::Socket::open().and_then(|mut nft| nft.chains()).map_err(KernelError::from)?;
    let kernel_facts = KernelFacts {
        diversions,
        sysctls: BTreeMap::new(),
        chains: chains.into_iter().map(|(table, name, _)| (table, name)).collect(),
        rules: rules(&mut kernel, &host)?,
        host,
        ports: ports(&node.bridge),
        tx_checksum: BTreeMap::new(),
        // A proxy that does not answer is like none.
        proxy: ProxyFacts {
            mode: config.proxy.mode(),
            listing: client::listing().ok().flatten(),
            has_kube_proxy_rules: kube_proxy::has_rules()?,
        },
    };
    let mut facts = Facts {
        node,
        cluster,
        rejected,
        outcome,
        plan,
        kernel: kernel_facts,
        subnet_file: SubnetFile { path: config.subnet_file.clone(), text },
        conf_dir: conf_dir(&config.cni),
        questions: Questions::new(),
        answers: BTreeMap::new(),
    };
    let keys = sysctl::all(facts.devices(), facts.announced());
    // A missing sysctl belongs to a module or a family that the kernel does not have.
    facts.kernel.sysctls = keys.filter_map(|key| Some((key.clone(), kernel.sysctl(&key).ok()?))).collect();
    facts.kernel.tx_checksum =
        facts.devices().filter_map(|device| Some((device.clone(), offload::tx_checksum(device).ok()?))).collect();
    facts.questions = peers::questions(&facts);
    facts.answers = probe::ask(&facts.questions).map_err(FactsError::Probe)?;
    Ok(facts)
}

fn rules(kernel: &mut Linux, host: &Host) -> Result<BTreeMap<(TableId, String), Vec<Rule>>, KernelError> {
    let dropping = |chain: &&BaseChainFacts| chain.base.hook == Hook::Forward && chain.base.policy == Policy::Drop;
    let rules = host.base_chains.iter().filter(dropping).map(|chain| {
        let read = kernel.rules(&chain.table, &chain.chain)?.into_iter().map(|read| read.rule);
        Ok(((chain.table.clone(), chain.chain.clone()), read.collect()))
    });
    rules.collect()
}

/// The pods of netd's network; none where the kernel cannot be asked about other namespaces.
fn ports(bridge: &IfName) -> Vec<Port> {
    let read = || ports::read(&mut RouteSocket::open().ok()?, bridge, &NETWORK.parse().ok()?).ok();
    read().unwrap_or_default()
}

fn conf_dir(config: &CniConfig) -> ConfDir {
    let path = config.conf_dir.clone().unwrap_or_else(|| CONF_DIR.into());
    // A missing folder is like an empty one.
    let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ConfDir { path, own: config.conf_name.clone(), wanted: config.conf_dir.is_some(), files }
}
