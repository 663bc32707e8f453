//! nftables over netlink: tables as values, written in atomic batches and read back to the element.
//!
//! Our own encoder: no `nft` binary and no C library. This module knows what a table is made of, not what for: the
//! caller decides which table is ours and what belongs in it. A socket stays in the network namespace of the thread that
//! opened it.

mod abi;
mod anonymous;
pub(crate) mod attributes;
mod changes;
mod dump;
mod elements;
mod encode;
mod error;
mod expression;
#[cfg(test)]
mod fixtures;
mod notification;
mod operation;
pub mod read;
mod record_changes;
mod records;
mod rule;
mod socket;
mod source;
mod table;
mod text;
mod userdata;
mod value;
mod wire;
pub(crate) mod writer;

pub use encode::Invalid;
pub use error::Error;
pub use expression::{
    Comparison, DynamicAction, Expression, MapLookup, NatFlags, NatTarget, Operand, Reject, Side, Statement, Verdict,
    VerdictMap,
};
pub use notification::{Action, Subject, TableChange, TableFilter};
pub use operation::{Elements, Operation, RecordList, Transaction};
pub(crate) use read::RawMessage;
pub use record_changes::{Difference, ELEMENTS_PER_TRANSACTION, RecordChange, transactions};
pub use records::{ElementRecord, ElementRecordData, Records, Unfit};
pub use socket::Socket;
pub use table::{
    Base, BaseChainFacts, Chain, ChainType, Counter, Data, DataType, Element, Hook, Policy, Rule, RuleWithHandle, Set,
    SetFlags, Table, TableFamily, TableId, Usage,
};
pub use value::{AddressType, Interval, Key, Type, Value, protocol, state, status};

#[cfg(test)]
mod tests;
