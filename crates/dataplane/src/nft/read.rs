//! Messages of the kernel as values. Pure, and safe to feed with any bytes.

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkBuffer};

use super::abi::{
    self, TABLE, chain, compat_match, element_list, generation, hook, message, rule, set, set_data, set_desc, set_flag,
    table, table_flag,
};
use super::attributes::{Attributes, text};
use super::elements::{self, RawElement};
use super::expression::Statement;
use super::table::{
    Base, ChainType, DataType, Hook, Policy, Rule, RuleWithHandle, Set, SetFlags, Table, TableFamily, TableId,
};
use super::userdata::read_comment;
use super::{rule as rules, wire};
use crate::netlink_message::{HEADER_BYTES, Refusal, parse_answer};

/// `struct nfgenmsg`.
const FAMILY_HEADER_BYTES: usize = 4;

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
    Table(Table),
    /// A chain without its rules: its table, its name, and its hook.
    Chain(TableId, String, Option<Base>),
    /// A rule, with its table and chain.
    Rule(TableId, String, RuleWithHandle),
    /// A set without its elements, with its table and name.
    Set(TableId, String, Set),
    /// Some elements of a set. [`elements::assemble`] makes keys of them.
    Elements(Vec<RawElement>),
    /// The number of the ruleset's state.
    Generation(u32),
    /// An acknowledgement or a refusal; also the end of a dump.
    Answer(Result<(), Refusal>),
    /// An object that is not modelled.
    Other,
}

/// A message that has not been looked into: its header, and its attributes.
pub(crate) struct RawMessage<'m> {
    /// The message's type within nftables; `None` for one of another kind.
    pub(super) kind: Option<u8>,
    /// The port of the socket whose request made the change.
    pub(super) origin: u32,
    family: u8,
    pub(super) attributes: Attributes<'m>,
}

impl<'m> RawMessage<'m> {
    /// `None` where the message is shorter than its header.
    pub(crate) fn of(message: &'m [u8]) -> Option<Self> {
        let body = message.get(HEADER_BYTES..)?;
        let header = NetlinkBuffer::new(message);
        let [subsystem, kind] = header.message_type().to_be_bytes();
        Some(Self {
            kind: (subsystem == abi::SUBSYSTEM).then_some(kind),
            origin: header.port_number(),
            family: body.first().copied().unwrap_or(0),
            attributes: Attributes(body.get(FAMILY_HEADER_BYTES..).unwrap_or_default()),
        })
    }

    /// The table that the message is about.
    pub(crate) fn table(&self) -> Option<TableId> {
        let name = self.attributes.text(TABLE).filter(|_| self.kind != Some(message::NEWGEN))?;
        Some(TableId { family: TableFamily::from_number(self.family)?, name })
    }

    /// True where the message is about the table `id`.
    pub(crate) fn is_of(&self, id: &TableId) -> bool {
        let name = self.attributes.get(TABLE).map(|text| text.strip_suffix(&[0]).unwrap_or(text));
        self.family == id.family.number() && name == Some(id.name.as_bytes()) && self.kind != Some(message::NEWGEN)
    }
}

/// Reads one netlink message, header included.
///
/// # Errors
/// Where the bytes are cut short, or lack what a message of that type must have.
pub fn parse_message(bytes: &[u8]) -> Result<Message, Malformed> {
    let malformed = |what, fault| Malformed { what, length: bytes.len(), fault };
    let raw = RawMessage::of(bytes).ok_or_else(|| malformed("a netlink message", "it is shorter than its header"))?;
    let header = NetlinkBuffer::new(bytes);
    let payload = match (parse_answer(bytes), raw.kind) {
        (Some(answer), _) => Payload::Answer(answer),
        (None, kind) => {
            let (what, object) = match kind {
                Some(message::NEWTABLE) => ("a table", table_of(&raw)),
                Some(message::NEWCHAIN) => ("a chain", chain_of(&raw)),
                Some(message::NEWRULE) => ("a rule", rule_of(&raw)),
                Some(message::NEWSET) => ("a set", set_of(&raw)),
                Some(message::NEWSETELEM) => ("a set's elements", elements_of(&raw)),
                Some(message::NEWGEN) => {
                    ("a generation", raw.attributes.number(generation::ID).map(Payload::Generation))
                }
                _ => ("a message", Some(Payload::Other)),
            };
            object.ok_or_else(|| malformed(what, "it lacks an attribute that it must have"))?
        }
    };
    let interrupted = header.flags() & NLM_F_DUMP_INTR != 0;
    Ok(Message { sequence: header.sequence_number(), interrupted, payload })
}

fn table_of(raw: &RawMessage<'_>) -> Option<Payload> {
    let TableId { family, name } = raw.table()?;
    let comment = raw.attributes.get(table::USERDATA).and_then(read_comment);
    let dormant = raw.attributes.number(table::FLAGS).unwrap_or(0) & table_flag::DORMANT != 0;
    Some(Payload::Table(Table { comment, dormant, ..Table::new(family, name) }))
}

fn chain_of(raw: &RawMessage<'_>) -> Option<Payload> {
    let (table, name) = (raw.table()?, raw.attributes.text(chain::NAME)?);
    let has_hook = raw.attributes.get(chain::HOOK).is_some();
    let base = base_of(raw.attributes, table.family);
    // A hook of a later kernel.
    let is_unknown = has_hook && base.is_none();
    Some(if is_unknown { Payload::Other } else { Payload::Chain(table, name, base) })
}

fn base_of(attributes: Attributes<'_>, family: TableFamily) -> Option<Base> {
    let hook = attributes.nest(chain::HOOK);
    let devices = match hook.text(hook::DEV) {
        Some(one) => vec![one],
        None => hook.nest(hook::DEVS).list().filter_map(|name| text(name.0)).collect(),
    };
    let drops = attributes.number(chain::POLICY) == Some(Policy::Drop as u32);
    Some(Base {
        kind: ChainType::from_name(&attributes.text(chain::TYPE)?)?,
        hook: Hook::from_number(family, hook.number(hook::HOOKNUM)?)?,
        priority: hook.number(hook::PRIORITY)?.cast_signed(),
        policy: if drops { Policy::Drop } else { Policy::Accept },
        devices,
    })
}

fn rule_of(raw: &RawMessage<'_>) -> Option<Payload> {
    let (table, chain) = (raw.table()?, raw.attributes.text(rule::CHAIN)?);
    let mut statements = rules::read(table.family, raw.attributes.nest(rule::EXPRESSIONS));
    let comment = raw.attributes.get(rule::USERDATA).and_then(read_comment);
    let comment = comment.or_else(|| take_match_comment(&mut statements));
    let handle = raw.attributes.long_number(rule::HANDLE)?;
    Some(Payload::Rule(table, chain, RuleWithHandle { handle, rule: Rule { statements, comment } }))
}

/// Takes the comment of a rule that `iptables` wrote: it has a statement for it, which matches every packet. So a rule that
/// was saved and restored by it is still the same rule.
fn take_match_comment(statements: &mut Vec<Statement>) -> Option<String> {
    let comment = |statement: &Statement| match statement {
        Statement::Opaque { name, data } if name == "match" => {
            let attributes = Attributes(data);
            let kind = attributes.text(compat_match::NAME)?;
            attributes.text(compat_match::INFO).filter(|_| kind == "comment")
        }
        _ => None,
    };
    let (place, comment) =
        statements.iter().enumerate().find_map(|(place, statement)| Some((place, comment(statement)?)))?;
    statements.remove(place);
    Some(comment)
}

fn set_of(raw: &RawMessage<'_>) -> Option<Payload> {
    let (table, name) = (raw.table()?, raw.attributes.text(set::NAME)?);
    let number = |kind| raw.attributes.number(kind).unwrap_or(0);
    let flags = number(set::FLAGS);
    let data = match number(set::DATA_TYPE) {
        _ if flags & set_flag::MAP == 0 => None,
        set_data::VERDICT => Some(DataType::Verdict),
        kind => Some(DataType::Values(wire::split_type(kind, number(set::DATA_LEN)))),
    };
    let set = Set {
        data,
        flags: SetFlags(flags & !(set_flag::MAP | set_flag::CONCAT)),
        size: raw.attributes.nest(set::DESC).number(set_desc::SIZE),
        timeout: raw.attributes.milliseconds(set::TIMEOUT),
        counter: raw.attributes.nest(set::EXPRESSION).text(abi::expression::NAME).as_deref() == Some("counter"),
        ..Set::of(wire::split_type(number(set::KEY_TYPE), number(set::KEY_LEN)))
    };
    Some(Payload::Set(table, name, set))
}

fn elements_of(raw: &RawMessage<'_>) -> Option<Payload> {
    raw.table()?;
    raw.attributes.text(element_list::SET)?;
    Some(Payload::Elements(elements::read(raw.attributes.nest(element_list::ELEMENTS))))
}
