//! What is desired, as the plan that makes it from nothing. The addresses are in [`fixtures`](crate::fixtures).

mod advertised;
mod plans;
mod rules;
