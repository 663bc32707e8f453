//! A pod: a namespace that the plugin wired into a node.

use std::net::IpAddr;

use dataplane::types::{Family, PerFamily};
use serde_json::Value;

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::plugin::{self, Attachment};

/// One pod with one interface. Dropping it sends DEL, as a runtime does, and then removes the namespace.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: Namespace,
    attachment: Attachment,
    result: Value,
    addresses: PerFamily<IpAddr>,
    added: bool,
}

impl Pod {
    /// Adds one on a node through the plugin, as a runtime does.
    ///
    /// # Errors
    /// Where netd wrote no conflist, or the plugin fails.
    pub fn add(node: &Node, name: &str) -> Outcome<Self> {
        Self::by(name, |namespace| plugin::attachment(node, &format!("{name}-{}", node.name()), namespace))
    }

    /// One that is attached as `made` says, also by another plugin.
    pub(crate) fn by(name: &str, made: impl FnOnce(&Namespace) -> Outcome<Attachment>) -> Outcome<Self> {
        let namespace = Namespace::new(name)?;
        let attachment = made(&namespace)?;
        let result = attachment.succeed("ADD")?;
        let mut addresses = PerFamily::none();
        for ip in result["ips"].as_array().context(format!("no ips in the plugin's result {result}"))? {
            let text = ip["address"].as_str().and_then(|address| address.split('/').next()).unwrap_or_default();
            let address: IpAddr = text.parse().context(format!("read the address in {ip}"))?;
            *addresses.slot(Family::of(address)) = Some(address);
        }
        let attachment = attachment.after(&result);
        Ok(Self { name: name.to_owned(), namespace, attachment, result, addresses, added: true })
    }

    /// The name the test gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses, as the plugin reported them.
    pub fn addresses(&self) -> &PerFamily<IpAddr> {
        &self.addresses
    }

    /// Its address of one family.
    ///
    /// # Errors
    /// Where the plugin gave it none.
    pub fn address(&self, family: Family) -> Outcome<IpAddr> {
        self.addresses.get(family).copied().context(format!("pod {} has no {family} address", self.name))
    }

    /// The whole result of ADD.
    pub fn result(&self) -> &Value {
        &self.result
    }

    /// How the plugin was called for it, with its result as `prevResult`.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Sends DEL now.
    ///
    /// # Errors
    /// Where the plugin fails.
    pub fn delete(mut self) -> Outcome {
        self.added = false;
        self.attachment.succeed("DEL").map(drop)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.added {
            // The test has its verdict already; a DEL that fails has a suite of its own.
            let _ = self.attachment.call("DEL");
        }
    }
}
