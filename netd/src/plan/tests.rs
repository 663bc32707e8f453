//! Plans: their order, what they spare, and that one run is enough. The addresses are in
//! [`network`](crate::overlay::tests::network).

mod cases;
mod hosts;
mod kernel;
mod properties;
