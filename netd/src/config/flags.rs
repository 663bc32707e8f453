//! Command line flags and their environment variables: flanneld's, as far as netd has the feature, and netd's own.
//!
//! Pure: [`Cli::read`] takes the arguments and the environment.

mod go_style;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use proxy::listing::client;
use proxy::trace_command;

use super::Config;

/// The node daemon of a pod network: takes this node's subnet, follows its peers, and keeps the kernel's routes and tunnels up to date.
///
/// Every flag can be given by its environment variable too; a flag wins. `-flag` is the same as `--flag`.
#[derive(Debug, Clone, Parser)]
#[command(name = "netd", version, disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    /// The command; without one netd is the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags, before or after the subcommand.
    #[command(flatten)]
    pub config: Config,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print what a reconcile would change now, as shell commands, and change nothing: exit 0 nothing, 2 changes, 1 error.
    Plan,
    /// Find what keeps pods from reaching each other, ask every peer, and print what to type: exit 0 nothing is wrong, 2 findings, 1 error.
    ///
    /// Give it the daemon's own flags. It changes nothing.
    Doctor {
        /// How to show the findings.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Remove everything that netd has made from this node, and nothing else.
    Cleanup,
    /// Install the CNI plugin into the node's directory of plugins, and check that every plugin of the configuration is there.
    InstallCni,
    /// Print the status of the running netd: readiness, lease, peers and the routes to them, last reconcile, problems.
    ///
    /// Exit 0 ready, 1 error, 2 not ready, 3 no netd is running here: then it prints what the kernel has.
    Status(StatusArgs),
    /// Print what the proxy has programmed: each Service, its endpoints, and why an endpoint is left out.
    Services(client::Arguments),
    /// Say what becomes of a packet in the kernel's table of Services, without sending one.
    Trace(trace_command::Arguments),
    /// Print the version.
    Version,
}

/// How `netd status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Format.
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,

    /// Print the status again at each change, until netd ends.
    #[arg(short, long)]
    pub watch: bool,
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// JSON; one line each with --watch.
    Json,
    /// YAML.
    Yaml,
}

/// Flanneld's flags for features that netd does not have (yet).
const NOT_SUPPORTED: [&str; 4] = ["v", "vmodule", "log_backtrace_at", "log-backtrace-at"];

/// The command line is not accepted, or asks for help.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A flag of flanneld's that netd does not have.
    #[error("{given} is a flag of flanneld's that netd does not support: leave it out")]
    NotSupported {
        /// The flag, or its environment variable.
        given: String,
    },
    /// Help, or a wrong flag, with the environment variable that it may come from.
    #[error("{error}{}", variable.as_ref().map(|name| format!("\nThe flag's environment variable is {name}.")).unwrap_or_default())]
    Usage {
        /// Clap's text, which names the flag.
        error: clap::Error,
        /// The flag's variable.
        variable: Option<String>,
    },
}

impl Cli {
    /// Reads the arguments, the program's name first, and the environment through `variable`. A flag wins over its variable. An empty
    /// variable counts as unset.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Cli, CliError> {
        let mut args = args.into_iter();
        let program = args.next().unwrap_or_else(|| "netd".into());
        let args: Vec<OsString> = args.map(go_style::with_two_dashes).collect();
        refuse_unsupported(&args, &variable)?;
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());

        // Variables become arguments, so that clap checks both alike. Clap itself reads no variables.
        let mut all = vec![program];
        let command = Cli::command().mut_args(|arg| {
            let name = variable_of(&arg);
            let flag = arg.get_long().unwrap_or_default();
            if let Some(value) = variable(&name)
                && !args.iter().any(|given| go_style::name(given) == Some(flag))
            {
                let mut given = OsString::from(format!("--{flag}="));
                given.push(value);
                all.push(given);
            }
            let help = format!("{} [env: {name}]", arg.get_help().cloned().unwrap_or_default());
            go_style::completed(arg).global(true).env(None::<&'static str>).help(help)
        });
        all.extend(args);
        let wrong = |error: clap::Error| CliError::Usage { variable: variable_in(&error), error };
        let matches = command.try_get_matches_from(all).map_err(wrong)?;
        Cli::from_arg_matches(&matches).map_err(wrong)
    }
}

fn refuse_unsupported(args: &[OsString], variable: &impl Fn(&str) -> Option<OsString>) -> Result<(), CliError> {
    let named = args.iter().filter_map(go_style::name).find(|name| NOT_SUPPORTED.contains(name));
    let flag = named.map(|name| format!("--{name}"));
    let set =
        NOT_SUPPORTED.into_iter().map(go_style::variable).find(|name| variable(name).is_some_and(|v| !v.is_empty()));
    match flag.or(set) {
        Some(given) => Err(CliError::NotSupported { given }),
        None => Ok(()),
    }
}

/// The environment variable of a flag: flanneld's for a flag of this name, unless the flag names another.
fn variable_of(arg: &Arg) -> String {
    let named = arg.get_env().and_then(|name| name.to_str()).map(str::to_owned);
    named.unwrap_or_else(|| go_style::variable(arg.get_long().unwrap_or_default()))
}

/// The environment variable of the flag that an error is about.
fn variable_in(error: &clap::Error) -> Option<String> {
    let ContextValue::String(about) = error.get(ContextKind::InvalidArg)? else { return None };
    let flag = about.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    Cli::command().get_arguments().find(|arg| arg.get_long() == Some(flag)).map(variable_of)
}

impl CliError {
    /// The exit code: 0 for help, else 1, as flanneld's (2 means "changes" to `netd plan`).
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage { error, .. } if !error.use_stderr() => 0,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests;
