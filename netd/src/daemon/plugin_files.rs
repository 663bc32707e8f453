//! The files that the CNI plugin reads: written when the network is ready, and whenever their content changes or they are gone.

use std::error::Error;

use network::chain;
use serde_json::Value;

use crate::config::Config;
use crate::conflist::{self, Template};
use crate::problem::{Kind, Problem};
use crate::subnet_env::{self, SubnetEnv};

/// The files.
#[derive(Debug)]
pub(super) struct PluginFiles {
    /// The CNI configuration to install.
    template: Template,
    /// What the subnet file says, where both files are there.
    written: Option<SubnetEnv>,
    /// The last full run has left this node's own part of the network as desired.
    pub(super) network_ready: bool,
    /// They were written once: pods can be wired.
    pub(super) are_ready: bool,
}

impl PluginFiles {
    pub(super) fn new(template: Template) -> Self {
        Self { template, written: None, network_ready: false, are_ready: false }
    }

    /// Writes the files unless they say this already. True where they are written for the first time.
    ///
    /// # Errors
    /// Where they cannot be written, for a person.
    pub(super) fn write(&mut self, config: &Config, env: SubnetEnv) -> Result<bool, Problem> {
        if self.written.as_ref() == Some(&env) {
            return Ok(false);
        }
        subnet_env::write(&config.subnet_file, &env).map_err(|error| not_written(&error))?;
        if let Some(path) = config.cni.conf_path()
            && conflist::install(&path, &self.template, &config.subnet_file).map_err(|error| not_written(&error))?
        {
            tracing::info!(path = %path.display(), "CNI configuration installed");
        }
        self.written = Some(env);
        let is_first = !std::mem::replace(&mut self.are_ready, true);
        if is_first && let Ok(entry) = self.template.entry(&config.subnet_file) {
            take_back_addresses(entry);
        }
        Ok(is_first)
    }

    /// True where files that were written are gone. They are written again by the next full run.
    pub(super) fn are_gone(&mut self, config: &Config) -> bool {
        let is_gone = |path: &std::path::Path| matches!(path.try_exists(), Ok(false));
        let conflist = config.cni.conf_path();
        let gone =
            self.written.is_some() && (is_gone(&config.subnet_file) || conflist.is_some_and(|path| is_gone(&path)));
        if gone {
            self.written = None;
        }
        gone
    }
}

/// Frees the addresses whose pods went without a DEL, as at a power cut. A thread of its own waits for plugins that have the lock.
fn take_back_addresses(entry: Value) {
    let take_back = move || match netd_cni::verbs::take_back(entry.to_string().as_bytes()) {
        Ok(free) if free.is_empty() => {}
        Ok(free) => {
            let free: Vec<_> = free.iter().map(ToString::to_string).collect();
            tracing::info!(addresses = free.join(" "), "addresses of pods that are gone are free again");
        }
        Err(error) => tracing::warn!(%error, "addresses of pods that are gone stay reserved"),
    };
    if let Err(error) = std::thread::Builder::new().spawn(take_back) {
        tracing::warn!(%error, "addresses of pods that are gone stay reserved");
    }
}

fn not_written(error: &dyn Error) -> Problem {
    Problem::new(Kind::FileNotWritten, "the plugin's files", format!("are not complete: {}", chain(error)))
}
