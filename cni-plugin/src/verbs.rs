//! The verbs, one file each: the order in which things are read, checked, done and undone.

mod add;
mod check;
mod del;
mod gc;
mod status;

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use dataplane::netlink::RouteSocket;
use serde_json::{Value, json};

use crate::attachment::Attachment;
use crate::call::{Call, Target};
use crate::cni_error::{CniError, Code};
use crate::conf::plugin_conf::{PluginConf, subnet_file};
use crate::conf::subnet_env::{self, SubnetEnv};
use crate::conf::{self, Document};
use crate::ipam::Reservations;
use crate::netlink::{ports, step};
use crate::personality;
use crate::regular_file;
use crate::version::Version;

/// Carries out a verb and gives the text for stdout.
///
/// # Errors
/// The error object for the runtime.
pub fn run(call: &Call, argv0: &str, stdin: &[u8]) -> Result<Option<Value>, CniError> {
    if *call == Call::Version {
        return Ok(Some(version(stdin)));
    }
    let document = conf::parse_stdin(stdin)?;
    check_version(call, document.version)?;
    personality::check(argv0, document.kind.as_deref())?;
    match call {
        Call::Add(target) => add::add(&document, target).map(Some),
        Call::Del(target) => del::del(&document, target).map_err(CniError::worth_repeating).map(|()| None),
        Call::Check(target) => check::check(&document, target).map(|()| None),
        Call::Gc => gc::gc(&document).map(|()| None),
        Call::Status => status::status(&document).map(|()| None),
        Call::Version => Ok(None),
    }
}

/// Releases the addresses of a network whose pods have gone without a DEL, as at a power cut, and gives them. `stdin` is what the plugin
/// gets for that network.
///
/// # Errors
/// Where the configuration, the reservations or the kernel's state cannot be read.
pub fn take_back(stdin: &[u8]) -> Result<Vec<IpAddr>, CniError> {
    let document = conf::parse_stdin(stdin)?;
    take_back_by(&document, &read_conf(&document, "", Code::TryAgainLater)?)
}

fn take_back_by(document: &Document, conf: &PluginConf) -> Result<Vec<IpAddr>, CniError> {
    let network = &document.network;
    let Some(mut reservations) = Reservations::lock_existing(&conf.data_dir, network)? else { return Ok(Vec::new()) };
    let mut host = RouteSocket::open().map_err(step("open a netlink socket"))?;
    reservations.take_back(&conf.ranges, &ports::read(&mut host, &conf.bridge.name, network)?)
}

fn version(stdin: &[u8]) -> Value {
    let version = conf::version_of(stdin).unwrap_or(Version::NEWEST);
    json!({"cniVersion": version.as_str(), "supportedVersions": Version::ALL.map(Version::as_str)})
}

fn check_version(call: &Call, version: Version) -> Result<(), CniError> {
    let (verb, first) = match call {
        Call::Check(_) => ("CHECK", Version::V0_4_0),
        Call::Gc => ("GC", Version::V1_1_0),
        Call::Status => ("STATUS", Version::V1_1_0),
        Call::Add(_) | Call::Del(_) | Call::Version => return Ok(()),
    };
    if version >= first {
        return Ok(());
    }
    let message = format!("config version does not allow {verb}");
    let details = format!("config is {:?}, {verb} needs {:?} or later", version.as_str(), first.as_str());
    Err(CniError::new(Code::IncompatibleVersion, message).with_details(details))
}

/// Reads the whole configuration, `subnet.env` included. `unready` is the error code where the daemon has not written the file.
fn read_conf(document: &Document, cni_args: &str, unready: Code) -> Result<PluginConf, CniError> {
    let unusable =
        |reason: String| CniError::new(unready, format!("failed to load flannel 'subnet.env' file: {reason}"));
    let env = subnet_file(document)?.map(|path| read_subnet_env(path).map_err(unusable)).transpose()?;
    PluginConf::read(document, cni_args, env.as_ref())
}

fn read_subnet_env(path: &Path) -> Result<SubnetEnv, String> {
    let file = path.display();
    let mut content = Vec::new();
    let read = regular_file::open(path).and_then(|file| file.take(subnet_env::MAX_BYTES + 1).read_to_end(&mut content));
    read.map_err(|error| format!("cannot read {file}. Is the network's daemon running on this node?: {error}"))?;
    subnet_env::parse(&content)
        .map_err(|error| format!("{file} cannot be used. Check the daemon's log on this node: {error}"))
}

fn attachment_of(document: &Document, target: &Target) -> Attachment {
    let (container, ifname) = (target.container.clone(), target.ifname.clone());
    Attachment { network: document.network.clone(), container, ifname }
}
