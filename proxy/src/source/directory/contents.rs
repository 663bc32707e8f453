//! What a file of Kubernetes objects says.
//!
//! Pure.

use std::collections::BTreeSet;

use serde_saphyr::{Budget, Options};

use crate::model::{Event, ObjectName, ServiceName, SliceName};
use crate::problem::{Kind, Problem};
use crate::source::objects::{Converted, EndpointSliceObject, NodeObject, ServiceCidrObject, ServiceObject};
use crate::tree::{Tree, TreeError};

/// The namespace of an object that names none.
const NAMESPACE: &str = "default";

/// The objects of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The objects that could be read, each once.
    pub(super) objects: Vec<(ObjectName, Event)>,
    /// The objects that could not be read: as they were last.
    pub(super) broken: Vec<ObjectName>,
    /// What is wrong with the file.
    pub(super) faults: Vec<Problem>,
    /// How many objects are of other kinds.
    pub(super) ignored: usize,
    names: BTreeSet<ObjectName>,
}

/// Reads a file: its name for messages, and its text. `node` is the name of this node.
///
/// # Errors
/// Where the text is no YAML: nothing in it can be relied on.
pub(super) fn read(file: &str, text: &str, node: &str) -> Result<Contents, Problem> {
    let mut contents = Contents::default();
    let mut bytes = text.as_bytes();
    // One document at a time is in memory.
    for document in serde_saphyr::read_with_options::<_, Tree>(&mut bytes, options(text.len())) {
        let document = document.map_err(|error| {
            let line = error.location().map(|location| format!(":{}", location.line())).unwrap_or_default();
            let detail = format!("is not valid: {}", error.without_snippet());
            Problem::new(Kind::InvalidFile, format!("{file}{line}"), detail).with_remedy("its last objects are kept")
        })?;
        contents.add_document(&document, file, node);
    }
    Ok(contents)
}

/// The parser's limits, which are meant for small files. Those against aliases that multiply stay.
fn options(size: usize) -> Options {
    let mut budget = Budget::default();
    (budget.max_documents, budget.max_nodes, budget.max_events) = (size + 1, size + 100, 2 * size + 100);
    let mut options = Options::default();
    options.budget = Some(budget);
    options.emit_comments = false;
    options
}

impl Contents {
    fn add_document(&mut self, document: &Tree, file: &str, node: &str) {
        if document.is_null() {
            return;
        }
        match (document.text("apiVersion"), document.text("kind")) {
            (Some("v1"), Some("List")) => {
                let items = document.get("items").map(Tree::list).unwrap_or_default();
                for item in items {
                    self.add(item, file, node);
                }
            }
            _ => self.add(document, file, node),
        }
    }

    fn add(&mut self, tree: &Tree, file: &str, node: &str) {
        let place = |field: &str| Some(format!("{file}:{}", tree.line_of(field)));
        match convert(tree, node) {
            Some(Ok(converted)) => {
                let name = converted.name.clone();
                if self.is_first(&name, tree, file) {
                    self.objects.push((name, converted.event(place)));
                }
            }
            Some(Err((name, error))) => {
                if !self.is_first(&name, tree, file) {
                    return;
                }
                let subject = format!("{} of {name} ({file}:{})", error.field, error.line);
                self.fault(subject, format!("cannot be read: {error}"));
                self.broken.push(name);
            }
            None if tree.text("kind").is_none() => {
                self.fault(format!("{file}:{}", tree.line), "has no kind: it must be a Kubernetes object".into());
            }
            None => self.ignored += 1,
        }
    }

    /// True for the first object of that name. Another one is a fault.
    fn is_first(&mut self, name: &ObjectName, tree: &Tree, file: &str) -> bool {
        let is_first = self.names.insert(name.clone());
        if !is_first {
            let subject = format!("{name} ({file}:{})", tree.line);
            self.fault(subject, "is in the file twice, and the first one counts".into());
        }
        is_first
    }

    fn fault(&mut self, subject: String, detail: String) {
        self.faults.push(Problem::new(Kind::InvalidFile, subject, detail));
    }
}

/// Converts an object. `None` for one of another kind, and for another node.
fn convert(tree: &Tree, node: &str) -> Option<Result<Converted, (ObjectName, TreeError)>> {
    let metadata = |key: &str| tree.get("metadata").and_then(|metadata| metadata.text(key));
    let name = metadata("name").unwrap_or_default();
    let namespace = metadata("namespace").unwrap_or(NAMESPACE);
    let converted = match (tree.text("apiVersion")?, tree.text("kind")?) {
        ("v1", "Service") => tree.read::<ServiceObject>().map(|mut object| {
            object.metadata.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
            object.convert()
        }),
        ("discovery.k8s.io/v1", "EndpointSlice") => tree.read::<EndpointSliceObject>().map(|mut object| {
            object.metadata.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
            object.set_defaults();
            object.convert(node)
        }),
        ("v1", "Node") if name == node => tree.read::<NodeObject>().map(NodeObject::convert),
        ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => {
            tree.read::<ServiceCidrObject>().map(ServiceCidrObject::convert)
        }
        _ => return None,
    };
    let object_name = || match tree.text("kind") {
        Some("Service") => ObjectName::Service(ServiceName::new(namespace, name)),
        Some("EndpointSlice") => ObjectName::Slice(SliceName { namespace: namespace.into(), name: name.into() }),
        Some("Node") => ObjectName::Node(name.into()),
        _ => ObjectName::ServiceCidr(name.into()),
    };
    Some(converted.map_err(|error| (object_name(), error)))
}

#[cfg(test)]
mod tests;
