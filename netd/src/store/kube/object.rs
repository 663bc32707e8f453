//! The API server's objects, as far as netd reads them. Everything else in them is passed over where it stands.
//!
//! Pure. A field of another type than the API server gives it counts as missing: a stranger's object is no reason to fail.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{keys, wire};

/// The API server's annotation on the bookmark that ends a list.
pub(super) const END: &str = "k8s.io/initial-events-end";

/// How an event that came as protobuf is read: the object, and whether it is the bookmark that ends a list.
pub(super) type ByWire<T> = fn(&wire::Event) -> Result<(T, bool), prost::DecodeError>;

/// An object of the API.
pub(super) trait Object: Sized {
    /// Reads an event of a watch that came as protobuf; none for those that are asked for as JSON.
    const BY_WIRE: Option<ByWire<Self>> = None;

    /// What is kept of it.
    fn of(whole: Whole<'_>) -> Self;

    /// Its version, where that is kept.
    fn version(&self) -> Option<&str> {
        None
    }

    /// Reads it.
    fn read(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self::of)
    }
}

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// What tells it from another one of the same name that was there before.
    pub(super) uid: String,
    /// Its version.
    pub(super) version: String,
    /// The annotations that could be netd's or flannel's, whatever their prefix.
    pub(super) annotations: BTreeMap<String, String>,
    /// Its pods' ranges.
    pub(super) ranges: Vec<String>,
    /// Its condition `NetworkUnavailable`.
    pub(super) unavailable: Option<String>,
}

impl Node {
    /// Its version as a number, which those of all Nodes are of one sequence of; none where it is no number.
    pub(super) fn count(&self) -> Option<u64> {
        self.version.parse().ok()
    }
}

/// A `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConfigMap {
    /// Its `net-conf.json`.
    pub(super) net_conf: Option<String>,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pod {
    /// The node it runs on.
    pub(super) node: Option<String>,
}

/// A page of a list, its objects still unread.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'t> {
    /// About the list.
    pub(super) metadata: PageMeta<'t>,
    /// The objects.
    #[serde(borrow)]
    pub(super) items: Vec<&'t RawValue>,
}

/// About a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta<'t> {
    /// Its version.
    #[serde(borrow)]
    pub(super) resource_version: Cow<'t, str>,
    /// What to ask for the next page by.
    #[serde(borrow, rename = "continue", default)]
    pub(super) next: Option<Cow<'t, str>>,
}

/// A line of a watch: its object is [`Whole`] or still unread.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'t, O> {
    /// What has happened.
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'t, str>,
    /// To what.
    pub(super) object: O,
}

/// What the API server says in place of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Answer {
    /// HTTP's code.
    pub(super) code: u16,
    /// For people.
    pub(super) message: String,
    /// More about it.
    pub(super) details: Option<AnswerDetails>,
}

/// More about an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AnswerDetails {
    /// When to come again.
    pub(super) retry_after_seconds: Option<u64>,
}

/// Any object, as far as netd reads any.
#[derive(Debug, Deserialize)]
pub(super) struct Whole<'t> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'t>>,
    #[serde(borrow, default)]
    spec: Option<Spec<'t>>,
    #[serde(borrow, default)]
    status: Option<StatusField<'t>>,
    #[serde(borrow, default)]
    data: Option<Data<'t>>,
}

impl Whole<'_> {
    /// Its version.
    pub(super) fn version(&self) -> Option<&str> {
        self.metadata.as_ref()?.resource_version.0.as_deref()
    }

    /// True of the bookmark behind all that there was when a watch began.
    pub(super) fn ends_the_list(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.annotations.ends_the_list)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'t> {
    #[serde(borrow, default)]
    name: Text<'t>,
    #[serde(borrow, default)]
    uid: Text<'t>,
    #[serde(borrow, default)]
    resource_version: Text<'t>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Debug, Deserialize)]
struct Spec<'t> {
    #[serde(borrow, rename = "podCIDR", default)]
    range: Text<'t>,
    #[serde(borrow, rename = "podCIDRs", default)]
    ranges: Option<Vec<Text<'t>>>,
    #[serde(borrow, rename = "nodeName", default)]
    node: Text<'t>,
}

#[derive(Debug, Deserialize)]
struct StatusField<'t> {
    #[serde(borrow, default)]
    conditions: Option<Vec<Condition<'t>>>,
}

#[derive(Debug, Deserialize)]
struct Condition<'t> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'t>,
    #[serde(borrow, default)]
    status: Text<'t>,
}

#[derive(Debug, Deserialize)]
struct Data<'t> {
    #[serde(borrow, rename = "net-conf.json", default)]
    net_conf: Text<'t>,
}

impl Object for Node {
    const BY_WIRE: Option<ByWire<Self>> = Some(wire::Event::node);

    fn version(&self) -> Option<&str> {
        Some(&self.version)
    }

    fn of(whole: Whole<'_>) -> Self {
        let Whole { metadata, spec, status, .. } = whole;
        let mut node = Node::default();
        if let Some(metadata) = metadata {
            node.name = metadata.name.owned().unwrap_or_default();
            node.uid = metadata.uid.owned().unwrap_or_default();
            node.version = metadata.resource_version.owned().unwrap_or_default();
            node.annotations = metadata.annotations.ours;
        }
        if let Some(spec) = spec {
            let ranges = spec.ranges.unwrap_or_default().into_iter().filter_map(Text::owned);
            node.ranges = ranges.filter(|range| !range.is_empty()).collect();
            if node.ranges.is_empty() {
                node.ranges.extend(spec.range.owned().filter(|range| !range.is_empty()));
            }
        }
        let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
        let unavailable = conditions.into_iter().find(|condition| condition.kind.is("NetworkUnavailable"));
        node.unavailable = unavailable.and_then(|condition| condition.status.owned());
        node
    }
}

impl Object for ConfigMap {
    fn of(whole: Whole<'_>) -> Self {
        Self { net_conf: whole.data.and_then(|data| data.net_conf.owned()) }
    }
}

impl Object for Pod {
    fn of(whole: Whole<'_>) -> Self {
        Self { node: whole.spec.and_then(|spec| spec.node.owned()).filter(|node| !node.is_empty()) }
    }
}

/// A text, or nothing where it is anything else.
#[derive(Debug, Default)]
struct Text<'t>(Option<Cow<'t, str>>);

impl Text<'_> {
    fn owned(self) -> Option<String> {
        self.0.map(Cow::into_owned)
    }

    fn is(&self, text: &str) -> bool {
        self.0.as_deref() == Some(text)
    }
}

impl<'de: 't, 't> Deserialize<'de> for Text<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?.get();
        // A text with escapes in it must be written anew, one without is borrowed.
        Ok(Self(serde_json::from_str::<Plain>(value).ok().map(|Plain(text)| text)))
    }
}

#[derive(Deserialize)]
struct Plain<'t>(#[serde(borrow)] Cow<'t, str>);

/// The annotations that could be ours.
#[derive(Debug, Default)]
struct Annotations {
    ours: BTreeMap<String, String>,
    /// The API server's own, on a bookmark.
    ends_the_list: bool,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ours;

        impl<'de> Visitor<'de> for Ours {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = Annotations::default();
                while let Some(Plain(key)) = map.next_key()? {
                    if keys::could_be(&key) {
                        if let Some(value) = map.next_value::<Text>()?.owned() {
                            read.ours.insert(key.into_owned(), value);
                        }
                    } else if key == END {
                        read.ends_the_list = map.next_value::<Text>()?.is("true");
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(read)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Annotations::default())
            }
        }

        deserializer.deserialize_any(Ours)
    }
}

#[cfg(test)]
mod tests;
