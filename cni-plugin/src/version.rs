//! The versions of the CNI specification that the plugin speaks. Pure.

use std::fmt;

/// A version of the specification, by its text on the wire. Each of the three numbers has one digit, so the order of the
/// texts is that of their publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(&'static str);

impl Version {
    /// Results as `ip4` and `ip6`.
    pub const V0_1_0: Self = Self("0.1.0");
    /// As `0.1.0`.
    pub const V0_2_0: Self = Self("0.2.0");
    /// Results as lists, each address with its IP version.
    pub const V0_3_0: Self = Self("0.3.0");
    /// As `0.3.0`; what kube-flannel ships.
    pub const V0_3_1: Self = Self("0.3.1");
    /// Adds CHECK, and `prevResult` on DEL.
    pub const V0_4_0: Self = Self("0.4.0");
    /// Addresses lose their IP version.
    pub const V1_0_0: Self = Self("1.0.0");
    /// Adds GC, STATUS and the MTU of an interface.
    pub const V1_1_0: Self = Self("1.1.0");

    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// What the plugin answers in when nobody said which version to use.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The version of this text; `None` where the plugin does not speak it. Exact match only, as the specification's own
    /// library does; an empty text means `0.1.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = if text.is_empty() { Self::V0_1_0.0 } else { text };
        Self::ALL.into_iter().find(|version| version.0 == text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}
