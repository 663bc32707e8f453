//! Names and numbers that the kernel could reject, parsed once.
//!
//! Pure. Each type can only hold what the kernel accepts, so nothing behind it checks again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is no valid value. The message holds the text and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: {expected}")]
pub struct ValueError {
    what: &'static str,
    value: String,
    expected: &'static str,
}

fn wrong(what: &'static str, value: &dyn fmt::Display, expected: &'static str) -> ValueError {
    ValueError { what, value: value.to_string(), expected }
}

/// An IP family. Code takes it as a parameter; nothing is written once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which files and messages list them.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Address length in bits: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// `0.0.0.0` or `::`.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// `0.0.0.0/0` or `::/0`.
    pub fn default_route(self) -> Prefix {
        Prefix { address: self.unspecified(), len: 0 }
    }

    /// `224.0.0.0/4` or `ff00::/8`.
    pub fn multicast(self) -> Prefix {
        match self {
            Family::V4 => Prefix { address: Ipv4Addr::new(224, 0, 0, 0).into(), len: 4 },
            Family::V6 => Prefix { address: Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), len: 8 },
        }
    }

    /// All addresses by which a machine speaks to itself alone (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    pub fn loopback(self) -> Prefix {
        match self {
            Family::V4 => Prefix { address: Ipv4Addr::new(127, 0, 0, 0).into(), len: 8 },
            Family::V6 => Prefix::host(Ipv6Addr::LOCALHOST.into()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// One optional value for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerFamily<T> {
    /// The IPv4 value.
    pub v4: Option<T>,
    /// The IPv6 value.
    pub v6: Option<T>,
}

impl<T> Default for PerFamily<T> {
    fn default() -> Self {
        Self::none()
    }
}

impl<T> PerFamily<T> {
    /// Neither family.
    pub const fn none() -> Self {
        Self { v4: None, v6: None }
    }

    /// Asks `value` for each family.
    pub fn from_fn(mut value: impl FnMut(Family) -> Option<T>) -> Self {
        Self { v4: value(Family::V4), v6: value(Family::V6) }
    }

    /// The value of `family`.
    pub fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// The place of `family`'s value.
    pub fn slot(&mut self, family: Family) -> &mut Option<T> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// The families that have a value, with it, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        Family::BOTH.into_iter().filter_map(|family| Some((family, self.get(family)?)))
    }

    /// The families that have a value.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.iter().map(|(family, _)| family)
    }

    /// True where neither family has a value.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The same with each value changed.
    pub fn map<U>(&self, mut change: impl FnMut(Family, &T) -> U) -> PerFamily<U> {
        PerFamily::from_fn(|family| self.get(family).map(|value| change(family, value)))
    }
}

/// An interface name: 1 to 15 bytes, no `/`, `:` or white space, not `.` or `..` (kernel: `dev_valid_name`).
///
/// Held in place, zeros behind it: a large network has tens of thousands of entries that each name a device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName([u8; Self::BYTES]);

impl IfName {
    /// `IFNAMSIZ`
    const BYTES: usize = 16;
    /// What sorts before every name, and is none.
    pub(crate) const LEAST: Self = Self([0; Self::BYTES]);

    /// A name that a program has.
    ///
    /// # Panics
    /// Where it is longer than a name can be; a constant does so when it is compiled.
    pub const fn constant(name: &str) -> Self {
        let (name, mut bytes, mut at) = (name.as_bytes(), [0; Self::BYTES], 0);
        assert!(!name.is_empty() && name.len() < Self::BYTES, "an interface name has 1 to 15 bytes");
        while at < name.len() {
            bytes[at] = name[at];
            at += 1;
        }
        Self(bytes)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::BYTES);
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl FromStr for IfName {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Self, ValueError> {
        let fault = if name.is_empty() {
            "it must not be empty"
        } else if name.len() > 15 {
            "it may have at most 15 bytes"
        } else if name == "." || name == ".." {
            "it must not be a folder's name"
        } else if name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) {
            "it must not hold '/', ':' or white space"
        } else {
            let mut bytes = [0; Self::BYTES];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            return Ok(Self(bytes));
        };
        Err(wrong("interface name", &name, fault))
    }
}

macro_rules! bounded_number {
    ($(#[$doc:meta])* $word:ident, $what:literal, $range:pat, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64")]
        pub struct $word(u32);

        impl $word {
            /// The plain number.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<i64> for $word {
            type Error = ValueError;

            fn try_from(number: i64) -> Result<Self, ValueError> {
                match u32::try_from(number) {
                    Ok(number @ $range) => Ok(Self(number)),
                    _ => Err(wrong($what, &number, $expected)),
                }
            }
        }

        impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded_number! {
    /// A VXLAN network identifier: 1 to 16777215 (RFC 7348 section 5 gives it 24 bits; 0 is the kernel's "any").
    Vni, "VNI", 1..=0x00ff_ffff, "it must be from 1 to 16777215"
}

bounded_number! {
    /// A link's MTU in bytes: 68 to 65535 (RFC 791's smallest to the largest IP packet). IPv6 on a link needs 1280.
    Mtu, "MTU", 68..=65535, "it must be from 68 to 65535"
}

impl Vni {
    /// The first.
    pub const ONE: Self = Self(1);
}

impl Mtu {
    /// True where the kernel has IPv6 on a link of this MTU (`IPV6_MIN_MTU`).
    pub fn carries_ipv6(self) -> bool {
        self.0 >= 1280
    }

    /// What is left under an encapsulation that costs `overhead` bytes.
    pub fn minus(self, overhead: u32) -> Result<Self, ValueError> {
        Self::try_from(i64::from(self.0) - i64::from(overhead))
    }
}

/// The `rtm_protocol` of a route: who made it. `ip route` prints it as `proto N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteProtocol(pub u8);

impl RouteProtocol {
    /// The kernel, with an address (`RTPROT_KERNEL`).
    pub const KERNEL: Self = Self(2);
    /// `ip route add` where it is given no `proto` (`RTPROT_BOOT`).
    pub const BOOT: Self = Self(3);
    /// A router that announces itself (`RTPROT_RA`).
    pub const ROUTER: Self = Self(9);
}

/// A hardware address of six octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Makes a unicast, locally administered address of six octets (IEEE 802: bit 1 of the first set, bit 0 clear).
    pub fn local(mut octets: [u8; 6]) -> Self {
        octets[0] = (octets[0] & 0xfe) | 0x02;
        Self(octets)
    }

    /// The IPv6 link-local address that the kernel makes of it (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
        octets[8..11].copy_from_slice(&self.0[..3]);
        octets[13..].copy_from_slice(&self.0[3..]);
        // The bit "universal" is inverted.
        octets[8] ^= 2;
        octets.into()
    }

    /// True for a group address or all zeros, neither of which a device can have as its own.
    pub fn is_unusable(self) -> bool {
        self.0[0] & 1 == 1 || self.0 == [0; 6]
    }
}

impl FromStr for Mac {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let octet = |part: &str| {
            let is_octet = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| is_octet)
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let mac = octets.and_then(|octets| octets.try_into().ok()).map(Self);
        mac.ok_or_else(|| wrong("MAC address", &text, "it must be six octets like 0a:58:0a:f4:01:02"))
    }
}

/// An address range with all host bits clear, such as `10.244.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

#[expect(clippy::len_without_is_empty, reason = "a prefix length, not a count")]
impl Prefix {
    /// The range of `len` bits that holds `address`; `None` where the family has fewer bits.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let network = IpNetwork::new(address, len).ok()?;
        Some(Self { address: network.network(), len })
    }

    /// The range that holds `address` alone.
    pub fn host(address: IpAddr) -> Self {
        Self { address, len: Family::of(address).bits() }
    }

    /// The first address of the range.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits are fixed.
    pub fn len(self) -> u8 {
        self.len
    }

    /// True for `0.0.0.0/0` and `::/0`.
    pub fn is_default(self) -> bool {
        self.len == 0
    }

    /// The family.
    pub fn family(self) -> Family {
        Family::of(self.address)
    }

    /// The first address as a number: 32 bits for IPv4, 128 for IPv6.
    pub fn first(self) -> u128 {
        number(self.address)
    }

    /// The last address as a number.
    pub fn last(self) -> u128 {
        let free = self.family().bits() - self.len;
        self.first() | if free == 128 { u128::MAX } else { (1 << free) - 1 }
    }

    /// The `n`th address of the range, from 0; `None` past its end.
    pub fn nth(self, n: u128) -> Option<IpAddr> {
        let number = self.first().checked_add(n)?;
        (number <= self.last()).then(|| address(self.family(), number))
    }

    /// True where the address lies in the range.
    pub fn contains(self, other: IpAddr) -> bool {
        Family::of(other) == self.family() && (self.first()..=self.last()).contains(&number(other))
    }

    /// True where the whole of `other` lies in the range.
    pub fn covers(self, other: Prefix) -> bool {
        self.len <= other.len && self.contains(other.address)
    }

    /// True where the two share an address.
    pub fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// An address as a number, so that ranges can be counted through.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `family` with this number. IPv4 takes the low 32 bits.
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the address")]
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

impl FromStr for Prefix {
    type Err = ValueError;

    /// Reads `ADDRESS/LENGTH` and clears the host bits.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let prefix = text.split_once('/').and_then(|(address, len)| {
            let is_number = len.bytes().all(|byte| byte.is_ascii_digit());
            Self::new(address.parse().ok()?, len.parse().ok().filter(|_| is_number)?)
        });
        let expected = "it must be ADDRESS/LENGTH, like 10.244.0.0/16 or fd00:10::/56";
        prefix.ok_or_else(|| wrong("address range", &text, expected))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

macro_rules! text_on_the_wire {
    ($($word:ty),*) => {$(
        impl Serialize for $word {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_on_the_wire!(IfName, Mac, Prefix);

#[cfg(test)]
mod tests;
