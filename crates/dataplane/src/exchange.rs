//! One request on a netlink socket that is not routing's, and all that answers it.

use netlink_packet_core::NLM_F_REQUEST;

use crate::error::KernelError;
use crate::netlink_message::HEADER_BYTES;
use crate::netlink_socket::NetlinkSocket;
use crate::nft::attributes::Attributes;
use crate::nft::writer::Writer;

/// `struct nfgenmsg` and `struct genlmsghdr`: a family or a command, a version, and two bytes more.
const HEAD_BYTES: usize = 4;

/// A socket for requests, and the number of the last one.
#[derive(Debug)]
pub(crate) struct Exchange {
    inner: NetlinkSocket,
    sequence: u32,
}

impl Exchange {
    /// Opens a socket of a protocol in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self, KernelError> {
        Ok(Self { inner: NetlinkSocket::request(protocol)?, sequence: 0 })
    }

    /// Sends a request of a type and with flags, and visits what answers it. `head` is the family (of netfilter) or the command (of
    /// generic netlink), and the version. True where what was dumped changed meanwhile.
    pub(crate) fn request(
        &mut self,
        (kind, flags): (u16, u16),
        (head, version): (u8, u8),
        body: impl FnOnce(&mut Writer),
        mut visit: impl FnMut(&[u8]),
    ) -> Result<bool, KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut writer = Writer::default();
        writer.message((kind, NLM_F_REQUEST | flags, self.sequence), (head, 0), body);
        writer.bytes[HEADER_BYTES + 1] = version;
        self.inner.send(&writer.bytes)?;
        let answers = self.inner.answers::<KernelError>(self.sequence, |message| {
            visit(message);
            Ok(())
        });
        Ok(answers??)
    }
}

/// The attributes of a message.
pub(crate) fn attributes(message: &[u8]) -> Attributes<'_> {
    Attributes(message.get(HEADER_BYTES + HEAD_BYTES..).unwrap_or_default())
}
