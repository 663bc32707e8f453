//! Policy rules, as `ip rule` lists them, and the route that the kernel would give one packet by them.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use crate::address::family;
use crate::error::KernelError;
use crate::netlink::RouteSocket;
use crate::route::Route;
use crate::types::{Family, IfName, Prefix};

/// The kernel's name for where a host's own packets come from.
const LOOPBACK_NAME: &str = "lo";
/// The table in which the kernel keeps the host's own addresses.
const LOCAL: u32 = 255;
/// The table in which `ip route` adds routes.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// A packet without ports or a mark, whose route is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteQuery {
    /// Where to.
    pub to: IpAddr,
    /// Its source and the device, with the device's index, that it comes in by; none for a packet of the host's own.
    pub forwarded: Option<(IpAddr, IfName, u32)>,
}

/// What becomes of packets that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyAction {
    /// A table decides, if it has a route whose prefix is longer than that.
    Lookup {
        /// The table's number.
        table: u32,
        /// `suppress_prefixlength`.
        longer_than: Option<u32>,
    },
    /// They are dropped or refused: the word of `ip rule`.
    Refuse(&'static str),
    /// Another rule decides.
    Next,
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// Its family.
    pub family: Family,
    /// Lower goes first.
    pub priority: u32,
    /// What becomes of the packets.
    pub action: PolicyAction,
    is_inverted: bool,
    from: Option<Prefix>,
    to: Option<Prefix>,
    iif: Option<String>,
    /// `fwmark`: the value, and the bits that count.
    mark: Option<(u32, u32)>,
    /// It asks for more than a [`RouteQuery`] has, such as ports.
    asks_for_more: bool,
}

impl PolicyRule {
    /// Reads a rule; `None` for other messages.
    pub fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRule(RuleMessage { header, attributes, .. }) = message else { return None };
        let family = Family::BOTH.into_iter().find(|of| family(*of) == header.family)?;
        let (mut table, mut longer_than, mut value, mut bits) = (u32::from(header.table), None, None, u32::MAX);
        let mut rule = Self {
            family,
            priority: 0,
            action: PolicyAction::Next,
            is_inverted: header.flags.contains(RuleFlags::Invert),
            from: None,
            to: None,
            iif: None,
            mark: None,
            asks_for_more: header.tos != 0,
        };
        for attribute in attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Source(address) => rule.from = Prefix::new(*address, header.src_len),
                RuleAttribute::Destination(address) => rule.to = Prefix::new(*address, header.dst_len),
                RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
                RuleAttribute::FwMark(mark) => value = Some(*mark),
                RuleAttribute::FwMask(mask) => bits = *mask,
                RuleAttribute::Table(number) => table = *number,
                // The kernel gives all ones for none.
                RuleAttribute::SuppressPrefixLen(length) => longer_than = Some(*length).filter(|len| *len != u32::MAX),
                RuleAttribute::Oifname(_)
                | RuleAttribute::UidRange(_)
                | RuleAttribute::IpProtocol(_)
                | RuleAttribute::SourcePortRange(_)
                | RuleAttribute::DestinationPortRange(_) => rule.asks_for_more = true,
                // The devices' own tables, and a tunnel's number; 0 is none.
                RuleAttribute::L3MDev(is_of_vrf) => rule.asks_for_more |= is_of_vrf,
                RuleAttribute::TunId(number) => rule.asks_for_more |= *number != 0,
                _ => {}
            }
        }
        rule.mark = value.map(|value| (value, bits)).filter(|mark| *mark != (0, 0));
        rule.action = match header.action {
            RuleAction::ToTable => PolicyAction::Lookup { table, longer_than },
            RuleAction::Blackhole => PolicyAction::Refuse("blackhole"),
            RuleAction::Unreachable => PolicyAction::Refuse("unreachable"),
            RuleAction::Prohibit => PolicyAction::Refuse("prohibit"),
            _ => PolicyAction::Next,
        };
        Some(rule)
    }

    /// True where the kernel follows the rule for this packet. A rule that asks for more than the packet has is none of them.
    fn matches(&self, flow: &RouteQuery) -> bool {
        let (from, iif) = match &flow.forwarded {
            Some((from, iif, _)) => (Some(*from), iif.as_str()),
            None => (None, LOOPBACK_NAME),
        };
        let matches = self.from.is_none_or(|range| from.is_some_and(|from| range.contains(from)))
            && self.to.is_none_or(|range| range.contains(flow.to))
            && self.iif.as_ref().is_none_or(|name| name == iif)
            && self.mark.is_none_or(|(value, mask)| value & mask == 0);
        !self.asks_for_more && matches != self.is_inverted
    }

    /// What to type, so that packets to a range come to the main table before this rule of a list is asked.
    pub fn bypass(&self, rules: &[Self], to: Prefix) -> String {
        // Behind the rule before this one: the host's own addresses may be among what that is for.
        let former = rules.iter().map(|rule| rule.priority).filter(|priority| *priority < self.priority).max();
        let priority = self.priority.saturating_sub(10).max(former.unwrap_or(0));
        let of = if self.family == Family::V6 { "-6 " } else { "" };
        format!("ip {of}rule add pref {priority} to {to} lookup main")
    }

    /// The rules of a list that may keep a packet from the main table: those before the one that leads to it.
    pub fn before_main<'r>(rules: &'r [Self], flow: &'r RouteQuery) -> impl Iterator<Item = &'r Self> {
        // `suppress_prefixlength 0` passes over the default route alone.
        let leads_to_main =
            |rule: &&Self| matches!(rule.action, PolicyAction::Lookup { table: MAIN, longer_than: None | Some(0) });
        let matching = rules.iter().filter(|rule| rule.family == Family::of(flow.to) && rule.matches(flow));
        matching.take_while(move |rule| !leads_to_main(rule)).filter(|rule| {
            !matches!(rule.action, PolicyAction::Next | PolicyAction::Lookup { table: LOCAL | MAIN, .. })
        })
    }
}

impl fmt::Display for PolicyRule {
    /// As `ip rule` writes it, with numbers for tables.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}from ", self.priority, if self.is_inverted { "not " } else { "" })?;
        match self.from {
            Some(from) => write!(f, "{from}")?,
            None => f.write_str("all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        match self.mark {
            Some((value, u32::MAX)) => write!(f, " fwmark {value:#x}")?,
            Some((value, mask)) => write!(f, " fwmark {value:#x}/{mask:#x}")?,
            None => {}
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        match self.action {
            PolicyAction::Lookup { table, longer_than } => {
                write!(f, " lookup {table}")?;
                longer_than.map_or(Ok(()), |length| write!(f, " suppress_prefixlength {length}"))
            }
            PolicyAction::Refuse(word) => write!(f, " {word}"),
            PolicyAction::Next => Ok(()),
        }
    }
}

/// The route that the kernel gives a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundRoute {
    /// The table that has it.
    pub table: u32,
    /// The index of the link that it leads out of.
    pub index: Option<u32>,
}

impl RouteSocket {
    /// The policy rules of one family, in their order.
    pub fn rules(&mut self, of: Family) -> Result<Vec<PolicyRule>, KernelError> {
        let mut message = RuleMessage::default();
        message.header.family = family(of);
        self.dump(RouteNetlinkMessage::GetRule(message), PolicyRule::from_message)
    }

    /// True where a table has a route to an address that lets no packet through: of those a lookup gives no table.
    pub fn refuses(&mut self, table: u32, to: IpAddr) -> Result<bool, KernelError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(Family::of(to));
        message.attributes.push(RouteAttribute::Table(table));
        let refuses = self.dump(RouteNetlinkMessage::GetRoute(message), |message| {
            let RouteNetlinkMessage::NewRoute(route) = message else { return None };
            let lets_through =
                !matches!(route.header.kind, RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit);
            let destination = Route::destination_of(route)?;
            (!lets_through && destination.contains(to)).then_some(())
        });
        Ok(!refuses?.is_empty())
    }

    /// The route that the kernel would give a packet now. Where it would give none, that is an error.
    pub fn lookup(&mut self, flow: &RouteQuery) -> Result<FoundRoute, KernelError> {
        let of = Family::of(flow.to);
        let mut message = RouteMessage::default();
        message.header.address_family = family(of);
        message.header.destination_prefix_length = of.bits();
        if of == Family::V4 {
            // Over IPv6 the kernel gives the table in any case, and refuses the flag.
            message.header.flags = RouteFlags::LookupTable;
        }
        message.attributes.push(RouteAttribute::Destination(flow.to.into()));
        if let Some((from, _, index)) = &flow.forwarded {
            message.header.source_prefix_length = of.bits();
            message.attributes.extend([RouteAttribute::Source((*from).into()), RouteAttribute::Iif(*index)]);
        }
        let answer = self.get(RouteNetlinkMessage::GetRoute(message))?;
        let Some(RouteNetlinkMessage::NewRoute(route)) = answer else {
            return Err(KernelError::Missing(format!("a route to {}", flow.to)));
        };
        let mut found = FoundRoute { table: route.header.table.into(), index: None };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Table(table) => found.table = *table,
                RouteAttribute::Oif(index) => found.index = Some(*index),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
