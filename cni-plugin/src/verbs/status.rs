//! STATUS: could ADD be served now?

use dataplane::netlink::Socket;

use crate::conf::Document;
use crate::failure::{Code, Failure};
use crate::ipam;
use crate::wire::{bridge, step};

pub(super) fn status(document: &Document) -> Result<(), Failure> {
    let conf = super::read_conf(document, "", Code::NotAvailable)?;
    let unavailable = |failure: Failure| Failure { code: Code::NotAvailable, ..failure };
    let mut host = Socket::open().map_err(step("speak to the kernel")).map_err(|error| unavailable(error.into()))?;
    bridge::find(&mut host, &conf.bridge.name).map_err(|error| unavailable(error.into()))?;
    ipam::has_room(&conf.data_dir, &conf.network, &conf.ranges).map_err(|error| unavailable(error.into()))
}
