//! Operations as one batch of netlink messages. Pure.
//!
//! Objects are written in an order in which each finds what it names: sets, chains, elements (verdicts name
//! chains), rules. No userdata is written on sets: `nft` of another version crashes on it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::abi::{self, chain, flag, hook, message, rule, set, table};
use super::operation::{Elements, Operation};
use super::table::{Base, Chain, DataType, Element, Family, Key, Policy, Rule, Set, SetFlags, Table, TableId};
use super::wire;
use super::writer::{Writer, nftables};

mod elements;
mod expressions;

pub(super) use expressions::{address_offset, port_offset, statement_network};

/// Why an operation cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {fault}")]
pub struct Invalid {
    /// Index of the operation.
    pub operation: usize,
    /// The object.
    pub what: String,
    /// What is wrong, and what would be right.
    pub fault: &'static str,
}

/// A batch ready to be sent.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The sequence number of the message that opens the batch.
    pub(super) first: u32,
    /// For each message after that one, the operation that it belongs to and the object that it is about.
    pub(super) subjects: Vec<(usize, String)>,
}

impl Batch {
    /// Encodes `operations`, with sequence numbers from `first` on.
    pub(super) fn of(operations: &[Operation], first: u32) -> Result<Self, Invalid> {
        let mut encoder = Encoder { writer: Writer::default(), first, operation: 0, subjects: Vec::new(), last: 0..0 };
        encoder.bound(abi::BATCH_BEGIN);
        for (index, operation) in operations.iter().enumerate() {
            encoder.operation = index;
            encoder.operation(operation)?;
        }
        let Encoder { last, .. } = &encoder;
        let last = last.start;
        encoder.bound(abi::BATCH_END);
        let mut bytes = encoder.writer.into_bytes();
        // The kernel reports errors in any case. Acknowledging each message would overflow the receive buffer.
        if let Some([low, high]) = bytes.get_mut(last + 6..last + 8) {
            let flags = u16::from_ne_bytes([*low, *high]) | flag::ACK;
            [*low, *high] = flags.to_ne_bytes();
        }
        Ok(Self { bytes, first, subjects: encoder.subjects })
    }
}

struct Encoder {
    writer: Writer,
    first: u32,
    operation: usize,
    subjects: Vec<(usize, String)>,
    last: Range<usize>,
}

type Done = Result<(), Invalid>;

impl Encoder {
    fn invalid<T>(&self, what: impl Into<String>, fault: &'static str) -> Result<T, Invalid> {
        Err(Invalid { operation: self.operation, what: what.into(), fault })
    }

    fn sequence(&self) -> u32 {
        let index = u32::try_from(self.subjects.len()).unwrap_or(u32::MAX);
        self.first.wrapping_add(index)
    }

    fn bound(&mut self, kind: u16) {
        let sequence = self.sequence().wrapping_add(u32::from(kind == abi::BATCH_END));
        self.writer.message((kind, flag::REQUEST, sequence), (0, u16::from(abi::SUBSYSTEM)), |_| ());
    }

    /// Writes one message about `what`.
    fn message(&mut self, family: Family, kind: u8, flags: u16, what: String, body: impl FnOnce(&mut Writer)) -> Done {
        self.subjects.push((self.operation, what));
        let sequence = self.sequence();
        let start = self.writer.len();
        self.writer.message((nftables(kind), flag::REQUEST | flags, sequence), (family.number(), 0), body);
        self.last = start..self.writer.len();
        if self.writer.take_overflow() {
            let what = self.subjects.pop().map(|(_, what)| what).unwrap_or_default();
            return self.invalid(what, "it is longer than the 64 KiB that one netlink attribute can hold");
        }
        Ok(())
    }

    fn operation(&mut self, operation: &Operation) -> Done {
        match operation {
            Operation::AddTable(id) => self.add_table(id, None, false),
            Operation::DeleteTable(id) => self.delete_table(id),
            Operation::ReplaceTable(table) => self.replace_table(table),
            Operation::AddChain { table, name, chain } => {
                self.add_chain(table, name, chain.base.as_ref())?;
                self.add_rules(table, name, chain)
            }
            Operation::FlushChain { table, name } => {
                self.message(table.family, message::DELRULE, 0, format!("rules of chain {name}"), |writer| {
                    writer.text(rule::TABLE, &table.name);
                    writer.text(rule::CHAIN, name);
                })
            }
            Operation::DeleteChain { table, name } => {
                self.message(table.family, message::DELCHAIN, 0, format!("chain {name}"), |writer| {
                    writer.text(chain::TABLE, &table.name);
                    writer.text(chain::NAME, name);
                })
            }
            Operation::AddSet { table, name, set } => {
                self.add_set(table, name, set)?;
                self.elements(message::NEWSETELEM, table, (name, set.flags), &set.elements)
            }
            Operation::DeleteSet { table, name } => {
                self.message(table.family, message::DELSET, 0, format!("set {name}"), |writer| {
                    writer.text(set::TABLE, &table.name);
                    writer.text(set::NAME, name);
                })
            }
            Operation::AddRule { table, chain, rule } => self.rule(table, chain, flag::APPEND, rule, "new rule"),
            Operation::InsertRule { table, chain, rule } => self.rule(table, chain, 0, rule, "new rule"),
            Operation::DeleteRule { table, chain, handle } => self.delete_rule(table, chain, *handle),
            Operation::AddElements(Elements { table, set, flags, elements }) => {
                self.elements(message::NEWSETELEM, table, (set, *flags), elements)
            }
            Operation::DeleteElements(Elements { table, set, flags, elements }) => {
                self.elements(message::DELSETELEM, table, (set, *flags), elements)
            }
        }
    }

    fn replace_table(&mut self, table: &Table) -> Done {
        // A delete needs something to delete, and DESTROYTABLE came with Linux 6.3 only.
        self.add_table(&table.id, None, false)?;
        self.delete_table(&table.id)?;
        self.add_table(&table.id, table.comment.as_deref(), table.dormant)?;
        for (name, set) in &table.sets {
            self.add_set(&table.id, name, set)?;
        }
        for (name, chain) in &table.chains {
            self.add_chain(&table.id, name, chain.base.as_ref())?;
        }
        for (name, set) in &table.sets {
            self.elements(message::NEWSETELEM, &table.id, (name, set.flags), &set.elements)?;
        }
        for (name, chain) in &table.chains {
            self.add_rules(&table.id, name, chain)?;
        }
        Ok(())
    }

    fn add_table(&mut self, id: &TableId, comment: Option<&str>, dormant: bool) -> Done {
        let Some(userdata) = comment.map_or(Some(Vec::new()), comment_userdata) else {
            return self.invalid(format!("table {}", id.name), COMMENT_TOO_LONG);
        };
        self.message(id.family, message::NEWTABLE, flag::CREATE, format!("table {}", id.name), |writer| {
            writer.text(table::NAME, &id.name);
            writer.number(table::FLAGS, if dormant { table::DORMANT } else { 0 });
            if !userdata.is_empty() {
                writer.put(table::USERDATA, &userdata);
            }
        })
    }

    fn delete_table(&mut self, id: &TableId) -> Done {
        self.message(id.family, message::DELTABLE, 0, format!("table {}", id.name), |writer| {
            writer.text(table::NAME, &id.name);
        })
    }

    fn add_chain(&mut self, id: &TableId, name: &str, base: Option<&Base>) -> Done {
        let what = || format!("chain {name}");
        let hooknum = base.map(|base| base.hook.number(id.family));
        if hooknum == Some(None) {
            return self.invalid(what(), "the table's family has no such hook");
        }
        self.message(id.family, message::NEWCHAIN, flag::CREATE, what(), |writer| {
            writer.text(chain::TABLE, &id.name);
            writer.text(chain::NAME, name);
            let (Some(base), Some(Some(hooknum))) = (base, hooknum) else { return };
            writer.nest(chain::HOOK, |writer| hook_attributes(writer, base, hooknum));
            writer.text(chain::TYPE, base.kind.name());
            writer.number(chain::POLICY, base.policy.code());
        })
    }

    fn add_set(&mut self, id: &TableId, name: &str, set: &Set) -> Done {
        let what = || format!("set {name}");
        let interval = set.flags.has(SetFlags::INTERVAL);
        if interval && !set.key.iter().all(|kind| kind.is_ordered()) {
            return self.invalid(what(), "only addresses, protocols and ports can be ranges");
        }
        if set.key.is_empty() || set.data == Some(DataType::Values(Vec::new())) {
            return self.invalid(what(), "it needs a type");
        }
        // Unlike everything else, a set is found within its own batch by a number of the sender's.
        let number = self.sequence().wrapping_add(1);
        self.message(id.family, message::NEWSET, flag::CREATE, what(), |writer| {
            writer.text(set::TABLE, &id.name);
            writer.text(set::NAME, name);
            writer.number(set::ID, number);
            set_attributes(writer, set);
        })
    }

    fn add_rules(&mut self, id: &TableId, name: &str, chain: &Chain) -> Done {
        for (index, rule) in chain.rules.iter().enumerate() {
            self.rule(id, name, flag::APPEND, rule, &format!("rule {}", index + 1))?;
        }
        Ok(())
    }

    fn rule(&mut self, id: &TableId, chain: &str, flags: u16, rule: &Rule, which: &str) -> Done {
        let what = format!("{which} of chain {chain}");
        let Some(userdata) = rule.comment.as_deref().map_or(Some(Vec::new()), comment_userdata) else {
            return self.invalid(what, COMMENT_TOO_LONG);
        };
        if let Err(fault) = expressions::check(id.family, rule) {
            return self.invalid(what, fault);
        }
        self.message(id.family, message::NEWRULE, flag::CREATE | flags, what, |writer| {
            writer.text(rule::TABLE, &id.name);
            writer.text(rule::CHAIN, chain);
            writer.nest(rule::EXPRESSIONS, |writer| {
                for statement in &rule.statements {
                    expressions::statement(writer, statement);
                }
            });
            if !userdata.is_empty() {
                writer.put(rule::USERDATA, &userdata);
            }
        })
    }

    fn delete_rule(&mut self, id: &TableId, chain: &str, handle: u64) -> Done {
        let what = format!("rule with handle {handle} of chain {chain}");
        self.message(id.family, message::DELRULE, 0, what, |writer| {
            writer.text(rule::TABLE, &id.name);
            writer.text(rule::CHAIN, chain);
            writer.put(rule::HANDLE, &handle.to_be_bytes());
        })
    }

    fn elements(
        &mut self,
        kind: u8,
        id: &TableId,
        (set, flags): (&str, SetFlags),
        elements: &BTreeMap<Key, Element>,
    ) -> Done {
        let what = || format!("elements of set {set}");
        let parts = match elements::parts(flags, elements) {
            Ok(parts) => parts,
            Err(fault) => return self.invalid(what(), fault),
        };
        for chunk in elements::chunks(&parts) {
            self.message(id.family, kind, flag::CREATE, what(), |writer| {
                writer.text(abi::element::TABLE, &id.name);
                writer.text(abi::element::SET, set);
                writer.nest(abi::element::ELEMENTS, |writer| {
                    for part in chunk {
                        elements::write(writer, part);
                    }
                });
            })?;
        }
        Ok(())
    }
}

fn hook_attributes(writer: &mut Writer, base: &Base, hooknum: u32) {
    writer.number(hook::HOOKNUM, hooknum);
    writer.put(hook::PRIORITY, &base.priority.to_be_bytes());
    match base.devices.as_slice() {
        [] => {}
        [one] => writer.text(hook::DEV, one),
        several => writer.nest(hook::DEVS, |writer| {
            for device in several {
                writer.text(hook::DEVICE_NAME, device);
            }
        }),
    }
}

fn set_attributes(writer: &mut Writer, set: &Set) {
    let pipapo = set.flags.has(SetFlags::INTERVAL) && set.key.len() > 1;
    let derived = if set.data.is_some() { set::MAP } else { 0 } | if pipapo { set::CONCAT } else { 0 };
    writer.number(set::FLAGS, set.flags.0 | derived);
    let (id, length) = wire::joined_type(&set.key);
    writer.number(set::KEY_TYPE, id);
    writer.number(set::KEY_LEN, length);
    match &set.data {
        None => {}
        Some(DataType::Verdict) => {
            writer.number(set::DATA_TYPE, set::VERDICT);
            writer.number(set::DATA_LEN, 0);
        }
        Some(DataType::Values(types)) => {
            let (id, length) = wire::joined_type(types);
            writer.number(set::DATA_TYPE, id);
            writer.number(set::DATA_LEN, length);
        }
    }
    if let Some(timeout) = set.timeout {
        writer.put(set::TIMEOUT, &elements::milliseconds(timeout));
    }
    if set.size.is_some() || pipapo {
        writer.nest(set::DESC, |writer| {
            if let Some(size) = set.size {
                writer.number(set::DESC_SIZE, size);
            }
            if pipapo {
                writer.nest(set::DESC_CONCAT, |writer| {
                    for kind in &set.key {
                        let length = u32::try_from(kind.bytes()).unwrap_or(u32::MAX);
                        writer.nest(abi::LIST_ELEM, |writer| writer.number(set::FIELD_LEN, length));
                    }
                });
            }
        });
    }
}

impl Policy {
    /// `NF_DROP` or `NF_ACCEPT`.
    pub(super) fn code(self) -> u32 {
        match self {
            Policy::Drop => 0,
            Policy::Accept => 1,
        }
    }
}

/// `NFTNL_UDATA_COMMENT_MAXLEN`, which counts the zero at the end.
const COMMENT_BYTES: usize = 128;
const COMMENT_TOO_LONG: &str = "its comment may have at most 127 bytes and no zero byte";

/// A comment as `nft` keeps it: type 0, length, text with a zero at its end.
fn comment_userdata(comment: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(comment.len() + 1).ok().filter(|length| usize::from(*length) <= COMMENT_BYTES)?;
    (!comment.contains('\0')).then_some(())?;
    Some([&[0, length], comment.as_bytes(), &[0]].concat())
}
