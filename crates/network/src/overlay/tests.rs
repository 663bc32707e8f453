//! What is desired, as the plan that makes it from nothing. The addresses are in [`fixtures`](crate::fixtures).

mod plans;
mod rules;
mod told;
