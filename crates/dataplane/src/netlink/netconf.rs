//! The sysctls of which the kernel tells (`RTM_NEWNETCONF`).
//!
//! As found on 6.18: it tells of `forwarding` (with `net/ipv4/ip_forward`) and of `rp_filter`, for one device, for `all` and for
//! `default`, where the value becomes another one; also of `proxy_arp`, `proxy_ndp`, `mc_forwarding`, `bc_forwarding` and
//! `ignore_routes_with_linkdown`, which are not shown here. Of `accept_ra`, `addr_gen_mode`, `send_redirects` and the like it
//! tells nothing, and of `disable_ipv6` only what follows from it: the addresses that go. Those have to be looked at now and then.

use super::{HEADER_BYTES, message_type};

/// `RTM_NEWNETCONF`.
const NEW: u16 = 80;
/// `struct netconfmsg` with its padding.
const FIXED_BYTES: usize = 4;
// `NETCONFA_...`
const INDEX: u16 = 1;
const FORWARDING: u16 = 2;
const RP_FILTER: u16 = 3;

/// How packets are let through is set, at a device that is new or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetconfChange {
    /// The device's index; `None` for what is set for all or for new ones.
    pub device: Option<u32>,
    /// Whether it forwards, where that is told.
    pub forwards: Option<bool>,
}

impl NetconfChange {
    /// `None` for other messages, and for those of other sysctls.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        if message_type(message) != NEW {
            return None;
        }
        let (mut index, mut forwards, mut filters) = (None, None, false);
        let mut rest = message.get(HEADER_BYTES + FIXED_BYTES..)?;
        while let Some((length, kind)) = rest.first_chunk().map(|head: &[u8; 4]| {
            let [length, kind] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_ne_bytes);
            (usize::from(length), kind)
        }) {
            let value = rest.get(4..length)?.first_chunk().copied().map(i32::from_ne_bytes)?;
            match kind {
                INDEX => index = Some(value),
                FORWARDING => forwards = Some(value != 0),
                RP_FILTER => filters = true,
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        // `all` is -1, `default` is -2.
        (forwards.is_some() || filters).then_some(Self { device: u32::try_from(index?).ok(), forwards })
    }
}
