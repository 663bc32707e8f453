//! The program `netd`: reads the command line and runs the command.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use dataplane::kernel::Linux;
use dlmalloc::GlobalDlmalloc;
use netd::config::Config;
use netd::config::flags::{Cli, Command, Output};
use netd::node::Node;
use netd::store::Store;
use netd::{bridge, cleanup, daemon, doctor, install, reconcile, relaxed_rp_filter, status};
use network::observe;
use proxy::listing::client;
use proxy::log;
use proxy::trace_command;
use tracing_subscriber::filter::LevelFilter;

/// musl's own allocator maps and unmaps memory for a few pieces at a time.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// `netd plan` has changes to show.
const CHANGES: u8 = 2;
/// `netd doctor` has findings.
const FINDINGS: u8 = 2;

fn main() -> ExitCode {
    // With several providers linked in, rustls chooses none by itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args: Vec<OsString> = std::env::args_os().collect();
    if is_proxy(args.first()) {
        return proxy::program::main(args);
    }
    let cli = match Cli::read(args, |name| std::env::var_os(name)) {
        Ok(cli) => cli,
        Err(error) if error.exit_code() == 0 => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(error.exit_code());
        }
    };
    log::start(LevelFilter::INFO);
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True where the program is called as netd-proxy: the image has both names for one file.
fn is_proxy(name: Option<&OsString>) -> bool {
    let name = name.and_then(|name| Path::new(name).file_name());
    name.is_some_and(|name| name.to_string_lossy().ends_with("netd-proxy"))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if cli.command == Some(Command::Version) {
        println!("netd {}", env!("CARGO_PKG_VERSION"));
        return Ok(ExitCode::SUCCESS);
    }
    match cli.command {
        Some(Command::Services(arguments)) => {
            client::run(arguments)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Trace(arguments)) => {
            print!("{}", trace_command::run(&arguments).context("cannot trace")?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let mut config = cli.config;
    config.check_proxy()?;
    let store = config.store.choose(&config.subnet_file).context("there is no store")?;
    if cli.command == Some(Command::InstallCni) {
        install::run(&config).context("the CNI plugin is not installed")?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let done = runtime.block_on(async {
        let store = Store::new(store, cli.command.is_none()).context("there is no store")?;
        // The daemon asks the store later, when `netd status` can already show what it waits for.
        if config.node_name.is_none() && !matches!(cli.command, None | Some(Command::Status(_))) {
            config.node_name = store.node_name().await.context("cannot find out which node this is")?;
        }
        match cli.command {
            Some(Command::Plan) => plan(&config, &store).await,
            Some(Command::Doctor { output }) => examine(&config, &store, output).await,
            Some(Command::Cleanup) => clean_up(&config, &store).await,
            Some(Command::Status(arguments)) => {
                let code = status::client::run(&config, &store, arguments).await?;
                Ok(ExitCode::from(code))
            }
            Some(Command::Version | Command::InstallCni | Command::Services(_) | Command::Trace(_)) | None => {
                Box::pin(daemon::run(config, store)).await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    // A file system that does not answer must not keep netd from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}

async fn plan(config: &Config, store: &Store) -> anyhow::Result<ExitCode> {
    let mut kernel = Linux::open().context("cannot speak to the kernel: netd needs the capability NET_ADMIN")?;
    let node = Node::discover(config, store, &mut kernel).await?;
    let leases = store.leases().await.context("cannot read the nodes' leases")?;
    let Some(own) = node.own_among(&leases) else {
        println!("# node {} has no subnet yet: netd takes one when it starts", node.name);
        return Ok(ExitCode::from(CHANGES));
    };
    let host = observe::host(&mut kernel, &node.identity).context("cannot read the kernel's state")?;
    let (cluster, admission) = reconcile::admit(&mut kernel, &node, &host, own, &leases, None)?;
    let reconcile::Planned { plan, outcome, .. } = reconcile::plan(
        &mut kernel,
        host,
        &node,
        &cluster,
        config.rules,
        &relaxed_rp_filter::transition(&config.subnet_file),
        bridge::Memory::read(&config.subnet_file),
    )?;
    for peer in admission.rejected() {
        println!("# node {} is left out: {}", peer.node, peer.reason);
    }
    for ((name, family), why) in &outcome.unreachable {
        println!("# no way to {family} pods of node {name}: {why}");
    }
    for blocker in &outcome.blockers {
        println!("# {blocker}");
    }
    print!("{plan}");
    Ok(if plan.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

async fn examine(config: &Config, store: &Store, output: Output) -> anyhow::Result<ExitCode> {
    let findings = doctor::run(config, store).await?;
    match output {
        Output::Table => print!("{}", doctor::table(&findings)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings).context("cannot print the findings")?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&findings).context("cannot print the findings")?),
    }
    Ok(if doctor::is_well(&findings) { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

async fn clean_up(config: &Config, store: &Store) -> anyhow::Result<ExitCode> {
    let left = cleanup::run(config, store).await;
    for what in &left {
        tracing::error!("{what}");
    }
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
