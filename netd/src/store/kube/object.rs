//! The API server's objects, as far as netd reads them. Everything else in them is passed over where it stands.
//!
//! Pure. A field of another type than the API server gives it counts as missing: a stranger's object is no reason to fail.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::keys;

/// An object of the API.
pub(super) trait Object: Sized {
    /// Reads it.
    fn read(json: &str) -> Result<Self, serde_json::Error>;
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

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'t> {
    /// What has happened.
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'t, str>,
    /// To what.
    #[serde(borrow)]
    pub(super) object: &'t RawValue,
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

/// The version of any object.
pub(super) fn version(object: &str) -> Option<String> {
    let whole: Whole = serde_json::from_str(object).ok()?;
    whole.metadata.and_then(|metadata| metadata.resource_version.0).map(Cow::into_owned)
}

#[derive(Deserialize)]
struct Whole<'t> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'t>>,
    #[serde(borrow, default)]
    spec: Option<Spec<'t>>,
    #[serde(borrow, default)]
    status: Option<StatusField<'t>>,
    #[serde(borrow, default)]
    data: Option<Data<'t>>,
}

#[derive(Deserialize)]
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

#[derive(Deserialize)]
struct Spec<'t> {
    #[serde(borrow, rename = "podCIDR", default)]
    range: Text<'t>,
    #[serde(borrow, rename = "podCIDRs", default)]
    ranges: Option<Vec<Text<'t>>>,
    #[serde(borrow, rename = "nodeName", default)]
    node: Text<'t>,
}

#[derive(Deserialize)]
struct StatusField<'t> {
    #[serde(borrow, default)]
    conditions: Option<Vec<Condition<'t>>>,
}

#[derive(Deserialize)]
struct Condition<'t> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'t>,
    #[serde(borrow, default)]
    status: Text<'t>,
}

#[derive(Deserialize)]
struct Data<'t> {
    #[serde(borrow, rename = "net-conf.json", default)]
    net_conf: Text<'t>,
}

impl Object for Node {
    fn read(json: &str) -> Result<Self, serde_json::Error> {
        let Whole { metadata, spec, status, .. } = serde_json::from_str(json)?;
        let mut node = Node::default();
        if let Some(metadata) = metadata {
            node.name = metadata.name.owned().unwrap_or_default();
            node.uid = metadata.uid.owned().unwrap_or_default();
            node.version = metadata.resource_version.owned().unwrap_or_default();
            node.annotations = metadata.annotations.0;
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
        Ok(node)
    }
}

impl Object for ConfigMap {
    fn read(json: &str) -> Result<Self, serde_json::Error> {
        let whole: Whole = serde_json::from_str(json)?;
        Ok(Self { net_conf: whole.data.and_then(|data| data.net_conf.owned()) })
    }
}

impl Object for Pod {
    fn read(json: &str) -> Result<Self, serde_json::Error> {
        let whole: Whole = serde_json::from_str(json)?;
        Ok(Self { node: whole.spec.and_then(|spec| spec.node.owned()).filter(|node| !node.is_empty()) })
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
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ours;

        impl<'de> Visitor<'de> for Ours {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut ours = BTreeMap::new();
                while let Some(Plain(key)) = map.next_key()? {
                    if keys::could_be(&key) {
                        if let Some(value) = map.next_value::<Text>()?.owned() {
                            ours.insert(key.into_owned(), value);
                        }
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(ours)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(BTreeMap::new())
            }
        }

        deserializer.deserialize_any(Ours).map(Self)
    }
}

#[cfg(test)]
mod tests;
