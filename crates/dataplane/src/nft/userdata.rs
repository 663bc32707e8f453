//! What `nft` keeps beside an object for its own listings: comments, and of what a set's key is made. Pure.
//!
//! Records of type and length, of one byte each, before their value. The kernel does not look into them.
//!
//! Sets have no userdata, with one exception. A random number in a key is of a type that `nft` has no name for, and `nft` refuses
//! what it has listed of such a set unless the set says by which expressions its fields are read (`typeof`). The form is that of
//! `nft` 1.0.6, which later ones read as well. The forms of later ones crash it.

use super::attributes::text;
use super::table::{DataType, Set};
use super::value::Type;
use crate::types;

/// `NFTNL_UDATA_COMMENT_MAXLEN`, which counts the zero at the end.
const COMMENT_BYTES: u8 = 128;

/// `BYTEORDER_HOST_ENDIAN` of `nft`.
const HOST_ORDER: u32 = 1;

/// Records of a set (`NFTNL_UDATA_SET_*`).
mod set_record {
    pub(super) const KEY_BYTE_ORDER: u8 = 0;
    pub(super) const DATA_BYTE_ORDER: u8 = 1;
    pub(super) const KEY_TYPEOF: u8 = 3;
    pub(super) const DATA_TYPEOF: u8 = 4;
}

/// Expressions of `nft` (`enum expr_types`).
mod expression {
    pub(super) const VERDICT: u32 = 1;
    pub(super) const PAYLOAD: u32 = 7;
    pub(super) const META: u32 = 9;
    pub(super) const CONCATENATION: u32 = 13;
    pub(super) const NUMGEN: u32 = 23;
}

/// A comment as `nft` keeps it: type 0, length, text with a zero at its end.
pub(super) fn comment(comment: Option<&str>) -> Result<Option<Vec<u8>>, &'static str> {
    let Some(comment) = comment else { return Ok(None) };
    match u8::try_from(comment.len() + 1) {
        Ok(length @ ..=COMMENT_BYTES) if !comment.contains('\0') => {
            Ok(Some([&[0, length], comment.as_bytes(), &[0]].concat()))
        }
        _ => Err("its comment may have at most 127 bytes and no zero byte"),
    }
}

/// The comment in userdata.
pub(super) fn read_comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return text(value);
        }
        userdata = &rest[value.len()..];
    }
    None
}

fn record(kind: u8, value: &[u8]) -> Vec<u8> {
    // Nothing here is longer: a key has five fields at most.
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[kind, length], value].concat()
}

fn number(kind: u8, number: u32) -> Vec<u8> {
    record(kind, &number.to_ne_bytes())
}

/// An expression with its own records, each of which is a number.
fn of_expression(kind: u32, numbers: &[u32]) -> Vec<u8> {
    let numbers: Vec<u8> = (0..).zip(numbers).flat_map(|(place, value)| number(place, *value)).collect();
    [number(0, kind), record(1, &numbers)].concat()
}

/// The expression that `nft` should print for a type.
fn typeof_one(kind: Type) -> Option<Vec<u8>> {
    // `PROTO_DESC_*` and the place of the field in that header.
    const IP_DESTINATION: [u32; 2] = [12, 12];
    const IP6_DESTINATION: [u32; 2] = [13, 9];
    const TRANSPORT_DESTINATION: [u32; 2] = [11, 2];
    match kind {
        Type::Address(types::Family::V4) => Some(of_expression(expression::PAYLOAD, &IP_DESTINATION)),
        Type::Address(types::Family::V6) => Some(of_expression(expression::PAYLOAD, &IP6_DESTINATION)),
        // With `tcp dport` in a map's data, `nft` would make every rule that translates by the map one of TCP. With this one it
        // cannot add such a rule where the map is there already, but loads the table as a whole.
        Type::Service => Some(of_expression(expression::PAYLOAD, &TRANSPORT_DESTINATION)),
        Type::Protocol => Some(of_expression(expression::META, &[16])),
        Type::Mark => Some(of_expression(expression::META, &[3])),
        Type::Priority => Some(of_expression(expression::META, &[2])),
        // `random`, the modulus, the offset.
        Type::Integer => Some(of_expression(expression::NUMGEN, &[1, 2, 0])),
        _ => None,
    }
}

fn typeof_all(types: &[Type]) -> Option<Vec<u8>> {
    if let [one] = types {
        return typeof_one(*one);
    }
    let fields = (0..).zip(types).map(|(place, kind)| Some(record(place, &typeof_one(*kind)?)));
    let fields: Vec<u8> = fields.collect::<Option<Vec<_>>>()?.concat();
    Some([number(0, expression::CONCATENATION), record(1, &fields)].concat())
}

/// The userdata of a set, where it has any.
pub(super) fn of_set(set: &Set) -> Option<Vec<u8>> {
    // Without this `nft` would print the bytes of a priority reversed.
    if !set.has_numbers() {
        let is_priority = set.data == Some(DataType::Values(vec![Type::Priority]));
        return is_priority.then(|| number(set_record::DATA_BYTE_ORDER, HOST_ORDER));
    }
    let data = match &set.data {
        None => Vec::new(),
        Some(DataType::Verdict) => record(set_record::DATA_TYPEOF, &of_expression(expression::VERDICT, &[])),
        Some(DataType::Values(types)) => record(set_record::DATA_TYPEOF, &typeof_all(types)?),
    };
    let order = if set.key.len() == 1 { number(set_record::KEY_BYTE_ORDER, HOST_ORDER) } else { Vec::new() };
    Some([order, record(set_record::KEY_TYPEOF, &typeof_all(&set.key)?), data].concat())
}
