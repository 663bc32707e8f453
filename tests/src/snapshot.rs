//! All that the kernel and the disk hold in one namespace, to compare before with after.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::{Context, Failure, Outcome};
use crate::namespace::Namespace;

/// Links, addresses, routes, permanent neighbours, FDB entries, nftables rules and files, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// What changes by itself: counters of time.
const VOLATILE: [&str; 6] = ["valid_life_time", "preferred_life_time", "expires", "used", "confirmed", "updated"];

/// The numbers that a link has for as long as it lives.
const NUMBERS: [&str; 3] = ["ifindex", "link_index", "link_netnsid"];

impl Snapshot {
    /// Reads the kernel's state in `namespace`, and the names and contents of all files under `folders`.
    ///
    /// # Errors
    /// Where `ip`, `bridge` or `nft` fails.
    pub fn take(namespace: &Namespace, folders: &[PathBuf]) -> Outcome<Self> {
        Self::without(&[], namespace, folders)
    }

    /// The same where a link that is made anew counts as the one from before.
    ///
    /// # Errors
    /// Where `ip`, `bridge` or `nft` fails.
    pub fn by_name(namespace: &Namespace, folders: &[PathBuf]) -> Outcome<Self> {
        Self::without(&NUMBERS, namespace, folders)
    }

    /// The same but for what two machines cannot have alike: numbers of links, the folder `disk` that all their files are in,
    /// and the mark that netd makes of the subnet file's path.
    ///
    /// # Errors
    /// Where `ip`, `bridge` or `nft` fails.
    pub fn of_twin(namespace: &Namespace, folders: &[PathBuf], disk: &Path) -> Outcome<Self> {
        let Self(lines) = Self::without(&NUMBERS, namespace, folders)?;
        let disk = disk.to_string_lossy();
        Ok(Self(lines.iter().map(|line| unmarked(&line.replace(&*disk, "DISK"))).collect()))
    }

    fn without(fields: &[&str], namespace: &Namespace, folders: &[PathBuf]) -> Outcome<Self> {
        let mut lines = BTreeSet::new();
        let mut add = |kind: &str, items: Vec<Value>| {
            for mut item in items {
                // The kernel's own, by way of an address; not always there again when the address is.
                if !fields.is_empty() && item["type"] == "anycast" {
                    continue;
                }
                // A bridge learns where a pod is when that pod speaks.
                if kind == "fdb" && item["master"].is_string() && item["state"] == "" {
                    continue;
                }
                strip_volatile(&mut item, fields);
                lines.insert(format!("{kind} {item}"));
            }
        };
        add("link", namespace.json("ip -j -d link show")?);
        add("address", namespace.json("ip -j address show")?);
        for family in ["-4", "-6"] {
            add(&format!("route {family}"), namespace.json(&format!("ip -j {family} route show table all"))?);
            add(&format!("rule {family}"), namespace.json(&format!("ip -j {family} rule show"))?);
            let neighbours = namespace.json(&format!("ip -j {family} neigh show nud permanent"))?;
            add(&format!("neighbour {family}"), neighbours);
        }
        add("fdb", namespace.json("bridge -j fdb show")?);
        lines.extend(rules(&namespace.run("nft -nn list ruleset")?));
        for folder in folders {
            files(folder, &mut lines)?;
        }
        Ok(Self(lines))
    }

    /// Fails where `after` is the same.
    ///
    /// # Errors
    /// Where nothing differs.
    pub fn differs_from(&self, after: &Self) -> Outcome {
        crate::ensure!(self != after, "nothing differs from before");
        Ok(())
    }

    /// Fails where `after` is not the same, and lists what came and what went.
    ///
    /// # Errors
    /// With the differences.
    pub fn same_as(&self, after: &Self) -> Outcome {
        let gone = self.0.difference(&after.0).map(|line| format!("- {line}"));
        let new = after.0.difference(&self.0).map(|line| format!("+ {line}"));
        let changes: Vec<String> = gone.chain(new).collect();
        if changes.is_empty() {
            return Ok(());
        }
        Err(Failure::new("the state is not the one from before").with("changes", &changes.join("\n")))
    }
}

/// The lines of a ruleset, each with its table and chain or set. A rule has its place in the chain too, since order decides.
fn rules(ruleset: &str) -> Vec<String> {
    let (mut outer, mut lines) = (Vec::new(), Vec::new());
    let mut place = 0;
    for line in ruleset.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let is_rule = outer.last().is_some_and(|object: &&str| object.starts_with("chain "));
        let number = if is_rule && line != "}" { format!(" {place}:") } else { String::new() };
        lines.push(format!("nft {}{number} {line}", outer.join(" ")));
        match line.strip_suffix('{') {
            Some(object) => {
                outer.push(object.trim());
                place = 0;
            }
            None if line == "}" => drop(outer.pop()),
            None => place += 1,
        }
    }
    lines
}

fn strip_volatile(item: &mut Value, without: &[&str]) {
    match item {
        Value::Object(fields) => {
            let stays = |name: &str| !VOLATILE.contains(&name) && !name.ends_with("_timer") && !without.contains(&name);
            fields.retain(|name, _| stays(name));
            if fields.get("scope").is_some_and(|scope| scope == "link") {
                // A link-local address is as good where the kernel has made it.
                fields.remove("nodad");
            }
            fields.values_mut().for_each(|field| strip_volatile(field, without));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip_volatile(item, without)),
        _ => {}
    }
}

/// The line with `MARK` for each `netd-` and eight hexadecimal digits.
fn unmarked(line: &str) -> String {
    let mut parts = line.split("netd-");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let is_mark = part.get(..8).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if is_mark { text + "MARK" + &part[8..] } else { text + "netd-" + part }
    })
}

fn files(folder: &Path, lines: &mut BTreeSet<String>) -> Outcome {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.context("list a folder")?.path();
        if path.is_dir() {
            lines.insert(format!("folder {}", path.display()));
            files(&path, lines)?;
        } else {
            let text = std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            lines.insert(format!("file {} {:?}", path.display(), text.unwrap_or_default()));
        }
    }
    Ok(())
}
