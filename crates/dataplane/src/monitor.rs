//! What changes in one network namespace, as the kernel notifies of it: rtnetlink and `nf_tables`, for several subscribers.
//!
//! Each subscriber names the objects that it owns with a [`Filter`]. The kernel drops a notification that no subscriber wants
//! before it wakes anybody; a short look at the bytes drops the rest before values are built. Filters may change at any time.
//!
//! The kernel sends a notification before it answers the request that made the change: notifications of an applied plan wait
//! here as soon as the plan is applied. After [`Event::Overrun`] a subscriber has to read everything again.

#[cfg(feature = "tokio")]
mod asynchronous;
mod bpf;
mod event;
mod filter;
mod netconf;
mod rtnetlink;
mod subscription;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncMonitor;
pub use event::{Event, Object};
pub use filter::{Devices, Filter, Routes, Tables};
pub use netconf::NetconfChange;
pub use subscription::{Monitor, Subscription};

#[cfg(test)]
mod tests;
