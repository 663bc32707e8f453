//! Where Services come from: the API's objects, converted to the model at the border, and the directory that may hold them.
//!
//! No type of the Kubernetes API passes out of this room, and nothing is decided here.

mod address;
pub mod api;
pub mod directory;
pub mod fault;
pub mod objects;
