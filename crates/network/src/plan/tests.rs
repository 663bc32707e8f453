//! Plans: their order, what they spare, and that one run is enough. The addresses are in
//! [`network`](crate::fixtures).

mod cases;
mod hosts;
mod kernel;
mod properties;
