//! Texts that many objects have in common, each held once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::{Endpoint, PortName, ServiceName, Slice, SliceName};

/// The texts.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: HashSet<Arc<str>>,
    /// How many texts there may be before the unused ones are looked for.
    limit: usize,
}

impl Names {
    /// Replaces the text by the one that is held.
    pub(super) fn share(&mut self, text: &mut Arc<str>) {
        if let Some(held) = self.texts.get(text) {
            *text = Arc::clone(held);
            return;
        }
        if self.texts.len() >= self.limit {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.limit = 2 * self.texts.len() + 64;
        }
        self.texts.insert(Arc::clone(text));
    }

    pub(super) fn share_service(&mut self, name: &mut ServiceName) {
        self.share(&mut name.namespace);
        self.share(&mut name.name);
    }

    pub(super) fn share_port(&mut self, name: &mut PortName) {
        self.share_service(&mut name.service);
        self.share(&mut name.port);
    }

    pub(super) fn share_slice(&mut self, slice: &mut Slice) {
        let SliceName { namespace, .. } = &mut slice.name;
        self.share(namespace);
        self.share(&mut slice.service);
        slice.ports.iter_mut().for_each(|port| self.share(&mut port.name));
        for Endpoint { zone_hints, node_hints, .. } in &mut slice.endpoints {
            zone_hints.iter_mut().chain(node_hints).for_each(|hint| self.share(hint));
        }
    }
}
