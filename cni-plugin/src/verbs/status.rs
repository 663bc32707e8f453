//! STATUS: whether ADD would succeed now.

use dataplane::netlink::RouteSocket;

use crate::cni_error::{CniError, Code};
use crate::conf::Document;
use crate::ipam;
use crate::netlink::{bridge, step};

pub(super) fn status(document: &Document) -> Result<(), CniError> {
    let conf = super::read_conf(document, "", Code::NotAvailable)?;
    let can_add = || {
        let mut host = RouteSocket::open().map_err(step("open a netlink socket"))?;
        if let Some(found) = bridge::find(&mut host, &conf.bridge.name)?
            && host.ports(found.index).map_err(step("count the bridge's ports"))?.len() >= bridge::MAX_PORTS
        {
            return Err(bridge::full(&conf.bridge.name));
        }
        // ADD would do so too, and no ADD comes while STATUS fails.
        let has_room = || ipam::has_room(&conf.data_dir, &document.network, &conf.ranges);
        has_room().or_else(|full| if super::take_back_by(document, &conf)?.is_empty() { Err(full) } else { has_room() })
    };
    can_add().map_err(|error: CniError| CniError { code: Code::NotAvailable, ..error })
}
