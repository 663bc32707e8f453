//! Operations as one batch of netlink messages. Pure.
//!
//! Objects are written in an order in which each finds what it names: sets, chains, elements (verdicts name
//! chains), rules. No userdata is written on sets: `nft` of another version crashes on it.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkBuffer};

use super::abi::{
    self, TABLE, chain, element_list, hook, hook_device, message, rule, set, set_data, set_desc, set_field, set_flag,
    table, table_flag,
};
use super::operation::Operation;
use super::table::{Base, DataType, Element, Key, Rule, Set, SetFlags, Table, TableId};
use super::writer::{Writer, nftables};
use super::{elements, rule as rules, wire};

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

/// A batch of messages.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) writer: Writer,
    /// The sequence number of the message that opens the batch.
    pub(super) first: u32,
    /// For each message after that one, the operation that it belongs to and the object that it is about.
    pub(super) subjects: Vec<(usize, String)>,
    /// The operation that is being written.
    operation: usize,
    /// Where the last message begins that an operation has written.
    last: usize,
}

type Done = Result<(), Invalid>;

impl Batch {
    /// Encodes `operations`, with sequence numbers from `first` on.
    pub(super) fn of(operations: &[Operation], first: u32) -> Result<Self, Invalid> {
        let mut batch = Self { first, ..Self::default() };
        batch.bound(abi::BATCH_BEGIN, first);
        for (index, operation) in operations.iter().enumerate() {
            batch.operation = index;
            batch.operation(operation)?;
        }
        // The kernel reports errors in any case. Acknowledging each message would overflow the receive buffer.
        let last = &mut batch.writer.bytes[batch.last..];
        let flags = NetlinkBuffer::new(&*last).flags() | NLM_F_ACK;
        last[6..8].copy_from_slice(&flags.to_ne_bytes());
        batch.bound(abi::BATCH_END, batch.sequence().wrapping_add(1));
        Ok(batch)
    }

    fn invalid(&self, what: &str, fault: &'static str) -> Invalid {
        Invalid { operation: self.operation, what: what.to_owned(), fault }
    }

    /// The sequence number of the last message.
    fn sequence(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.subjects.len()).unwrap_or(u32::MAX))
    }

    fn bound(&mut self, kind: u16, sequence: u32) {
        self.writer.message((kind, NLM_F_REQUEST, sequence), (0, u16::from(abi::SUBSYSTEM)), |_| ());
    }

    /// Writes one message about `what` in the table `id`.
    fn message(&mut self, id: &TableId, kind: u8, flags: u16, what: String, body: impl FnOnce(&mut Writer)) -> Done {
        self.subjects.push((self.operation, what));
        self.last = self.writer.bytes.len();
        let header = (nftables(kind), NLM_F_REQUEST | flags, self.sequence());
        self.writer.message(header, (id.family.number(), 0), |writer| {
            writer.text(TABLE, &id.name);
            body(writer);
        });
        match self.subjects.last() {
            Some((_, what)) if self.writer.overflow => {
                Err(self.invalid(what, "it is longer than the 64 KiB that one netlink attribute can hold"))
            }
            _ => Ok(()),
        }
    }

    fn operation(&mut self, operation: &Operation) -> Done {
        match operation {
            Operation::AddTable(id) => self.add_table(id, None, false),
            Operation::DeleteTable(id) => self.delete_table(id),
            Operation::ReplaceTable(table) => self.replace_table(table),
            Operation::DeleteChain { table, name } => {
                self.message(table, message::DELCHAIN, 0, format!("chain {name}"), |writer| {
                    writer.text(chain::NAME, name);
                })
            }
            Operation::AddRule { table, chain, rule } => self.rule(table, chain, NLM_F_APPEND, rule, "new rule"),
            Operation::InsertRule { table, chain, rule } => self.rule(table, chain, 0, rule, "new rule"),
            Operation::DeleteRule { table, chain, handle } => {
                let what = format!("rule with handle {handle} of chain {chain}");
                self.message(table, message::DELRULE, 0, what, |writer| {
                    writer.text(rule::CHAIN, chain);
                    writer.put(rule::HANDLE, &handle.to_be_bytes());
                })
            }
            Operation::AddElements(of) => {
                self.elements(message::NEWSETELEM, &of.table, (&of.set, of.flags), &of.elements)
            }
            Operation::DeleteElements(of) => {
                self.elements(message::DELSETELEM, &of.table, (&of.set, of.flags), &of.elements)
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
            for (index, rule) in (1..).zip(&chain.rules) {
                self.rule(&table.id, name, NLM_F_APPEND, rule, &format!("rule {index}"))?;
            }
        }
        Ok(())
    }

    fn add_table(&mut self, id: &TableId, comment: Option<&str>, dormant: bool) -> Done {
        let what = format!("table {}", id.name);
        let userdata = userdata(comment).map_err(|fault| self.invalid(&what, fault))?;
        self.message(id, message::NEWTABLE, NLM_F_CREATE, what, |writer| {
            writer.number(table::FLAGS, if dormant { table_flag::DORMANT } else { 0 });
            if let Some(userdata) = userdata {
                writer.put(table::USERDATA, &userdata);
            }
        })
    }

    fn delete_table(&mut self, id: &TableId) -> Done {
        self.message(id, message::DELTABLE, 0, format!("table {}", id.name), |_| ())
    }

    fn add_chain(&mut self, id: &TableId, name: &str, base: Option<&Base>) -> Done {
        let what = format!("chain {name}");
        let hook = base.map(|base| {
            let number = base.hook.number(id.family);
            number.ok_or_else(|| self.invalid(&what, "the table's family has no such hook"))
        });
        let hook = hook.transpose()?;
        self.message(id, message::NEWCHAIN, NLM_F_CREATE, what, |writer| {
            writer.text(chain::NAME, name);
            let (Some(base), Some(hook)) = (base, hook) else { return };
            writer.nest(chain::HOOK, |writer| hook_attributes(writer, base, hook));
            writer.text(chain::TYPE, &base.kind.to_string());
            writer.number(chain::POLICY, base.policy as u32);
        })
    }

    fn add_set(&mut self, id: &TableId, name: &str, set: &Set) -> Done {
        let what = format!("set {name}");
        if set.flags.has(SetFlags::INTERVAL) && !set.key.iter().all(|kind| kind.is_ordered()) {
            return Err(self.invalid(&what, "only addresses, protocols and ports can be ranges"));
        }
        if set.key.is_empty() || set.data == Some(DataType::Values(Vec::new())) {
            return Err(self.invalid(&what, "it needs a type"));
        }
        // Unlike everything else, a set is found within its own batch by a number of the sender's.
        let number = self.sequence().wrapping_add(1);
        self.message(id, message::NEWSET, NLM_F_CREATE, what, |writer| {
            writer.text(set::NAME, name);
            writer.number(set::ID, number);
            set_attributes(writer, set);
        })
    }

    fn rule(&mut self, id: &TableId, chain: &str, flags: u16, rule: &Rule, which: &str) -> Done {
        let what = format!("{which} of chain {chain}");
        let checked = userdata(rule.comment.as_deref()).and_then(|userdata| {
            rules::check(id.family, rule)?;
            Ok(userdata)
        });
        let userdata = checked.map_err(|fault| self.invalid(&what, fault))?;
        self.message(id, message::NEWRULE, NLM_F_CREATE | flags, what, |writer| {
            writer.text(rule::CHAIN, chain);
            writer.nest(rule::EXPRESSIONS, |writer| {
                for statement in &rule.statements {
                    rules::write(writer, statement);
                }
            });
            if let Some(userdata) = userdata {
                writer.put(rule::USERDATA, &userdata);
            }
        })
    }

    /// Writes as many messages as the elements need.
    fn elements(
        &mut self,
        kind: u8,
        id: &TableId,
        (set, flags): (&str, SetFlags),
        elements: &BTreeMap<Key, Element>,
    ) -> Done {
        let what = || format!("elements of set {set}");
        let checked = elements.keys().try_for_each(|key| elements::check(flags, key));
        checked.map_err(|fault| self.invalid(&what(), fault))?;
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            self.message(id, kind, NLM_F_CREATE, what(), |writer| {
                writer.text(element_list::SET, set);
                writer.nest(element_list::ELEMENTS, |writer| {
                    let start = writer.bytes.len();
                    while writer.bytes.len() - start < LIST_BYTES
                        && let Some((key, element)) = rest.next()
                    {
                        elements::write(writer, flags, key, element);
                    }
                });
            })?;
        }
        Ok(())
    }
}

/// After so many bytes a list of elements is continued in the next message: its length has 16 bits.
const LIST_BYTES: usize = 60_000;

fn hook_attributes(writer: &mut Writer, base: &Base, number: u32) {
    writer.number(hook::HOOKNUM, number);
    writer.put(hook::PRIORITY, &base.priority.to_be_bytes());
    match base.devices.as_slice() {
        [] => {}
        [one] => writer.text(hook::DEV, one),
        several => writer.nest(hook::DEVS, |writer| {
            for device in several {
                writer.text(hook_device::NAME, device);
            }
        }),
    }
}

fn set_attributes(writer: &mut Writer, set: &Set) {
    let pipapo = set.flags.has(SetFlags::INTERVAL) && set.key.len() > 1;
    let derived = if set.data.is_some() { set_flag::MAP } else { 0 } | if pipapo { set_flag::CONCAT } else { 0 };
    writer.number(set::FLAGS, set.flags.0 | derived);
    let (id, length) = wire::joined_type(&set.key);
    writer.number(set::KEY_TYPE, id);
    writer.length(set::KEY_LEN, length);
    if let Some(data) = &set.data {
        let (id, length) = match data {
            DataType::Verdict => (set_data::VERDICT, 0),
            DataType::Values(types) => wire::joined_type(types),
        };
        writer.number(set::DATA_TYPE, id);
        writer.length(set::DATA_LEN, length);
    }
    if let Some(timeout) = set.timeout {
        writer.milliseconds(set::TIMEOUT, timeout);
    }
    if set.size.is_some() || pipapo {
        writer.nest(set::DESC, |writer| {
            if let Some(size) = set.size {
                writer.number(set_desc::SIZE, size);
            }
            if pipapo {
                writer.nest(set_desc::CONCAT, |writer| {
                    for kind in &set.key {
                        writer.nest(abi::LIST_ELEM, |writer| writer.length(set_field::LEN, kind.bytes()));
                    }
                });
            }
        });
    }
}

/// `NFTNL_UDATA_COMMENT_MAXLEN`, which counts the zero at the end.
const COMMENT_BYTES: u8 = 128;

/// A comment as `nft` keeps it: type 0, length, text with a zero at its end.
fn userdata(comment: Option<&str>) -> Result<Option<Vec<u8>>, &'static str> {
    let Some(comment) = comment else { return Ok(None) };
    match u8::try_from(comment.len() + 1) {
        Ok(length @ ..=COMMENT_BYTES) if !comment.contains('\0') => {
            Ok(Some([&[0, length], comment.as_bytes(), &[0]].concat()))
        }
        _ => Err("its comment may have at most 127 bytes and no zero byte"),
    }
}
