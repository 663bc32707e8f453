//! Reading: one object, or a whole table that starts over when it changed on the way.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::libc::{EAFNOSUPPORT, EBUSY};

use super::{Request, RouteSocket};
use crate::error::KernelError;

/// A table that changes during each of this many reads is an error.
const ATTEMPTS: u32 = 20;

impl RouteSocket {
    /// Reads a table whole: `keep` turns messages into entries and passes over what is not wanted.
    ///
    /// It starts over where the kernel says that the table changed meanwhile (`NLM_F_DUMP_INTR`) or dropped a part
    /// (`ENOBUFS`), so what it gives is one consistent state.
    pub fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        keep: impl Fn(&RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        // An entry of a kind that we cannot read is not ours: it must not hide the others.
        let keep = |bytes: &[u8]| Ok(parse(bytes).ok().and_then(|entry| keep(&entry)));
        match self.read(&Request::new(message, NLM_F_DUMP), keep) {
            // A table before its first route, a link that is gone, or the rules of a family that the kernel does not have.
            Err(error) if error.is_missing() || error.errno() == Some(EAFNOSUPPORT) => Ok(Vec::new()),
            read => read,
        }
    }

    /// Reads one object; `None` where it does not exist.
    pub fn get(&mut self, message: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, KernelError> {
        match self.read(&Request::new(message, NLM_F_ACK), |bytes| parse(bytes).map(Some)) {
            Err(error) if error.is_missing() => Ok(None),
            objects => Ok(objects?.pop()),
        }
    }

    fn read<T>(
        &mut self,
        request: &Request,
        read: impl Fn(&[u8]) -> Result<Option<T>, KernelError>,
    ) -> Result<Vec<T>, KernelError> {
        for _ in 0..ATTEMPTS {
            let mut bytes = Vec::new();
            self.serialize(request, 0, &mut bytes);
            self.inner.send(&bytes)?;
            if let Some(entries) = self.entries(&read)? {
                return Ok(entries);
            }
        }
        Err(KernelError::NeverConsistent(ATTEMPTS))
    }

    /// Reads the answers to the request that was sent last; `None` where they are not one consistent state.
    pub(super) fn entries<T>(
        &mut self,
        read: &impl Fn(&[u8]) -> Result<Option<T>, KernelError>,
    ) -> Result<Option<Vec<T>>, KernelError> {
        let mut entries = Vec::new();
        let end = self.inner.answers::<KernelError>(self.sequence, |message| {
            entries.extend(read(message)?);
            Ok(())
        });
        match end? {
            Ok(changed) => Ok((!changed).then_some(entries)),
            // An earlier dump was given up, and has not ended.
            Err(refusal) if refusal.errno == EBUSY => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// Reads one whole routing message. Never panics.
pub(crate) fn parse(message: &[u8]) -> Result<RouteNetlinkMessage, KernelError> {
    let fault = |reason: String| KernelError::Malformed { length: message.len(), reason };
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(|error| fault(error.to_string()))?.payload
    {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        other => Err(fault(format!("not a routing message but {other:?}"))),
    }
}
