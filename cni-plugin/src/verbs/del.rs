//! DEL: takes away whatever of the attachment is left. It needs its three names and nothing that ADD wrote, and
//! succeeds where nothing is left.

use dataplane::link::{self, Device, Kind};
use dataplane::netlink::Socket;

use crate::attachment::Attachment;
use crate::call::Target;
use crate::conf::Document;
use crate::conf::net_conf::Places;
use crate::failure::Failure;
use crate::ipam::Reservations;
use crate::wire::namespace::Namespace;
use crate::wire::{bridge, pod, step, veth};

pub(super) fn del(document: &Document, target: &Target) -> Result<(), Failure> {
    let places = Places::read(&document.fields());
    let attachment = super::attachment_of(document, target);
    let mut host = Socket::open().map_err(step("speak to the kernel"))?;
    if veth::find(&mut host, &attachment)?.is_some() {
        veth::remove(&mut host, &attachment)?;
    } else {
        remove_foreign(&places, &attachment, target, &mut host)?;
    }
    // Last: an address must not go to another pod while the first can still use it, nor be lost track of where the
    // link could not be removed.
    if let Some(mut reservations) = Reservations::lock_existing(&places.data_dir, &attachment.network)? {
        reservations.release(&attachment)?;
    }
    Ok(())
}

/// Removes the interface of a pod that the reference plugins made: their host end has a random name, so it is found from
/// inside. Something else of the same name is left alone: it is ours only with an address of ours or a port on our
/// bridge.
fn remove_foreign(places: &Places, attachment: &Attachment, target: &Target, host: &mut Socket) -> Result<(), Failure> {
    if target.netns.is_empty() {
        return Ok(());
    }
    let namespace = match Namespace::open(target) {
        Ok(namespace) => namespace,
        Err(error) if error.may_be_there() => return Err(error.into()),
        // A namespace that is gone took its interfaces along; in the node's own none was made.
        Err(_) => return Ok(()),
    };
    let has_address = match Reservations::lock_existing(&places.data_dir, &attachment.network)? {
        Some(reservations) => !reservations.addresses_of(attachment)?.is_empty(),
        None => false,
    };
    let ports = match &places.bridge {
        Some(name) => match bridge::find(host, name) {
            Ok(Some(bridge)) => host.ports(bridge.index).map_err(step(format!("read the ports of {name}")))?,
            _ => Vec::new(),
        },
        None => Vec::new(),
    };
    let remove = || {
        let mut container = Socket::open().map_err(step("speak to the kernel in the container"))?;
        let Some(link) = pod::find(&mut container, &attachment.ifname)? else { return Ok(()) };
        let is_port = link.kind == Kind::Veth && ports.iter().any(|port| Some(port.index) == link.lower);
        if !has_address && !is_port {
            return Ok(());
        }
        match container.request(link::delete(Device::Index(link.index))) {
            Err(error) if !error.is_missing() => {
                Err(step(format!("remove link {} in the container", attachment.ifname))(error).into())
            }
            _ => Ok(()),
        }
    };
    namespace.visit(remove)
}
