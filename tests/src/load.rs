//! Traffic between all pods while other things happen: none of it may suffer.

use std::net::IpAddr;

use dataplane::types::PerFamily;

use crate::failure::{Context, Outcome};
use crate::flow::{Conversation, Stream};
use crate::kubernetes::RealPod;
use crate::namespace::Namespace;
use crate::pod::Pod;

/// Where packets come from and go to.
pub trait End {
    /// What it is called.
    fn name(&self) -> &str;
    /// Where it lives.
    fn namespace(&self) -> &Namespace;
    /// Where it is reached.
    fn addresses(&self) -> &PerFamily<IpAddr>;
}

impl End for Pod {
    fn name(&self) -> &str {
        self.name()
    }

    fn namespace(&self) -> &Namespace {
        self.namespace()
    }

    fn addresses(&self) -> &PerFamily<IpAddr> {
        self.addresses()
    }
}

impl End for RealPod {
    fn name(&self) -> &str {
        self.name()
    }

    fn namespace(&self) -> &Namespace {
        self.namespace()
    }

    fn addresses(&self) -> &PerFamily<IpAddr> {
        self.addresses()
    }
}

/// A ping every 10 ms in each family, and a connection with words both ways, between every two pods, in both directions.
#[derive(Debug)]
pub struct Load {
    pings: Vec<(String, Stream)>,
    conversations: Vec<(String, Conversation)>,
}

impl Load {
    /// Starts all of it.
    ///
    /// # Errors
    /// Where a pod does not reach another one.
    pub fn between<E: End>(pods: &[&E]) -> Outcome<Self> {
        let (mut pings, mut conversations) = (Vec::new(), Vec::new());
        for from in pods {
            for to in pods.iter().filter(|to| to.name() != from.name()) {
                let pair = format!("{} to {}", from.name(), to.name());
                for (family, address) in to.addresses().iter() {
                    pings.push((format!("{pair} over {family}"), Stream::start(from.namespace(), *address)?));
                }
                let address = *to.addresses().iter().next().context("the pod has an address")?.1;
                conversations.push((pair, Conversation::start(from.namespace(), to.namespace(), address)?));
            }
        }
        Ok(Self { pings, conversations })
    }

    /// Ends it, and fails where a packet was lost or a connection broke. Pings come first: they say when.
    ///
    /// # Errors
    /// With all that suffered.
    pub fn unharmed(self) -> Outcome {
        let broken =
            self.conversations.into_iter().map(|(pair, talk)| talk.unbroken().context(pair)).collect::<Vec<_>>();
        let lost = self.pings.into_iter().map(|(pair, ping)| ping.nothing_lost().context(pair));
        let harm: Vec<String> = lost.chain(broken).filter_map(|result| Some(result.err()?.to_string())).collect();
        crate::ensure!(harm.is_empty(), "{}", harm.join("\n"));
        Ok(())
    }
}
