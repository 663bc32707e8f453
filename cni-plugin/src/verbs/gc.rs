//! GC: removes the reservations and the host ends that belong to no valid attachment, and goes on after a failure.

use dataplane::link::{self, Device, Link};
use dataplane::netlink::Socket;

use crate::attachment::Attachment;
use crate::conf::Document;
use crate::conf::attachments::ValidAttachments;
use crate::conf::net_conf::Places;
use crate::failure::Failure;
use crate::ipam::Reservations;
use crate::wire::{WireError, step};

pub(super) fn gc(document: &Document) -> Result<(), Failure> {
    let fields = document.fields();
    let valid = ValidAttachments::read(&fields)?;
    let places = Places::read(&fields);
    let mut failures: Vec<Failure> = sweep_links(document, &valid).into_iter().map(Failure::from).collect();
    match Reservations::lock_existing(&places.data_dir, &document.network) {
        Ok(Some(mut reservations)) => {
            let failed = reservations.retain(&valid).err().unwrap_or_default();
            failures.extend(failed.into_iter().map(Failure::from));
        }
        Ok(None) => {}
        Err(error) => failures.push(error.into()),
    }
    let mut failures = failures.into_iter();
    let Some(mut first) = failures.next() else { return Ok(()) };
    for failure in failures {
        first.message.push_str("; ");
        first.message.push_str(&failure.message);
    }
    Err(first)
}

/// Host ends say in their alias whose they are. A pod's namespace that is gone took its own along; what is left has a
/// namespace that somebody still holds.
fn sweep_links(document: &Document, valid: &ValidAttachments) -> Vec<WireError> {
    let links = Socket::open().and_then(|mut host| Ok((host.links()?, host)));
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
    let failed = |(link, outcome): (&&Link, Result<(), _>)| match outcome {
        Err(error) if !dataplane::netlink::KernelError::is_missing(&error) => {
            Some(step(format!("remove link {}", link.name))(error))
        }
        _ => None,
    };
    stale.iter().zip(host.batch(&requests)).filter_map(failed).collect()
}
