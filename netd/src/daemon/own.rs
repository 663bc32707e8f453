//! This node's own record in the store: kept there, and kept true.

use std::collections::BTreeSet;
use std::time::Duration;

use network::chain;
use network::model::{Encapsulation, EncapsulationSupport, Lease};
use network::overlay::Outcome;
use tokio::time::{Instant, timeout};

use super::Daemon;
use super::switch::LINGER;
use super::warned;
use crate::node;
use crate::problem::{Kind, Problem};
use crate::reconcile::{Report, Trigger};
use crate::store::{LeaseRequest, Notice, Store, StoreError};

/// How long the store may take to give the records before everything else goes on.
const READ: Duration = Duration::from_secs(2);

impl<S: Store> Daemon<S> {
    /// Keeps this node's lease in the store as it is here. Where that cannot be, a full run has it among what a person should know,
    /// and tries again in its time.
    pub(super) async fn keep_own_lease(&mut self) {
        let fault = self.put_back().await.err();
        let former = std::mem::replace(&mut self.unkept, fault);
        if self.unkept.is_some() || former.is_some() {
            self.ask(Trigger::Retry);
        }
    }

    /// Puts this node's lease back where the store has lost or altered it.
    async fn put_back(&mut self) -> Result<(), Problem> {
        let own = &self.cluster.own;
        let stored = self.leases.get(&own.node).map(|lease| self.node.own(lease));
        if stored.as_ref() == Some(own) {
            return Ok(());
        }
        if let Some(other) = stored.as_ref().filter(|lease| lease.subnets != own.subnets) {
            return Err(warned::other_subnets(other.subnets, own.subnets));
        }
        let failed = |why: StoreError| warned::not_put_back(&why);
        if stored.is_none() {
            let request = LeaseRequest { previous: own.subnets, ..self.request.clone() };
            let lease = self.store.acquire(&request, &self.node.conf).await.map_err(failed)?;
            if lease.subnets != own.subnets {
                return Err(warned::taken(own.subnets));
            }
            tracing::info!("this node's lease is in the store again");
        }
        self.store.publish(own).await.map_err(failed)
    }

    /// Puts this node's lease back where that has failed before, and tells the peers how it sends and receives. What is wrong
    /// with it, those who look after the cluster are told too.
    ///
    /// # Errors
    /// Where the store cannot be written, for a person.
    pub(super) async fn tell_own(&mut self, report: &Report, outcome: &Outcome) -> Result<(), Problem> {
        if self.unkept.is_some() {
            self.unkept = self.put_back().await.err();
        }
        let fault = match self.unkept.clone() {
            Some(fault) => Some(fault),
            None => self.tell_peers(report, outcome).await.err(),
        };
        for notice in self.warned.of(fault.clone()) {
            self.store.notify(notice);
        }
        fault.map_or(Ok(()), Err)
    }

    /// Tells the peers by what this node is about to send, and reads what they receive after that ([`network::overlay::transition`]).
    ///
    /// # Errors
    /// Where the store cannot be written or read, for a person.
    pub(super) async fn announce(&mut self, encapsulations: EncapsulationSupport) -> Result<(), Problem> {
        let lease = Lease { encapsulations: Some(encapsulations), ..self.cluster.own.clone() };
        self.store.publish(&lease).await.map_err(|error| warned::peers_not_told(&error))?;
        self.leases.insert(lease.node.clone(), lease.clone().into());
        self.cluster.own = lease;
        self.read_peers().await
    }

    /// Reads what the peers' records say now, whatever has been told of them.
    ///
    /// # Errors
    /// Where they cannot be read, for a person.
    pub(super) async fn read_peers(&mut self) -> Result<(), Problem> {
        let problem = |why| Problem::new(Kind::PeersNotRead, "the peers' leases", format!("cannot be read: {why}"));
        let read = timeout(READ, self.store.leases()).await;
        let read = read.map_err(|_| problem("the store does not answer".to_owned()))?;
        let leases = read.map_err(|error| problem(chain(&error)))?;
        let peers = leases.into_iter().filter(|lease| lease.node != self.cluster.own.node);
        // One that is gone is told of by the store.
        self.leases.extend(peers.map(|lease| (lease.node.clone(), lease)));
        Ok(())
    }

    /// Reads the peers' records once more where they have just been told for the first time by what this node sends: until then
    /// nobody knew, and who closed a way meanwhile had told so before. True where nothing of that kind was missed.
    ///
    /// # Errors
    /// Where they cannot be read, for a person.
    pub(super) async fn meet(&mut self) -> Result<bool, Problem> {
        if self.switch.met || self.cluster.own.encapsulations.is_none() {
            return Ok(true);
        }
        // A way that closes lingers, so its end waits for who has told in less time than that.
        let mut is_new = false;
        if self.began.elapsed() > LINGER / 2 {
            let known = self.leases.clone();
            self.read_peers().await?;
            is_new = self.leases != known;
        }
        self.switch.met = true;
        Ok(!is_new)
    }

    /// Closes the ways that have lingered, unless a peer has taken one up again meanwhile; they stay open where that cannot be
    /// found out.
    pub(super) async fn close_ways(&mut self, now: Instant) {
        match self.read_peers().await {
            Ok(()) => {
                self.switch.let_go(now);
                self.ask(Trigger::Lingered);
            }
            Err(why) => {
                tracing::debug!("{why}; ways that nobody uses stay open meanwhile");
                self.switch.stay(now);
            }
        }
    }

    /// Tells the peers what this node receives and sends by, once the kernel does. What they can no longer rely on lingers
    /// until the last packets have passed.
    ///
    /// # Errors
    /// Where the store cannot be written, for a person.
    async fn tell_peers(&mut self, report: &Report, outcome: &Outcome) -> Result<(), Problem> {
        if outcome.one_way && report.is_clean() {
            self.switch.forget()?;
        }
        // A route that could not be moved leads the old way still.
        let former = self.cluster.own.encapsulations.as_ref().filter(|_| !report.is_clean());
        let told = former.into_iter().fold(outcome.advertised.clone(), EncapsulationSupport::beside);
        let lease = Lease { encapsulations: Some(told), ..self.cluster.own.clone() };
        let is_stored = self.leases.get(&lease.node).map(AsRef::as_ref) == Some(&lease);
        if !report.is_ready() || is_stored && lease == self.cluster.own {
            return Ok(());
        }
        self.store.publish(&lease).await.map_err(|error| warned::peers_not_told(&error))?;
        let receives = |lease: &Lease| -> BTreeSet<Encapsulation> {
            lease.encapsulations.iter().flat_map(|support| support.receives.keys().copied()).collect()
        };
        self.switch.linger(&receives(&self.cluster.own) - &receives(&lease));
        self.leases.insert(lease.node.clone(), lease.clone().into());
        self.cluster.own = lease;
        Ok(())
    }

    /// Takes a changed configuration without a restart; true where there is something to do. One that cannot be taken is
    /// told, and the network stays as it is.
    pub(super) fn reconfigure(&mut self, text: &str) -> bool {
        let former = self.node.conf.clone();
        match self.node.reconfigure(text, &self.config.underlay, &mut self.kernel) {
            Ok(changed) => {
                let refused = self.switch.refused.take();
                let was_refused = refused.is_some();
                if let Some(problem) = refused {
                    self.store.notify(Notice::Resolved(problem));
                }
                if !changed {
                    return was_refused;
                }
            }
            Err(error) => {
                let detail = format!("is refused, the network stays as it is: {}", chain(&error));
                let problem = Problem::new(Kind::InvalidConfiguration, "the changed network configuration", detail);
                self.store.notify(Notice::Problem(problem.clone()));
                self.switch.refused = Some(problem);
                return true;
            }
        }
        tracing::info!(from = ?former.backend, to = ?self.node.conf.backend, "the network configuration has changed");
        // Links are read again by the reconcile; without them the addresses in the lease count.
        let links = node::links(&mut self.kernel).unwrap_or_default();
        self.request = self.node.request(&links, Some(&self.cluster.own), &self.config.subnet_file);
        let own = &mut self.cluster.own;
        own.backend = self.request.backend.clone();
        own.data = self.request.data.map(|family, request| request.data(own.data.get(family)));
        true
    }
}
