//! The rules of a table as the kernel gives them: entries behind each other, each with matches and a target. Pure.
//!
//! ```text
//! ipt_entry:  src dst smsk dmsk  iniface outiface iniface_mask outiface_mask  proto flags invflags
//!             nfcache target_offset next_offset comefrom counters | matches | target
//! ip6t_entry: the same with longer addresses, and a tos before the flags
//! match:      u16 size, name of 29 bytes, revision, data
//! target:     u16 size, name of 29 bytes, revision, and where the name is empty an i32 verdict
//! ```
//! A verdict below 0 is final, else it is the offset of the chain to go to. Offsets count from the first entry.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::nft::{Policy, Side};
use crate::types::{Family, Prefix};

/// `XT_TABLE_MAXNAMELEN`.
pub(super) const NAME_BYTES: usize = 32;
/// `NF_INET_NUMHOOKS`.
pub(super) const HOOKS: usize = 5;
/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `-NF_ACCEPT - 1`.
const ACCEPT: i32 = -2;
/// `XT_RETURN`.
const RETURN: i32 = -5;
/// Four interface names or masks of `IFNAMSIZ`.
const INTERFACE_BYTES: usize = 4 * 16;
/// `struct xt_entry_match` and `struct xt_entry_target` without their data.
const EXTENSION_BYTES: usize = 32;

pub(super) const SHORT: &str = "it ends in the midst of a rule";

/// The chain FORWARD of the table `filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// What happens at its end.
    pub policy: Policy,
    /// True where a rule drops or rejects all that gets to it, so that what is appended to the chain is never reached.
    pub closed: bool,
    /// The ranges that it accepts whatever else a packet is, by source or by destination.
    pub accepts: Vec<(Side, Prefix)>,
}

/// Reads what is done with forwarded packets: `info` is a `struct ipt_getinfo`, `entries` what follows the head of a
/// `struct ipt_get_entries`.
///
/// # Errors
/// With what makes no sense.
pub fn parse(family: Family, info: &[u8], entries: &[u8]) -> Result<Forward, &'static str> {
    let number = |place: usize| u32_at(info, NAME_BYTES + 4 * place).ok_or(SHORT);
    if number(0)? & (1 << FORWARD) == 0 {
        return Err("it has no chain FORWARD");
    }
    let (first, last) = (number(1 + FORWARD)? as usize, number(1 + HOOKS + FORWARD)? as usize);
    let policy = match Entry::at(family, entries, last).ok_or(SHORT)?.target {
        Target::Verdict(ACCEPT) => Policy::Accept,
        Target::Verdict(DROP) => Policy::Drop,
        _ => return Err("the policy of FORWARD is neither ACCEPT nor DROP"),
    };
    let mut forward = Forward { policy, closed: false, accepts: Vec::new() };
    walk(family, entries, (first, last), &mut forward).ok_or(SHORT)?;
    Ok(forward)
}

/// Collects what is accepted from an entry to the one before `last`, and in the chains that every packet goes to on the way.
fn walk(family: Family, entries: &[u8], forward: (usize, usize), into: &mut Forward) -> Option<()> {
    let mut entered = BTreeSet::new();
    let mut waiting = vec![forward];
    while let Some((mut place, last)) = waiting.pop() {
        while place < last {
            let entry = Entry::at(family, entries, place)?;
            place += entry.length;
            if entry.target == Target::Verdict(ACCEPT) {
                into.accepts.extend(entry.accepts());
            }
            if !(entry.is_plain && entry.source.is_default() && entry.destination.is_default()) {
                continue;
            }
            match entry.target {
                Target::Verdict(DROP) | Target::Reject => {
                    into.closed = true;
                    return Some(());
                }
                // What follows is not reached: the rest of this chain, or all of them.
                Target::Verdict(ACCEPT) => return Some(()),
                Target::Verdict(RETURN) | Target::Head => break,
                Target::Verdict(chain) => {
                    // Where the chain ends, its caller goes on.
                    if let Some(chain) = usize::try_from(chain).ok().filter(|chain| entered.insert(*chain)) {
                        waiting.push((place, last));
                        waiting.push((chain, entries.len()));
                        break;
                    }
                }
                Target::Other => {}
            }
        }
    }
    Some(())
}

/// What a rule does with a packet that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Verdict(i32),
    Reject,
    /// Nothing: the head of a chain of the user's, or the end of the table.
    Head,
    /// Another target, after which the next rule follows or which does not matter here.
    Other,
}

/// A rule.
pub(super) struct Entry {
    pub(super) length: usize,
    source: Prefix,
    destination: Prefix,
    /// True where the rule matches by nothing but these addresses.
    is_plain: bool,
    pub(super) target: Target,
    /// Where what the target holds begins in the entry: a verdict, or the name of a chain.
    pub(super) data: usize,
}

impl Entry {
    /// The entry at an offset; `None` where the bytes do not hold one.
    pub(super) fn at(family: Family, entries: &[u8], place: usize) -> Option<Self> {
        let bytes = entries.get(place..)?;
        let address = usize::from(family.bits() / 8);
        // The interfaces' names lie before their masks.
        let (masks, protocol) = (4 * address + INTERFACE_BYTES / 2, 4 * address + INTERFACE_BYTES);
        // Protocol, for IPv6 the type of service, then flags and inverse flags.
        let flags = protocol + if family == Family::V4 { 2 } else { 3 };
        let target_offset = (flags + 2).next_multiple_of(4) + 4;
        let head = (target_offset + 4 + 4).next_multiple_of(align_of::<u64>()) + 16;
        let target = usize::from(u16_at(bytes, target_offset)?);
        let length = usize::from(u16_at(bytes, target_offset + 2)?);
        let entry = bytes.get(..length).filter(|_| (head..=length).contains(&target))?;
        let range = |side: usize| range(entry.get(side * address..)?, entry.get((side + 2) * address..)?, family);
        let (source, destination) = (range(0), range(1));
        let clear = |from: usize, to: usize| entry[from..to].iter().all(|byte| *byte == 0);
        let asks_nothing = clear(masks, protocol) && clear(protocol, protocol + 2) && clear(flags, flags + 2);
        let any = family.default_route();
        Some(Self {
            length,
            source: source.unwrap_or(any),
            destination: destination.unwrap_or(any),
            is_plain: asks_nothing && source.is_some() && destination.is_some() && only_comments(&entry[head..target])?,
            target: target_of(entry.get(target..)?)?,
            data: target + EXTENSION_BYTES,
        })
    }

    /// What it accepts by one address alone.
    fn accepts(&self) -> impl Iterator<Item = (Side, Prefix)> {
        let ends = [(Side::Source, self.source, self.destination), (Side::Destination, self.destination, self.source)];
        let is_plain = self.is_plain;
        ends.into_iter().filter(move |(.., other)| is_plain && other.is_default()).map(|(side, range, _)| (side, range))
    }
}

/// The range of an address and a mask; `None` where the mask is none of a range.
fn range(value: &[u8], mask: &[u8], family: Family) -> Option<Prefix> {
    let address = |bytes: &[u8]| -> Option<IpAddr> {
        Some(match family {
            Family::V4 => bytes.first_chunk::<4>().copied()?.into(),
            Family::V6 => bytes.first_chunk::<16>().copied()?.into(),
        })
    };
    Prefix::new(address(value)?, ipnetwork::ip_mask_to_prefix(address(mask)?).ok()?)
}

/// True where no match but remarks is there; `None` where the bytes are no matches.
fn only_comments(mut matches: &[u8]) -> Option<bool> {
    let mut only = true;
    while !matches.is_empty() {
        let length = usize::from(u16_at(matches, 0)?);
        only &= name(matches)? == b"comment";
        matches = matches.get(length..).filter(|_| length >= EXTENSION_BYTES)?;
    }
    Some(only)
}

fn target_of(target: &[u8]) -> Option<Target> {
    Some(match name(target)? {
        b"" => Target::Verdict(i32::from_ne_bytes(*target.get(EXTENSION_BYTES..)?.first_chunk()?)),
        b"REJECT" => Target::Reject,
        b"ERROR" => Target::Head,
        _ => Target::Other,
    })
}

/// The name of a match or a target.
fn name(extension: &[u8]) -> Option<&[u8]> {
    extension.get(2..EXTENSION_BYTES - 1)?.split(|byte| *byte == 0).next()
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(place..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(place..)?.first_chunk()?))
}
