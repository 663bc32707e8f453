//! The backends: how packets get from one node to another. This file is the only one that tells one backend from another.
//!
//! Pure. A backend is one file: its options and how they are read, the data that its nodes publish, its devices and the routes to its
//! peers. A backend is added by one file, by a variant in each enum here and by an arm in each `match` here. Data and encapsulations
//! that no backend here reads are kept as they were read.

mod advertisement;
pub mod host_gw;
pub mod ipip;
mod options;
mod peer_route;
mod texts;
pub mod tunnel_device;
pub mod vxlan;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use dataplane::link::{Link, Tunnel};
use dataplane::types::{Family, IfName, Mac, PerFamily, Prefix, Vni};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::caseless::Object;
use crate::interface::Underlay;
use crate::net_conf_error::NetConfError;
use crate::on_link::OnLink;
use crate::record_error::RecordError;
use crate::text::printable;
pub use advertisement::{Advertisement, EncapsulationSupport};
pub(crate) use peer_route::Entries;
pub use peer_route::{NoPeerRoute, PeerRoute};
pub use texts::{BackendFacts, DeviceTexts, Traffic};
pub use tunnel_device::{TunnelDevice, TunnelDeviceError};
pub use vxlan::{DataRequest, OwnState};

/// What `Backend.Type` may be, as messages have it.
const TYPES: &str = "vxlan, host-gw or ipip";

/// Flannel's backends that netd does not have.
const UNAVAILABLE: [&str; 6] = ["wireguard", "udp", "ipsec", "alloc", "extension", "tencent-vpc"];

/// A list of encapsulations, as messages show it.
pub const ENCAPSULATIONS_EXAMPLE: &str = r#"[{"Type":"vxlan","VNI":1,"Port":8472}]"#;

/// The backends that netd has.
static KNOWN: [BackendType; 3] = [BackendType::Vxlan, BackendType::HostGw, BackendType::Ipip];

/// The name of a backend. Prints flannel's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendType {
    /// `vxlan`: a tunnel, or plain routes to on-link peers with `DirectRouting`.
    Vxlan,
    /// `host-gw`: plain routes only.
    HostGw,
    /// `ipip`: a tunnel for IPv4, or plain routes to on-link peers with `DirectRouting`.
    Ipip,
    /// Any other name, in lower case and [`printable`]: a node that we cannot talk to.
    Other(String),
}

impl BackendType {
    /// The name without a copy where netd has the backend.
    pub fn name(&self) -> Cow<'static, str> {
        let known = KNOWN.iter().find(|known| *known == self);
        known.map_or_else(|| self.to_string().into(), |known| known.as_str().into())
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
        if *self == BackendType::Vxlan { vxlan::DATA_EXAMPLE } else { "null" }
    }
}

impl From<&str> for BackendType {
    /// Reads a name in any case.
    fn from(name: &str) -> Self {
        let name = name.to_lowercase();
        KNOWN
            .iter()
            .find(|known| known.as_str() == name)
            .cloned()
            .unwrap_or_else(|| BackendType::Other(printable(&name)))
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

impl Backend {
    /// Takes `Backend` out of a network configuration; vxlan with its defaults where it is missing. Also gives the keys that nobody
    /// knows.
    pub(crate) fn take(conf: &mut Object<'_>, ipv6: bool) -> Result<(Self, Vec<String>), NetConfError> {
        let Some(mut object) = conf.take::<Object<'_>>("Backend", r#"an object like {"Type": "vxlan"}"#)? else {
            return Ok((Backend::Vxlan(vxlan::Options::PLAIN), Vec::new()));
        };
        let name = options::field::<String>(&mut object, "Type", &format!("the text {TYPES}"))?.unwrap_or_default();
        let backend = match BackendType::from(name.as_str()) {
            BackendType::Vxlan => Backend::Vxlan(vxlan::Options::take(&mut object, ipv6)?),
            BackendType::HostGw => Backend::HostGw,
            BackendType::Ipip => Backend::Ipip(ipip::Options::take(&mut object, ipv6)?),
            BackendType::Other(name) if UNAVAILABLE.contains(&name.as_str()) => {
                let problem = format!("backend type {name} is not available in netd: Backend.Type must be {TYPES}");
                return Err(NetConfError::Backend(problem));
            }
            BackendType::Other(_) => {
                let problem = format!("unknown backend type: {} (Backend.Type must be {TYPES})", printable(&name));
                return Err(NetConfError::Backend(problem));
            }
        };
        Ok((backend, object.into_keys().collect()))
    }

    /// Its type, as leases have it.
    pub fn kind(&self) -> BackendType {
        match self {
            Backend::Vxlan(_) => BackendType::Vxlan,
            Backend::HostGw => BackendType::HostGw,
            Backend::Ipip(_) => BackendType::Ipip,
        }
    }

    /// The encapsulations in which packets should travel, the best first. The last one reaches every peer that can be reached.
    pub fn encapsulations(&self) -> Vec<Encapsulation> {
        let (direct, tunnel) = match self {
            Backend::Vxlan(options) => (options.direct_routing, Some(Encapsulation::Vxlan(options.tunnel()))),
            Backend::HostGw => (true, None),
            Backend::Ipip(options) => (options.direct_routing, Some(Encapsulation::Ipip)),
        };
        direct.then_some(Encapsulation::Direct).into_iter().chain(tunnel).collect()
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

    /// The data that a node asks its store to publish, by pod family; none for a backend without data of its own.
    pub fn data_requests(&self, own: &OwnState<'_>) -> PerFamily<DataRequest> {
        match self {
            Backend::Vxlan(options) => options.data_requests(own),
            Backend::HostGw | Backend::Ipip(_) => PerFamily::none(),
        }
    }

    /// Whether a node's public address may be another than its interface's.
    pub fn allows_nat(&self) -> bool {
        *self != Backend::HostGw
    }

    /// Whether `Backend.MTU` says what the underlay carries.
    pub fn has_mtu(&self) -> bool {
        matches!(self, Backend::Vxlan(_))
    }

    /// Why packets to a peer take this route.
    pub fn reason(&self, route: &PeerRoute) -> Cow<'static, str> {
        let configured = self.encapsulations();
        match (configured.contains(&route.encapsulation), configured.len()) {
            (false, _) => format!("{}: it does not receive by this node's backend yet", route.encapsulation).into(),
            (true, 1) => format!("backend {}", self.kind()).into(),
            (true, _) if route.is_direct() => "on this node's link (DirectRouting)".into(),
            (true, _) => "not on this node's link".into(),
        }
    }

    /// Why no packet reaches a peer of another backend that does not publish what it receives.
    pub fn mismatch(&self, theirs: &BackendType) -> NoPeerRoute {
        NoPeerRoute::OtherBackend { theirs: theirs.clone(), ours: self.kind() }
    }

    /// The backend and its options, for people.
    pub fn facts(&self) -> BackendFacts {
        let (tunnel, direct_routing) = match self {
            Backend::Vxlan(options) => (Some(options.tunnel()), Some(options.direct_routing)),
            Backend::HostGw => (None, None),
            Backend::Ipip(options) => (None, Some(options.direct_routing)),
        };
        let (vni, port) = (tunnel.map(|id| id.vni), tunnel.map(|id| id.port));
        BackendFacts { kind: self.kind().to_string(), vni, port, direct_routing }
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

impl Encapsulation {
    /// True for plain routes.
    pub fn is_direct(&self) -> bool {
        *self == Encapsulation::Direct
    }

    /// Its entry in the lists of what a node receives and sends. `macs` are the hardware addresses of the node's tunnel end, by pod
    /// family.
    pub fn entry<'a>(&self, macs: PerFamily<Mac>) -> EncapsulationRecord<'a> {
        match *self {
            Encapsulation::Direct => EncapsulationRecord::HostGw,
            Encapsulation::Vxlan(vxlan::TunnelId { vni, port }) => {
                EncapsulationRecord::Vxlan { vni, port, mac: macs.v4, v6_mac: macs.v6 }
            }
            Encapsulation::Ipip => EncapsulationRecord::Ipip,
        }
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
        match self {
            Encapsulation::Direct => 0,
            Encapsulation::Vxlan(_) => vxlan::overhead(underlay),
            Encapsulation::Ipip => ipip::OVERHEAD,
        }
    }

    /// What its packets are to firewalls between nodes; `None` for plain routes, whose packets are the pods' own.
    pub fn traffic(&self) -> Option<Traffic> {
        let (name, tcpdump, nft) = match self {
            Encapsulation::Direct => return None,
            Encapsulation::Vxlan(vxlan::TunnelId { port, .. }) => {
                (format!("UDP port {port}"), format!("udp port {port}"), format!("udp dport {port}"))
            }
            Encapsulation::Ipip => {
                ("IP protocol 4 (ipip)".to_owned(), "ip proto 4".to_owned(), "ip protocol 4".to_owned())
            }
        };
        Some(Traffic { name, tcpdump, nft })
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
        match self {
            Encapsulation::Direct => host_gw::check(pods, underlay).map(|()| PerFamily::none()),
            Encapsulation::Vxlan(id) => id.devices(conf, pods, underlay),
            Encapsulation::Ipip => ipip::devices(pods, underlay),
        }
    }

    /// The name of its device over a family of the underlay, where another tunnel has the usual name.
    pub fn other_name(&self, underlay: Family) -> Option<IfName> {
        if let Encapsulation::Vxlan(id) = self { id.other_name(underlay) } else { None }
    }

    /// The device of this node, whose packets leave from `local`; none for plain routes.
    pub fn tunnel(&self, conf: &Backend, local: Option<IpAddr>, underlay: &Underlay) -> Option<Tunnel> {
        match self {
            Encapsulation::Direct => None,
            Encapsulation::Vxlan(id) => Some(id.tunnel(conf, local, underlay)),
            Encapsulation::Ipip => ipip::tunnel(local),
        }
    }

    /// Whether its devices have hardware addresses, which peers must know.
    pub fn has_mac(&self) -> bool {
        matches!(self, Encapsulation::Vxlan(_))
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
        let (endpoint, mac) = match self {
            Encapsulation::Direct => (host_gw::gateway(peer, family, on_link)?, None),
            Encapsulation::Vxlan(id) => id.end(peer, family, device).map(|(end, mac)| (end, Some(mac)))?,
            Encapsulation::Ipip => (ipip::end(peer, family, device)?, None),
        };
        Ok(PeerRoute { encapsulation: *self, endpoint, mac })
    }

    /// What the kernel needs for packets to `subnet`; they leave by `device`.
    pub(crate) fn entries(&self, route: &PeerRoute, subnet: Prefix, device: IfName) -> Entries {
        match self {
            Encapsulation::Direct => Entries::by(subnet, route.endpoint, device, false),
            Encapsulation::Vxlan(_) => vxlan::entries(route, subnet, device),
            Encapsulation::Ipip => Entries::by(subnet, route.endpoint, device, true),
        }
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encapsulation::Direct => f.write_str("plain routes"),
            Encapsulation::Vxlan(id) => write!(f, "the tunnel of VNI {} port {}", id.vni, id.port),
            Encapsulation::Ipip => f.write_str("the ipip tunnel"),
        }
    }
}

/// An entry in the lists of what a node receives and sends, by flannel's names of backends.
#[derive(Serialize)]
#[serde(tag = "Type", rename_all = "kebab-case")]
pub enum EncapsulationRecord<'a> {
    /// Plain routes.
    HostGw,
    /// A VXLAN tunnel.
    Vxlan {
        /// The network identifier.
        #[serde(rename = "VNI")]
        vni: Vni,
        /// The UDP port.
        #[serde(rename = "Port")]
        port: u16,
        /// The hardware address of the tunnel end for IPv4 pods.
        #[serde(rename = "VtepMAC", skip_serializing_if = "Option::is_none")]
        mac: Option<Mac>,
        /// The hardware address of the tunnel end for IPv6 pods.
        #[serde(rename = "VtepV6MAC", skip_serializing_if = "Option::is_none")]
        v6_mac: Option<Mac>,
    },
    /// An IPIP tunnel.
    Ipip,
    /// One that no backend here reads, as it was read.
    #[serde(untagged)]
    Raw(#[serde(serialize_with = "raw")] &'a str),
}

/// Which encapsulation a device is for, and the family of its own packets; `None` for a device of another kind. An ipip device without
/// a local address, or with a fixed peer, is none of flannel's or netd's.
pub fn encapsulation_of(link: &Link) -> Option<(Encapsulation, Family)> {
    match link.tunnel()? {
        Tunnel::Vxlan(device) => {
            let id = vxlan::TunnelId { vni: device.vni, port: device.port };
            Some((Encapsulation::Vxlan(id), Family::of(device.local?)))
        }
        Tunnel::Ipip(device) => {
            let is_ours = device.local.is_some() && device.remote.is_none();
            is_ours.then_some((Encapsulation::Ipip, Family::V4))
        }
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
        Ok(match backend {
            _ if json.trim() == "null" => None,
            BackendType::Vxlan => Some(BackendData::Vxlan(vxlan::Vtep::parse(json)?)),
            BackendType::HostGw | BackendType::Ipip | BackendType::Other(_) => Some(BackendData::Raw(json.into())),
        })
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
