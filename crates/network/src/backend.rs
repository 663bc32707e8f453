//! The backends: how packets get from one node to another. This file is the only one that tells one backend from another.
//!
//! Pure. A backend is one file: its options and how they are read, the data that its nodes publish, its devices, the entries for one
//! peer, what its headers cost, and its texts. A backend is added by one file, by a variant in each enum here and by an arm in each
//! `match` here. Data and encapsulations that no backend here reads are kept as they were read.

mod advertisement;
pub mod host_gw;
pub mod ipip;
mod options;
mod peer_route;
mod texts;
pub mod tunnel_device;
pub mod vxlan;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use dataplane::link::{Link, Tunnel};
use dataplane::types::{Family, IfName, Mac, PerFamily, Prefix, Vni};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::caseless::Object;
use crate::interface::Underlay;
use crate::net_conf_error::NetConfError;
use crate::node_name::NodeName;
use crate::on_link::OnLink;
use crate::record_error::RecordError;
pub use advertisement::{Advertisement, EncapsulationSupport};
pub(crate) use peer_route::Entries;
pub use peer_route::PeerRoute;
pub use texts::{BackendFacts, DeviceTexts, Traffic};
pub use tunnel_device::TunnelDevice;

/// What `Backend.Type` may be, as messages have it.
const TYPES: &str = "vxlan, host-gw or ipip";

/// Flannel's backends that netd does not have.
const UNAVAILABLE: [&str; 6] = ["wireguard", "udp", "ipsec", "alloc", "extension", "tencent-vpc"];

/// A list of encapsulations, as messages show it.
pub const ENCAPSULATIONS_EXAMPLE: &str = r#"[{"Type":"vxlan","VNI":1,"Port":8472}]"#;

/// The name of a backend. Prints flannel's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendType {
    /// `vxlan`: a tunnel, or plain routes to on-link peers with `DirectRouting`.
    Vxlan,
    /// `host-gw`: plain routes only.
    HostGw,
    /// `ipip`: a tunnel for IPv4, or plain routes to on-link peers with `DirectRouting`.
    Ipip,
    /// Any other name, in lower case: a node that we cannot talk to.
    Other(String),
}

impl BackendType {
    /// The name without a copy where netd has the backend.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            BackendType::Vxlan => "vxlan".into(),
            BackendType::HostGw => "host-gw".into(),
            BackendType::Ipip => "ipip".into(),
            BackendType::Other(name) => name.clone().into(),
        }
    }

    /// Flannel's name of it.
    pub fn as_str(&self) -> &str {
        match self {
            BackendType::Vxlan => "vxlan",
            BackendType::HostGw => "host-gw",
            BackendType::Ipip => "ipip",
            BackendType::Other(name) => name,
        }
    }

    /// What flannel writes for a family of pods without data: nothing, where the backend always has data.
    pub fn no_data(&self) -> Option<&'static str> {
        (*self != BackendType::Vxlan).then_some("null")
    }

    /// The data of such a node, as messages show it.
    pub fn data_example(&self) -> &'static str {
        match self {
            BackendType::Vxlan => vxlan::DATA_EXAMPLE,
            BackendType::HostGw | BackendType::Ipip | BackendType::Other(_) => "null",
        }
    }
}

impl From<&str> for BackendType {
    /// Reads a name in any case.
    fn from(name: &str) -> Self {
        let name = name.to_lowercase();
        match name.as_str() {
            "vxlan" => BackendType::Vxlan,
            "host-gw" => BackendType::HostGw,
            "ipip" => BackendType::Ipip,
            _ => BackendType::Other(name),
        }
    }
}

impl fmt::Display for BackendType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The configured backend with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// Through a VXLAN tunnel.
    Vxlan(vxlan::Options),
    /// By plain routes.
    HostGw,
    /// Through an IPIP tunnel.
    Ipip(ipip::Options),
}

/// What the options of a backend decide.
trait Configured {
    /// See [`Backend::kind`].
    fn kind(&self) -> BackendType;
    /// See [`Backend::encapsulations`].
    fn encapsulations(&self) -> Vec<Encapsulation>;
    /// See [`Backend::data_requests`]; a backend without data of its own has none.
    fn data_requests(&self, _own: &OwnState<'_>) -> PerFamily<DataRequest> {
        PerFamily::none()
    }
    /// See [`Backend::allows_nat`].
    fn allows_nat(&self) -> bool {
        true
    }
    /// See [`Backend::has_mtu`].
    fn has_mtu(&self) -> bool {
        false
    }
    /// Why packets travel so, where they travel as configured.
    fn reason(&self, is_direct: bool) -> &'static str;
    /// See [`BackendFacts`].
    fn facts(&self) -> BackendFacts;
}

/// What the data that a node publishes follow from.
#[derive(Debug, Clone, Copy)]
pub struct OwnState<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The devices that are to carry its pods.
    pub devices: &'a PerFamily<TunnelDevice>,
    /// The links that there are.
    pub links: &'a BTreeMap<IfName, Link>,
    /// What it has published so far.
    pub stored: Option<Advertisement<'a>>,
}

impl Backend {
    /// Takes `Backend` out of a network configuration; vxlan with its defaults where it is missing. Also gives the keys that nobody
    /// knows.
    pub(crate) fn take(conf: &mut Object<'_>, ipv6: bool) -> Result<(Self, Vec<String>), NetConfError> {
        let Some(mut object) = conf.take::<Object<'_>>("Backend", r#"an object like {"Type": "vxlan"}"#)? else {
            return Ok((Backend::Vxlan(vxlan::Options::take(&mut Object::default(), ipv6)?), Vec::new()));
        };
        let name = options::field::<String>(&mut object, "Type", &format!("the text {TYPES}"))?.unwrap_or_default();
        let backend = match BackendType::from(name.as_str()) {
            BackendType::Vxlan => Backend::Vxlan(vxlan::Options::take(&mut object, ipv6)?),
            BackendType::HostGw => Backend::HostGw,
            BackendType::Ipip => Backend::Ipip(ipip::Options::take(&mut object, ipv6)?),
            BackendType::Other(name) if UNAVAILABLE.contains(&name.as_str()) => {
                return Err(NetConfError::Unavailable { name, allowed: TYPES });
            }
            BackendType::Other(_) => return Err(NetConfError::UnknownBackend { name, allowed: TYPES }),
        };
        Ok((backend, object.into_keys().collect()))
    }

    fn configured(&self) -> &dyn Configured {
        match self {
            Backend::Vxlan(options) => options,
            Backend::HostGw => &host_gw::PlainRoutes,
            Backend::Ipip(options) => options,
        }
    }

    /// Its type, as leases have it.
    pub fn kind(&self) -> BackendType {
        self.configured().kind()
    }

    /// The encapsulations in which packets should travel, the best first. The last one reaches every peer that can be reached.
    pub fn encapsulations(&self) -> Vec<Encapsulation> {
        self.configured().encapsulations()
    }

    /// The devices that carry the pods of each family; none where plain routes do.
    ///
    /// # Errors
    /// Where the underlay cannot carry the pods' packets.
    pub fn tunnel_devices(
        &self,
        pods: impl Iterator<Item = Family>,
        underlay: &Underlay,
    ) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
        let last = self.encapsulations().pop();
        last.map_or(Ok(PerFamily::none()), |last| last.tunnel_devices(self, &pods.collect::<Vec<_>>(), underlay))
    }

    /// The data that a node asks its store to publish, by pod family.
    pub fn data_requests(&self, own: &OwnState<'_>) -> PerFamily<DataRequest> {
        self.configured().data_requests(own)
    }

    /// Whether a node's public address may be another than its interface's.
    pub fn allows_nat(&self) -> bool {
        self.configured().allows_nat()
    }

    /// Whether `Backend.MTU` says what the underlay carries.
    pub fn has_mtu(&self) -> bool {
        self.configured().has_mtu()
    }

    /// Why packets to a peer take this route.
    pub fn reason(&self, route: &PeerRoute) -> Cow<'static, str> {
        if !self.encapsulations().contains(&route.encapsulation) {
            return format!("{}: it does not receive by this node's backend yet", route.encapsulation).into();
        }
        self.configured().reason(route.is_direct()).into()
    }

    /// Why no packet reaches a peer of another backend that does not publish what it receives.
    pub fn mismatch(&self, theirs: &BackendType) -> NoPeerRoute {
        NoPeerRoute::OtherBackend { theirs: theirs.clone(), ours: self.kind() }
    }

    /// The backend and its options, for people.
    pub fn facts(&self) -> BackendFacts {
        self.configured().facts()
    }
}

/// In what encapsulation packets travel from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// As they are, by a plain route.
    Direct,
    /// In a VXLAN tunnel.
    Vxlan(vxlan::TunnelId),
    /// In an IPIP tunnel.
    Ipip,
}

/// How packets travel in one encapsulation.
trait Encapsulate: fmt::Display {
    /// See [`Encapsulation::entry`].
    fn entry(&self, macs: PerFamily<Mac>) -> Entry;
    /// See [`Encapsulation::overhead`].
    fn overhead(&self, _underlay: Family) -> u32 {
        0
    }
    /// See [`Encapsulation::traffic`].
    fn traffic(&self) -> Option<Traffic> {
        None
    }
    /// See [`Encapsulation::tunnel_devices`].
    fn tunnel_devices(
        &self,
        conf: &Backend,
        pods: &[Family],
        underlay: &Underlay,
    ) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError>;
    /// See [`Encapsulation::other_name`].
    fn other_name(&self, _underlay: Family) -> Option<IfName> {
        None
    }
    /// See [`Encapsulation::tunnel`].
    fn tunnel(&self, _conf: &Backend, _local: Option<IpAddr>, _underlay: &Underlay) -> Option<Tunnel> {
        None
    }
    /// See [`Encapsulation::has_mac`].
    fn has_mac(&self) -> bool {
        false
    }
    /// See [`Encapsulation::route`].
    fn route(
        &self,
        peer: Advertisement<'_>,
        family: Family,
        device: Option<&TunnelDevice>,
        on_link: &OnLink,
    ) -> Result<PeerRoute, NoPeerRoute>;
    /// See [`Encapsulation::entries`].
    fn entries(&self, route: &PeerRoute, subnet: Prefix, device: IfName) -> Entries;
}

impl Encapsulation {
    fn encapsulate(&self) -> &dyn Encapsulate {
        match self {
            Encapsulation::Direct => &host_gw::PlainRoutes,
            Encapsulation::Vxlan(id) => id,
            Encapsulation::Ipip => &ipip::IpipTunnel,
        }
    }

    /// True for plain routes.
    pub fn is_direct(&self) -> bool {
        *self == Encapsulation::Direct
    }

    /// Its entry in the lists of what a node receives and sends. `macs` are the hardware addresses of the node's tunnel end, by pod
    /// family.
    pub fn entry(&self, macs: PerFamily<Mac>) -> Entry {
        self.encapsulate().entry(macs)
    }

    /// Reads such an entry; `None` for one of a backend that netd does not have.
    ///
    /// # Errors
    /// Where a field is missing or wrong.
    pub(crate) fn parse(mut entry: Object<'_>) -> Result<Option<(Self, PerFamily<Mac>)>, RecordError> {
        let kind: String = entry.take("Type", "a backend's name")?.ok_or(RecordError::Missing("Type"))?;
        Ok(match BackendType::from(kind.as_str()) {
            BackendType::HostGw => Some((Encapsulation::Direct, PerFamily::none())),
            BackendType::Ipip => Some((Encapsulation::Ipip, PerFamily::none())),
            BackendType::Vxlan => {
                let (id, macs) = vxlan::TunnelId::parse(entry)?;
                Some((Encapsulation::Vxlan(id), macs))
            }
            BackendType::Other(_) => None,
        })
    }

    /// How many bytes of the underlay's MTU its headers take.
    pub fn overhead(&self, underlay: Family) -> u32 {
        self.encapsulate().overhead(underlay)
    }

    /// What its packets are to firewalls between nodes; `None` for plain routes, whose packets are the pods' own.
    pub fn traffic(&self) -> Option<Traffic> {
        self.encapsulate().traffic()
    }

    /// The devices that carry the pods of each family, with their usual names; none for plain routes. Options of `conf` count for
    /// tunnels of its backend.
    ///
    /// # Errors
    /// Where the underlay cannot carry the pods' packets.
    pub fn tunnel_devices(
        &self,
        conf: &Backend,
        pods: &[Family],
        underlay: &Underlay,
    ) -> Result<PerFamily<TunnelDevice>, TunnelDeviceError> {
        self.encapsulate().tunnel_devices(conf, pods, underlay)
    }

    /// The name of its device over a family of the underlay, where another tunnel has the usual name.
    pub fn other_name(&self, underlay: Family) -> Option<IfName> {
        self.encapsulate().other_name(underlay)
    }

    /// The device of this node, whose packets leave from `local`; none for plain routes.
    pub fn tunnel(&self, conf: &Backend, local: Option<IpAddr>, underlay: &Underlay) -> Option<Tunnel> {
        self.encapsulate().tunnel(conf, local, underlay)
    }

    /// Whether its devices have hardware addresses, which peers must know.
    pub fn has_mac(&self) -> bool {
        self.encapsulate().has_mac()
    }

    /// The route to a peer's pods of one family. `device` is this node's for that family.
    ///
    /// # Errors
    /// Where the pods cannot be reached so.
    pub fn route(
        &self,
        peer: Advertisement<'_>,
        family: Family,
        device: Option<&TunnelDevice>,
        on_link: &OnLink,
    ) -> Result<PeerRoute, NoPeerRoute> {
        self.encapsulate().route(peer, family, device, on_link)
    }

    /// What the kernel needs for packets to `subnet`; they leave by `device`.
    pub(crate) fn entries(&self, route: &PeerRoute, subnet: Prefix, device: IfName) -> Entries {
        self.encapsulate().entries(route, subnet, device)
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.encapsulate().fmt(f)
    }
}

/// An encapsulation in the lists of what a node receives and sends, by flannel's names of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Entry {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "VNI", skip_serializing_if = "Option::is_none")]
    vni: Option<Vni>,
    #[serde(rename = "Port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(rename = "VtepMAC", skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(rename = "VtepV6MAC", skip_serializing_if = "Option::is_none")]
    v6_mac: Option<Mac>,
}

/// Which encapsulation a device is for, and the family of its own packets; `None` for a device of another kind.
pub fn encapsulation_of(link: &Link) -> Option<(Encapsulation, Family)> {
    match link.tunnel()? {
        Tunnel::Vxlan(device) => vxlan::encapsulation_of(device),
        Tunnel::Ipip(device) => ipip::encapsulation_of(device),
    }
}

/// The texts about a device.
pub fn texts(tunnel: &Tunnel) -> DeviceTexts {
    match tunnel {
        Tunnel::Vxlan(_) => vxlan::TEXTS,
        Tunnel::Ipip(_) => ipip::TEXTS,
    }
}

/// What a node's backend publishes for the pods of one family: flannel's `BackendData`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum BackendData {
    /// The end of a VXLAN tunnel.
    Vxlan(vxlan::Vtep),
    /// JSON that no backend here reads, as it was read.
    #[serde(serialize_with = "raw")]
    Raw(Box<str>),
}

impl BackendData {
    /// Reads the JSON that a node with this backend has published; `null` is none.
    ///
    /// # Errors
    /// Where the backend reads such data and finds other ones.
    pub fn parse(backend: &BackendType, json: &str) -> Result<Option<Self>, RecordError> {
        if json.trim() == "null" {
            return Ok(None);
        }
        Ok(Some(match backend {
            BackendType::Vxlan => BackendData::Vxlan(vxlan::Vtep::parse(json)?),
            BackendType::HostGw | BackendType::Ipip | BackendType::Other(_) => BackendData::Raw(json.into()),
        }))
    }

    /// As JSON: flannel's bytes, or what was read.
    pub fn json(&self) -> String {
        match self {
            BackendData::Vxlan(vtep) => serde_json::to_string(vtep).unwrap_or_default(),
            BackendData::Raw(json) => (**json).to_owned(),
        }
    }

    /// The hardware address of the node's tunnel end, where it has one.
    pub fn mac(&self) -> Option<Mac> {
        match self {
            BackendData::Vxlan(vtep) => Some(vtep.mac),
            BackendData::Raw(_) => None,
        }
    }
}

/// Writes JSON as it is. What is none, which only an annotation can hold, becomes `null`.
pub(crate) fn raw<S: Serializer>(json: &(impl AsRef<str> + ?Sized), serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<&RawValue>(json.as_ref()).ok().serialize(serializer)
}

/// The data that a node asks its store to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataRequest {
    /// The end of a VXLAN tunnel.
    Vxlan(vxlan::VtepRequest),
}

impl DataRequest {
    /// The data to publish, when the lease so far had `stored`.
    pub fn data(&self, stored: Option<&BackendData>) -> BackendData {
        match self {
            DataRequest::Vxlan(request) => BackendData::Vxlan(request.vtep(stored.and_then(BackendData::mac))),
        }
    }
}

/// Why the pods of one family cannot be carried at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelDeviceError {
    /// The tunnel's headers leave too little.
    #[error(transparent)]
    TooSmall(#[from] tunnel_device::TooSmall),
    /// The underlay has no address.
    #[error("{interface} has no address for the tunnel to {family} pods to start from")]
    NoAddress {
        /// The interface of the underlay.
        interface: IfName,
        /// The pods' family.
        family: Family,
    },
    /// The kernel has no devices of the tunnel's kind.
    #[error(
        "this kernel has no {kind} devices: modprobe {kind}, run a kernel that has them, or choose another Backend.Type"
    )]
    NoKernelSupport {
        /// The kind.
        kind: &'static str,
    },
    /// Plain routes cannot carry them.
    #[error(transparent)]
    HostGw(#[from] host_gw::NoIpv6Address),
    /// VXLAN cannot carry them.
    #[error(transparent)]
    Vxlan(#[from] vxlan::LongName),
}

/// Why there is no route to a peer's pods of a family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPeerRoute {
    /// The peer runs another backend.
    #[error("it runs backend {theirs}, this node {ours}: set one Backend.Type for all nodes")]
    OtherBackend {
        /// The peer's backend.
        theirs: BackendType,
        /// Ours.
        ours: BackendType,
    },
    /// The peer has said what it receives, and this is not in it.
    #[error(
        "it does not receive by {encapsulation}, and this node sends by nothing that it receives: set one Backend for all nodes"
    )]
    NotReceived {
        /// What this node would send by.
        encapsulation: Encapsulation,
    },
    /// This node has not published yet that it sends by this.
    #[error("this node has not published yet that it sends by {encapsulation}")]
    NotPublished {
        /// What this node would send by.
        encapsulation: Encapsulation,
    },
    /// The peer has no address of the tunnel's family.
    #[error("it has published no {family} address, which this node's tunnel needs")]
    NoPublicAddress {
        /// The underlay's family.
        family: Family,
    },
    /// No plain route leads there.
    #[error(transparent)]
    HostGw(#[from] host_gw::NoRoute),
    /// No VXLAN tunnel leads there.
    #[error(transparent)]
    Vxlan(#[from] vxlan::NoRoute),
    /// No IPIP tunnel leads there.
    #[error(transparent)]
    Ipip(#[from] ipip::NoRoute),
}

impl NoPeerRoute {
    /// True where the peer is reached as soon as this node has published that it sends so.
    pub fn awaits_publication(&self) -> bool {
        matches!(self, NoPeerRoute::NotPublished { .. })
    }

    /// False for what ends by itself when every node has changed its backend.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, NoPeerRoute::NotReceived { .. } | NoPeerRoute::NotPublished { .. })
    }
}
