//! GC's list of what is still valid. Pure.

use serde_json::Value;

use super::{ConfError, Fields};
use crate::attachment::ValidAttachments;

/// Reads `cni.dev/valid-attachments`, or `cni.dev/attachments` as some runtimes call the key.
///
/// # Errors
/// Where neither key is there: a list that was forgotten must not remove every pod of the node. An empty list or `null`
/// is a list. Where any item is wrong, for the same reason.
pub fn valid(fields: &Fields<'_>) -> Result<ValidAttachments, ConfError> {
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let key = keys.into_iter().find(|key| fields.has(key)).ok_or(ConfError::NoAttachments)?;
    let pair = |item: Fields<'_>| {
        let text = |key| {
            let missing = || item.wrong_value(key, &Value::Null.to_string(), "each attachment needs it");
            item.text(key)?.map(str::to_owned).ok_or_else(missing)
        };
        Ok((text("containerID")?, text("ifname")?))
    };
    fields.objects(key)?.into_iter().map(pair).collect::<Result<_, _>>().map(ValidAttachments)
}

#[cfg(test)]
mod tests;
