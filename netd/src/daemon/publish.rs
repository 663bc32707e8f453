//! What the plugin reads: written when the network is ready, and whenever it changes or has gone.

use std::error::Error;

use network::chain;
use network::overlay::Outcome;
use sd_notify::NotifyState;

use super::Daemon;
use crate::conflist;
use crate::problem::{Kind, Problem};
use crate::reconcile::Report;
use crate::store::{Notice, Store};
use crate::subnet_env::{self, SubnetEnv};

impl<S: Store> Daemon<S> {
    /// Writes what the plugin reads, once the network is ready and whenever it changes, and says so. True where nothing is
    /// left to write.
    pub(super) fn publish(&mut self, report: &Report, outcome: &Outcome) -> Result<bool, Problem> {
        let env = self.subnet_env(outcome);
        if self.written.as_ref() == Some(&env) {
            return Ok(true);
        }
        if !self.ready && !report.is_ready() {
            return Ok(false);
        }
        subnet_env::write(&self.config.subnet_file, &env).map_err(|error| not_written(&error))?;
        self.install_conflist()?;
        self.written = Some(env);
        if !self.ready {
            self.ready = true;
            tracing::info!(peers = self.cluster.peers.len(), "ready");
            self.store.notify(Notice::Ready);
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        Ok(true)
    }

    fn subnet_env(&self, outcome: &Outcome) -> SubnetEnv {
        SubnetEnv {
            networks: self.node.identity.networks,
            subnets: self.cluster.own.subnets,
            mtu: outcome.pod_mtu.unwrap_or(self.node.underlay.mtu),
            ip_masq: self.config.rules.masquerade.is_some(),
        }
    }

    fn install_conflist(&self) -> Result<(), Problem> {
        let Some(path) = self.config.cni.conf_path() else { return Ok(()) };
        match conflist::install(&path, &self.template, &self.config.subnet_file) {
            Ok(true) => tracing::info!(path = %path.display(), "CNI configuration installed"),
            Ok(false) => {}
            Err(error) => return Err(not_written(&error)),
        }
        Ok(())
    }
}

fn not_written(error: &dyn Error) -> Problem {
    Problem::new(Kind::FileNotWritten, "the plugin's files", format!("are not complete: {}", chain(error)))
}
