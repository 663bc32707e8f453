//! GC's list of what is still valid. Pure.

use super::{Fields, invalid};
use crate::attachment::ValidAttachments;
use crate::cni_error::CniError;

/// Reads `cni.dev/valid-attachments`, or `cni.dev/attachments` as some runtimes call the key.
///
/// # Errors
/// Where neither key is there: a list that was forgotten must not remove every pod of the node. An empty list or `null`
/// is a list. Where any item is wrong, for the same reason.
pub fn valid(fields: &Fields<'_>) -> Result<ValidAttachments, CniError> {
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let no_list = || invalid("missing cni.dev/valid-attachments: without the list of what to keep, nothing is removed");
    let key = keys.into_iter().find(|key| fields.has(key)).ok_or_else(no_list)?;
    let pair = |item: Fields<'_>| {
        let text = |key| {
            let missing = || item.wrong_value(key, "null", "each attachment needs it");
            item.text(key)?.map(str::to_owned).ok_or_else(missing)
        };
        Ok((text("containerID")?, text("ifname")?))
    };
    fields.objects(key)?.into_iter().map(pair).collect::<Result<_, _>>().map(ValidAttachments)
}

#[cfg(test)]
mod tests;
