//! What a source tells the model.

use std::fmt;
use std::sync::Arc;

use dataplane::types::Prefix;
use jiff::Timestamp;

use super::{Node, Service, ServiceName, Slice, SliceName};
use crate::problem::Problem;

/// A collection of objects that a source lists and follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// Services.
    Services,
    /// `EndpointSlices`.
    Slices,
    /// The own Node.
    Nodes,
    /// `ServiceCIDRs`.
    ServiceCidrs,
}

impl Collection {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Services, Self::Slices, Self::Nodes, Self::ServiceCidrs];
}

/// The name of an object, with its kind. Displayed like `Service namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// A Service.
    Service(ServiceName),
    /// An `EndpointSlice`.
    Slice(SliceName),
    /// A Node.
    Node(Arc<str>),
    /// A `ServiceCIDR`.
    ServiceCidr(Arc<str>),
}

impl ObjectName {
    /// The collection that the object is in.
    pub fn collection(&self) -> Collection {
        match self {
            ObjectName::Service(_) => Collection::Services,
            ObjectName::Slice(_) => Collection::Slices,
            ObjectName::Node(_) => Collection::Nodes,
            ObjectName::ServiceCidr(_) => Collection::ServiceCidrs,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectName::Service(name) => write!(f, "Service {name}"),
            ObjectName::Slice(name) => write!(f, "EndpointSlice {name}"),
            ObjectName::Node(name) => write!(f, "Node {name}"),
            ObjectName::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
        }
    }
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An `EndpointSlice`, and when the control plane saw what its last change is about.
    Slice(Slice, Option<Timestamp>),
    /// The own Node.
    Node(Node),
    /// A `ServiceCIDR`: its name and its ranges.
    ServiceCidr(Arc<str>, Vec<Prefix>),
}

impl Object {
    /// The object's name.
    pub fn name(&self) -> ObjectName {
        match self {
            Object::Service(service) => ObjectName::Service(service.name.clone()),
            Object::Slice(slice, _) => ObjectName::Slice(slice.name.clone()),
            Object::Node(node) => ObjectName::Node(node.name.clone()),
            Object::ServiceCidr(name, _) => ObjectName::ServiceCidr(name.clone()),
        }
    }
}

/// A change of the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole list of a collection follows: an object that is not in it is gone. A list that begins again was never whole.
    Init(Collection),
    /// The list is whole.
    InitDone(Collection),
    /// An object is there or has changed; with its faults.
    Set(Object, Vec<Problem>),
    /// An object is gone, is not one for this proxy, or cannot be used; with its faults.
    Unset(ObjectName, Vec<Problem>),
    /// All faults of something that is no object, such as a file. None where the faults are over.
    Faults(Arc<str>, Vec<Problem>),
}

impl Event {
    /// When the control plane saw the change of endpoints that the event is about, if it says so.
    pub fn last_change(&self) -> Option<Timestamp> {
        match self {
            Event::Set(Object::Slice(_, last_change), _) => *last_change,
            _ => None,
        }
    }
}
