//! Sets of `ipset(8)`: their names and members are read, and sets are removed.
//!
//! Numbers are those of `linux/netfilter/ipset/ip_set.h`.

use std::net::IpAddr;
use std::path::Path;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::error::KernelError;
use crate::exchange::{Exchange, attributes};
use crate::nft::attributes::Attributes;
use crate::nft::writer::Writer;

/// `NFNL_SUBSYS_IPSET`, and its `IPSET_CMD_*`.
const SUBSYSTEM: u16 = 6;
const DESTROY: u16 = SUBSYSTEM << 8 | 3;
const LIST: u16 = SUBSYSTEM << 8 | 7;
/// `IPSET_PROTOCOL_MIN`, which all kernels since 2.6.39 understand.
const PROTOCOL: u8 = 6;
/// `IPSET_FLAG_LIST_SETNAME`.
const NAMES_ALONE: u32 = 1 << 1;
/// `IPSET_ERR_BUSY` and `IPSET_ERR_REFERENCED`.
const IN_USE: [i32; 2] = [4100, 4109];
/// The kernel has this folder where sets are loaded. Without them, a request for sets would load them.
const MODULE: &str = "/sys/module/ip_set";

/// `IPSET_ATTR_*` of a command.
mod attribute {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const MEMBERS: u16 = 8;
}

/// `IPSET_ATTR_*` of a member, and of its address.
mod member {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const PORT: u16 = 4;
    pub(super) const PROTOCOL: u16 = 7;
    pub(super) const V4: u16 = 1;
    pub(super) const V6: u16 = 2;
}

/// What a member of a set holds first of each. Other kinds of values are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// An address.
    pub address: Option<IpAddr>,
    /// A transport protocol's number.
    pub protocol: Option<u8>,
    /// A port.
    pub port: Option<u16>,
}

impl Member {
    fn read(held: Attributes<'_>) -> Self {
        let address = held.nest(member::ADDRESS);
        let v4 = || Some(<[u8; 4]>::try_from(address.get(member::V4)?).ok()?.into());
        let v6 = || Some(<[u8; 16]>::try_from(address.get(member::V6)?).ok()?.into());
        let port = held.get(member::PORT).and_then(|bytes| bytes.try_into().ok());
        Self {
            address: v4().or_else(v6),
            protocol: held.get(member::PROTOCOL).and_then(|bytes| bytes.first().copied()),
            port: port.map(u16::from_be_bytes),
        }
    }
}

/// Why a set cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule names the set.
    #[error("a rule of iptables or another set uses the set {0}: remove that first")]
    InUse(String),
    /// The kernel does not answer as it should.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A socket for the sets of the network namespace that it was opened in.
#[derive(Debug)]
pub struct IpSets(Exchange);

impl IpSets {
    /// Opens a socket in the calling thread's network namespace. `None` where the kernel has no sets.
    ///
    /// # Errors
    /// Where the kernel offers no such socket.
    pub fn open() -> Result<Option<Self>, KernelError> {
        if !Path::new(MODULE).exists() {
            return Ok(None);
        }
        Exchange::open(NETLINK_NETFILTER).map(|inner| Some(Self(inner)))
    }

    /// The names of all sets.
    ///
    /// # Errors
    /// Where the kernel does not answer as it should.
    pub fn names(&mut self) -> Result<Vec<String>, KernelError> {
        let mut names = Vec::new();
        let body = |writer: &mut Writer| {
            writer.put(attribute::PROTOCOL, &[PROTOCOL]);
            writer.number(attribute::FLAGS, NAMES_ALONE);
        };
        self.0.request((LIST, NLM_F_DUMP), (0, 0), body, |message| {
            names.extend(attributes(message).text(attribute::NAME));
        })?;
        Ok(names)
    }

    /// The members of a set; none where there is no such set.
    ///
    /// # Errors
    /// Where the kernel does not answer as it should.
    pub fn members(&mut self, name: &str) -> Result<Vec<Member>, KernelError> {
        let mut members = Vec::new();
        let listed = self.0.request((LIST, NLM_F_DUMP), (0, 0), named(name), |message| {
            members.extend(attributes(message).nest(attribute::MEMBERS).list().map(Member::read));
        });
        match listed {
            Err(error) if error.is_missing() => Ok(Vec::new()),
            outcome => outcome.map(|_| members),
        }
    }

    /// Removes a set with its members. A set that is gone is no error.
    ///
    /// # Errors
    /// Where a rule uses the set.
    pub fn destroy(&mut self, name: &str) -> Result<(), Error> {
        match self.0.request((DESTROY, NLM_F_ACK), (0, 0), named(name), |_| ()) {
            Err(error) if error.is_missing() => Ok(()),
            Err(error) if error.errno().is_some_and(|errno| IN_USE.contains(&errno)) => {
                Err(Error::InUse(name.to_owned()))
            }
            outcome => Ok(outcome.map(drop)?),
        }
    }
}

fn named(name: &str) -> impl FnOnce(&mut Writer) {
    move |writer| {
        writer.put(attribute::PROTOCOL, &[PROTOCOL]);
        writer.text(attribute::NAME, name);
    }
}

#[cfg(test)]
mod tests;
