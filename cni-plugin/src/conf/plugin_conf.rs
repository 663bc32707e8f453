//! The configuration of an attachment for ADD and CHECK, from stdin, `CNI_ARGS` and `subnet.env`. Pure.
//!
//! A field that the plugin does not support is an error, never ignored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dataplane::types::{IfName, Mtu};

use super::arguments::Requested;
use super::subnet_env::SubnetEnv;
use super::{Document, Fields, dns, invalid, prev_result, ranges};
use crate::cni_error::CniError;
use crate::ipam::range::RangeSet;
use crate::result::{CniResult, Dns, Route};
use crate::version::Version;

/// Where the daemon writes the node's part of the network.
pub const SUBNET_FILE: &str = "/run/flannel/subnet.env";
/// Where host-local keeps its reservations.
pub const DATA_DIR: &str = "/var/lib/cni/networks";
/// The bridge that flannel's users have.
pub const BRIDGE: IfName = IfName::constant("cni0");

/// Fields of the reference's `bridge` that the plugin does not support.
const UNSUPPORTED: [&str; 8] = [
    "ipMasq",
    "vlan",
    "vlanTrunk",
    "preserveDefaultVlan",
    "macspoofchk",
    "disableContainerInterface",
    "enabledad",
    "bandwidth",
];
/// The same of `runtimeConfig`.
const RUNTIME_UNSUPPORTED: [&str; 5] = ["portMappings", "bandwidth", "infinibandGUID", "deviceID", "aliases"];

/// The part of a configuration that DEL and GC read: they must work although another field is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeardownConf {
    /// The directory with a directory of reservations for each network.
    pub data_dir: PathBuf,
    /// The bridge, where its name can be one.
    pub bridge: Option<IfName>,
}

impl TeardownConf {
    /// Reads each field; an unreadable one gets its default.
    pub fn read(conf: &Fields<'_>) -> Self {
        let data_dir = conf.object("ipam").and_then(|ipam| ipam.text("dataDir")).ok().flatten();
        let data_dir = data_dir.filter(|path| !path.is_empty());
        let bridge = conf.text("bridge").ok().flatten().filter(|name| !name.is_empty());
        let bridge = bridge.map_or(Some(BRIDGE), |name| name.parse().ok());
        Self { data_dir: PathBuf::from(data_dir.unwrap_or(DATA_DIR)), bridge }
    }
}

/// The bridge and the pod's port on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the configuration")]
pub struct BridgeConf {
    /// Its name.
    pub name: IfName,
    /// The MTU of the bridge and of both ends of the veth; the kernel's default where absent.
    pub mtu: Option<Mtu>,
    /// The bridge has each range's gateway address and the node forwards.
    pub is_gateway: bool,
    /// A wrong address on the bridge is replaced instead of refused.
    pub force_address: bool,
    /// A frame may leave by the port that it came from: a pod reaches itself through a Service.
    pub hairpin: bool,
    /// The bridge gets every frame.
    pub promiscuous: bool,
    /// Ports do not see each other.
    pub port_isolation: bool,
    /// Where links are noted that accept router advertisements although the node forwards: the daemon's clean-up reads it. None without a
    /// daemon.
    pub accept_ra_file: Option<PathBuf>,
}

/// The attachment that ADD makes and CHECK expects.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// The bridge and its port.
    pub bridge: BridgeConf,
    /// One address from each.
    pub ranges: Vec<RangeSet>,
    /// What the runtime requests for this pod.
    pub requested: Requested,
    /// The pod's routes; those without a gateway go to the range's one.
    pub routes: Vec<Route>,
    /// The pod gets a default route for each family of its addresses.
    pub is_default_gateway: bool,
    /// Where reservations are kept.
    pub data_dir: PathBuf,
    /// Passed to the runtime unchanged.
    pub dns: Dns,
    /// The result of the plugins before this one; for CHECK, of the whole chain.
    pub prev_result: Option<CniResult>,
}

/// Beside a subnet file: the sysctls that were changed so that links keep their routers once the node forwards, one a line.
pub fn accept_ra_file(subnet_file: &Path) -> PathBuf {
    let mut name = subnet_file.as_os_str().to_owned();
    name.push(".accept_ra");
    name.into()
}

/// The file that has to be read before [`PluginConf::read`]; `None` where the configuration says everything itself.
///
/// # Errors
/// Where the fields that decide this have the wrong type.
pub fn subnet_file(document: &Document) -> Result<Option<&Path>, CniError> {
    let fields = document.fields();
    let (ipam, runtime) = (fields.object("ipam")?, fields.object("runtimeConfig")?);
    if ranges::are_given(&ipam, &runtime) {
        return Ok(None);
    }
    let file = fields.text("subnetFile")?.filter(|path| !path.is_empty());
    Ok(Some(Path::new(file.unwrap_or(SUBNET_FILE))))
}

impl PluginConf {
    /// Reads the configuration. `cni_args` is the text of `CNI_ARGS`, `env` what [`subnet_file`] names.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(document: &Document, cni_args: &str, env: Option<&SubnetEnv>) -> Result<Self, CniError> {
        let fields = document.fields();
        let (ipam, runtime) = (fields.object("ipam")?, fields.object("runtimeConfig")?);
        fields.refuse(&UNSUPPORTED)?;
        runtime.refuse(&RUNTIME_UNSUPPORTED)?;
        let kind = ipam.text("type")?.unwrap_or_default();
        if !["host-local", ""].contains(&kind) {
            return Err(ipam.unsupported("type", format!("{kind:?}")));
        }
        let requested = Requested::read(cni_args, &fields)?;
        let ranges = ranges::read(&ipam, &runtime, env)?;
        let families: BTreeSet<_> = ranges.iter().map(RangeSet::family).collect();
        if document.version < Version::V0_3_0 && families.len() < ranges.len() {
            let (count, version) = (ranges.len(), document.version);
            let reason = format!("CNI version {version} does not support more than 1 address per family");
            return Err(fields.wrong_value("ipam.ranges", format!("{count} range sets"), reason));
        }
        let given_gateway = fields.flag("isGateway")?;
        let is_default_gateway = fields.flag("isDefaultGateway")?.unwrap_or(given_gateway.unwrap_or(true));
        let is_gateway = given_gateway.unwrap_or(true) || is_default_gateway;
        Ok(Self {
            bridge: BridgeConf {
                accept_ra_file: subnet_file(document)?.map(accept_ra_file),
                ..bridge_of(&fields, is_gateway, env)?
            },
            requested,
            ranges,
            routes: routes_of(&ipam, env)?,
            is_default_gateway,
            data_dir: TeardownConf::read(&fields).data_dir,
            dns: dns::read_first(&[&runtime, &fields])?,
            prev_result: prev_result::read(&fields, document.version)?,
        })
    }
}

fn bridge_of(fields: &Fields<'_>, is_gateway: bool, env: Option<&SubnetEnv>) -> Result<BridgeConf, CniError> {
    let promiscuous = fields.flag("promiscMode")?.unwrap_or(false);
    let hairpin = fields.flag("hairpinMode")?;
    if promiscuous && hairpin == Some(true) {
        return Err(invalid("cannot set hairpin mode and promiscuous mode at the same time"));
    }
    let in_range = |number| Mtu::try_from(number).map_err(|reason| fields.wrong_value("mtu", number, reason));
    let mtu = fields.number("mtu")?.filter(|mtu| *mtu != 0).map(in_range).transpose()?;
    Ok(BridgeConf {
        name: fields.parsed("bridge", str::parse)?.unwrap_or(BRIDGE),
        mtu: mtu.or(env.map(|env| env.mtu)),
        is_gateway,
        force_address: fields.flag("forceAddress")?.unwrap_or(false),
        hairpin: hairpin.unwrap_or(!promiscuous),
        promiscuous,
        port_isolation: fields.flag("portIsolation")?.unwrap_or(false),
        accept_ra_file: None,
    })
}

/// `ipam.routes`, then the whole network: pods of other nodes are behind the gateway even where it is not the default.
fn routes_of(ipam: &Fields<'_>, env: Option<&SubnetEnv>) -> Result<Vec<Route>, CniError> {
    let mut routes = Vec::new();
    for fields in ipam.objects("routes")? {
        fields.refuse(&prev_result::ROUTE_ATTRIBUTES)?;
        routes.push(prev_result::route_of(&fields)?);
    }
    let networks = env.into_iter().flat_map(|env| &env.networks);
    routes.extend(networks.map(|network| Route::via(*network, None)));
    Ok(routes)
}

#[cfg(test)]
mod tests;
