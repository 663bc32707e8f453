//! The kernel's expressions as statements. Pure.
//!
//! Loads into registers are kept until a statement uses them. What is not understood becomes opaque, together with
//! the loads before it, so that nothing of a foreign rule is lost or taken for something else.

use super::super::abi::{REGISTER_VERDICT, data, expr};
use super::super::attributes::{find, number, text, verdict_of};
use super::super::encode::{address_offset, port_offset, statement_network};
use super::super::expression::{Expression, NatFlags, Op, Operand, Side, Statement, Type, Value};
use super::super::table::Family;
use super::super::wire::IFNAME_BYTES;
use crate::attribute;
use crate::types::{self, Prefix};

/// The statements of a rule in a table of `family`.
pub(super) fn statements(family: Family, list: &[u8]) -> Vec<Statement> {
    let mut reader = Reader { network: family.network(), loads: Vec::new(), statements: Vec::new() };
    for (_, expression) in attribute::iter(list) {
        let name = find(expression, expr::NAME).and_then(text).unwrap_or_default();
        reader.expression(name, find(expression, expr::DATA).unwrap_or_default());
    }
    reader.give_up();
    reader.statements
}

/// Something that was loaded and not used yet.
struct Load {
    word: u32,
    loaded: Loaded,
    /// The expressions that loaded it, for the case that its use is not understood.
    raw: Vec<(String, Vec<u8>)>,
}

enum Loaded {
    Expression(Expression),
    /// The first bytes of an address, or all of it masked to this length: good for a comparison with a prefix.
    Start(types::Family, Side, u8),
    /// A constant, whose type depends on its use.
    Constant(Vec<u8>),
}

struct Reader {
    network: Option<types::Family>,
    loads: Vec<Load>,
    statements: Vec<Statement>,
}

enum Read {
    Load(u32, Loaded),
    /// What was loaded last became something else.
    Changed(Loaded),
    Statement(Statement),
    /// No effect.
    Nothing,
}

impl Reader {
    fn expression(&mut self, name: String, attributes: &[u8]) {
        let raw = (name, attributes.to_vec());
        match self.read(&raw.0, attributes) {
            Some(Read::Load(word, loaded)) => self.loads.push(Load { word, loaded, raw: vec![raw] }),
            Some(Read::Changed(loaded)) => {
                if let Some(load) = self.loads.last_mut() {
                    load.loaded = loaded;
                    load.raw.push(raw);
                }
            }
            Some(Read::Statement(statement)) => {
                if let Statement::Compare { left, op, right } = &statement {
                    self.network = self.network.or_else(|| statement_network(left, *op, right));
                }
                self.loads.clear();
                self.statements.push(statement);
            }
            Some(Read::Nothing) => {
                if let Some(load) = self.loads.last_mut() {
                    load.raw.push(raw);
                }
            }
            None => {
                self.give_up();
                self.statements.push(Statement::Opaque { name: raw.0, data: raw.1 });
            }
        }
    }

    /// Makes opaque what was loaded and never used.
    fn give_up(&mut self) {
        let raw = self.loads.drain(..).flat_map(|load| load.raw);
        self.statements.extend(raw.map(|(name, data)| Statement::Opaque { name, data }));
    }

    fn read(&self, name: &str, attributes: &[u8]) -> Option<Read> {
        let field = |kind| find(attributes, kind).and_then(number);
        let absent = |kind| find(attributes, kind).is_none().then_some(());
        match name {
            "meta" if field(expr::META_SREG).is_some() => self.set_meta(attributes),
            "meta" => load(field(expr::META_DREG)?, meta(field(expr::META_KEY)?)?),
            "payload" => {
                let place = (field(expr::PAYLOAD_BASE)?, field(expr::PAYLOAD_OFFSET)?, field(expr::PAYLOAD_LEN)?);
                Some(Read::Load(word(field(expr::PAYLOAD_DREG)?)?, self.payload(place)?))
            }
            "fib" => {
                (field(expr::FIB_RESULT)? == expr::FIB_RESULT_ADDRTYPE).then_some(())?;
                (field(expr::FIB_FLAGS)? == expr::FIB_DADDR).then_some(())?;
                load(field(expr::FIB_DREG)?, Expression::DestinationType)
            }
            "ct" => {
                (field(expr::CT_KEY)? == expr::CT_STATE).then_some(())?;
                absent(expr::CT_DIRECTION)?;
                load(field(expr::CT_DREG)?, Expression::ConnectionState)
            }
            "immediate" => immediate(attributes, self.loads.is_empty()),
            "bitwise" => self.bitwise(attributes),
            "byteorder" => self.byteorder(attributes),
            "cmp" => self.compare(attributes),
            "lookup" => self.lookup(attributes),
            "counter" => self.alone(Statement::Counter),
            "masq" => {
                absent(expr::MASQ_PROTO_MIN)?;
                self.alone(Statement::Masquerade(NatFlags::from_bits(field(expr::MASQ_FLAGS).unwrap_or(0))?))
            }
            _ => None,
        }
    }

    /// A statement that uses nothing that was loaded.
    fn alone(&self, statement: Statement) -> Option<Read> {
        self.loads.is_empty().then_some(Read::Statement(statement))
    }

    /// The loaded expression, where it is a single one in this register.
    fn only(&self, register: u32) -> Option<&Loaded> {
        match self.loads.as_slice() {
            [one] if Some(one.word) == word(register) => Some(&one.loaded),
            _ => None,
        }
    }

    fn payload(&self, (base, offset, length): (u32, u32, u32)) -> Option<Loaded> {
        const SIDES: [Side; 2] = [Side::Source, Side::Destination];
        if base == expr::TRANSPORT_HEADER {
            let side = SIDES.into_iter().find(|side| port_offset(*side) == offset)?;
            return (length == 2).then_some(Loaded::Expression(Expression::Port(side)));
        }
        (base == expr::NETWORK_HEADER).then_some(())?;
        let mut places = types::Family::BOTH.into_iter().flat_map(|family| SIDES.map(|side| (family, side)));
        let (family, side) = places.find(|(family, side)| address_offset(*family, *side) == offset)?;
        let whole = u32::from(family.bits() / 8);
        // Without knowing the protocol, a few bytes at these offsets may be anything, such as IPv4's TTL.
        let certain = self.network.map_or(length == whole, |network| network == family);
        (certain && (1..=whole).contains(&length)).then_some(())?;
        Some(if length == whole {
            Loaded::Expression(Expression::Address(family, side))
        } else {
            Loaded::Start(family, side, u8::try_from(length * 8).ok()?)
        })
    }

    fn bitwise(&self, attributes: &[u8]) -> Option<Read> {
        let field = |kind| find(attributes, kind).and_then(number);
        let bytes = |kind| find(find(attributes, kind)?, data::VALUE);
        (field(expr::BITWISE_OP).unwrap_or(0) == 0).then_some(())?;
        let register = field(expr::BITWISE_DREG)?;
        (field(expr::BITWISE_SREG)? == register).then_some(())?;
        let load = self.loads.last().filter(|load| Some(load.word) == word(register))?;
        let (mask, xor) = (bytes(expr::BITWISE_MASK)?, bytes(expr::BITWISE_XOR)?);
        let whole = field(expr::BITWISE_LEN)? as usize == mask.len() && mask.len() == xor.len();
        match &load.loaded {
            Loaded::Expression(of @ (Expression::Mark | Expression::ConnectionState)) if whole => {
                let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
                let bits = Expression::Bits { of: Box::new(of.clone()), mask: number(mask)?, xor: number(xor)? };
                Some(Read::Changed(Loaded::Expression(bits)))
            }
            Loaded::Expression(Expression::Address(family, side))
                if whole && mask.len() * 8 == usize::from(family.bits()) =>
            {
                xor.iter().all(|byte| *byte == 0).then_some(())?;
                Some(Read::Changed(Loaded::Start(*family, *side, mask_length(mask)?)))
            }
            _ => None,
        }
    }

    /// `nft` 1.0.6 turns single bytes of a key over as if they were two, which the kernel does not do.
    fn byteorder(&self, attributes: &[u8]) -> Option<Read> {
        let field = |kind| find(attributes, kind).and_then(number);
        let register = field(expr::BYTEORDER_DREG)?;
        (field(expr::BYTEORDER_SREG)? == register).then_some(())?;
        self.loads.last().filter(|load| Some(load.word) == word(register))?;
        (field(expr::BYTEORDER_LEN)? < field(expr::BYTEORDER_SIZE)?).then_some(Read::Nothing)
    }

    fn compare(&self, attributes: &[u8]) -> Option<Read> {
        let loaded = self.only(find(attributes, expr::CMP_SREG).and_then(number)?)?;
        let op = match find(attributes, expr::CMP_OP).and_then(number)? {
            0 => Op::Eq,
            1 => Op::Ne,
            _ => return None,
        };
        let bytes = find(find(attributes, expr::CMP_DATA)?, data::VALUE)?;
        let (left, right) = match loaded {
            Loaded::Start(family, side, length) => {
                (Expression::Address(*family, *side), Operand::Prefix(prefix(*family, *length, bytes)?))
            }
            Loaded::Expression(left @ Expression::Address(family, _)) => {
                (left.clone(), Operand::Prefix(prefix(*family, family.bits(), bytes)?))
            }
            Loaded::Expression(left @ (Expression::InputName | Expression::OutputName))
                if bytes.len() < IFNAME_BYTES =>
            {
                (left.clone(), Operand::NamesLike(std::str::from_utf8(bytes).ok()?.parse().ok()?))
            }
            Loaded::Expression(left) => match Value::from_bytes(left.kind(), bytes) {
                Value::Bytes(_) => return None,
                value => (left.clone(), Operand::Value(value)),
            },
            Loaded::Constant(_) => return None,
        };
        Some(Read::Statement(Statement::Compare { left, op, right }))
    }

    fn lookup(&self, attributes: &[u8]) -> Option<Read> {
        find(attributes, expr::LOOKUP_DREG).is_none().then_some(())?;
        let mut next = word(find(attributes, expr::LOOKUP_SREG).and_then(number)?)?;
        let mut loads: Vec<&Load> = self.loads.iter().collect();
        loads.sort_by_key(|load| load.word);
        let mut key = Vec::new();
        for load in loads {
            let Loaded::Expression(expression) = &load.loaded else { return None };
            (load.word == next).then_some(())?;
            next += u32::try_from(expression.kind().bytes().div_ceil(4)).ok()?;
            key.push(expression.clone());
        }
        (!key.is_empty()).then_some(())?;
        let op = match find(attributes, expr::LOOKUP_FLAGS).and_then(number).unwrap_or(0) {
            0 => Op::Eq,
            expr::LOOKUP_INVERTED => Op::Ne,
            _ => return None,
        };
        Some(Read::Statement(Statement::Lookup { key, op, set: text(find(attributes, expr::LOOKUP_SET)?)? }))
    }

    fn set_meta(&self, attributes: &[u8]) -> Option<Read> {
        (find(attributes, expr::META_KEY).and_then(number)? == expr::META_MARK).then_some(())?;
        let value = match self.only(find(attributes, expr::META_SREG).and_then(number)?)? {
            Loaded::Constant(bytes) => Expression::Value(Value::Mark(u32::from_ne_bytes(bytes[..].try_into().ok()?))),
            Loaded::Expression(value) if value.kind() == Type::Mark => value.clone(),
            _ => return None,
        };
        Some(Read::Statement(Statement::SetMark(value)))
    }
}

fn load(register: u32, expression: Expression) -> Option<Read> {
    Some(Read::Load(word(register)?, Loaded::Expression(expression)))
}

/// The place of a register among the sixteen of four bytes each.
fn word(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 4),
        8..=23 => Some(register - 8),
        _ => None,
    }
}

fn meta(key: u32) -> Option<Expression> {
    Some(match key {
        expr::META_NFPROTO => Expression::NetworkProtocol,
        expr::META_L4PROTO => Expression::Protocol,
        expr::META_MARK => Expression::Mark,
        expr::META_IIFNAME => Expression::InputName,
        expr::META_OIFNAME => Expression::OutputName,
        _ => return None,
    })
}

fn immediate(attributes: &[u8], nothing_loaded: bool) -> Option<Read> {
    let register = find(attributes, expr::IMMEDIATE_DREG).and_then(number)?;
    let held = find(attributes, expr::IMMEDIATE_DATA)?;
    if register == REGISTER_VERDICT {
        let verdict = find(held, data::VERDICT).and_then(verdict_of)?;
        return nothing_loaded.then_some(Read::Statement(Statement::Verdict(verdict)));
    }
    Some(Read::Load(word(register)?, Loaded::Constant(find(held, data::VALUE)?.to_vec())))
}

impl NatFlags {
    fn from_bits(bits: u32) -> Option<Self> {
        let has = |bit| bits & bit != 0;
        let all = expr::NAT_RANDOM | expr::NAT_FULLY_RANDOM | expr::NAT_PERSISTENT;
        (bits & !all == 0).then(|| Self {
            random: has(expr::NAT_RANDOM),
            fully_random: has(expr::NAT_FULLY_RANDOM),
            persistent: has(expr::NAT_PERSISTENT),
        })
    }
}

/// How many bits are set at the start of a mask; `None` where others are set as well.
fn mask_length(mask: &[u8]) -> Option<u8> {
    let ones = mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let leading = mask.iter().take_while(|byte| **byte == u8::MAX).count();
    let partial = mask.get(leading).map_or(0, |byte| byte.leading_ones());
    let length = u32::try_from(leading).ok()? * 8 + partial;
    (length == ones).then_some(u8::try_from(length).ok()?)
}

/// The prefix whose first bytes these are; `None` where bits behind its length are set.
fn prefix(family: types::Family, length: u8, bytes: &[u8]) -> Option<Prefix> {
    let mut padded = bytes.to_vec();
    let whole = usize::from(family.bits() / 8);
    (bytes.len() <= whole && bytes.len() * 8 >= usize::from(length)).then_some(())?;
    padded.resize(whole, 0);
    let Value::Address(address) = Value::from_bytes(Type::Address(family), &padded) else { return None };
    Prefix::new(address, length).filter(|prefix| prefix.address() == address)
}
