//! `NETLINK_ROUTE`: one blocking socket, many messages in flight, an answer matched to each.
//!
//! Blocking on purpose. The kernel answers within the `send` itself, so waiting costs nothing, and the short-lived plugin needs
//! no runtime. This module carries messages and does not know what they are for.

mod batch;
mod dump;
mod socket;

pub(crate) use batch::PER_SEND;
pub(crate) use dump::parse;
pub use socket::{Request, Socket};

pub use crate::error::KernelError;
pub use crate::netlink_message::parse_answer;
pub use crate::netlink_socket::SocketError;

#[cfg(test)]
mod tests;
