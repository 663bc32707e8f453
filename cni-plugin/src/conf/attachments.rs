//! GC's list of what is still valid. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ConfError, Fields};

/// The attachments that GC must keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidAttachments(BTreeSet<(String, String)>);

impl ValidAttachments {
    /// Reads `cni.dev/valid-attachments`, or `cni.dev/attachments` as some runtimes call it.
    ///
    /// # Errors
    /// Where neither is there: a list that was forgotten must not remove every pod of the node. An empty list or `null`
    /// is a list. Where any item is wrong, for the same reason.
    pub fn read(fields: &Fields<'_>) -> Result<Self, ConfError> {
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let key = keys.into_iter().find(|key| fields.has(key)).ok_or(ConfError::NoAttachments)?;
        let pair = |item: Fields<'_>| {
            let text = |key| {
                let missing = || item.wrong_value(key, &Value::Null.to_string(), "each attachment needs it");
                item.text(key)?.map(str::to_owned).ok_or_else(missing)
            };
            Ok((text("containerID")?, text("ifname")?))
        };
        fields.objects(key)?.into_iter().map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// True for an attachment that must stay. An empty `ifname` stands for a reservation of old, which has none: it
    /// stays with any of its container's attachments.
    pub fn keeps(&self, container: &str, ifname: &str) -> bool {
        self.0.iter().any(|(id, name)| id == container && (ifname.is_empty() || name == ifname))
    }
}

#[cfg(test)]
mod tests;
