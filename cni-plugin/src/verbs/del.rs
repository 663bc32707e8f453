//! DEL: removes the rest of an attachment. It needs the attachment's three names and no file that ADD wrote, and succeeds
//! where nothing is left.

use std::fs;

use dataplane::link::{self, Device, Kind};
use dataplane::netlink::RouteSocket;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::conf::plugin_conf::TeardownConf;
use crate::ipam::{self, Reservations};
use crate::netlink::namespace::Namespace;
use crate::netlink::{bridge, if_there, pod, step, veth};

pub(super) fn del(document: &Document, target: &Target) -> Result<(), CniError> {
    let conf = TeardownConf::read(&document.fields());
    let attachment = super::attachment_of(document, target);
    let mut host = RouteSocket::open().map_err(step("open a netlink socket"))?;
    if veth::find(&mut host, &attachment)?.is_some() {
        veth::remove(&mut host, &attachment)?;
    } else {
        remove_foreign(&conf, &attachment, target, &mut host)?;
    }
    // Last: another pod must not get the address while this one can still use it, and where the link could not be removed
    // its address must stay reserved.
    if let Some(mut reservations) = Reservations::lock_existing(&conf.data_dir, &attachment.network)? {
        reservations.release(&attachment)?;
    }
    Ok(())
}

/// Removes a pod's interface that the reference plugins made. Their host end has a random name, so the interface is found
/// inside the pod's namespace. It is removed only where the attachment has a reservation or the other end is a port of the
/// bridge: another interface of this name is not ours.
fn remove_foreign(
    conf: &TeardownConf,
    attachment: &Attachment,
    target: &Target,
    host: &mut RouteSocket,
) -> Result<(), CniError> {
    let namespace = match Namespace::open(target) {
        Ok(namespace) => namespace,
        Err(error) if error.code == Code::UnknownContainer && fs::exists(&target.netns).unwrap_or(true) => {
            return Err(error);
        }
        // The kernel has removed the interfaces of a namespace that is gone; in the node's own there are none.
        Err(_) => return Ok(()),
    };
    let has_address = !ipam::addresses_of(&conf.data_dir, attachment)?.is_empty();
    let mut ports = Vec::new();
    if let Some(name) = &conf.bridge
        && let Ok(Some(bridge)) = bridge::find(host, name)
    {
        ports = host.ports(bridge.index).map_err(step(format_args!("read the ports of {name}")))?;
    }
    let remove = || {
        let mut container = RouteSocket::open().map_err(step("open a netlink socket in the container"))?;
        let Some(link) = pod::find(&mut container, &attachment.ifname)? else { return Ok(()) };
        let is_port = link.kind == Kind::Veth && ports.iter().any(|port| Some(port.index) == link.lower);
        if !has_address && !is_port {
            return Ok(());
        }
        let removed = container.request(link::delete(Device::Index(link.index)));
        if_there(removed, format_args!("remove link {} in the container", attachment.ifname))
    };
    namespace.visit(remove)
}
