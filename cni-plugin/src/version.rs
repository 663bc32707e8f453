//! The versions of the CNI specification that the plugin speaks. Pure.

use std::fmt;
use std::str::FromStr;

/// A version of the specification. The order is that of their publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `0.1.0`: results as `ip4` and `ip6`.
    V0_1_0,
    /// `0.2.0`: as `0.1.0`.
    V0_2_0,
    /// `0.3.0`: results as lists, each address with its IP version.
    V0_3_0,
    /// `0.3.1`: as `0.3.0`; what kube-flannel ships.
    V0_3_1,
    /// `0.4.0`: adds CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// `1.0.0`: addresses lose their IP version.
    V1_0_0,
    /// `1.1.0`: adds GC, STATUS and the MTU of an interface.
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// What the plugin answers in when nobody said which version to use.
    pub const NEWEST: Version = Version::V1_1_0;

    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no version that the plugin speaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("incompatible CNI versions")]
pub struct UnknownVersion {
    /// What was asked for.
    pub wanted: String,
}

impl FromStr for Version {
    type Err = UnknownVersion;

    /// Exact match only, as the specification's own library does; an empty text means `0.1.0`.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        Version::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownVersion { wanted: text.to_owned() })
    }
}
