//! STATUS: whether ADD would succeed now.

use dataplane::netlink::Socket;

use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::ipam;
use crate::netlink::{bridge, step};

pub(super) fn status(document: &Document) -> Result<(), CniError> {
    let conf = super::read_conf(document, "", Code::NotAvailable)?;
    let can_add = || {
        let mut host = Socket::open().map_err(step("open a netlink socket"))?;
        bridge::find(&mut host, &conf.bridge.name)?;
        ipam::has_room(&conf.data_dir, &document.network, &conf.ranges)
    };
    can_add().map_err(|error: CniError| CniError { code: Code::NotAvailable, ..error })
}
