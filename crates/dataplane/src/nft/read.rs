//! Messages of the kernel as values. Pure, and safe to feed with any bytes.

use std::time::Duration;

use super::abi::{self, chain, element, flag, generation, hook, message, rule, set, table};
use super::attributes::{find, long_number, number, text};
use super::expression::Statement;
use super::table::{Base, ChainType, DataType, Family, Hook, Policy, Rule, RuleWithHandle, Set, SetFlags, TableId};
use super::wire;
use crate::attribute;
use crate::netlink_message::{HEADER_BYTES, Refusal, parse_answer};

mod elements;
mod expressions;

pub(super) use elements::single_elements;
pub use elements::{RawData, RawElement, assemble};

/// `nlmsghdr` and `nfgenmsg`.
const FULL_HEADER_BYTES: usize = 20;

/// Bytes that cannot be read as a message of nftables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {length} bytes: {fault}")]
pub struct Malformed {
    what: &'static str,
    length: usize,
    fault: &'static str,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The number of the request that it answers.
    pub sequence: u32,
    /// True where the dump that it is part of has seen two states of the ruleset.
    pub interrupted: bool,
    /// Its content.
    pub payload: Payload,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A table, without what is in it.
    Table {
        /// Which.
        id: TableId,
        /// Its comment.
        comment: Option<String>,
        /// Whether it sees no packet.
        dormant: bool,
    },
    /// A chain, without its rules.
    Chain {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
        /// Its hook.
        base: Option<Base>,
    },
    /// A rule.
    Rule {
        /// Where.
        table: TableId,
        /// In which chain.
        chain: String,
        /// The rule and its number.
        placed: RuleWithHandle,
    },
    /// A set, without its elements.
    Set {
        /// Where.
        table: TableId,
        /// Its name.
        name: String,
        /// What it is.
        set: Set,
    },
    /// Some elements of a set.
    Elements {
        /// Where.
        table: TableId,
        /// The set's name.
        set: String,
        /// The elements. [`assemble`] makes keys of them.
        elements: Vec<RawElement>,
    },
    /// The number of the ruleset's state.
    Generation(u32),
    /// An acknowledgement or a refusal.
    Answer(Result<(), Refusal>),
    /// The end of a dump, with the positive error number that ended it, or 0.
    Done(i32),
    /// An object that is not modelled.
    Other,
}

/// The header of a message, and its attributes.
pub(super) struct Frame<'m> {
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    pub(super) generation: u16,
    body: &'m [u8],
}

impl<'m> Frame<'m> {
    pub(super) fn of(message: &'m [u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(message.get(at..at + 2)?.try_into().ok()?));
        Some(Self {
            kind: u16_at(4)?,
            flags: u16_at(6)?,
            sequence: u32::from_ne_bytes(message.get(8..12)?.try_into().ok()?),
            family: message.get(HEADER_BYTES).copied().unwrap_or(0),
            generation: u16_at(HEADER_BYTES + 2).map_or(0, u16::from_be),
            body: message.get(HEADER_BYTES..)?,
        })
    }

    /// The message's type within nftables.
    pub(super) fn message(&self) -> Option<u8> {
        let [subsystem, message] = self.kind.to_be_bytes();
        (subsystem == abi::SUBSYSTEM).then_some(message)
    }

    /// A text attribute.
    pub(super) fn text(&self, kind: u16) -> Option<String> {
        text(self.attribute(kind)?)
    }

    /// Where it is about the table named by attribute `kind`.
    pub(super) fn table(&self, kind: u16) -> Option<TableId> {
        Some(TableId { family: Family::from_number(self.family)?, name: self.text(kind)? })
    }

    /// True where the message is about the table `id`, whose name attribute `kind` holds.
    pub(super) fn is_of(&self, id: &TableId, kind: u16) -> bool {
        let name = self.attribute(kind).map(|text| text.strip_suffix(&[0]).unwrap_or(text));
        self.family == id.family.number() && name == Some(id.name.as_bytes())
    }

    /// A number attribute.
    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        number(self.attribute(kind)?)
    }

    fn attribute(&self, kind: u16) -> Option<&'m [u8]> {
        find(self.body.get(FULL_HEADER_BYTES - HEADER_BYTES..)?, kind)
    }
}

/// Reads one netlink message, header included.
///
/// # Errors
/// Where the bytes are cut short, or lack what a message of that type must have.
pub fn parse_message(bytes: &[u8]) -> Result<Message, Malformed> {
    let malformed = |what, fault| Malformed { what, length: bytes.len(), fault };
    let frame = Frame::of(bytes).ok_or_else(|| malformed("a netlink message", "it is shorter than its header"))?;
    let payload = match (frame.kind, frame.message()) {
        (abi::NLMSG_ERROR, _) => {
            Payload::Answer(parse_answer(bytes).ok_or_else(|| malformed("an answer", "it has no error number"))?)
        }
        (abi::NLMSG_DONE, _) => {
            let errno = frame.body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
            Payload::Done(errno.saturating_neg())
        }
        (_, Some(kind)) => {
            let fault = "it lacks an attribute that it must have";
            object(&frame, kind).ok_or_else(|| malformed(name_of(kind), fault))?
        }
        _ => Payload::Other,
    };
    Ok(Message { sequence: frame.sequence, interrupted: frame.flags & flag::DUMP_INTR != 0, payload })
}

fn name_of(kind: u8) -> &'static str {
    match kind {
        message::NEWTABLE => "a table",
        message::NEWCHAIN => "a chain",
        message::NEWRULE => "a rule",
        message::NEWSET => "a set",
        message::NEWSETELEM => "a set's elements",
        _ => "a generation",
    }
}

fn object(frame: &Frame<'_>, kind: u8) -> Option<Payload> {
    match kind {
        message::NEWTABLE => table_of(frame),
        message::NEWCHAIN => chain_of(frame),
        message::NEWRULE => rule_of(frame),
        message::NEWSET => set_of(frame),
        message::NEWSETELEM => elements_of(frame),
        message::NEWGEN => frame.number(generation::ID).map(Payload::Generation),
        _ => Some(Payload::Other),
    }
}

fn table_of(frame: &Frame<'_>) -> Option<Payload> {
    Some(Payload::Table {
        id: frame.table(table::NAME)?,
        comment: frame.attribute(table::USERDATA).and_then(comment),
        dormant: frame.number(table::FLAGS).unwrap_or(0) & table::DORMANT != 0,
    })
}

/// The comment in userdata: pairs of type and length, of one byte each, before their value.
fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return text(value);
        }
        userdata = &rest[value.len()..];
    }
    None
}

fn chain_of(frame: &Frame<'_>) -> Option<Payload> {
    let table = frame.table(chain::TABLE)?;
    let name = frame.text(chain::NAME)?;
    let base = match frame.attribute(chain::HOOK) {
        None => None,
        Some(hook) => match base_of(frame, table.family, hook) {
            Some(base) => Some(base),
            // A hook of a later kernel.
            None => return Some(Payload::Other),
        },
    };
    Some(Payload::Chain { table, name, base })
}

fn base_of(frame: &Frame<'_>, family: Family, hook: &[u8]) -> Option<Base> {
    let devices = attribute::iter(find(hook, hook::DEVS).unwrap_or_default()).filter_map(|(_, name)| text(name));
    let devices = match find(hook, hook::DEV).and_then(text) {
        Some(one) => vec![one],
        None => devices.collect(),
    };
    let policy = frame.number(chain::POLICY).unwrap_or(Policy::Accept.code());
    Some(Base {
        kind: ChainType::from_name(&frame.text(chain::TYPE)?)?,
        hook: Hook::from_number(family, number(find(hook, hook::HOOKNUM)?)?)?,
        priority: i32::from_be_bytes(find(hook, hook::PRIORITY)?.try_into().ok()?),
        policy: if policy == Policy::Drop.code() { Policy::Drop } else { Policy::Accept },
        devices,
    })
}

fn rule_of(frame: &Frame<'_>) -> Option<Payload> {
    let table = frame.table(rule::TABLE)?;
    let mut statements = expressions::statements(table.family, frame.attribute(rule::EXPRESSIONS).unwrap_or_default());
    let comment = frame.attribute(rule::USERDATA).and_then(comment).or_else(|| take_match_comment(&mut statements));
    Some(Payload::Rule {
        table,
        chain: frame.text(rule::CHAIN)?,
        placed: RuleWithHandle {
            handle: frame.attribute(rule::HANDLE).and_then(long_number)?,
            rule: Rule { statements, comment },
        },
    })
}

/// Takes the comment of a rule that `iptables` wrote: it has a statement for it, which matches every packet. So a rule that
/// was saved and restored by it is still the same rule.
fn take_match_comment(statements: &mut Vec<Statement>) -> Option<String> {
    let comment = |statement: &Statement| match statement {
        Statement::Opaque { name, data } if name == "match" => {
            let kind = find(data, rule::MATCH_NAME).and_then(text)?;
            let padded = find(data, rule::MATCH_INFO).filter(|_| kind == "comment")?;
            text(padded)
        }
        _ => None,
    };
    let (place, comment) =
        statements.iter().enumerate().find_map(|(place, statement)| Some((place, comment(statement)?)))?;
    statements.remove(place);
    Some(comment)
}

fn set_of(frame: &Frame<'_>) -> Option<Payload> {
    let table = frame.table(set::TABLE)?;
    let flags = frame.number(set::FLAGS).unwrap_or(0);
    let key = wire::split_type(frame.number(set::KEY_TYPE).unwrap_or(0), frame.number(set::KEY_LEN).unwrap_or(0));
    let data = match frame.number(set::DATA_TYPE) {
        _ if flags & set::MAP == 0 => None,
        Some(set::VERDICT) => Some(DataType::Verdict),
        kind => Some(DataType::Values(wire::split_type(kind.unwrap_or(0), frame.number(set::DATA_LEN).unwrap_or(0)))),
    };
    let size = frame.attribute(set::DESC).and_then(|desc| find(desc, set::DESC_SIZE)).and_then(number);
    let timeout = frame.attribute(set::TIMEOUT).and_then(long_number).filter(|milliseconds| *milliseconds != 0);
    let set = Set {
        data,
        flags: SetFlags(flags & !(set::MAP | set::CONCAT)),
        size,
        timeout: timeout.map(Duration::from_millis),
        ..Set::of(key)
    };
    Some(Payload::Set { table, name: frame.text(set::NAME)?, set })
}

fn elements_of(frame: &Frame<'_>) -> Option<Payload> {
    let (table, set) = (frame.table(element::TABLE)?, frame.text(element::SET)?);
    Some(Payload::Elements { table, set, elements: raw_elements(frame) })
}

/// The elements in a message about them.
pub(super) fn raw_elements(frame: &Frame<'_>) -> Vec<RawElement> {
    let list = frame.attribute(element::ELEMENTS).unwrap_or_default();
    attribute::iter(list).filter_map(|(_, bytes)| elements::raw(bytes)).collect()
}
