//! Connection tracking (`ctnetlink`): flows are listed, and deleted so that their next packets are translated anew.
//!
//! Of a UDP client that always sends from one port the kernel remembers what was decided for the first packet. Where a Service
//! has lost an endpoint, or has got its first one, these flows have to be deleted.

mod flow;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc::{EINTR, EINVAL, ENOENT, EOPNOTSUPP};

use crate::error::KernelError;
use crate::exchange::Exchange;
use crate::nft::writer::Writer;
use crate::types::Family;

pub use flow::{Flow, Selector, Tuple};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = SUBSYSTEM << 8 | 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = SUBSYSTEM << 8 | 2;
/// With version 0, the kernel passes over the family of what it should delete.
const VERSION: u8 = 1;
/// Other programs change the table without a pause: a dump that they interrupt is repeated so often.
const ATTEMPTS: u32 = 8;

/// A socket for the connections that are tracked in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Conntrack(Exchange);

impl Conntrack {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// Where the kernel offers no such socket.
    pub fn open() -> Result<Self, KernelError> {
        Exchange::open(NETLINK_NETFILTER).map(Self)
    }

    /// The flows that are selected.
    ///
    /// # Errors
    /// Where the kernel does not answer as it should.
    pub fn dump(&mut self, selector: &Selector) -> Result<Vec<Flow>, KernelError> {
        for _ in 0..ATTEMPTS {
            let mut filtered = self.dump_once(selector, true);
            if filtered.as_ref().is_err_and(has_no_filter) {
                filtered = self.dump_once(selector, false);
            }
            match filtered {
                Ok((flows, false)) => return Ok(flows),
                Ok((_, true)) => {}
                Err(error) if error.errno() == Some(EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(KernelError::NeverConsistent(ATTEMPTS))
    }

    /// Deletes all flows that are selected: by one message where the kernel can, and one by one elsewhere, such as those to one
    /// address of IPv6.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn delete(&mut self, selector: &Selector) -> Result<(), KernelError> {
        if !selector.is_exact_in_kernel() {
            return self.delete_each(selector);
        }
        match self.0.request((DELETE, NLM_F_ACK), head(selector.family()), |writer| selector.write(writer), |_| ()) {
            Err(error) if has_no_filter(&error) => self.delete_each(selector),
            outcome => outcome.map(drop),
        }
    }

    /// Deletes this flow and no other. False where the flow is gone.
    ///
    /// # Errors
    /// Where the kernel refuses: so it does for protocols without ports.
    pub fn delete_flow(&mut self, flow: &Flow) -> Result<bool, KernelError> {
        match self.0.request((DELETE, NLM_F_ACK), head(flow.original.family()), |writer| flow.write(writer), |_| ()) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn delete_each(&mut self, selector: &Selector) -> Result<(), KernelError> {
        for flow in self.dump(selector)? {
            self.delete_flow(&flow)?;
        }
        Ok(())
    }

    fn dump_once(&mut self, selector: &Selector, filtered: bool) -> Result<(Vec<Flow>, bool), KernelError> {
        let mut flows = Vec::new();
        let body = |writer: &mut Writer| {
            if filtered {
                selector.write(writer);
            }
        };
        let spoilt = self.0.request((GET, NLM_F_DUMP), head(selector.family()), body, |message| {
            // Kernels before 5.8 pass over the filter, and it may select more.
            flows.extend(Flow::read(message).filter(|flow| selector.matches(flow)));
        })?;
        Ok((flows, spoilt))
    }
}

/// What a request begins with.
fn head(family: Family) -> (u8, u8) {
    (flow::number(family), VERSION)
}

/// True where the kernel cannot select by a filter: it takes the selection for one flow, of which parts are missing.
fn has_no_filter(error: &KernelError) -> bool {
    [Some(EINVAL), Some(EOPNOTSUPP)].contains(&error.errno())
}

#[cfg(test)]
mod tests;
