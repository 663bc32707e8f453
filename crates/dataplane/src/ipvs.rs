//! IPVS: virtual servers are listed and removed, and the connections that they carry are counted.
//!
//! Numbers are those of `linux/ip_vs.h` and, for the number of the family IPVS, of `linux/genetlink.h`.

use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_GENERIC;

use crate::error::KernelError;
use crate::exchange::{Exchange, attributes};
use crate::nft::writer::Writer;

/// `GENL_ID_CTRL`, and its `CTRL_CMD_*` and `CTRL_ATTR_*`.
const CONTROL: u16 = 0x10;
mod control {
    pub(super) const GET_FAMILY: u8 = 3;
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
}

/// `IPVS_CMD_*`, and `IPVS_CMD_ATTR_*`.
mod command {
    pub(super) const DELETE_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const GET_DESTINATION: u8 = 8;
    pub(super) const SERVICE: u16 = 1;
    pub(super) const DESTINATION: u16 = 2;
}

/// `IPVS_SVC_ATTR_*`.
mod service {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDRESS: u16 = 3;
    pub(super) const PORT: u16 = 4;
}

/// `IPVS_DEST_ATTR_ACTIVE_CONNS`.
const ACTIVE_CONNECTIONS: u16 = 7;
/// `IPVS_GENL_VERSION`; the control family passes over it.
const VERSION: u8 = 1;
/// `AF_INET` and `AF_INET6`.
const V4: u16 = 2;
const V6: u16 = 10;

/// An address, port and protocol for which IPVS chooses a real server. Those by a mark of the firewall are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualServer {
    /// Address and port.
    pub address: SocketAddr,
    /// The transport protocol's number.
    pub protocol: u8,
}

impl VirtualServer {
    /// Reads a message about a virtual server; `None` for other messages, and for one without an address.
    fn read(message: &[u8]) -> Option<Self> {
        let held = attributes(message).nest(command::SERVICE);
        let short = |kind| Some(u16::from_ne_bytes(held.get(kind)?.try_into().ok()?));
        let address = held.get(service::ADDRESS)?;
        let address = match short(service::FAMILY)? {
            V4 => address.first_chunk::<4>().copied()?.into(),
            V6 => address.first_chunk::<16>().copied()?.into(),
            _ => return None,
        };
        let port = u16::from_be_bytes(held.get(service::PORT)?.try_into().ok()?);
        let protocol = u8::try_from(short(service::PROTOCOL)?).ok()?;
        Some(Self { address: SocketAddr::new(address, port), protocol })
    }

    /// Writes what names this virtual server.
    fn write(&self, writer: &mut Writer) {
        writer.nest(command::SERVICE, |writer| {
            let (family, address) = match self.address {
                SocketAddr::V4(v4) => (V4, v4.ip().octets().to_vec()),
                SocketAddr::V6(v6) => (V6, v6.ip().octets().to_vec()),
            };
            writer.put(service::FAMILY, &family.to_ne_bytes());
            writer.put(service::PROTOCOL, &u16::from(self.protocol).to_ne_bytes());
            writer.put(service::ADDRESS, &address);
            writer.put(service::PORT, &self.address.port().to_be_bytes());
        });
    }
}

/// A socket for the virtual servers of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Ipvs {
    inner: Exchange,
    /// The number of the family.
    family: u16,
}

impl Ipvs {
    /// Opens a socket in the calling thread's network namespace. `None` where the kernel has no IPVS.
    ///
    /// # Errors
    /// Where the kernel offers no such socket.
    pub fn open() -> Result<Option<Self>, KernelError> {
        let mut inner = Exchange::open(NETLINK_GENERIC)?;
        let mut family = None;
        let name = |writer: &mut Writer| writer.text(control::FAMILY_NAME, "IPVS");
        let asked = inner.request((CONTROL, NLM_F_ACK), (control::GET_FAMILY, VERSION), name, |message| {
            family = attributes(message).get(control::FAMILY_ID).and_then(|bytes| bytes.try_into().ok());
        });
        match asked {
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(family.map(|family| Self { inner, family: u16::from_ne_bytes(family) })),
        }
    }

    /// The virtual servers.
    ///
    /// # Errors
    /// Where the kernel does not answer as it should.
    pub fn servers(&mut self) -> Result<Vec<VirtualServer>, KernelError> {
        let mut servers = Vec::new();
        let request = (self.family, NLM_F_DUMP);
        self.inner.request(
            request,
            (command::GET_SERVICE, VERSION),
            |_| (),
            |message| {
                servers.extend(VirtualServer::read(message));
            },
        )?;
        Ok(servers)
    }

    /// How many connections a virtual server carries: those of TCP and SCTP that are established. 0 where there is no such server.
    ///
    /// # Errors
    /// Where the kernel does not answer as it should.
    pub fn connections(&mut self, server: &VirtualServer) -> Result<u32, KernelError> {
        let mut count = 0_u32;
        let (request, body) = ((self.family, NLM_F_DUMP), |writer: &mut Writer| server.write(writer));
        self.inner.request(request, (command::GET_DESTINATION, VERSION), body, |message| {
            let active = attributes(message).nest(command::DESTINATION).get(ACTIVE_CONNECTIONS);
            let active = active.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
            count = count.saturating_add(active);
        })?;
        Ok(count)
    }

    /// Removes a virtual server with its real servers. The kernel drops packets of the connections that it carries from then on.
    ///
    /// # Errors
    /// Where the kernel refuses. A server that is gone is no error.
    pub fn delete(&mut self, server: &VirtualServer) -> Result<(), KernelError> {
        let (request, body) = ((self.family, NLM_F_ACK), |writer: &mut Writer| server.write(writer));
        match self.inner.request(request, (command::DELETE_SERVICE, VERSION), body, |_| ()) {
            Err(error) if error.is_missing() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

#[cfg(test)]
mod tests;
