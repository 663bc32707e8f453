//! Name resolution in a configuration. Pure.

use super::Fields;
use crate::cni_error::CniError;
use crate::result::Dns;

/// Reads the first `dns` that sets anything. `runtimeConfig` calls the lists `servers` and `searches`.
pub(super) fn read_first(sources: &[&Fields<'_>]) -> Result<Dns, CniError> {
    for source in sources {
        let fields = source.object("dns")?;
        let texts = |keys: [&str; 2]| {
            let mut all = Vec::new();
            for key in keys {
                all.extend(fields.texts(key)?.into_iter().map(str::to_owned));
            }
            Ok::<_, CniError>(all)
        };
        let dns = Dns {
            nameservers: texts(["nameservers", "servers"])?,
            domain: fields.text("domain")?.unwrap_or_default().to_owned(),
            search: texts(["search", "searches"])?,
            options: fields.texts("options")?.into_iter().map(str::to_owned).collect(),
        };
        if !dns.is_empty() {
            return Ok(dns);
        }
    }
    Ok(Dns::default())
}
