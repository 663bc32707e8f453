//! Reading the kernel's ruleset.
//!
//! A table is read by several dumps. Where the ruleset's generation number differs after them, or a dump is marked as
//! interrupted, the table is read again.

use nix::libc::{EINTR, ENOENT};

use super::abi::{chain, element, flag, message, rule, set, table};
use super::error::Error;
use super::read::{self, Message, Payload, RawElement};
use super::socket::Socket;
use super::table::{BaseChainFacts, Chain, Family, RuleWithHandle, Table, TableId};
use super::writer::{Writer, nftables};
use crate::netlink_message::{Refusal, messages};
use crate::netlink_socket::Received;

/// A foreign program that changes the ruleset without a pause would have to hit each of them.
const ATTEMPTS: u32 = 32;
/// `NFPROTO_UNSPEC`: all families.
const ANY_FAMILY: u8 = 0;

impl Socket {
    /// The number of the ruleset's state. It grows with each transaction of any program.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let payloads = self.ask((message::GETGEN, 0), ANY_FAMILY, |_| ())?;
        let generation = payloads.into_iter().find_map(|payload| match payload {
            Payload::Generation(generation) => Some(generation),
            _ => None,
        });
        generation.ok_or(Error::Unanswered(1))
    }

    /// Reads a table with all that is in it; `None` where there is none.
    pub fn read_table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let id = TableId::new(family, name);
        self.consistently(|socket| socket.read_table_once(&id))
    }

    /// The base chains of all tables.
    pub fn base_chains(&mut self) -> Result<Vec<BaseChainFacts>, Error> {
        let payloads = self.dump(message::GETCHAIN, ANY_FAMILY, |_| ())?;
        let facts = payloads.into_iter().filter_map(|payload| match payload {
            Payload::Chain { table, name, base: Some(base) } => Some(BaseChainFacts { table, chain: name, base }),
            _ => None,
        });
        Ok(facts.collect())
    }

    /// Every chain by its table and name.
    pub fn chain_names(&mut self) -> Result<Vec<(TableId, String)>, Error> {
        let payloads = self.dump(message::GETCHAIN, ANY_FAMILY, |_| ())?;
        let names = payloads.into_iter().filter_map(|payload| match payload {
            Payload::Chain { table, name, .. } => Some((table, name)),
            _ => None,
        });
        Ok(names.collect())
    }

    /// The rules of a chain, in order, with their numbers. None where there is no such chain.
    pub fn read_rules(&mut self, family: Family, table: &str, chain: &str) -> Result<Vec<RuleWithHandle>, Error> {
        let id = TableId::new(family, table);
        let payloads = self.dump(message::GETRULE, family.number(), |writer| {
            writer.text(rule::TABLE, table);
            writer.text(rule::CHAIN, chain);
        })?;
        let rules = payloads.into_iter().filter_map(|payload| match payload {
            // Older kernels pass over the filter.
            Payload::Rule { table, chain: name, placed } if table == id && name == chain => Some(placed),
            _ => None,
        });
        Ok(rules.collect())
    }

    /// Reads until nothing has changed meanwhile.
    fn consistently<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let outcome = read(self);
            if self.generation()? == before {
                return outcome;
            }
        }
        Err(Error::NeverConsistent(ATTEMPTS))
    }

    fn read_table_once(&mut self, id: &TableId) -> Result<Option<Table>, Error> {
        let asked = self.ask((message::GETTABLE, 0), id.family.number(), |writer| writer.text(table::NAME, &id.name));
        let payloads = match asked {
            Err(error) if error.errno() == Some(ENOENT) => return Ok(None),
            other => other?,
        };
        let mut found = None;
        for payload in payloads {
            if let Payload::Table { id: named, comment, dormant } = payload
                && named == *id
            {
                found = Some(Table { comment, dormant, ..Table::new(id.family, &id.name) });
            }
        }
        let Some(mut found) = found else { return Ok(None) };
        self.read_chains(&mut found)?;
        self.read_sets(&mut found)?;
        Ok(Some(found))
    }

    fn read_chains(&mut self, into: &mut Table) -> Result<(), Error> {
        let id = into.id.clone();
        let family = id.family.number();
        for payload in self.dump(message::GETCHAIN, family, |writer| writer.text(chain::TABLE, &id.name))? {
            match payload {
                Payload::Chain { table, name, base } if table == id => {
                    into.chains.insert(name, Chain { base, rules: Vec::new() });
                }
                _ => {}
            }
        }
        for payload in self.dump(message::GETRULE, family, |writer| writer.text(rule::TABLE, &id.name))? {
            if let Payload::Rule { table, chain, placed } = payload
                && table == id
                && let Some(chain) = into.chains.get_mut(&chain)
            {
                chain.rules.push(placed.rule);
            }
        }
        Ok(())
    }

    fn read_sets(&mut self, into: &mut Table) -> Result<(), Error> {
        let id = into.id.clone();
        for payload in self.dump(message::GETSET, id.family.number(), |writer| writer.text(set::TABLE, &id.name))? {
            match payload {
                Payload::Set { table, name, set } if table == id => {
                    into.sets.insert(name, set);
                }
                _ => {}
            }
        }
        for (name, set) in &mut into.sets {
            set.elements = read::assemble(set, self.read_elements(&id, name)?);
        }
        Ok(())
    }

    fn read_elements(&mut self, id: &TableId, name: &str) -> Result<Vec<RawElement>, Error> {
        let payloads = self.dump(message::GETSETELEM, id.family.number(), |writer| {
            writer.text(element::TABLE, &id.name);
            writer.text(element::SET, name);
        })?;
        let elements = payloads.into_iter().filter_map(|payload| match payload {
            Payload::Elements { elements, .. } => Some(elements),
            _ => None,
        });
        Ok(elements.flatten().collect())
    }

    /// Asks for one object, and waits for it or an error.
    fn ask(
        &mut self,
        (kind, flags): (u8, u16),
        family: u8,
        body: impl FnOnce(&mut Writer),
    ) -> Result<Vec<Payload>, Error> {
        let sequence = self.request(kind, flags | flag::ACK, family, body)?;
        Ok(self.answers(sequence)?.0)
    }

    /// Lists all objects of a kind, again and again until nothing changed meanwhile.
    fn dump(&mut self, kind: u8, family: u8, body: impl Fn(&mut Writer)) -> Result<Vec<Payload>, Error> {
        for _ in 0..ATTEMPTS {
            let sequence = self.request(kind, flag::DUMP, family, &body)?;
            match self.answers(sequence) {
                Ok((payloads, false)) => return Ok(payloads),
                Ok((_, true)) => {}
                Err(error) if error.errno() == Some(EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::NeverConsistent(ATTEMPTS))
    }

    fn request(&mut self, kind: u8, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Result<u32, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut writer = Writer::default();
        writer.message((nftables(kind), flag::REQUEST | flags, self.sequence), (family, 0), body);
        self.inner.send(&writer.into_bytes())?;
        Ok(self.sequence)
    }

    /// All that answers a request, to its end even where it is known to be of no use: the kernel begins no second dump
    /// before. True where it was interrupted.
    fn answers(&mut self, wanted: u32) -> Result<(Vec<Payload>, bool), Error> {
        let mut payloads = Vec::new();
        let mut spoilt = false;
        loop {
            let Received::Some(datagram) = self.inner.receive(0)? else {
                // The kernel dropped one.
                spoilt = true;
                continue;
            };
            for bytes in messages(datagram) {
                let Message { sequence, interrupted, payload } = read::parse_message(bytes)?;
                if sequence != wanted {
                    continue;
                }
                spoilt |= interrupted;
                match payload {
                    Payload::Done(0) | Payload::Answer(Ok(())) => return Ok((payloads, spoilt)),
                    Payload::Done(errno) => return Err(refused(Refusal { errno, reason: None })),
                    Payload::Answer(Err(refusal)) => return Err(refused(refusal)),
                    payload => payloads.push(payload),
                }
            }
        }
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::Refused { operation: None, what: "to list the ruleset".to_owned(), refusal }
}
