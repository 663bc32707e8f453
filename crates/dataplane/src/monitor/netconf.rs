//! The sysctls of which the kernel notifies (`RTM_NEWNETCONF`).
//!
//! As found on 6.18, the kernel notifies of `forwarding` (with `net/ipv4/ip_forward`) and of `rp_filter`, for one device, for
//! `all` and for `default`, where the value becomes another one; also of `proxy_arp`, `proxy_ndp`, `mc_forwarding`,
//! `bc_forwarding` and `ignore_routes_with_linkdown`, which are not read here. It does not notify of `accept_ra`,
//! `addr_gen_mode`, `send_redirects` and the like, and of `disable_ipv6` only by the addresses that go. Those have to be polled.
//! `netlink-packet-route` does not know these messages.

use netlink_packet_core::NetlinkBuffer;

use crate::attribute;
use crate::netlink_message::HEADER_BYTES;

/// `RTM_NEWNETCONF`.
const NEW: u16 = 80;
/// `struct netconfmsg` with its padding.
const FIXED_BYTES: usize = 4;
// `NETCONFA_...`
const INDEX: u16 = 1;
const FORWARDING: u16 = 2;
const RP_FILTER: u16 = 3;

/// Forwarding or the reverse-path filter is set, at a device that is new or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetconfChange {
    /// The device's index; `None` for the settings of all devices and of new ones.
    pub device: Option<u32>,
    /// Whether the device forwards, where the message says so.
    pub forwards: Option<bool>,
}

impl NetconfChange {
    /// `None` for other messages, and for those of other sysctls.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        if NetlinkBuffer::new(message).message_type() != NEW {
            return None;
        }
        let (mut index, mut forwards, mut filters) = (None, None, false);
        for (kind, value) in attribute::iter(message.get(HEADER_BYTES + FIXED_BYTES..)?) {
            let value = i32::from_ne_bytes(value.try_into().ok()?);
            match kind {
                INDEX => index = Some(value),
                FORWARDING => forwards = Some(value != 0),
                RP_FILTER => filters = true,
                _ => {}
            }
        }
        // `all` is -1, `default` is -2.
        (forwards.is_some() || filters).then_some(Self { device: u32::try_from(index?).ok(), forwards })
    }
}
