//! Reading the kernel's ruleset.
//!
//! A table is read by several dumps. Where the ruleset's generation number differs after them, or a dump is marked as
//! interrupted, the table is read again.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use nix::libc::EINTR;

use super::abi::{TABLE, element_list, message, rule};
use super::elements;
use super::error::Error;
use super::read::{self, Payload, RawMessage};
use super::records::{Records, Unfit};
use super::socket::Socket;
use super::table::{Base, BaseChainFacts, Chain, Element, RuleWithHandle, Set, SetFlags, Table, TableFamily, TableId};
use super::value::Key;
use super::writer::{Writer, nftables};

/// A foreign program that changes the ruleset without a pause would have to hit each of them.
const ATTEMPTS: u32 = 32;
/// `NFPROTO_UNSPEC`: all families.
const ANY_FAMILY: u8 = 0;

/// Attributes that name an object.
type Names<'n> = &'n [(u16, &'n str)];

impl Socket {
    /// The number of the ruleset's state. It grows with each transaction of any program.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let (payloads, _) = self.request(message::GETGEN, NLM_F_ACK, ANY_FAMILY, &[])?;
        match payloads.as_slice() {
            [Payload::Generation(generation), ..] => Ok(*generation),
            _ => Err(Error::Unanswered(1)),
        }
    }

    /// Reads a table with all that is in it; `None` where there is none.
    pub fn read_table(&mut self, family: TableFamily, name: &str) -> Result<Option<Table>, Error> {
        self.read_consistently(&TableId::new(family, name), true)
    }

    /// Reads a table without the elements of its sets; `None` where there is none. [`Socket::read_records`] reads the elements of
    /// large sets.
    pub fn read_table_without_elements(&mut self, family: TableFamily, name: &str) -> Result<Option<Table>, Error> {
        self.read_consistently(&TableId::new(family, name), false)
    }

    /// Reads the elements of a set, which `definition` defines, by their bytes; `None` where there is no such set. Elements that are
    /// not of its types are left out.
    ///
    /// # Errors
    /// [`Error::Unfit`] where the definition has ranges.
    pub fn read_records(&mut self, table: &TableId, set: &str, definition: &Set) -> Result<Option<Records>, Error> {
        let mut records = Records::of(definition).ok_or(Error::Unfit(Unfit::Range))?;
        let names = [(TABLE, table.name.as_str()), (element_list::SET, set)];
        let outcome =
            self.dump_with(message::GETSETELEM, table.family.number(), &names, &mut records, |records, one| {
                if let Some(raw) = RawMessage::of(one) {
                    records.read(raw.attributes.nest(element_list::ELEMENTS));
                }
                Ok(())
            });
        match outcome {
            Ok(()) => Ok(Some(records)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the elements of a set, which `definition` defines. None where there is no such set.
    pub fn read_elements(
        &mut self,
        table: &TableId,
        set: &str,
        definition: &Set,
    ) -> Result<BTreeMap<Key, Element>, Error> {
        match self.elements_of(table, set, definition) {
            Err(error) if error.is_missing() => Ok(BTreeMap::new()),
            other => other,
        }
    }

    fn elements_of(&mut self, table: &TableId, name: &str, set: &Set) -> Result<BTreeMap<Key, Element>, Error> {
        let names = [(TABLE, table.name.as_str()), (element_list::SET, name)];
        let lists = self.dump(message::GETSETELEM, table.family.number(), &names)?.into_iter();
        let lists = lists.map(|payload| match payload {
            Payload::Elements(elements) => elements,
            _ => Vec::new(),
        });
        Ok(elements::assemble(set, lists.flatten().collect()))
    }

    fn read_consistently(&mut self, id: &TableId, with_elements: bool) -> Result<Option<Table>, Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let outcome = self.read_table_once(id, with_elements);
            if self.generation()? == before {
                return outcome;
            }
        }
        Err(Error::NeverConsistent(ATTEMPTS))
    }

    /// The base chains of all tables.
    pub fn base_chains(&mut self) -> Result<Vec<BaseChainFacts>, Error> {
        let chains = self.chains()?.into_iter();
        Ok(chains.filter_map(|(table, chain, base)| Some(BaseChainFacts { table, chain, base: base? })).collect())
    }

    /// Every chain of all tables: its table, its name, and its hook where it has one.
    pub fn chains(&mut self) -> Result<Vec<(TableId, String, Option<Base>)>, Error> {
        let payloads = self.dump(message::GETCHAIN, ANY_FAMILY, &[])?;
        let chains = payloads.into_iter().filter_map(|payload| match payload {
            Payload::Chain(table, name, base) => Some((table, name, base)),
            _ => None,
        });
        Ok(chains.collect())
    }

    /// The rules of a chain, in order, with their numbers. None where there is no such chain.
    pub fn read_rules(&mut self, family: TableFamily, table: &str, chain: &str) -> Result<Vec<RuleWithHandle>, Error> {
        let id = TableId::new(family, table);
        let payloads = self.dump(message::GETRULE, family.number(), &[(TABLE, table), (rule::CHAIN, chain)])?;
        let rules = payloads.into_iter().filter_map(|payload| match payload {
            // Older kernels pass over the filter.
            Payload::Rule(table, name, placed) if table == id && name == chain => Some(placed),
            _ => None,
        });
        Ok(rules.collect())
    }

    fn read_table_once(&mut self, id: &TableId, with_elements: bool) -> Result<Option<Table>, Error> {
        let family = id.family.number();
        let (mut payloads, _) = match self.request(message::GETTABLE, NLM_F_ACK, family, &[(TABLE, &id.name)]) {
            Err(error) if error.is_missing() => return Ok(None),
            other => other?,
        };
        for kind in [message::GETCHAIN, message::GETRULE, message::GETSET] {
            payloads.extend(self.dump(kind, family, &[(TABLE, &id.name)])?);
        }
        let mut found: Option<Table> = None;
        for payload in payloads {
            match (payload, &mut found) {
                (Payload::Table(table), None) if table.id == *id => found = Some(table),
                (Payload::Chain(of, name, base), Some(table)) if of == *id => {
                    table.chains.insert(name, Chain { base, rules: Vec::new() });
                }
                (Payload::Rule(of, chain, placed), Some(table)) if of == *id => {
                    table.chains.entry(chain).and_modify(|chain| chain.rules.push(placed.rule));
                }
                (Payload::Set(of, name, set), Some(table)) if of == *id => {
                    table.sets.insert(name, set);
                }
                _ => {}
            }
        }
        let wanted = |set: &Set| with_elements || set.flags.has(SetFlags::ANONYMOUS);
        for (name, set) in found.iter_mut().flat_map(|table| &mut table.sets).filter(|(_, set)| wanted(set)) {
            set.elements = self.elements_of(id, name, set)?;
        }
        found.iter_mut().for_each(Table::take_in_anonymous_maps);
        Ok(found)
    }

    /// Lists all objects of a kind, again and again until nothing changed meanwhile.
    fn dump(&mut self, kind: u8, family: u8, names: Names<'_>) -> Result<Vec<Payload>, Error> {
        let mut payloads = Vec::new();
        self.dump_with(kind, family, names, &mut payloads, |payloads, message| {
            payloads.push(read::parse_message(message)?.payload);
            Ok(())
        })?;
        Ok(payloads)
    }

    /// Lists all objects of a kind into `collected`, again and again until nothing changed meanwhile.
    fn dump_with<T: Clone>(
        &mut self,
        kind: u8,
        family: u8,
        names: Names<'_>,
        collected: &mut T,
        collect: impl Fn(&mut T, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let empty = collected.clone();
        for _ in 0..ATTEMPTS {
            match self.exchange(kind, NLM_F_DUMP, family, names, |message| collect(collected, message)) {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(error) if error.errno() == Some(EINTR) => {}
                Err(error) => return Err(error),
            }
            collected.clone_from(&empty);
        }
        Err(Error::NeverConsistent(ATTEMPTS))
    }

    /// Sends a request, and gives what answers it. True where the ruleset changed meanwhile.
    fn request(&mut self, kind: u8, flags: u16, family: u8, names: Names<'_>) -> Result<(Vec<Payload>, bool), Error> {
        let mut payloads = Vec::new();
        let spoilt = self.exchange(kind, flags, family, names, |message| {
            payloads.push(read::parse_message(message)?.payload);
            Ok(())
        })?;
        Ok((payloads, spoilt))
    }

    /// Sends a request and calls `visit` for each message that answers it. Gives true where the ruleset changed during the dump.
    fn exchange(
        &mut self,
        kind: u8,
        flags: u16,
        family: u8,
        names: Names<'_>,
        visit: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut writer = Writer::default();
        writer.message((nftables(kind), NLM_F_REQUEST | flags, self.sequence), (family, 0), |writer| {
            for (kind, name) in names {
                writer.text(*kind, name);
            }
        });
        self.inner.send(&writer.bytes)?;
        let answers = self.inner.answers::<Error>(self.sequence, visit)?;
        answers.map_err(|refusal| Error::Refused { operation: None, what: "to list the ruleset".to_owned(), refusal })
    }
}
