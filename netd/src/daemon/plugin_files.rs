//! The files that the CNI plugin reads: written when the network is ready, and whenever their content changes or they are gone.

use std::error::Error;

use network::chain;

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
        Ok(!std::mem::replace(&mut self.are_ready, true))
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

fn not_written(error: &dyn Error) -> Problem {
    Problem::new(Kind::FileNotWritten, "the plugin's files", format!("are not complete: {}", chain(error)))
}
