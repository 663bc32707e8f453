//! The backends of the suites, as `net-conf.json` has them.

use serde_json::{Value, json};

/// VXLAN with its defaults.
pub fn vxlan() -> Value {
    json!({ "Type": "vxlan" })
}

/// Plain routes.
pub fn host_gw() -> Value {
    json!({ "Type": "host-gw" })
}

/// VXLAN with plain routes to nodes on the same link.
pub fn direct() -> Value {
    json!({ "Type": "vxlan", "DirectRouting": true })
}
