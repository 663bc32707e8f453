//! ADD: checks everything, then makes it, and undoes what it has made where a later step fails.

use dataplane::link::{self, Device, Link};
use dataplane::netlink::RouteSocket;
use dataplane::types::{Family, IfName, Mac, Mtu};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::conf::plugin_conf::PluginConf;
use crate::ipam::Reservations;
use crate::netlink::namespace::Namespace;
use crate::netlink::{bridge, mac_for, pod, ports, step, veth};
use crate::result::{CniResult, Interface, Ip, Route};

/// What ADD has made so far, and removes where a later step fails.
#[derive(Debug, Default)]
struct Made {
    addresses: bool,
    veth: bool,
}

/// The kernel's default for a veth.
const VETH_MTU: u32 = 1500;

pub(super) fn add(document: &Document, target: &Target) -> Result<Value, CniError> {
    let conf = super::read_conf(document, &target.args, Code::TryAgainLater)?;
    let namespace = Namespace::open(target)?;
    let attachment = super::attachment_of(document, target);
    let (length, room) = (attachment.container.as_str().len(), attachment.room());
    if length > room {
        let reason =
            format!("it has {length} letters, and beside the names of the network and the interface {room} fit");
        return Err(CniError::new(Code::InvalidEnvironment, format!("CNI_CONTAINERID is too long: {reason}")));
    }
    let mut host = RouteSocket::open().map_err(step("open a netlink socket"))?;
    let add = Add { conf: &conf, attachment: &attachment, namespace: &namespace };
    let mut made = Made::default();
    let result = add.attach(&mut host, &mut made).and_then(|result| {
        let earlier = conf.prev_result.clone().unwrap_or_default();
        result.after(earlier).to_json(document.version)
    });
    if result.is_err() {
        add.undo(&mut host, &made);
    }
    result
}

/// What ADD works on. `host` is the socket of the node's namespace.
struct Add<'a> {
    conf: &'a PluginConf,
    attachment: &'a Attachment,
    namespace: &'a Namespace,
}

impl Add<'_> {
    fn attach(&self, host: &mut RouteSocket, made: &mut Made) -> Result<CniResult, CniError> {
        let Self { conf, attachment, namespace } = self;
        let present = bridge::find(host, &conf.bridge.name)?;
        let had_ports = present.as_ref().is_some_and(|bridge| bridge.carrier);
        let mut container = namespace.visit(|| self.enter())?;
        let ips = Reservations::lock(&conf.data_dir, &attachment.network)?.allocate(
            attachment,
            &conf.ranges,
            &conf.requested.ips,
            || ports::read(host, &conf.bridge.name, &attachment.network),
        )?;
        made.addresses = true;
        let bridge = bridge::ensure(host, &conf.bridge, present, &self.gateways(&ips))?;
        let pod_mac = conf.requested.mac.unwrap_or_else(|| mac_for(ips[0].address.ip()));
        veth::make(host, attachment, &bridge, &conf.bridge, pod_mac, namespace)?;
        made.veth = true;
        let mut result = self.result(&bridge, pod_mac, ips);
        namespace.visit(|| pod::configure(&mut container, &attachment.ifname, &mut result))?;
        bridge::ignore_advertisements(&attachment.host_veth())?;
        veth::await_forwarding(host, attachment)?;
        if !had_ports {
            // The first port gives the bridge a carrier. The kernel handles that change later, up to a second, and until then
            // the bridge sends nothing. Reading the link makes the kernel handle it now, as for the port.
            bridge::find(host, &conf.bridge.name)?;
        }
        Ok(result)
    }

    /// A socket of the pod's namespace, in which the interface must not be yet.
    fn enter(&self) -> Result<RouteSocket, CniError> {
        let container = RouteSocket::open().map_err(step("open a netlink socket in the container"))?;
        if link::index_of(&self.attachment.ifname).is_none() {
            return Ok(container);
        }
        let message = format!("interface {} already exists in the container's namespace", self.attachment.ifname);
        Err(CniError::new(Code::AlreadyThere, message))
    }

    /// Removes what ADD has made. An error here is not reported: the first error is the one to report, and DEL removes the rest.
    fn undo(&self, host: &mut RouteSocket, made: &Made) {
        if made.veth {
            let _ = host.request(link::delete(Device::Name(&self.attachment.host_veth())));
        }
        if made.addresses
            && let Ok(Some(mut reservations)) =
                Reservations::lock_existing(&self.conf.data_dir, &self.attachment.network)
        {
            let _ = reservations.release(self.attachment);
        }
    }

    /// The bridge's addresses: the gateway of each allocated address, in that address's subnet.
    fn gateways(&self, ips: &[Ip]) -> Vec<IpNetwork> {
        ips.iter().filter(|_| self.conf.bridge.is_gateway).filter_map(Ip::gateway_on_link).collect()
    }

    /// The configured routes, and a default route for each family that has none through a gateway.
    fn routes(&self, ips: &[Ip]) -> Vec<Route> {
        let mut routes = self.conf.routes.clone();
        routes.retain(|route| ips.iter().any(|ip| Family::of(ip.address.ip()) == route.dst.family()));
        for family in Family::BOTH.into_iter().filter(|_| self.conf.is_default_gateway) {
            let default = family.default_route();
            let gateway = ips.iter().filter_map(|ip| ip.gateway).find(|gateway| Family::of(*gateway) == family);
            if gateway.is_some() && !routes.iter().any(|route| route.dst == default) {
                routes.push(Route::via(default, gateway));
            }
        }
        routes
    }

    fn result(&self, bridge: &Link, pod_mac: Mac, mut ips: Vec<Ip>) -> CniResult {
        let Self { conf, attachment, namespace } = self;
        let interface = |name: &IfName, mac: Option<Mac>, default_mtu| Interface {
            name: name.to_string(),
            mac: mac.map(|mac| mac.to_string()),
            mtu: Some(conf.bridge.mtu.map_or(default_mtu, Mtu::get)),
            ..Interface::default()
        };
        let mut container = interface(&attachment.ifname, Some(pod_mac), VETH_MTU);
        container.sandbox = Some(namespace.path.clone());
        let routes = self.routes(&ips);
        for ip in &mut ips {
            ip.interface = Some(2);
        }
        CniResult {
            interfaces: vec![
                interface(&conf.bridge.name, bridge.mac, bridge.mtu),
                interface(&attachment.host_veth(), Some(attachment.host_mac()), VETH_MTU),
                container,
            ],
            ips,
            routes,
            dns: conf.dns.clone(),
        }
    }
}
