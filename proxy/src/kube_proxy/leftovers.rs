//! What kube-proxy leaves in the kernel when it ends, in each of its modes, and its removal.
//!
//! The kubelet's chains (`KUBE-FIREWALL`, `KUBE-KUBELET-CANARY`, `KUBE-IPTABLES-HINT`) stay.

mod ipvs;
mod legacy;
mod nftables;

use std::fmt;

use dataplane::error::KernelError;
use dataplane::nft;

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leftovers {
    tables: usize,
    chains: usize,
    /// Virtual servers of IPVS.
    servers: usize,
    sets: usize,
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tables of nftables, {} chains of iptables", self.tables, self.chains)?;
        if self.servers + self.sets > 0 {
            write!(f, ", {} virtual servers of IPVS, {} sets of ipset", self.servers, self.sets)?;
        }
        Ok(())
    }
}

/// What kube-proxy has left.
pub(super) struct Found {
    nftables: nftables::Found,
    legacy: legacy::Found,
    ipvs: ipvs::Found,
    /// Chains are among it that kube-proxy alone makes: older kubelets make some of the others.
    pub(super) has_services: bool,
}

/// True where the kernel has rules that kube-proxy alone makes, in any of its modes.
pub(super) fn are_there() -> Result<bool, KernelError> {
    Ok(ipvs::has_device() || nftables::are_there(&nft::Socket::open()?.chains()?) || legacy::are_there())
}

/// Reads what kube-proxy has left.
pub(super) fn read(socket: &mut nft::Socket) -> Result<Found, KernelError> {
    let chains = socket.chains()?;
    let legacy = legacy::read();
    let has_services = nftables::are_there(&chains) || legacy.has_services;
    Ok(Found { nftables: nftables::read(socket, &chains)?, legacy, ipvs: ipvs::read()?, has_services })
}

impl Found {
    /// True where nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.nftables.operations.is_empty() && self.legacy.chains == 0 && self.ipvs.is_empty()
    }

    /// Removes it, as far as no connection needs it. Gives the reason too where something stays. Chains go first: they use sets.
    pub(super) fn remove(self, socket: &mut nft::Socket) -> Result<(Leftovers, Option<String>), KernelError> {
        socket.apply(&self.nftables.operations)?;
        let chains = self.nftables.chains + legacy::remove()?;
        let (ipvs::Removed { servers, sets }, remains) = self.ipvs.remove()?;
        Ok((Leftovers { tables: self.nftables.tables, chains, servers, sets }, remains))
    }
}

#[cfg(test)]
pub(super) mod tests;
