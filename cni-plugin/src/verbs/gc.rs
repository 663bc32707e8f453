//! GC: removes the reservations and the host ends that belong to no valid attachment, and goes on after an error.

use dataplane::link::{self, Device, Link};
use dataplane::netlink::RouteSocket;

use crate::attachment::{Attachment, ValidAttachments};
use crate::cni_error::CniError;
use crate::conf::plugin_conf::TeardownConf;
use crate::conf::{Document, attachments};
use crate::ipam::Reservations;
use crate::netlink::{if_there, step};

pub(super) fn gc(document: &Document) -> Result<(), CniError> {
    let fields = document.fields();
    let valid = attachments::valid(&fields)?;
    let conf = TeardownConf::read(&fields);
    let mut errors = sweep_links(document, &valid);
    match Reservations::lock_existing(&conf.data_dir, &document.network) {
        Ok(Some(mut reservations)) => errors.extend(reservations.retain(&valid)),
        Ok(None) => {}
        Err(error) => errors.push(error),
    }
    let Some(first) = errors.first() else { return Ok(()) };
    let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Err(CniError::new(first.code, messages.join("; ")))
}

/// Removes the host ends whose alias names an attachment that is not valid. Where a pod's namespace is gone, the kernel has
/// removed its pair already; a pair that is left has a namespace that a process still holds.
fn sweep_links(document: &Document, valid: &ValidAttachments) -> Vec<CniError> {
    let links = RouteSocket::open().and_then(|mut host| Ok((host.links()?, host)));
    let (links, mut host) = match links.map_err(step("read the links")) {
        Ok(read) => read,
        Err(error) => return vec![error],
    };
    let is_stale = |link: &&Link| {
        let owner = link.alias.as_deref().and_then(Attachment::from_alias);
        owner.is_some_and(|owner| {
            let is_host_end = owner.network == document.network && owner.host_veth() == link.name;
            is_host_end && !valid.keeps(owner.container.as_str(), owner.ifname.as_str())
        })
    };
    let stale: Vec<_> = links.iter().filter(is_stale).collect();
    let requests: Vec<_> = stale.iter().map(|link| link::delete(Device::Index(link.index))).collect();
    let outcomes = stale.iter().zip(host.batch(&requests));
    outcomes.filter_map(|(link, outcome)| if_there(outcome, format_args!("remove link {}", link.name)).err()).collect()
}
