//! What the kernel says about a namespace, through `ip` and `bridge`, in few words.

use std::net::IpAddr;

use dataplane::types::Family;
use serde_json::Value;

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// A link with all its details, as `ip -d link` prints it; `None` where there is none.
///
/// # Errors
/// Where `ip` fails.
pub fn link(namespace: &Namespace, name: &str) -> Outcome<Option<Value>> {
    let links = namespace.json("ip -j -d link show")?;
    Ok(links.into_iter().find(|link| link["ifname"] == name))
}

/// A link that must be there.
///
/// # Errors
/// Where it is not.
pub fn existing_link(namespace: &Namespace, name: &str) -> Outcome<Value> {
    link(namespace, name)?.context(format!("there is no link {name}"))
}

/// The global addresses of a link, in the kernel's order.
///
/// # Errors
/// Where `ip` fails or there is no such link.
pub fn addresses(namespace: &Namespace, name: &str) -> Outcome<Vec<IpAddr>> {
    let links = namespace.json(&format!("ip -j address show dev {name} scope global"))?;
    let entries = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
    Ok(entries.filter_map(|entry| entry["local"].as_str()?.parse().ok()).collect())
}

/// What `ip -d link` prints below `info_data` of all VXLAN links, with their names.
///
/// # Errors
/// Where `ip` fails.
pub fn vxlans(namespace: &Namespace) -> Outcome<Vec<(String, Value)>> {
    let links = namespace.json("ip -j -d link show type vxlan")?;
    let named = |link: Value| Some((link["ifname"].as_str()?.to_owned(), link["linkinfo"]["info_data"].clone()));
    Ok(links.into_iter().filter_map(named).collect())
}

/// The FDB entries of all VXLAN links that lead to a remote end: MAC and end, sorted.
///
/// # Errors
/// Where `bridge` fails.
pub fn fdb(namespace: &Namespace) -> Outcome<Vec<(String, IpAddr)>> {
    let mut entries: Vec<(String, IpAddr)> = namespace
        .json("bridge -j fdb show")?
        .iter()
        .filter_map(|entry| Some((entry["mac"].as_str()?.to_owned(), entry["dst"].as_str()?.parse().ok()?)))
        .collect();
    entries.sort();
    Ok(entries)
}

/// The permanent neighbours on VXLAN links: address and MAC, sorted.
///
/// # Errors
/// Where `ip` fails.
pub fn neighbours(namespace: &Namespace) -> Outcome<Vec<(IpAddr, String)>> {
    let mut all = Vec::new();
    for (name, _) in vxlans(namespace)? {
        for entry in namespace.json(&format!("ip -j neigh show nud permanent dev {name}"))? {
            let address = entry["dst"].as_str().and_then(|text| text.parse().ok());
            let mac = entry["lladdr"].as_str().map(ToOwned::to_owned);
            all.extend(address.zip(mac));
        }
    }
    all.sort();
    Ok(all)
}

/// The route to exactly this range, as `ip route` prints it in JSON; `None` where there is none.
///
/// # Errors
/// Where `ip` fails, or there are several.
pub fn route(namespace: &Namespace, family: Family, range: &str) -> Outcome<Option<Value>> {
    let flag = if family == Family::V4 { "-4" } else { "-6" };
    let mut routes = namespace.json(&format!("ip -j {flag} route show exact {range}"))?;
    crate::ensure!(routes.len() < 2, "there are several routes to {range}: {routes:?}");
    Ok(routes.pop())
}
