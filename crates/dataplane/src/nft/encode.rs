//! Operations as one batch of netlink messages. Pure.
//!
//! Objects are written in an order in which each finds what it names: sets, chains, elements (verdicts name
//! chains), rules.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkBuffer};

use super::abi::{
    self, TABLE, chain, element_list, hook, hook_device, message, rule, set, set_data, set_desc, set_field, set_flag,
    table, table_flag,
};
use super::expression::{Expression, Statement, Verdict, VerdictMap};
use super::operation::{Elements, Operation, RecordList};
use super::rule::ANONYMOUS_MAP;
use super::table::{Base, Data, DataType, Element, Rule, Set, SetFlags, Table, TableId};
use super::value::Key;
use super::writer::{Writer, nftables};
use super::{elements, rule as rules, userdata, wire};

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
            Operation::AddElements(of) => self.elements(message::NEWSETELEM, of.into(), &of.elements),
            Operation::DeleteElements(of) => self.elements(message::DELSETELEM, of.into(), &of.elements),
            Operation::AddRecords(of) => self.records(message::NEWSETELEM, of),
            Operation::DeleteRecords(of) => self.records(message::DELSETELEM, of),
            Operation::AddSet { table, name, set } => {
                self.add_set(table, name, set)?;
                self.elements_of(table, name, set)
            }
            Operation::DeleteSet { table, name } => {
                self.message(table, message::DELSET, 0, format!("set {name}"), |writer| writer.text(set::NAME, name))
            }
            Operation::AddChain { table, name, chain } => {
                self.add_chain(table, name, chain.base.as_ref())?;
                self.rules(table, name, &chain.rules)
            }
            Operation::FlushChain { table, name } => {
                self.message(table, message::DELRULE, 0, format!("rules of chain {name}"), |writer| {
                    writer.text(rule::CHAIN, name);
                })
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
            self.elements_of(&table.id, name, set)?;
        }
        table.chains.iter().try_for_each(|(name, chain)| self.rules(&table.id, name, &chain.rules))
    }

    fn elements_of(&mut self, table: &TableId, name: &str, set: &Set) -> Done {
        let place = SetPlace { table, name, flags: set.flags, number: None };
        self.elements(message::NEWSETELEM, place, &set.elements)
    }

    fn rules(&mut self, table: &TableId, chain: &str, rules: &[Rule]) -> Done {
        (1..)
            .zip(rules)
            .try_for_each(|(index, rule)| self.rule(table, chain, NLM_F_APPEND, rule, &format!("rule {index}")))
    }

    fn add_table(&mut self, id: &TableId, comment: Option<&str>, dormant: bool) -> Done {
        let what = format!("table {}", id.name);
        let userdata = userdata::comment(comment).map_err(|fault| self.invalid(&what, fault))?;
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

    /// Writes a set without its elements, and gives the number by which the rest of the batch can find the set.
    fn add_set(&mut self, id: &TableId, name: &str, set: &Set) -> Result<u32, Invalid> {
        let what = format!("set {name}");
        if set.flags.has(SetFlags::INTERVAL) && !set.key.iter().all(|kind| kind.is_ordered()) {
            return Err(self.invalid(&what, "only addresses, protocols and ports can be ranges"));
        }
        if set.key.is_empty() || set.data == Some(DataType::Values(Vec::new())) {
            return Err(self.invalid(&what, "it needs a type"));
        }
        if set.has_numbers() && userdata::of_set(set).is_none() {
            let fault = "beside a number its types can be addresses, protocols, ports and marks";
            return Err(self.invalid(&what, fault));
        }
        // Unlike everything else, a set is found within its own batch by a number of the sender's.
        let number = self.sequence().wrapping_add(1);
        self.message(id, message::NEWSET, NLM_F_CREATE, what, |writer| {
            writer.text(set::NAME, name);
            writer.number(set::ID, number);
            set_attributes(writer, set);
        })?;
        Ok(number)
    }

    /// Writes a map of a rule's own, before the rule.
    fn anonymous_map(
        &mut self,
        id: &TableId,
        key: &[Expression],
        elements: &BTreeMap<Key, Verdict>,
    ) -> Result<u32, Invalid> {
        let types: Vec<_> = key.iter().map(Expression::kind).collect();
        let set = Set::map(types, DataType::Verdict).with_flags(SetFlags::ANONYMOUS | SetFlags::CONSTANT);
        let number = self.add_set(id, ANONYMOUS_MAP, &set)?;
        let elements = elements.iter().map(|(key, verdict)| (key.clone(), Data::Verdict(verdict.clone()).into()));
        let place = SetPlace { table: id, name: ANONYMOUS_MAP, flags: set.flags, number: Some(number) };
        self.elements(message::NEWSETELEM, place, &elements.collect())?;
        Ok(number)
    }

    fn rule(&mut self, id: &TableId, chain: &str, flags: u16, rule: &Rule, which: &str) -> Done {
        let what = format!("{which} of chain {chain}");
        let checked = userdata::comment(rule.comment.as_deref()).and_then(|userdata| {
            rules::check(id.family, rule)?;
            Ok(userdata)
        });
        let userdata = checked.map_err(|fault| self.invalid(&what, fault))?;
        let mut maps = Vec::new();
        for statement in &rule.statements {
            if let Statement::VerdictFrom { key, map: VerdictMap::Anonymous(elements) } = statement {
                maps.push(self.anonymous_map(id, key, elements)?);
            }
        }
        self.message(id, message::NEWRULE, NLM_F_CREATE | flags, what, |writer| {
            writer.text(rule::CHAIN, chain);
            writer.nest(rule::EXPRESSIONS, |writer| {
                rules::write_all(writer, id.family, &rule.statements, &maps);
            });
            if let Some(userdata) = userdata {
                writer.put(rule::USERDATA, &userdata);
            }
        })
    }

    /// Writes as many messages as the elements need.
    fn elements(&mut self, kind: u8, set: SetPlace<'_>, elements: &BTreeMap<Key, Element>) -> Done {
        let checked = elements.iter().try_for_each(|(key, element)| elements::check(set.flags, key, element));
        checked.map_err(|fault| self.invalid(&format!("elements of set {}", set.name), fault))?;
        self.list(kind, set, elements.iter(), |writer, (key, element)| {
            elements::write(writer, set.flags, key, element);
        })
    }

    fn records(&mut self, kind: u8, of: &RecordList) -> Done {
        let set = SetPlace { table: &of.table, name: &of.set, flags: SetFlags::default(), number: None };
        self.list(kind, set, of.records.iter(), |writer, record| record.write(writer))
    }

    /// Writes as many messages as the members of a list need.
    fn list<T>(
        &mut self,
        kind: u8,
        set: SetPlace<'_>,
        members: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Writer, T),
    ) -> Done {
        let mut rest = members.peekable();
        while rest.peek().is_some() {
            self.message(set.table, kind, NLM_F_CREATE, format!("elements of set {}", set.name), |writer| {
                writer.text(element_list::SET, set.name);
                if let Some(number) = set.number {
                    writer.number(element_list::SET_ID, number);
                }
                writer.nest(element_list::ELEMENTS, |writer| {
                    let start = writer.bytes.len();
                    while writer.bytes.len() - start < LIST_BYTES
                        && let Some(member) = rest.next()
                    {
                        write(writer, member);
                    }
                });
            })?;
        }
        Ok(())
    }
}

/// The set that a message is about.
#[derive(Clone, Copy)]
struct SetPlace<'p> {
    table: &'p TableId,
    name: &'p str,
    flags: SetFlags,
    /// The number that the set has in the batch, where it has no name.
    number: Option<u32>,
}

impl<'e> From<&'e Elements> for SetPlace<'e> {
    fn from(of: &'e Elements) -> Self {
        SetPlace { table: &of.table, name: &of.set, flags: of.flags, number: None }
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
    if let Some(userdata) = userdata::of_set(set) {
        writer.put(set::USERDATA, &userdata);
    }
    if set.counter {
        writer.nest(set::EXPRESSION, |writer| writer.text(abi::expression::NAME, "counter"));
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
