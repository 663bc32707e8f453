//! What is wrong with a rule that the kernel would take for another one than was meant. Pure.

use super::super::expression::{Expression, Operand, Statement, Type, Value};
use super::super::table::{Family, Rule};
use super::super::wire::IFNAME_BYTES;
use crate::types;

type Outcome = Result<(), &'static str>;

/// Says what is wrong with a rule in a table of `family`.
pub(in super::super) fn check(family: Family, rule: &Rule) -> Outcome {
    let mut network = family.network();
    for statement in &rule.statements {
        match statement {
            Statement::Compare { left, right, .. } => {
                check_expression(family, network, left)?;
                check_operand(left, right)?;
            }
            Statement::Lookup { key, .. } => {
                if key.is_empty() || key.iter().any(|part| matches!(part, Expression::Value(_))) {
                    return Err("a key is made of what is read from the packet");
                }
                key.iter().try_for_each(|part| check_expression(family, network, part))?;
            }
            Statement::SetMark(value) => {
                check_expression(family, network, value)?;
                if value.kind() != Type::Mark {
                    return Err("a mark can only be set to a mark");
                }
            }
            Statement::Opaque { .. } => return Err("it holds an expression that was read but is not understood"),
            Statement::Counter | Statement::NoTrack | Statement::Masquerade(_) | Statement::Verdict(_) => {}
        }
        network = network.or_else(|| statement.network());
    }
    Ok(())
}

fn check_expression(family: Family, network: Option<types::Family>, expression: &Expression) -> Outcome {
    match expression {
        Expression::Address(wanted, _) if network != Some(*wanted) && (network.is_some() || family == Family::Inet) => {
            Err("an address is read without `meta nfproto` saying before that it is there")
        }
        Expression::Bits { of, .. } if !matches!(**of, Expression::Mark | Expression::ConnectionState) => {
            Err("only a mark or a connection's state can be masked")
        }
        _ => Ok(()),
    }
}

fn check_operand(left: &Expression, right: &Operand) -> Outcome {
    match (left, right) {
        (Expression::Value(_), _) => Err("a comparison must read something from the packet"),
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
