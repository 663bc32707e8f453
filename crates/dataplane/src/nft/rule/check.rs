//! What is wrong with a rule that the kernel would take for another one than was meant. Pure.

use super::super::expression::{Expression, MapLookup, NatTarget, Operand, Reject, Statement, VerdictMap};
use super::super::table::{Rule, TableFamily};
use super::super::value::Key;
use super::super::value::{Type, Value, protocol};
use super::super::wire::IFNAME_BYTES;
use crate::types;

type Outcome = Result<(), &'static str>;

/// Says what is wrong with a rule in a table of `family`.
pub(in super::super) fn check(family: TableFamily, rule: &Rule) -> Outcome {
    let mut known = Known { family, network: family.network(), transport: None };
    for statement in &rule.statements {
        known.check(statement)?;
        known.network = known.network.or_else(|| statement.network());
        known.transport = known.transport.or_else(|| statement.transport());
    }
    Ok(())
}

/// What is known of the packets that get to a statement.
struct Known {
    /// The family of the table.
    family: TableFamily,
    /// The only network protocol.
    network: Option<types::Family>,
    /// The only transport protocol.
    transport: Option<u8>,
}

impl Known {
    fn check(&self, statement: &Statement) -> Outcome {
        match statement {
            Statement::Compare { left, right, .. } => {
                self.check_expression(left)?;
                check_operand(left, right)
            }
            Statement::Lookup { key, .. } | Statement::VerdictFrom { key, map: VerdictMap::Named(_) } => {
                self.check_key(key)
            }
            Statement::VerdictFrom { key, map: VerdictMap::Anonymous(elements) } => {
                self.check_key(key)?;
                let types: Vec<_> = key.iter().map(Expression::kind).collect();
                let fits = |Key(parts): &Key| parts.iter().map(|part| part.first.kind()).eq(types.iter().copied());
                let is_sound = !elements.is_empty() && elements.keys().all(fits);
                is_sound
                    .then_some(())
                    .ok_or("a map of verdicts needs elements with keys of the types that are looked up")
            }
            Statement::Dynamic { key, data, .. } => {
                self.check_key(key)?;
                if data.is_empty() { Ok(()) } else { self.check_key(data) }
            }
            Statement::SetMark(Expression::MarkFrom(MapLookup { key, .. }))
            | Statement::SetPriority(Expression::MarkFrom(MapLookup { key, .. })) => self.check_key(key),
            Statement::SetPriority(value) => {
                let is_constant = matches!(value, Expression::Value(Value::Priority(_)));
                is_constant.then_some(()).ok_or("a priority can only be set to a constant or to what a map holds")
            }
            Statement::SetMark(value) => {
                self.check_expression(value)?;
                let is_mark = [Type::Mark, Type::Integer].contains(&value.kind());
                is_mark.then_some(()).ok_or("a mark can only be set to a mark or a number")
            }
            Statement::Nat { to, .. } => self.check_target(to),
            Statement::Reject(what) => self.check_reject(*what),
            Statement::Opaque { .. } => Err("it holds an expression that was read but is not understood"),
            Statement::Counter | Statement::NoTrack | Statement::Masquerade(_) | Statement::Verdict(_) => Ok(()),
        }
    }

    fn check_key(&self, key: &[Expression]) -> Outcome {
        if key.is_empty() || !key.iter().all(Expression::is_read) {
            return Err("a key is made of what is read from the packet");
        }
        key.iter().try_for_each(|part| self.check_expression(part))
    }

    fn check_expression(&self, expression: &Expression) -> Outcome {
        use Expression::{ConnectionState, ConnectionStatus, Mark};
        match expression {
            Expression::Address(wanted, _)
                if self.network != Some(*wanted) && (self.network.is_some() || self.family == TableFamily::Inet) =>
            {
                Err("an address is read without `meta nfproto` saying before that it is there")
            }
            Expression::Bits { of, .. } if !matches!(**of, Mark | ConnectionState | ConnectionStatus) => {
                Err("only a mark, a connection's state or its status can be masked")
            }
            Expression::Random { modulus, offset } if *modulus == 0 || offset.checked_add(*modulus - 1).is_none() => {
                Err("a random number needs a modulus of at least 1, and offset and modulus must fit into 32 bits")
            }
            Expression::MarkFrom(_) => Err("what a map holds can only be set as a mark or a priority"),
            _ => Ok(()),
        }
    }

    fn check_target(&self, to: &NatTarget) -> Outcome {
        let (family, has_constant_port) = match to {
            NatTarget::Address(address, port) => (Some(types::Family::of(*address)), port.is_some()),
            NatTarget::Port(_) => (None, true),
            NatTarget::Map { family, lookup, .. } => {
                self.check_key(&lookup.key)?;
                (Some(*family), false)
            }
        };
        if self.network.zip(family).is_some_and(|(network, family)| network != family) {
            return Err("a packet of one family cannot be translated to an address of the other");
        }
        if has_constant_port && self.transport.is_none() {
            return Err("a translation to a port needs a comparison of `meta l4proto` before");
        }
        Ok(())
    }

    fn check_reject(&self, what: Reject) -> Outcome {
        match what {
            Reject::PortUnreachable(family) if self.network != Some(family) => {
                Err("a rejection by ICMP of one family needs a comparison of `meta nfproto` before")
            }
            Reject::AnyPortUnreachable if self.network.is_some() => {
                Err("where the family is known, the rejection must say by which ICMP")
            }
            Reject::TcpReset if self.transport != Some(protocol::TCP) => {
                Err("a TCP reset needs `meta l4proto tcp` before")
            }
            _ => Ok(()),
        }
    }
}

fn check_operand(left: &Expression, right: &Operand) -> Outcome {
    match (left, right) {
        (Expression::Value(_) | Expression::Random { .. }, _) => {
            Err("a comparison must read something from the packet")
        }
        (_, Operand::Value(Value::Address(_))) => Err("an address is compared with a prefix"),
        (Expression::Address(family, _), Operand::Prefix(prefix)) if *family == prefix.family() => Ok(()),
        (Expression::InputName | Expression::OutputName, Operand::NamesLike(start)) => {
            let fits = start.as_str().len() < IFNAME_BYTES - 1;
            if fits { Ok(()) } else { Err("a name of 15 bytes has no room for more: compare it whole") }
        }
        (left, Operand::Value(value)) if left.kind() == value.kind() => Ok(()),
        _ => Err("a comparison must be with a value of the same type"),
    }
}
