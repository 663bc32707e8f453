//! STATUS: whether ADD would succeed now.

use dataplane::netlink::Socket;

use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::ipam;
use crate::netlink::{bridge, step};

pub(super) fn status(document: &Document) -> Result<(), CniError> {
    let conf = super::read_conf(document, "", Code::NotAvailable)?;
    let unavailable = |error: CniError| CniError { code: Code::NotAvailable, ..error };
    let mut host = Socket::open().map_err(step("open a netlink socket")).map_err(|error| unavailable(error.into()))?;
    bridge::find(&mut host, &conf.bridge.name).map_err(|error| unavailable(error.into()))?;
    ipam::has_room(&conf.data_dir, &conf.network, &conf.ranges).map_err(|error| unavailable(error.into()))
}
